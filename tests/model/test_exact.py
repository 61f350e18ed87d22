"""The closed forms, and the simulation against them."""

import math

import numpy as np
import pytest

from model.errors import ModelError
from model.exact import compound_poisson_fft, discretise, sundt_premium
from model.losses import Yelt
from model.pricing import Loads, technical_premium
from model.recoveries import apply
from model.terms import Layer, Programme

LAM, ALPHA, THRESHOLD = 0.8, 1.2, 20.0
LAYER = Layer(limit=10.0, attachment=25.0, reinst=(1.0, 0.5), premium=1.0)


def pareto_limited_mean(z):
    """E[min((X - A)+, z)] for the Pareto above and the attachment of LAYER."""
    a, b = LAYER.attachment, LAYER.attachment + z
    return THRESHOLD**ALPHA / (ALPHA - 1) * (a ** (1 - ALPHA) - b ** (1 - ALPHA))


@pytest.fixture(scope="module")
def exact():
    """(recovery S, its probability) of LAYER, from the Fourier transform."""
    step, points = LAYER.limit / 1000, 1 << 15
    severity = discretise(pareto_limited_mean(step * np.arange(1001)), step, points)
    return LAYER.annual(step * np.arange(points)), compound_poisson_fft(LAM, severity)


def test_a_compound_poisson_of_sure_losses_is_poisson():
    severity = np.r_[0.0, 1.0, np.zeros(62)]
    expected = [math.exp(-2) * 2**k / math.factorial(k) for k in range(64)]
    np.testing.assert_allclose(compound_poisson_fft(2.0, severity), expected, atol=1e-15)


def test_discretising_keeps_mass_and_mean():
    step = 0.5
    grid = discretise(pareto_limited_mean(step * np.arange(21)), step, 64)
    assert grid.sum() == pytest.approx(1.0, rel=1e-12)
    assert step * np.arange(64) @ grid == pytest.approx(pareto_limited_mean(10.0), rel=1e-12)
    assert (grid >= 0).all()


def test_the_exact_pareto_layer_has_its_known_values(exact):
    paid, probability = exact
    assert LAM * pareto_limited_mean(10.0) == pytest.approx(4.979163, abs=5e-7)
    assert paid @ probability == pytest.approx(4.961126, abs=1e-5)
    assert sundt_premium(paid, probability, LAYER.limit, LAYER.reinst) == pytest.approx(3.450719, abs=1e-5)


def test_a_simulated_layer_has_the_exact_mean_and_initial_premium(exact):
    rng, years = np.random.default_rng(11), 200_000
    ptr = np.r_[0, np.cumsum(rng.poisson(LAM, years))]
    loss = THRESHOLD * rng.random(ptr[-1]) ** (-1 / ALPHA)
    events = Yelt(ptr, np.arange(loss.size, dtype=np.int32), np.zeros(loss.size, dtype=np.int16), loss)
    paid = apply(Programme(((LAYER,),)), events)
    recovery, factor = paid.layer_loss[0], paid.reinst_premium[0].mean()
    error = recovery.std() / math.sqrt(years)
    assert recovery.mean() == pytest.approx(exact[0] @ exact[1], abs=4 * error)
    no_loads = Loads(risk=0.0, brokerage=0.0, expense=0.0)
    premium = technical_premium(recovery.mean(), recovery.std(), factor, no_loads)
    assert premium == pytest.approx(sundt_premium(*exact, LAYER.limit, LAYER.reinst), abs=4 * error)


def test_what_is_no_distribution_is_refused():
    with pytest.raises(ModelError, match="add up to 1"):
        compound_poisson_fft(1.0, np.array([0.5, 0.4]))
    with pytest.raises(ModelError, match="lam must be"):
        compound_poisson_fft(-1.0, np.array([0.5, 0.5]))
    with pytest.raises(ModelError, match="points must be at least"):
        discretise(np.arange(5.0), 1.0, 4)
