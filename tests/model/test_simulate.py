"""Simulated years against the closed forms they sample from."""

import math

import numpy as np
import pytest

from model import piwind
from model.errors import ModelError
from model.losses import Elt
from model.metrics import aal_sd
from model.rng import Purpose, stream
from model.simulate import alias_table, beta_parameters, occurrence, sample_losses, simulate

YEARS = 100_000


@pytest.fixture(scope="module")
def elt():
    return piwind.elt()


@pytest.fixture(scope="module")
def simulated(elt):
    return simulate(elt, YEARS, seed=5)


def test_the_alias_table_holds_exactly_the_given_probabilities():
    rate = np.array([0.5, 0.0, 2.5, 1.0, 0.001])
    table = alias_table(rate)
    held = table.keep.copy()
    np.add.at(held, table.other, 1 - table.keep)
    np.testing.assert_allclose(held / rate.size, rate / rate.sum(), rtol=1e-12, atol=1e-15)
    assert not (table.draw(10_000, stream(1)) == 1).any()


def test_simulated_losses_have_the_mean_and_spread_of_the_elt(elt, simulated):
    mean, sd = aal_sd(simulated.annual()[1])
    assert mean == pytest.approx(elt.aal, abs=4 * elt.annual_sd / math.sqrt(YEARS))
    assert sd == pytest.approx(elt.annual_sd, rel=0.02)


def test_the_largest_loss_of_a_year_exceeds_as_often_as_its_poisson_rate_says(elt):
    sure = Elt(elt.event_id, elt.rate, elt.mean, np.zeros_like(elt.sd), elt.exposure)
    largest, _ = simulate(sure, YEARS, seed=6).annual()
    for x in (2e5, 1e6, 3e6):
        exact = 1 - math.exp(-sure.rate[sure.mean.astype(np.float32) > x].sum())
        assert (largest > x).mean() == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / YEARS))


def test_counts_are_poisson_by_the_chi_square_test():
    lam = 2.5
    counts = np.diff(occurrence(np.full(10, lam / 10), YEARS, stream(2)).ptr)
    seen = np.bincount(np.minimum(counts, 9), minlength=10)
    chance = np.array([math.exp(-lam) * lam**k / math.factorial(k) for k in range(9)])
    expected = YEARS * np.r_[chance, 1 - chance.sum()]
    assert ((seen - expected) ** 2 / expected).sum() < 27.9  # 99.9 % of chi-square with 9 degrees of freedom


def test_events_come_in_proportion_to_their_rates_and_days_evenly():
    rate = np.array([0.2, 0.6, 1.2])
    line = occurrence(rate, YEARS, stream(3))
    n = line.event_row.size
    for row, share in enumerate(rate / rate.sum()):
        assert (line.event_row == row).mean() == pytest.approx(share, abs=4 * math.sqrt(share / n))
    months = np.bincount(line.day // 73, minlength=5)
    assert months.size == 5
    assert np.abs(months / n - 0.2).max() < 4 * math.sqrt(0.2 / n)


def test_days_ascend_within_every_year():
    line = occurrence(np.full(4, 3.0), 2000, stream(4))
    inside = np.setdiff1d(np.arange(1, line.day.size), line.ptr)
    assert (line.day[inside] >= line.day[inside - 1]).all()


def test_dispersion_clusters_events_without_changing_their_mean():
    counts = np.diff(occurrence(np.full(4, 0.5), YEARS, stream(5), dispersion=1.5).ptr)
    assert counts.mean() == pytest.approx(2.0, abs=4 * math.sqrt(5.0 / YEARS))
    assert counts.var() == pytest.approx(2.0 * 2.5, rel=0.03)


def test_beta_losses_have_the_given_moments():
    mean, sd, exposure = np.array([20.0]), np.array([15.0]), np.array([100.0])
    loss = sample_losses(mean, sd, exposure, np.zeros(YEARS, dtype=np.int32), stream(6))
    assert loss.mean() == pytest.approx(20.0, abs=4 * 15 / math.sqrt(YEARS))
    assert loss.std() == pytest.approx(15.0, rel=0.02)
    assert 0 <= loss.min() <= loss.max() <= 100


def test_losses_without_spread_are_their_mean():
    mean, exposure = np.array([0.0, 30.0, 50.0]), np.array([50.0, 50.0, 50.0])
    for sd in (np.zeros(3), np.array([5.0, 0.0, 5.0])):  # nothing can spread at 0 or at the exposure
        loss = sample_losses(mean, sd, exposure, np.array([0, 1, 2], dtype=np.int32), stream(7))
        assert loss.tolist() == mean.tolist()


def test_a_spread_no_loss_could_have_names_its_row():
    columns = (np.array(x) for x in ([5.0, 10.0], [1.0, 45.0], [100.0, 100.0]))
    with pytest.raises(ModelError, match=r"row 1: sd 45.0 is too large .* must be below 30"):
        beta_parameters(*columns)


def test_a_view_resamples_the_losses_of_the_same_events(elt):
    two = simulate(elt, 200, seed=5, views=2)
    half = two.loss.size // 2
    assert two.years == 400
    np.testing.assert_array_equal(two.event_id[:half], two.event_id[half:])
    np.testing.assert_array_equal(two.day[:half], two.day[half:])
    assert (two.loss[:half] != two.loss[half:]).mean() > 0.9
    np.testing.assert_array_equal(two.loss[:half], simulate(elt, 200, seed=5).loss)


def test_streams_differ_by_name_and_repeat_by_name():
    names = [(0, 1), (1, 0), (1, 1), (0, 1, 0), (0,)]
    draws = [stream(*name).random() for name in names]
    assert len(set(draws)) == len(draws)
    assert draws == [stream(*name).random() for name in names]


def test_loss_sets_are_independent_of_who_else_is_simulated(elt):
    alone = simulate(elt, 100, seed=1, loss_set=3).loss
    others = [simulate(elt, 100, seed=1, loss_set=k).loss for k in (5, 3, 1)]
    np.testing.assert_array_equal(others[1], alone)
    assert others[0].tolist() != alone.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"years": 0}, "years must be a whole number >= 1; got 0"),
        ({"dispersion": -1.0}, "dispersion must be"),
        ({"rate": np.zeros(3)}, "nothing could occur"),
        ({"rate": np.array([1.0, -1.0, 3.0])}, "rates must be finite and >= 0"),
    ],
)
def test_impossible_occurrences_are_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        occurrence(**{"rate": np.ones(3), "years": 5, "rng": stream(1)} | arguments)


def test_negative_seeds_and_no_views_are_refused(elt):
    with pytest.raises(ModelError, match="seed -1"):
        stream(-1)
    with pytest.raises(ModelError, match="views must be"):
        simulate(elt, 10, seed=1, views=0)


def test_the_purposes_of_streams_never_change_their_numbers():
    known = {"OCCURRENCE": 1, "SEVERITY": 2, "LOSS_SETS": 3, "DEALS": 4, "EVENT_SET": 5, "BOOK": 6}
    assert {p.name: int(p) for p in Purpose} == known
