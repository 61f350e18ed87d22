"""Capital: the portfolio's tail value at risk, and what each deal adds to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.arrays import F8, I4, I8, Floats
from model.errors import ModelError

POOL = 8
"""Times as many years as the tail has are kept, so that what the tail would be without a deal is known as well."""


@dataclass(frozen=True, eq=False)
class Tail:
    """The worst of N years of a portfolio, worst first: year i4[m], loss f8[m]. The first k are the tail.

    k = ceil(N / return period), as in Open Results Data. No other year has more than the last of them.
    """

    year: I4
    loss: F8
    k: int
    years: int

    @property
    def tvar(self) -> float:
        """The mean of the k worst years."""
        return float(self.loss[: self.k].mean())


def tail_of(annual: Floats, return_period: float) -> Tail:
    """The tail of annual losses f8[N] (which may be negative: net of more than there was) at a return period in years.

    Years of equal losses are taken in their order. Raises ModelError for a return period beyond the years there are.
    """
    if not 1 <= return_period <= annual.size:
        raise ModelError(f"a tail of {annual.size} years has return periods of 1 to {annual.size}; got {return_period}")
    if not np.isfinite(annual).all():
        raise ModelError(f"year {int(np.argmin(np.isfinite(annual)))}: annual losses must be finite")
    k = max(int(np.ceil(annual.size / return_period - 1e-9)), 1)
    m = min(POOL * k, annual.size)
    floor = -np.partition(-annual, m - 1)[m - 1]
    worst = np.flatnonzero(annual >= floor)
    year = worst[np.argsort(-annual[worst], kind="stable")][:m]
    return Tail(year.astype(np.int32), annual[year].astype(np.float64), k, annual.size)


@dataclass(frozen=True)
class Allocation:
    """A deal's part in a portfolio's capital: its mean over the tail, and by how much the tail's mean falls without it.

    co_tvar adds up to the portfolio's TVaR over all deals (Kreps, "Riskiness leverage models", PCAS 92, 2005);
    marginal is rho(T) - rho(T - x), NaN where the kept years are too few to tell.
    """

    co_tvar: float
    marginal: float


def allocate(tail: Tail, year: I4 | I8, loss: F8) -> Allocation:
    """The part of a deal that adds `loss` f8[A] to the portfolio in `year` [A]; a retrocession adds less than 0."""
    place = np.full(tail.years, -1, dtype=np.int32)  # of each year in the tail
    place[tail.year] = np.arange(tail.year.size)
    at = place[year]
    there = at >= 0
    mine = np.zeros(tail.year.size)
    mine[at[there]] = loss[there]
    without = np.sort(tail.loss - mine)[::-1]
    # A year that is not kept has at most the last kept loss, and without the deal at most so much more.
    unseen = tail.loss[-1] + max(float((-loss[~there]).max(initial=0.0)), 0.0)
    known = tail.year.size == tail.years or without[tail.k - 1] >= unseen
    marginal = tail.tvar - float(without[: tail.k].mean()) if known else float("nan")
    return Allocation(float(mine[: tail.k].mean()), marginal)


def kreps_load(sd_with: float, sd_without: float, z: float, target: float) -> float:
    """The risk load y z / (1 + y) (S' - S) for what a deal adds to the portfolio's standard deviation.

    `z` standard deviations of capital on which `target` y is to be earned (Kreps, "Reinsurer risk loads from marginal
    surplus requirements", PCAS 77, 1990).
    """
    return target * z / (1.0 + target) * (sd_with - sd_without)
