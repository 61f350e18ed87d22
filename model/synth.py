"""A synthetic book of reinsurance deals on PiWind's published event losses.

Nobody publishes a real book. Here the events, their rates, losses and spread are PiWind's; the loss sets
are regions and lines of business made by scaling and mixing them; the deals' attachments and limits lie at
round return periods of what they cover, as underwriters place them. Sizes, shares and exchange rates are
invented, plausible and fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from model import piwind
from model.arrays import F8
from model.errors import ModelError
from model.losses import Elt
from model.pricing import Deal
from model.rng import Purpose, stream
from model.terms import Layer, QuotaShare

FX: Mapping[str, float] = {"GBP": 1.0, "EUR": 1.15, "USD": 1.25, "CHF": 1.1, "JPY": 190.0}
"""Invented fixed exchange rates: what 1 GBP, the currency of the loss sets, is worth."""

_MARKET = (0.25, 0.3, 0.3, 0.1, 0.05)  # how often a deal is in each of those currencies
_CUTS = (2, 3, 5, 8, 12, 20, 30, 50, 75, 100, 150, 200, 250)  # years at which layers begin and end
_REINSTATEMENTS = ((1.0, 1.0), (1.0,), (0.0, 1.0), (0.5,), ())  # from working layers up to remote ones


@dataclass(frozen=True)
class Portfolio:
    """Deals and all that pricing them takes besides: the loss sets by id (GBP) and exchange rates."""

    deals: tuple[Deal, ...]
    loss_sets: Mapping[int, Elt]
    fx: Mapping[str, float] = field(default_factory=lambda: dict(FX))


def loss_sets(n: int, seed: int) -> dict[int, Elt]:
    """`n` loss sets (ids 1..n), each a region and line of business of its own size, frequency and mix.

    Each mixes two portfolios with weights w and 1 - w: in the first event i causes PiWind's loss of i, in
    the second that of another event p(i). So its mean is w m_i + (1 - w) m_p(i) and, damage being
    independent, its variance w^2 s_i^2 + (1 - w)^2 s_p(i)^2. Exposure is scaled to 20 - 2000
    million, rates to 2 - 6 times PiWind's 0.38 events a year. Raises ModelError if n < 1.
    """
    if n < 1:
        raise ModelError(f"a portfolio needs at least one loss set; got {n}")
    base = piwind.elt()
    return {i: mixed(base, stream(seed, Purpose.LOSS_SETS, i)) for i in range(1, n + 1)}


def mixed(base: Elt, rng: np.random.Generator, frequency: float | None = None) -> Elt:
    """A region and line of business as `loss_sets` describes, of a random frequency or this one."""
    other = rng.permutation(base.mean.size)
    w, drawn = rng.uniform(0.5, 1.0), rng.uniform(2.0, 6.0)
    size = 10 ** rng.uniform(7.3, 9.3) / float(base.exposure.max())
    mean = w * base.mean + (1 - w) * base.mean[other]
    sd = np.hypot(w * base.sd, (1 - w) * base.sd[other])
    exposure = w * base.exposure + (1 - w) * base.exposure[other]
    rate = (drawn if frequency is None else frequency) * base.rate
    return Elt(base.event_id, rate, mean, sd, exposure).scaled(size)


def portfolio(n_deals: int, seed: int = 0, *, n_loss_sets: int = 24) -> Portfolio:
    """A book of `n_deals` deals with 1-4 layers on 1-4 shared loss sets each; the same for the same seed.

    Deal i does not depend on how many there are. Raises ModelError if n_deals < 1.
    """
    if n_deals < 1:
        raise ModelError(f"a portfolio needs at least one deal; got {n_deals}")
    sets = loss_sets(n_loss_sets, seed)
    deals = tuple(synthetic_deal(i, sets, stream(seed, Purpose.DEALS, i)) for i in range(1, n_deals + 1))
    return Portfolio(deals, sets)


def synthetic_deal(deal_id: int, sets: Mapping[int, Elt], rng: np.random.Generator) -> Deal:
    """An excess-of-loss programme on 1-4 of the loss sets, in one of the currencies."""
    currency = str(rng.choice(list(FX), p=_MARKET))
    covered = np.sort(rng.choice(list(sets), size=min(int(rng.integers(1, 5)), len(sets)), replace=False))
    subject = tuple((int(s), round(float(rng.uniform(0.02, 0.4)), 3)) for s in covered)
    ceded = round(float(rng.uniform(0.1, 0.5)), 2) if rng.random() < 0.2 else 0.0
    losses, rates = _exceedance([sets[s].scaled(share * FX[currency] * (1 - ceded)) for s, share in subject])
    inuring = (QuotaShare(ceded=ceded),) if ceded else ()
    return Deal(deal_id, currency, subject, _tower(losses, rates, rng), inuring)


def _exceedance(parts: list[Elt]) -> tuple[F8, F8]:
    """Event losses, largest first, and the rate per year at which each is reached.

    Damage being uncertain, an event stands with half its rate one standard deviation above its mean
    loss, and with half below.
    """
    up = np.concatenate([np.minimum(p.mean + p.sd, p.exposure) for p in parts])
    down = np.concatenate([np.maximum(p.mean - p.sd, 0.0) for p in parts])
    loss, rate = np.r_[up, down], np.tile(np.concatenate([p.rate for p in parts]), 2) / 2
    order = np.argsort(-loss, kind="stable")
    return loss[order], np.cumsum(rate[order])


def _tower(losses: F8, rates: F8, rng: np.random.Generator) -> tuple[Layer, ...]:
    """1-4 layers one upon the other, cut at the losses of neighbouring return periods."""
    cuts = _cuts(losses, rates)
    n = min(int(rng.integers(1, 5)), len(cuts) - 1)
    first = int(rng.integers(0, len(cuts) - n))
    tower = []
    for (_, bottom), (years, top) in pairwise(cuts[first : first + n + 1]):
        tower.append(_layer(float(round(top - bottom)), bottom, exhausted_at=years, rng=rng))
    return tuple(tower)


def _cuts(losses: F8, rates: F8) -> list[tuple[int, float]]:
    """(return period, loss) where layers may begin and end; PiWind's losses come in few sizes, so each
    is well above the one before."""
    cuts: list[tuple[int, float]] = []
    for years in _CUTS:
        # Events of annual rate r are exceeded in a year with probability 1 - exp(-r) = 1 / return period.
        row = min(int(np.searchsorted(rates, -np.log1p(-1 / years))), losses.size - 1)
        loss = _rounded(float(losses[row]))
        if loss > 0 and (not cuts or loss >= 1.2 * cuts[-1][1]):
            cuts.append((years, loss))
    return cuts


def _layer(limit: float, attachment: float, *, exhausted_at: int, rng: np.random.Generator) -> Layer:
    """Working layers are reinstated more often and may have an aggregate deductible, remote ones neither."""
    rank = _CUTS.index(exhausted_at) / len(_CUTS)
    return Layer(
        limit=limit,
        attachment=attachment,
        share=round(float(rng.uniform(0.05, 1.0)), 2),
        aad=limit if rank < 0.4 and rng.random() < 0.3 else 0.0,
        reinst=_REINSTATEMENTS[min(int(rank * 5 + rng.random()), 4)],
        pro_rata_time=bool(rng.random() < 0.15),
    )


def _rounded(amount: float) -> float:
    """To two significant digits, as terms are quoted."""
    return float(f"{amount:.1e}")
