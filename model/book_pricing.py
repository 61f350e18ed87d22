"""Deals of a book, each by itself: on the time lines that all of them share, as the rollup prices them together."""

from __future__ import annotations

import numpy as np

from model.book import Book
from model.errors import ModelError
from model.losses import Yelt, merge
from model.pricing import Deal, DealResult, price_years, rate_of
from model.simulate import losses_on, timeline


def subject_years(deal: Deal, book: Book, *, years: int, views: int = 1, seed: int = 0) -> Yelt:
    """The losses that an inward deal covers, in its currency, event by event; one view behind the other.

    Raises ModelError naming the deal and what is wrong with it.
    """
    if deal.covers:
        raise ModelError(f"deal {deal.deal_id} covers other deals: python -m model.rollup prices it with them")
    book.check(deal)
    rate, parts = rate_of(deal, book.fx), []
    for place in book.event_sets_of(deal):
        events = book.event_sets[place]
        members = [(n, np.float32(share * rate)) for n, share in deal.subject if book.loss_sets[n].event_set == place]
        try:
            line = timeline(events, years, seed=seed)
            losses = [
                sum(
                    share * losses_on(events, book.loss_sets[n].elt, years, seed=seed, loss_set=n, view=view, line=line)
                    for n, share in members
                )
                for view in range(views)
            ]
        except ModelError as e:
            raise ModelError(f"deal {deal.deal_id}: {e}") from e
        ptr = np.r_[0, np.cumsum(np.tile(np.diff(line.ptr), views))].astype(np.int64)
        event, day = np.tile(events.event_id[line.event_row], views), np.tile(line.day, views)
        parts.append(Yelt(ptr, event, day, np.concatenate(losses)))
    return merge(parts)


def price_of(deal: Deal, *, book: Book, years: int, views: int = 1, seed: int = 0) -> DealResult:
    """The price of an inward deal of `book`. Raises ModelError naming it."""
    return price_years(deal, subject_years(deal, book, years=years, views=views, seed=seed), views=views)
