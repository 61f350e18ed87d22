"""A deal's price: from the closed forms, the same everywhere, and refused with its name."""

import math
import multiprocessing
import pickle
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

from model import piwind
from model.errors import ModelError
from model.losses import Elt
from model.pricing import Deal, Loads, price_deal, technical_premium
from model.report import deals_table, ep_table, summary
from model.synth import FX, loss_sets, portfolio
from model.tables import validate
from model.terms import Layer, QuotaShare

YEARS = 4000


@pytest.fixture(scope="module")
def book():
    return portfolio(12, seed=3)


@pytest.fixture(scope="module")
def price(book):
    return partial(price_deal, loss_sets=book.loss_sets, fx=book.fx, years=YEARS)


def deal(**changed):
    given = {
        "deal_id": 17,
        "currency": "GBP",
        "subject": ((1, 1.0),),
        "layers": (Layer(limit=1e6, attachment=5e5),),
    }
    return Deal(**given | changed)


def one_event(rate):
    """A loss set of one event of sure loss 100."""
    return {1: Elt(np.array([1], dtype=np.int32), *(np.array([x]) for x in (rate, 100.0, 0.0, 200.0)))}


def test_one_sure_event_is_priced_as_by_hand():
    years, rate = 100_000, 0.5
    layer = Layer(limit=50.0, attachment=80.0, share=0.5, reinst=(1.0,))
    priced = price_deal(deal(layers=(layer,)), loss_sets=one_event(rate), years=years).layers[0]
    chance = [math.exp(-rate) * rate**n / math.factorial(n) for n in range(30)]
    recovery = sum(p * min(20.0 * n, 100.0) for n, p in enumerate(chance))
    reinstated = sum(p * min(20.0 * n, 50.0) / 50.0 for n, p in enumerate(chance))
    assert priced.el == pytest.approx(0.5 * recovery, abs=4 * priced.se)
    assert priced.attach_prob == pytest.approx(1 - chance[0], abs=4 * math.sqrt(0.25 / years))
    assert priced.reinst_factor == pytest.approx(reinstated, abs=4 * math.sqrt(reinstated / years))
    assert priced.premium == pytest.approx(
        technical_premium(priced.el, priced.sd, priced.reinst_factor, Loads()), rel=1e-12
    )
    assert priced.rol == pytest.approx(priced.premium / 25.0)


def test_the_same_losses_in_another_currency_have_the_same_rate_on_line(book):
    pounds = deal(subject=((1, 0.5), (2, 0.2)), layers=(Layer(limit=2e6, attachment=2e6, reinst=(1.0,)),))
    yen = replace(pounds, currency="JPY", layers=(Layer(limit=2e6 * 190, attachment=2e6 * 190, reinst=(1.0,)),))
    ours, theirs = (price_deal(d, loss_sets=book.loss_sets, fx=FX, years=YEARS) for d in (pounds, yen))
    assert theirs.layers[0].rol == pytest.approx(ours.layers[0].rol, rel=1e-5)
    assert theirs.el == pytest.approx(190 * ours.el, rel=1e-5)


def test_a_quota_share_inuring_to_the_layers_is_a_smaller_share_of_the_losses(book):
    half = deal(subject=((4, 0.2),), layers=(Layer(limit=1e6, attachment=1e6),))
    net = deal(subject=((4, 0.4),), layers=half.layers, inuring=(QuotaShare(ceded=0.5),))
    ours, theirs = (price_deal(d, loss_sets=book.loss_sets, years=YEARS) for d in (half, net))
    assert theirs.el == pytest.approx(ours.el, rel=1e-5)
    assert theirs.gross_aal == pytest.approx(2 * ours.gross_aal, rel=1e-5)


def test_views_sharpen_the_estimate_but_not_its_years(price, book):
    one, ten = price(book.deals[0]), price(book.deals[0], views=10)
    assert ten.years == 10 * one.years
    assert ten.events == 10 * one.events
    assert one.se / math.sqrt(10) < ten.se <= one.se * 1.05  # between wholly new years and no news at all


def test_years_and_layers_add_up(price, book):
    for result in map(price, book.deals):
        assert result.el == pytest.approx(sum(layer.el for layer in result.layers))
        assert result.premium == pytest.approx(sum(layer.premium for layer in result.layers))
        for layer in result.layers:
            assert 0 < layer.el < layer.premium * (1 + layer.reinst_factor)
            assert layer.exhaust_prob <= layer.attach_prob
            assert (np.diff(layer.aep) >= 0).all()
            assert all(tail >= loss - 1e-9 for loss, tail in zip(layer.aep, layer.aep_tail, strict=True))
            assert all(agg >= occ * (1 - 1e-9) for occ, agg in zip(layer.oep, layer.aep, strict=True))


def test_a_price_survives_pickling_and_is_small(price, book):
    function, item = pickle.loads(pickle.dumps((price, book.deals[1])))
    result = price(book.deals[1])
    assert function(item) == result
    assert pickle.loads(pickle.dumps(result)) == result
    assert len(pickle.dumps(result)) < 10_000


def test_a_price_is_the_same_in_any_order_chunk_and_process(price, book):
    here = list(map(price, book.deals))
    backwards = [price(d) for d in reversed(book.deals)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.map(price, book.deals[:4], chunksize=3)
    assert backwards[::-1] == here
    assert elsewhere == here[:4]


def test_what_is_unknown_is_named_with_the_deal():
    sets = {1: piwind.elt()}
    with pytest.raises(ModelError, match=r"deal 17: unknown loss set 8; have \[1\]"):
        price_deal(deal(subject=((8, 1.0),)), loss_sets=sets)
    with pytest.raises(ModelError, match=r"deal 17: no rate for XAU; fx has CHF, EUR"):
        price_deal(deal(currency="XAU"), loss_sets=sets, fx=FX)
    with pytest.raises(ModelError, match="deal 17, loss set 1: years must be"):
        price_deal(deal(), loss_sets=sets, years=0)
    with pytest.raises(ModelError, match=r"deal 17, layer 1 \(1 xs 5e\+09\) attaches above .* interchanged"):
        price_deal(deal(layers=(Layer(limit=1.0, attachment=5e9),)), loss_sets=sets)
    with pytest.raises(ModelError, match="deal 17: stage 1 cedes more of event"):
        price_deal(deal(inuring=(QuotaShare(ceded=0.7), QuotaShare(ceded=0.7))), loss_sets=sets)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": ()}, "deal 17 has no layers"),
        ({"subject": ()}, "deal 17 covers no loss set"),
        ({"subject": ((3, 0.0),)}, "deal 17, loss set 3: share must be > 0; got 0"),
        ({"subject": ((3, 0.1), (3, 0.2))}, "deal 17 names a loss set twice"),
    ],
)
def test_a_wrong_deal_is_named(changed, message):
    with pytest.raises(ModelError, match=message):
        deal(**changed)


def test_loads_that_leave_nothing_of_the_premium_are_refused():
    with pytest.raises(ModelError, match="together below 1"):
        Loads(brokerage=0.6, expense=0.4)


def test_too_few_years_leave_the_tail_unknown(book):
    result = price_deal(book.deals[0], loss_sets=book.loss_sets, fx=book.fx, years=50)
    assert math.isnan(result.tvar100)
    assert math.isnan(result.layers[0].pml250)
    assert result.el > 0


def test_a_book_is_the_same_for_the_same_seed_and_grows_at_its_end():
    assert portfolio(5, seed=3).deals == portfolio(12, seed=3).deals[:5]
    assert portfolio(5, seed=3).deals != portfolio(5, seed=4).deals


def test_a_book_has_the_variety_of_a_book():
    deals = portfolio(150, seed=1).deals
    assert {len(d.layers) for d in deals} == {1, 2, 3, 4}
    assert len({d.currency for d in deals}) == 5
    layers = [layer for d in deals for layer in d.layers]
    assert len({layer.reinst for layer in layers}) >= 4
    assert 0 < sum(layer.pro_rata_time for layer in layers) < len(layers)
    assert 0 < sum(bool(d.inuring) for d in deals) < len(deals)
    for d in deals:
        for lower, upper in zip(d.layers, d.layers[1:], strict=False):
            assert upper.attachment == pytest.approx(lower.attachment + lower.limit)


def test_a_book_of_nothing_is_refused():
    with pytest.raises(ModelError, match="at least one deal"):
        portfolio(0)
    with pytest.raises(ModelError, match="at least one loss set"):
        loss_sets(0, 1)


def test_priced_deals_make_valid_tables_and_a_summary(price, book):
    results = [price(d) for d in book.deals]
    layers = sum(len(d.layers) for d in book.deals)
    table, curves = validate(deals_table(results), "deals"), validate(ep_table(results), "ept")
    assert table.num_rows == layers
    assert curves.num_rows == layers * 4 * 14
    text = summary(results, book.fx, top=3)
    assert f"Top 3 of {layers} layers" in text
    assert text.splitlines()[-1].split()[:3] == ["all", "12", str(layers)]
    pounds = [deal for deal in results if deal.currency == "GBP"]
    ratio = sum(deal.el for deal in pounds) / sum(deal.premium for deal in pounds)
    (totals,) = (line.split() for line in text.splitlines() if line.split()[:1] == ["GBP"])
    assert totals[6] == f"{ratio:.1%}"


def test_a_curve_leaves_out_what_too_few_years_cannot_tell(book):
    few = price_deal(book.deals[0], loss_sets=book.loss_sets, fx=book.fx, years=60)
    assert max(ep_table([few])["ReturnPeriod"].to_pylist()) == 50


def test_results_hold_plain_numbers_only(price, book):
    result = price(book.deals[2])
    for part in (result, *result.layers):
        assert {type(getattr(part, f.name)) for f in fields(part)} <= {int, float, str, tuple}


@pytest.mark.parametrize("rate", [math.nan, 0.0, -1.25, math.inf])
def test_a_rate_of_exchange_that_is_none_is_named(rate):
    with pytest.raises(ModelError, match="deal 17: the rate for GBP must be > 0; got"):
        price_deal(deal(), loss_sets=one_event(0.5), fx={"GBP": rate}, years=100)


def test_a_load_that_is_no_number_is_refused():
    with pytest.raises(ModelError, match="loads must be finite and >= 0"):
        Loads(risk=math.nan)
