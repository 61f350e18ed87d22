"""A synthetic portfolio for the rollup: shared event sets, loss sets on them, inward deals and retrocessions.

As `model.synth` on PiWind's published events, but the loss sets of a peril and region share its events, so that deals
lose in the same years. Sizes and names are invented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from model import piwind
from model.errors import ModelError
from model.losses import Elt
from model.portfolio import GRID
from model.pricing import Deal, check_reach
from model.rng import Purpose, stream
from model.simulate import EventSet
from model.synth import FX, mixed, synthetic_deal
from model.terms import INF, Layer

PERILS = ("wind", "flood")
REGIONS = ("Europe", "North America", "Caribbean", "Japan", "Australia", "Asia")
LINES = ("property", "motor")

FEWEST_STEPS = 1024
"""Of a portfolio's amounts in what a deal pays for its largest event."""

Group = tuple[str, str, str]
"""Peril, region and line of business."""


@dataclass(frozen=True, eq=False)
class LossSet:
    """The losses of one line of business from the events of one set."""

    elt: Elt
    event_set: int
    group: Group


@dataclass(frozen=True, eq=False)
class Book:
    """All that a rollup takes. Loss sets are in `currency`; `fx` is what one unit of it is in each other.

    `refused` says what is wrong with deals, and `faults` with loss sets, that could not be read. `years` is how many
    the time lines of event sets have, where they are given, and `views` how many samples of losses there are.
    """

    event_sets: Mapping[int, EventSet]
    loss_sets: Mapping[int, LossSet]
    deals: tuple[Deal, ...]
    fx: Mapping[str, float]
    currency: str = "GBP"
    refused: Mapping[int, str] = field(default_factory=dict)
    faults: Mapping[int, str] = field(default_factory=dict)
    years: int | None = None
    views: int | None = None

    def check(self, deal: Deal) -> None:
        """Raise ModelError naming the deal if it has a loss set or currency that the book has not, or a layer that no
        loss can reach."""
        for loss_set, _ in deal.subject:
            if loss_set in self.faults:
                raise ModelError(f"deal {deal.deal_id}: {self.faults[loss_set]}")
            if loss_set not in self.loss_sets:
                raise ModelError(f"deal {deal.deal_id}: unknown loss set {loss_set}; have {sorted(self.loss_sets)}")
        if deal.currency not in self.fx:
            raise ModelError(f"deal {deal.deal_id}: no rate for {deal.currency}; fx has {', '.join(sorted(self.fx))}")
        if deal.subject:
            check_reach(deal, self._largest(deal))

    def check_units(self, deal: Deal) -> None:
        """Raise ModelError naming an inward deal that pays so little for an event that the steps in which a portfolio
        counts (`model.portfolio.GRID`) would tell: its amounts are in millions, most likely."""
        if deal.covers:
            return
        largest = self._largest(deal)
        paid = (layer.share * min(max(largest - layer.attachment, 0.0), layer.limit) for layer in deal.layers)
        most = sum(paid) / self.fx[deal.currency]
        if most * GRID < FEWEST_STEPS:
            raise ModelError(
                f"deal {deal.deal_id} pays at most {most:.3g} {self.currency} for an event, and a portfolio counts in"
                f" 1/{GRID:g} {self.currency}: give amounts in units of the currency, not in thousands or millions"
            )

    def _largest(self, deal: Deal) -> float:
        """No loss to an inward deal is larger, in its currency."""
        largest = sum(share * float(self.loss_sets[n].elt.exposure.max()) for n, share in deal.subject)
        return largest * self.fx[deal.currency]

    def group(self, deal: Deal) -> Group:
        """Where the largest share of an inward deal lies; the first of several."""
        loss_set, _ = max(deal.subject, key=lambda part: part[1])
        return self.loss_sets[loss_set].group

    def event_sets_of(self, deal: Deal) -> list[int]:
        """The event sets of an inward deal, ascending."""
        return sorted({self.loss_sets[loss_set].event_set for loss_set, _ in deal.subject})

    def changed(self, n: int) -> Book:
        """The book after `n` inward deals spread over it were renewed with another share of their first layer."""
        inward = [k for k, deal in enumerate(self.deals) if not deal.covers]
        if not 0 <= n <= len(inward):
            raise ModelError(f"0 to {len(inward)} deals can change; got {n}")
        deals = list(self.deals)
        for k in inward[:: max(len(inward) // n, 1)][:n] if n else ():
            first, *rest = deals[k].layers
            deals[k] = replace(deals[k], layers=(replace(first, share=round(0.97 * first.share, 4)), *rest))
        return replace(self, deals=tuple(deals))


def book(n_deals: int, seed: int = 1, *, event_sets: int = 12, retro: float = 0.1) -> Book:
    """`n_deals` inward deals on `event_sets` event sets with two lines each, and `retro` times as many retrocessions.

    The same for the same seed; deal i does not depend on how many there are. Raises ModelError for n_deals or
    event_sets < 1.
    """
    if n_deals < 1 or event_sets < 1:
        raise ModelError(f"a portfolio needs at least one deal and one event set; got {n_deals} and {event_sets}")
    events, losses = {}, {}
    base = piwind.elt()
    for e in range(1, event_sets + 1):
        rng = stream(seed, Purpose.EVENT_SET, e)
        frequency = rng.uniform(2.0, 6.0)
        for k, line in enumerate(LINES):
            elt = mixed(base, rng, frequency)
            size = 10 ** rng.uniform(8.2, 8.8) / float(elt.exposure.max())  # so that no region is the whole portfolio
            elt = replace(elt, event_id=elt.event_id + np.int32(10_000 * e)).scaled(size)
            where = (PERILS[(e - 1) // len(REGIONS) % len(PERILS)], REGIONS[(e - 1) % len(REGIONS)], line)
            losses[len(LINES) * (e - 1) + k + 1] = LossSet(elt, e, where)
        clustered = 0.0 if where[0] == "flood" else 0.5  # storms come in clusters
        events[e] = EventSet(e, elt.event_id, elt.rate, clustered)
    elts = {n: loss_set.elt for n, loss_set in losses.items()}
    inward = [synthetic_deal(i, elts, stream(seed, Purpose.BOOK, i)) for i in range(1, n_deals + 1)]
    return Book(events, losses, (*inward, *_retrocessions(inward, round(retro * n_deals), seed)), dict(FX))


def _retrocessions(inward: Sequence[Deal], n: int, seed: int) -> list[Deal]:
    """`n` deals that cover some inward deals each, no deal twice; every third covers what the one before it leaves."""
    made: list[Deal] = []
    free = [deal.deal_id for deal in inward]
    limits = {deal.deal_id: _limit(deal) for deal in inward}
    for k in range(1, n + 1):
        rng = stream(seed, Purpose.BOOK, 0, k)
        covers = sorted(int(i) for i in rng.choice(free, size=min(int(rng.integers(3, 8)), len(free)), replace=False))
        if not covers:
            break
        free = [i for i in free if i not in covers]
        amount = sum(limits[i] for i in covers)
        if k % 3 == 0:
            covers.append(made[-1].deal_id)
        currency = str(rng.choice(list(FX)))
        deal_id = len(inward) + k
        made.append(Deal(deal_id, currency, (), (_retro_layer(amount * FX[currency], k),), covers=tuple(covers)))
    return made


def _limit(deal: Deal) -> float:
    """What the deal can pay for one event, GBP."""
    return sum(layer.share * layer.limit for layer in deal.layers) / FX[deal.currency]


def _retro_layer(amount: float, k: int) -> Layer:
    """Per event with a reinstatement, or on the aggregate of the year."""
    step = float(f"{amount / 20:.1e}")
    if k % 4 == 0:
        return Layer(limit=INF, attachment=0.0, aad=4 * step, aal=6 * step, share=0.5)
    return Layer(limit=6 * step, attachment=2 * step, share=0.8, reinst=(1.0,))
