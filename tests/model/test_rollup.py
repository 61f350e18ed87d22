"""From deals to a portfolio."""

import numpy as np
import pytest

from model.errors import ModelError
from model.pricing import price_deal
from model.rollup import REGIONS, add_up, deal_losses, region_of
from model.synth import portfolio

BOOK = portfolio(12, seed=1)
OPTIONS = {"loss_sets": BOOK.loss_sets, "fx": BOOK.fx, "years": 500, "views": 2, "seed": 1}


def test_the_mean_of_a_deal_s_years_is_its_expected_loss():
    for deal in BOOK.deals:
        losses = deal_losses(deal, **OPTIONS)
        assert losses.shape == (1000,)
        assert losses.mean() * BOOK.fx[deal.currency] == pytest.approx(price_deal(deal, **OPTIONS).el)


def test_what_deals_pay_adds_up_year_by_year():
    losses = [deal_losses(deal, **OPTIONS) for deal in BOOK.deals]
    assert np.allclose(add_up([add_up(losses[:5]), add_up(losses[5:])]), add_up(losses))
    assert add_up(losses).max() <= sum(part.max() for part in losses)


def test_nothing_cannot_be_added_up():
    with pytest.raises(ModelError, match="no annual losses"):
        add_up([])


def test_a_deal_belongs_to_the_region_of_its_largest_share():
    for deal in BOOK.deals:
        largest = max(share for _, share in deal.subject)
        assert region_of(deal) in {REGIONS[(n - 1) % 6] for n, share in deal.subject if share == largest}
