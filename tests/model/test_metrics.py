"""Exceedance curves and averages against published tables, then the conventions one by one."""

from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from model import piwind
from model.errors import ModelError
from model.metrics import (
    aal_sd,
    alt,
    annual,
    at_return_periods,
    co_tvar,
    cov_share,
    ept,
    exceedance,
    std_error_mean,
    std_error_probability,
    value_at_risk,
)

ORD = piwind.DATA / "oasis_ord"
ODS = Path(__file__).parent / "data" / "ods"


def columns(table, *names):
    return (table[name].to_numpy() for name in names)


def relative(ours, theirs):
    return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0)))


@pytest.fixture(scope="module")
def ord_runs():
    """The ORD golden set as (sampled, mean damage) annual losses: 100 samples x 1000 periods."""
    event, period = columns(pyarrow.csv.read_csv(ORD / "occurrence.csv"), "event_id", "period_no")
    period_of = np.zeros(event.max() + 1, dtype=np.int32)
    period_of[event] = period  # every event occurs once
    event, sample, loss = columns(pq.read_table(ORD / "selt.parquet"), "EventId", "SampleId", "Loss")
    event_period = period_of[event]
    sampled, mean = sample > 0, sample == -1
    return (
        annual(event_period[sampled], loss[sampled], periods=1000, sample=sample[sampled], samples=100),
        annual(event_period[mean], loss[mean], periods=1000),
    )


def test_all_124_220_published_points_of_the_ord_golden_set_come_out(ord_runs):
    golden = pq.read_table(ORD / "ept.parquet")
    ours = ept(*ord_runs)
    assert ours.num_rows == golden.num_rows == 124_220
    for name in ("SummaryId", "EPCalc", "EPType"):
        assert ours[name].equals(golden[name].cast(ours[name].type))
    for name in ("ReturnPeriod", "Loss"):
        (mine,), (theirs,) = columns(ours, name), columns(golden, name)
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize("perspective", ["gul", "il"])
def test_piwinds_published_curves_come_out_at_its_return_periods(perspective):
    keys = [(name, "ascending") for name in ("EPCalc", "EPType", "ReturnPeriod")]
    ours = ept(*piwind.annual_losses(perspective), return_periods=piwind.return_periods()).sort_by(keys)
    theirs = piwind.published(perspective, "ept").sort_by(keys)
    assert ours.num_rows == theirs.num_rows == 224  # 4 x 4 curves at 14 of 15 return periods: 5000 > 1000 periods
    for name in ("EPCalc", "EPType", "ReturnPeriod"):
        assert np.array_equal(*columns(ours, name), *columns(theirs, name))
    assert relative(*columns(ours, "Loss"), *columns(theirs, "Loss")) < 2e-7


@pytest.mark.parametrize("perspective", ["gul", "il"])
def test_piwinds_published_averages_come_out(perspective):
    ours, theirs = alt(*piwind.annual_losses(perspective)), piwind.published(perspective, "palt")
    for name in ("SampleType", "MeanLoss", "SDLoss"):
        assert relative(*columns(ours, name), *columns(theirs, name)) < 1e-7


def test_the_published_yelt_has_the_published_averages():
    _, total = piwind.yelt("gul").annual()
    mean, sd = aal_sd(total)
    published = piwind.published("gul", "palt").filter([False, True])
    assert relative(np.array([mean, sd]), np.r_[tuple(columns(published, "MeanLoss", "SDLoss"))]) < 1e-7


def test_the_worked_tvar_example_of_open_results_data_comes_out():
    rows = pyarrow.csv.read_csv(ODS / "splt.csv")
    rows = rows.filter(np.asarray(rows["SampleId"]) > 0)
    period, sample, loss = columns(rows, "Period", "SampleId", "Loss")
    sampled = annual(period, loss, periods=100, sample=sample, samples=10)
    golden = pyarrow.csv.read_csv(ODS / "ept_sample_mean.csv")
    for kind, losses in ((1, sampled.occurrence), (3, sampled.aggregate)):
        published, tails = (golden.filter(np.asarray(golden["EPType"]) == k) for k in (kind, kind + 1))
        years, loss = columns(published, "ReturnPeriod", "Loss")
        curve = at_return_periods(losses.mean(axis=0), years)
        np.testing.assert_allclose(curve.loss, loss, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(curve.tvar, tails["Loss"].to_numpy(), rtol=1e-9)


def test_the_first_five_worked_aep_points_are_those_printed_in_the_standard():
    losses = [4683276.414, 3750437.244, 2172771.209, 2033857.652, 1482930.927]
    curve = exceedance(np.array(losses), periods=100)
    assert curve.return_period == pytest.approx([100, 50, 100 / 3, 25, 20])
    assert curve.tvar == pytest.approx([4683276.414, 4216856.829, 3535494.956, 3160085.630, 2824654.689])


def test_return_period_100_of_2000_is_the_20th_largest_and_the_quantile_the_21st():
    losses = np.arange(1.0, 2001.0)
    assert at_return_periods(losses, [100.0]).loss[0] == 1981  # the 20th largest
    assert value_at_risk(losses, 0.99) == 1980  # the 21st
    assert at_return_periods(losses, [100.0]).tvar[0] == np.mean(losses[-20:])


def test_between_ranks_the_loss_is_linear_in_return_period_not_in_probability():
    curve = at_return_periods(np.array([8.0, 4.0, 2.0, 1.0]), [3.0])  # between 4 years (8) and 2 years (4)
    assert curve.loss[0] == 6.0
    assert curve.tvar[0] == (8.0 + 6.0) / 2


def test_leaving_out_the_years_without_loss_changes_nothing():
    losses = np.r_[np.zeros(90), np.linspace(1, 2, 10)]
    years = [1.0, 5.0, 10.0, 11.0, 37.0, 100.0]
    full, sparse = at_return_periods(losses, years), at_return_periods(losses[losses > 0], years, periods=100)
    assert np.array_equal(full.loss, sparse.loss)
    assert np.array_equal(full.tvar, sparse.tvar)


def test_beyond_the_simulated_years_nothing_is_known():
    curve = at_return_periods(np.array([3.0, 1.0]), [2.0, 2.5])
    assert curve.loss[0] == 3.0
    assert np.isnan([curve.loss[1], curve.tvar[1]]).all()


def test_years_that_are_all_zero_have_a_curve_of_zeros():
    curve = at_return_periods(np.zeros(10), [1.0, 5.0, 10.0])
    assert curve.loss.tolist() == curve.tvar.tolist() == [0, 0, 0]


def test_weighted_periods_worked_by_hand():
    losses, weights = np.array([10.0, 0.0, 40.0, 20.0]), np.array([0.2, 0.5, 0.1, 0.2])
    curve = exceedance(losses, weights=weights)
    assert curve.loss.tolist() == [40.0, 20.0, 10.0]
    assert curve.return_period == pytest.approx([10.0, 1 / 0.3, 2.0])
    assert curve.tvar == pytest.approx([40.0, 8.0 / 0.3, 10.0 / 0.5])
    assert aal_sd(losses, weights) == pytest.approx((10.0, np.sqrt(0.2 * 0 + 0.5 * 100 + 0.1 * 900 + 0.2 * 100)))


def test_equal_weights_change_nothing():
    losses = np.random.default_rng(1).gamma(0.5, size=200)
    plain, weighted = exceedance(losses), exceedance(losses, weights=np.full(200, 1 / 200))
    for name in ("return_period", "loss", "tvar"):
        np.testing.assert_allclose(getattr(plain, name), getattr(weighted, name), rtol=1e-12)


def test_standard_errors_are_sd_over_root_n_and_binomial():
    assert std_error_mean(np.array([1.0, 3.0, 1.0, 3.0])) == pytest.approx(np.sqrt(4 / 3) / 2)
    assert std_error_probability(0.1, 900) == pytest.approx(0.01)


def test_co_tvars_add_up_to_the_tvar_of_the_portfolio_and_covariance_shares_to_one():
    parts = np.random.default_rng(3).gamma(0.3, size=(7, 5000))
    assert co_tvar(parts, 100.0).sum() == pytest.approx(
        at_return_periods(parts.sum(axis=0), [100.0]).tvar[0], rel=1e-14
    )
    assert cov_share(parts).sum() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("losses", "periods", "message"),
    [
        ([1.0, -1.0], None, "negative values"),
        ([1.0, np.nan], None, "NaN"),
        ([1.0, 2.0], 1, "periods must be >= 1 and cover all 2 losses; got 1"),
        ([], None, "periods must be >= 1"),
    ],
)
def test_bad_annual_losses_are_refused(losses, periods, message):
    with pytest.raises(ModelError, match=message):
        exceedance(np.array(losses), periods)


def test_a_bad_row_of_a_period_loss_table_is_named():
    period = np.array([1, 2, 7], dtype=np.int32)
    with pytest.raises(ModelError, match=r"row 2: Period 7"):
        annual(period, np.ones(3), periods=5)
    with pytest.raises(ModelError, match=r"row 1: Period 2, SampleId 1, Loss nan"):
        annual(period, np.array([1.0, np.nan, 1.0]), periods=9)


def test_return_periods_below_a_year_are_refused():
    with pytest.raises(ModelError, match="years >= 1"):
        at_return_periods(np.ones(3), [0.5])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: exceedance(np.array([1.0, 2.0, 3.0]), weights=np.array([0.5, 0.5])),
            "weights must be > 0, one for each",
        ),
        (
            lambda: exceedance(np.array([1.0, 2.0]), weights=np.array([0.5, np.nan])),
            "weights must be > 0, one for each",
        ),
        (lambda: value_at_risk(np.array([1.0, 2.0]), 2.0), "a probability in 0..1"),
        (lambda: value_at_risk(np.array([]), 0.5), "got 0.5 of 0"),
        (lambda: co_tvar(np.ones((2, 10)), 0.1), "the tail of 10 years"),
        (lambda: co_tvar(np.array([[1.0, np.nan]]), 2.0), "finite losses"),
    ],
)
def test_what_has_no_answer_is_refused(ask, message):
    with pytest.raises(ModelError, match=message):
        ask()
