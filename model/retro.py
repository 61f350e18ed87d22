"""Retrocession: deals that cover what other deals leave. Which come first, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from model.errors import ModelError
from model.pricing import Deal


class RetroError(ModelError):
    """Deals that do not fit together; `deals` has their ids."""

    def __init__(self, message: str, deals: Sequence[int]) -> None:
        super().__init__(message)
        self.deals = tuple(deals)

    def __reduce__(self) -> tuple[type[RetroError], tuple[str, tuple[int, ...]]]:
        return RetroError, (str(self), self.deals)


def sound_in_order(
    deals: Sequence[Deal], check: Callable[[Deal], None], refused: Mapping[int, str]
) -> tuple[list[Deal], dict[int, str]]:
    """As `in_order` of the deals that pass a check and fit together, and what is wrong with the others.

    A deal falls with one that it covers; `refused` are deals that fell before.
    """
    kept, wrong = [], dict(refused)
    for deal in deals:
        try:
            check(deal)
            kept.append(deal)
        except ModelError as error:
            wrong[deal.deal_id] = str(error)
    while True:
        while fallen := [deal for deal in kept if any(other in wrong for other in deal.covers)]:
            for deal in fallen:
                other = next(other for other in deal.covers if other in wrong)
                wrong[deal.deal_id] = f"deal {deal.deal_id} covers deal {other}, which has no price"
            kept = [deal for deal in kept if deal.deal_id not in wrong]
        try:
            return in_order(kept), wrong
        except RetroError as error:
            wrong |= dict.fromkeys(error.deals, str(error))
            kept = [deal for deal in kept if deal.deal_id not in wrong]


def in_order(deals: Sequence[Deal]) -> list[Deal]:
    """The deals, each behind those that it covers; else in their order.

    Raises RetroError naming the deals if an id stands twice, a deal covers one that is not there or that another
    covers already (so that no loss is recovered twice), or deals cover each other in a circle.
    """
    by_id: dict[int, Deal] = {}
    covered: dict[int, int] = {}
    for deal in deals:
        if deal.deal_id in by_id:
            raise RetroError(
                f"deal {deal.deal_id} is in the portfolio twice; give every deal an id of its own", [deal.deal_id]
            )
        by_id[deal.deal_id] = deal
    for deal in deals:
        for other in deal.covers:
            if other not in by_id:
                raise RetroError(
                    f"deal {deal.deal_id} covers deal {other}, which is not in the portfolio", [deal.deal_id]
                )
            if other in covered:
                raise RetroError(
                    f"deals {covered[other]} and {deal.deal_id} both cover deal {other}, whose losses could be"
                    " recovered twice: let one of them cover the other",
                    [covered[other], deal.deal_id],
                )
            covered[other] = deal.deal_id
    try:
        order = list(TopologicalSorter({deal.deal_id: deal.covers for deal in deals}).static_order())
    except CycleError as e:
        circle = " -> ".join(map(str, reversed(e.args[1])))
        raise RetroError(f"retrocession goes in a circle, each deal covering the next: {circle}", e.args[1]) from e
    place = {deal_id: k for k, deal_id in enumerate(order)}
    depth: dict[int, int] = {}
    for deal_id in sorted(by_id, key=place.__getitem__):
        depth[deal_id] = 1 + max((depth[other] for other in by_id[deal_id].covers), default=-1)
    return sorted(deals, key=lambda deal: depth[deal.deal_id])
