"""Closed forms for one compound Poisson layer: what a simulation must agree with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.arrays import F8
from model.errors import ModelError


def compound_poisson_fft(lam: float, severity: F8) -> F8:
    """P(S = j h) for S the sum of Poisson(`lam`) losses with P(X = j h) = severity[j], f8[n] as `severity`.

    The characteristic function of S is exp(lam (phi_X - 1)); the grid must be long enough for all of S, for
    what lies beyond wraps round (Embrechts & Frei, Math. Meth. Oper. Res. 69, 2009). Raises ModelError
    if lam < 0 or `severity` is not a probability distribution.
    """
    if not (np.isfinite(lam) and lam >= 0):
        raise ModelError(f"lam must be a finite number of losses per year >= 0; got {lam}")
    if severity.size == 0 or bool((severity < 0).any()) or abs(float(severity.sum()) - 1) > 1e-9:
        raise ModelError("severity must be probabilities >= 0 that add up to 1")
    density: F8 = np.fft.irfft(np.exp(lam * (np.fft.rfft(severity) - 1.0)), severity.size)
    return np.maximum(density, 0.0)


def discretise(limited_mean: F8, step: float, points: int) -> F8:
    """A loss on the grid 0, h, 2h, ... with its mean kept exactly, zero-padded to f8[points].

    `limited_mean` f8[m + 1] is E[min(X, j h)] at j = 0..m of a loss X <= m h (a layer's, say), h = `step`.
    Local moment matching of order 1: f_j = (2 E[X ^ jh] - E[X ^ (j-1)h] - E[X ^ (j+1)h]) / h
    (Gerber, Insurance: Math. & Econ. 1(1), 1982). Raises ModelError if the grid is too short.
    """
    if points < limited_mean.size:
        raise ModelError(f"points must be at least the {limited_mean.size} grid points of the loss; got {points}")
    above = np.diff(limited_mean, prepend=-step, append=limited_mean[-1]) / step
    out = np.zeros(points)
    out[: limited_mean.size] = -np.diff(above)
    return out


def sundt_premium(paid: F8, probability: F8, limit: float, reinst: Sequence[float]) -> float:
    """The initial premium that balances expected loss when reinstatements are paid pro rata as to amount.

    P0 = E[S] / (1 + (1/L) sum_k c_k E[min(max(S - (k - 1) L, 0), L)]) with annual recoveries S = `paid` of
    the given `probability`, f8[n] each, layer `limit` L and rates c_k = `reinst` (Sundt, Insurance: Math. &
    Econ. 1991; Mata, ASTIN Bulletin 30(2), 2000, 349-368).
    """
    charge = sum(c * np.clip(paid - k * limit, 0.0, limit) @ probability for k, c in enumerate(reinst))
    return float(paid @ probability / (1.0 + charge / limit))
