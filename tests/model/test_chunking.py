"""Any cut of the years, the deals or the views gives the same numbers; closed forms hold for what is drawn."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import simulate as drawing
from model.errors import ModelError
from model.losses import Elt
from model.simulate import EventSet, losses_on, simulate, timeline

YEARS = 300


def table(events, seed=0, keep=1.0):
    rng = np.random.default_rng(seed)
    mean = rng.uniform(1, 100, events.rate.size)
    kept = np.flatnonzero(rng.random(events.rate.size) < keep) if keep < 1 else np.arange(events.rate.size)
    return Elt(events.event_id[kept], events.rate[kept], mean[kept], 0.5 * mean[kept], 4 * mean[kept])


@pytest.fixture(params=[0.0, 1.5], ids=["poisson", "negative binomial"])
def events(request):
    rate = np.random.default_rng(1).uniform(0.001, 0.2, 20)
    return EventSet(7, np.arange(10, 30, dtype=np.int32), rate, request.param)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks that are short enough for a few years to lie in several."""
    monkeypatch.setattr(drawing, "BLOCK_YEARS", 90)


cuts = st.lists(st.integers(1, YEARS - 1), unique=True, max_size=6).map(lambda at: [0, *sorted(at), YEARS])


@settings(max_examples=25, deadline=None)
@given(cuts=cuts, view=st.integers(0, 3), dispersion=st.sampled_from([0.0, 1.5]))
def test_any_cut_of_the_years_gives_the_same_events_and_losses(cuts, view, dispersion):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "BLOCK_YEARS", 90)
        events = EventSet(7, np.arange(20, dtype=np.int32), np.linspace(0.01, 0.3, 20), dispersion)
        elt = table(events)
        options = {"seed": 3, "loss_set": 5, "view": view}
        whole, losses = timeline(events, YEARS, seed=3), losses_on(events, elt, YEARS, **options)
        ranges = [range(a, b) for a, b in pairwise(cuts)]
        lines = [timeline(events, years, seed=3) for years in ranges]
        for name in ("event_row", "day"):
            np.testing.assert_array_equal(np.concatenate([getattr(x, name) for x in lines]), getattr(whole, name))
        counts = np.concatenate([np.diff(x.ptr) for x in lines])
        np.testing.assert_array_equal(counts, np.diff(whole.ptr))
        parts = [losses_on(events, elt, years, **options) for years in ranges]
        np.testing.assert_array_equal(np.concatenate(parts), losses)


def test_a_loss_set_of_its_own_is_cut_alike(small_blocks, events):
    elt = table(events)
    whole = simulate(elt, YEARS, seed=1, loss_set=2)
    late = simulate(elt, range(100, 250), seed=1, loss_set=2)
    np.testing.assert_array_equal(late.loss, whole.loss[whole.ptr[100] : whole.ptr[250]])
    np.testing.assert_array_equal(np.diff(late.ptr), np.diff(whole.ptr)[100:250])


def test_a_time_line_at_hand_gives_the_losses_that_drawing_it_again_would(small_blocks, events):
    elt, line = table(events, keep=0.5), timeline(events, YEARS, seed=3)
    drawn = losses_on(events, elt, YEARS, seed=3, loss_set=5, view=1)
    np.testing.assert_array_equal(losses_on(events, elt, YEARS, seed=3, loss_set=5, view=1, line=line), drawn)
    assert drawn.size == line.day.size
    absent = ~np.isin(events.event_id[line.event_row], elt.event_id)
    assert absent.any()
    assert (drawn[absent] == 0).all()
    assert (drawn[~absent] > 0).any()


def test_loss_sets_on_one_event_set_lose_in_the_same_years(events):
    line = timeline(events, 2000, seed=3)
    one, other = (losses_on(events, table(events, k), 2000, seed=3, loss_set=k, line=line) for k in (1, 2))
    years = np.repeat(np.arange(2000), np.diff(line.ptr))
    annual = [np.bincount(years, weights=x, minlength=2000) for x in (one, other)]
    assert np.corrcoef(annual)[0, 1] > 0.4


@pytest.mark.parametrize("dispersion", [0.0, 2.0])
def test_annual_moments_are_those_of_the_closed_form(dispersion):
    """E[S] = sum r m and Var[S] = sum r (m^2 + s^2) + d (sum r m)^2 / sum r: a compound negative binomial of count
    variance (1 + d) mean (Klugman, Panjer & Willmot, Loss Models, ch. 9); Homer & Li 2017 for d = 0."""
    years = 40_000
    events = EventSet(1, np.arange(20, dtype=np.int32), np.linspace(0.01, 0.2, 20), dispersion)
    elt = table(events)
    line = timeline(events, years, seed=9)
    loss = losses_on(events, elt, years, seed=9, loss_set=1, line=line)
    annual = np.bincount(np.repeat(np.arange(years), np.diff(line.ptr)), weights=loss, minlength=years)
    variance = elt.annual_sd**2 + dispersion * elt.aal**2 / elt.rate.sum()
    assert annual.mean() == pytest.approx(elt.aal, abs=4 * math.sqrt(variance / years))
    assert annual.var() == pytest.approx(variance, rel=0.08)


def test_counts_fit_the_poisson_distribution():
    """Chi-square over the counts 0..6 and more: below the 99.9 % quantile of 7 degrees of freedom, 24.3."""
    events = EventSet(1, np.arange(4, dtype=np.int32), np.full(4, 0.5))
    counts = np.minimum(np.diff(timeline(events, 30_000, seed=2).ptr), 7)
    chance = np.array([math.exp(-2) * 2**n / math.factorial(n) for n in range(7)])
    expected = 30_000 * np.r_[chance, 1 - chance.sum()]
    assert ((np.bincount(counts, minlength=8) - expected) ** 2 / expected).sum() < 24.3


def test_the_largest_loss_of_a_year_has_its_closed_form(events):
    """OEP(x) = 1 - exp(-sum r P(X > x)) for Poisson counts (Homer & Li 2017), with sure losses."""
    events = replace(events, dispersion=0.0)
    elt = replace(table(events), sd=np.zeros(20))
    yelt = simulate(elt, 20_000, seed=4)
    largest, _ = yelt.annual()
    for x in (30.0, 60.0, 90.0):
        chance = 1 - math.exp(-elt.rate[elt.mean > x].sum())
        assert (largest > x).mean() == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 20_000))


def test_what_does_not_fit_its_event_set_is_named(events):
    elt = table(events)
    with pytest.raises(ModelError, match=r"event 10 \(row 0\) does not fit event set 7: it has another rate"):
        events.rows_of(replace(elt, rate=elt.rate * 2))
    with pytest.raises(ModelError, match=r"event 11 \(row 0\) does not fit event set 7: it is not in it"):
        replace(events, event_id=events.event_id[::2], rate=events.rate[::2]).rows_of(
            Elt(*(getattr(elt, c)[1::2] for c in ("event_id", "rate", "mean", "sd", "exposure")))
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rate": np.array([0.1, np.nan])}, r"event set 4, row 1 \(event 2\): events must have a finite rate >= 0"),
        ({"event_id": np.array([2, 2])}, r"event set 4, row 1 \(event 2\): events must ascend without duplicates"),
        ({"event_id": np.array([3, 2])}, r"event set 4, row 1 \(event 2\): events must ascend"),
        ({"rate": np.array([])}, "event set 4: give one rate an event"),
    ],
)
def test_a_wrong_event_set_is_named(changed, message):
    with pytest.raises(ModelError, match=message):
        EventSet(4, **{"event_id": np.array([1, 2]), "rate": np.array([0.1, 0.2])} | changed)


def test_years_that_are_no_years_are_refused(events):
    for years in (0, range(5, 5), range(0, 10, 2)):
        with pytest.raises(ModelError, match="years must be"):
            timeline(events, years, seed=1)
    with pytest.raises(ModelError, match="dispersion must be"):
        timeline(replace(events, dispersion=-1.0), 10, seed=1)
