"""From deals to a portfolio: what each deal pays year by year, and its sums over deals.

Deals on a loss set see the same losses in a year (`model.pricing.price_deal`), so what they pay adds up year by
year; quantiles of the sum are those of the portfolio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from model.arrays import F8
from model.errors import ModelError
from model.losses import Elt
from model.pricing import Deal, pay, simulated

REGIONS = ("Europe", "North America", "Caribbean", "Japan", "Australia", "Asia")
"""Invented names: loss sets 1, 7, 13, ... are of the first, 2, 8, 14, ... of the second."""


def deal_losses(
    deal: Deal,
    *,
    loss_sets: Mapping[int, Elt],
    fx: Mapping[str, float],
    years: int = 10_000,
    views: int = 1,
    seed: int = 0,
) -> F8:
    """What all layers of `deal` pay in each year, f8[years * views], in the currency of the loss sets.

    Arguments as of `model.pricing.price_deal`, whose `el` is the mean of this in the deal's own currency.
    """
    total = np.zeros(years * views)
    for paid in pay(deal, simulated(deal, loss_sets=loss_sets, fx=fx, years=years, views=views, seed=seed)).terms:
        total[paid.year] += paid.loss
    return total / fx[deal.currency]


def region_of(deal: Deal) -> str:
    """The region that the largest share of `deal` covers; the first named of several."""
    loss_set, _ = max(deal.subject, key=lambda part: part[1])
    return REGIONS[(loss_set - 1) % len(REGIONS)]


def add_up(parts: Sequence[F8]) -> F8:
    """The sum of annual losses f8[Y] over deals, or over groups of them. Raises ModelError if there are none."""
    if not parts:
        raise ModelError("there are no annual losses to add up; give those of one deal at least")
    return np.asarray(np.sum(parts, axis=0, dtype=np.float64))


if __name__ == "__main__":
    import sys

    from model.rollup_command import main

    sys.exit(main())
