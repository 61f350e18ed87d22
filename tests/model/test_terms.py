"""What layers and programmes pay: by hand, against an independent library, and as laws."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ModelError
from model.losses import Yelt
from model.recoveries import apply
from model.terms import INF, Layer, Programme, QuotaShare, StopLoss

EVENTS = Yelt.from_years([[15.0, 42.0, 25.0], []], days=[[73, 146, 219], []])


def run(*terms, events=EVENTS, net=True):
    return apply(Programme((terms,)), events, net=net)


# By hand.


def test_10_xs_10_with_one_paid_reinstatement_pays_5_10_5_and_costs_a_premium_again():
    paid = run(Layer(limit=10, attachment=10, reinst=(1.0,), premium=2.0))
    assert paid.net.loss.tolist() == [10.0, 32.0, 20.0]  # ceded 5, 10, 5
    assert paid.layer_loss.tolist() == [[20.0, 0.0]]
    assert paid.reinst_premium.tolist() == [[2.0, 0.0]]
    assert paid.occ_max.tolist() == [[10.0, 0.0]]


def test_60_percent_of_20_xs_20_pays_0_12_3():
    paid = run(Layer(limit=20, attachment=20, share=0.6, reinst=(1.0, 1.0), premium=2.0))
    assert paid.net.loss == pytest.approx([15.0, 30.0, 22.0])
    assert paid.reinst_premium[0, 0] == pytest.approx(1.5)  # 60 % of 2, for 25 of 20 used


def test_two_reinstatements_at_100_and_50_percent_price_each_band_apart():
    events = Yelt.from_years([[22.0, 12.0]], days=[[91, 182]])
    layer = Layer(limit=10, attachment=10, reinst=(1.0, 0.5), premium=2.0)
    assert run(layer, events=events).reinst_premium[0, 0] == pytest.approx(2 * (1.0 + 0.5 * 0.2))


def test_pro_rata_as_to_time_charges_what_is_left_of_the_year():
    events = Yelt.from_years([[22.0, 12.0]], days=[[73, 292]])  # a fifth and four fifths into the year
    layer = Layer(limit=10, attachment=10, reinst=(1.0, 0.5), premium=2.0, pro_rata_time=True)
    assert run(layer, events=events).reinst_premium[0, 0] == pytest.approx(2 * (0.8 * 1.0 + 0.2 * 0.5 * 0.2))


def test_without_a_reinstatement_one_limit_is_all():
    assert run(Layer(limit=10, attachment=10, reinst=())).layer_loss[0, 0] == 10.0
    assert run(Layer(limit=10, attachment=10)).layer_loss[0, 0] == 25.0  # reinst=None: no annual limit


def test_the_aggregate_deductible_comes_off_the_first_recoveries():
    paid = run(Layer(limit=10, attachment=10, aad=7, aal=12))
    assert paid.net.loss.tolist() == [15.0, 34.0, 21.0]  # 5, 10, 5 less 7: 0, 8, 4 (12 in all)
    assert paid.layer_loss[0, 0] == 12.0
    assert paid.occ_max[0, 0] == 8.0


def test_a_quota_share_cedes_its_part_up_to_the_event_limit():
    paid = run(QuotaShare(ceded=0.4, event_limit=10.0))
    assert paid.net.loss == pytest.approx([9.0, 32.0, 15.0])


def test_a_stop_loss_pays_on_the_sum_of_the_year_as_it_is_reached():
    paid = run(StopLoss(limit=20, attachment=50))
    assert paid.layer_loss[0, 0] == 20.0
    assert paid.net.loss.tolist() == [15.0, 35.0, 12.0]  # 57 after the second event, 82 after the third


def test_a_later_stage_sees_what_the_earlier_left():
    paid = apply(Programme(((QuotaShare(ceded=0.5),), (Layer(limit=10, attachment=10),))), EVENTS)
    assert paid.layer_loss[:, 0].tolist() == [41.0, 10.0 + 2.5]
    assert paid.net is None


def test_layers_of_one_stage_see_the_same_losses():
    paid = run(Layer(limit=10, attachment=10), Layer(limit=10, attachment=20))
    assert paid.layer_loss[:, 0].tolist() == [25.0, 15.0]
    assert paid.net.loss.tolist() == [10.0, 22.0, 10.0]


def test_events_below_every_attachment_pay_nothing():
    paid = run(Layer(limit=10, attachment=100, reinst=(1.0,), pro_rata_time=True))
    assert not paid.layer_loss.any()
    assert paid.net.loss.tolist() == EVENTS.loss.tolist()


# Wrong terms.


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"limit": 0.0, "attachment": 1.0}, r"layer 0 xs 1: limit must be > 0; got 0"),
        ({"limit": 5.0, "attachment": -1.0}, r"layer 5 xs -1: attachment must be finite and >= 0; got -1"),
        ({"limit": 5.0, "attachment": float("nan")}, "attachment must be"),
        ({"limit": float("nan"), "attachment": 1.0}, "limit must be"),
        ({"limit": 5.0, "attachment": 1.0, "share": 1.2}, r"share must lie in \(0, 1\]; got 1.2"),
        ({"limit": 5.0, "attachment": 1.0, "aad": -2.0}, "aad must be"),
        ({"limit": 5.0, "attachment": 1.0, "aal": 0.0}, "aal must be"),
        ({"limit": 5.0, "attachment": 1.0, "reinst": (1.0, -0.5)}, "reinst must hold rates"),
        ({"limit": INF, "attachment": 1.0, "reinst": (1.0,)}, "limit must be finite to be reinstated"),
    ],
)
def test_a_wrong_layer_says_which_term_is_wrong(terms, message):
    with pytest.raises(ModelError, match=message):
        Layer(**terms)


def test_wrong_quota_shares_and_stop_losses_and_programmes_are_refused():
    with pytest.raises(ModelError, match="ceded must lie in"):
        QuotaShare(ceded=0.0)
    with pytest.raises(ModelError, match="stop loss: attachment must be"):
        StopLoss(limit=10, attachment=-5)
    with pytest.raises(ModelError, match="at least one stage"):
        Programme(((),))


def test_ceding_more_than_there_is_names_stage_and_event():
    with pytest.raises(ModelError, match=r"stage 1 cedes more of event 1 \(row 0\)"):
        run(QuotaShare(ceded=0.7), QuotaShare(ceded=0.5))


# Laws.

LAW = settings(derandomize=True, deadline=None, max_examples=60)

amounts = st.floats(0, 1e6, allow_subnormal=False)
years = st.lists(st.lists(amounts, max_size=6), min_size=1, max_size=8)


@st.composite
def layers(draw):
    reinst = draw(st.none() | st.lists(st.floats(0, 2), max_size=3).map(tuple))
    return Layer(
        limit=draw(st.floats(1.0, 5e5)),
        attachment=draw(st.floats(0, 5e5)),
        share=draw(st.floats(0.01, 1.0)),
        aad=draw(st.just(0.0) | st.floats(0, 5e5)),
        aal=draw(st.just(INF) | st.floats(1.0, 1e6)),
        reinst=reinst,
        premium=draw(st.floats(0, 1e4)),
        pro_rata_time=draw(st.booleans()),
    )


def year_by_year(events):
    return [events.loss[events.rows(y)] for y in range(events.years)]


@LAW
@given(years, layers())
def test_ceded_and_retained_add_up_to_gross(losses, layer):
    events = Yelt.from_years(losses)
    paid = run(layer, events=events)
    gross, retained = events.annual()[1], paid.net.annual()[1]
    np.testing.assert_allclose(paid.layer_loss[0] + retained, gross, rtol=1e-12, atol=1e-6)


@LAW
@given(years, layers())
def test_recoveries_event_by_event_add_up_to_the_aggregate_formula(losses, layer):
    events = Yelt.from_years(losses)
    by_event = events.loss - run(layer, events=events).net.loss
    sums = np.bincount(events.year(), by_event, minlength=events.years)
    np.testing.assert_allclose(sums, run(layer, events=events, net=False).layer_loss[0], rtol=1e-9, atol=1e-6)


@LAW
@given(years, layers())
def test_asking_for_the_net_changes_no_recovery(losses, layer):
    events = Yelt.from_years(losses)
    with_net, without = run(layer, events=events), run(layer, events=events, net=False)
    np.testing.assert_allclose(with_net.layer_loss, without.layer_loss, rtol=1e-12)
    np.testing.assert_allclose(with_net.occ_max, without.occ_max, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(with_net.reinst_premium, without.reinst_premium, rtol=1e-9, atol=1e-6)


@LAW
@given(years, layers())
def test_a_year_never_pays_more_than_its_limits_and_an_event_never_more_than_the_limit(losses, layer):
    paid = run(layer, events=Yelt.from_years(losses), net=False)
    assert (paid.layer_loss <= layer.share * layer.annual_limit * (1 + 1e-12)).all()
    assert (paid.occ_max <= layer.share * layer.limit * (1 + 1e-12)).all()
    assert (paid.occ_max <= paid.layer_loss * (1 + 1e-9) + 1e-9).all()


@LAW
@given(years, layers(), st.floats(1.0, 3.0))
def test_a_higher_limit_never_pays_less(losses, layer, factor):
    events = Yelt.from_years(losses)
    higher = Layer(**{**vars(layer), "limit": layer.limit * factor})
    less, more = (run(x, events=events, net=False).layer_loss for x in (layer, higher))
    assert (more >= less * (1 - 1e-12)).all()


@LAW
@given(years, layers())
def test_the_order_of_events_does_not_matter_to_the_year(losses, layer):
    forward, backward = (Yelt.from_years([year[::step] for year in losses]) for step in (1, -1))
    ours, theirs = (run(layer, events=e, net=False).layer_loss for e in (forward, backward))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-9)


@LAW
@given(years, layers())
def test_years_do_not_touch_each_other(losses, layer):
    whole = run(layer, events=Yelt.from_years(losses), net=False)
    apart = [run(layer, events=Yelt.from_years([year]), net=False) for year in losses]
    for name in ("layer_loss", "reinst_premium", "occ_max"):
        np.testing.assert_array_equal(getattr(whole, name)[0], [getattr(a, name)[0, 0] for a in apart])


# Against prospicio, an independent implementation in Rust.


@LAW
@given(years, st.lists(layers(), min_size=1, max_size=3), st.floats(0.05, 0.5), st.randoms())
def test_an_independent_library_pays_the_same_in_an_inuring_tower(losses, tower, ceded, random):
    reinsurance = pytest.importorskip("prospicio.reinsurance")
    aggregate = importlib.import_module("prospicio.aggregate")
    days = [sorted(random.choices(range(365), k=len(year))) for year in losses]
    ours = apply(Programme(((QuotaShare(ceded=ceded),), tuple(map(one_limit, tower)))), Yelt.from_years(losses, days))
    times = [[d / 365 for d in year] for year in days]
    stages = [
        [reinsurance.Layer.quota_share("qs", ceded)],
        [theirs(reinsurance, str(k), one_limit(layer)) for k, layer in enumerate(tower)],
    ]
    result = reinsurance.Tower.inuring(stages).apply(aggregate.EventSet.from_years(losses, times=times))
    parts = dict(zip(result.components(), np.transpose(result.draw_matrix()), strict=True))
    for k, layer in enumerate(map(one_limit, tower)):
        np.testing.assert_allclose(ours.layer_loss[k + 1], parts["ceded", str(k)], rtol=1e-12, atol=1e-6)
        if layer.reinst:
            premium = parts["reinstatement_premium", str(k)]
            np.testing.assert_allclose(ours.reinst_premium[k + 1], premium, rtol=1e-12, atol=1e-6)


def one_limit(layer):
    """Prospicio takes reinstatements or an aggregate limit, not both."""
    return Layer(**{**vars(layer), "aal": INF} if layer.reinst is not None else vars(layer))


def theirs(reinsurance, name, layer):
    annual = {"aggregate_deductible": layer.aad, "share": layer.share, "premium": layer.premium * layer.share}
    if layer.reinst:
        annual |= {"reinstatement_rates": list(layer.reinst), "pro_rata_time": layer.pro_rata_time}
    elif layer.annual_limit < INF:
        annual["aggregate_limit"] = layer.annual_limit
    return reinsurance.Layer(name, layer.limit, layer.attachment, **annual)
