"""Years out of an event loss table: when events occur, which, and how large each loss is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.arrays import F4, F8, I2, I4, I8, Mask
from model.errors import ModelError
from model.losses import DAYS, Elt, Yelt
from model.rng import Purpose, stream


@dataclass(frozen=True, eq=False)
class AliasTable:
    """Walker's alias table of E outcomes: keep[j] is the chance to stay in column j, else go to other[j]."""

    keep: F8
    other: I4

    def draw(self, n: int, rng: np.random.Generator) -> I4:
        """`n` outcomes, i4[n], in O(1) each (a search in the cumulative rates would miss the cache)."""
        at = rng.random(n) * self.keep.size  # one uniform gives both the column and the toss
        column = at.astype(np.int32)
        return np.where(at - column < self.keep[column], column, self.other[column])


def alias_table(rate: F8) -> AliasTable:
    """Walker's alias table of the probabilities rate / sum(rate), f8[E] (Vose, IEEE TSE 17(9), 1991).

    Raises ModelError if a rate is negative or not finite, or all are 0.
    """
    total = float(np.sum(rate))
    if rate.size == 0 or not (np.isfinite(total) and total > 0 and bool(np.all(rate >= 0))):
        raise ModelError("event rates must be finite and >= 0 with at least one > 0: nothing could occur")
    weight = (rate * (rate.size / total)).tolist()
    keep, other = [1.0] * len(weight), list(range(len(weight)))
    small = [j for j, w in enumerate(weight) if w < 1.0]
    large = [j for j, w in enumerate(weight) if w >= 1.0]
    while small and large:
        low, high = small.pop(), large[-1]
        keep[low], other[low] = weight[low], high
        weight[high] -= 1.0 - weight[low]
        if weight[high] < 1.0:
            small.append(large.pop())
    return AliasTable(np.array(keep), np.array(other, dtype=np.int32))


@dataclass(frozen=True, eq=False)
class Occurrence:
    """A time line: ptr i8[Y + 1] into event_row i4[n] (row in the ELT) and day i2[n], by year and day."""

    ptr: I8
    event_row: I4
    day: I2


def occurrence(rate: F8, years: int, rng: np.random.Generator, dispersion: float = 0.0) -> Occurrence:
    """Which event occurs in which of `years` years, on which day.

    `rate` f8[E] is in events per year. Events form a Poisson process in time; the count of a year is
    Poisson(sum rate), or with `dispersion` d > 0 negative binomial of the same mean and variance (1 + d)
    mean, as a gamma mixture of Poissons: clustering. Days are uniform. Raises ModelError for years < 1, a
    bad dispersion or bad rates.
    """
    if years < 1:
        raise ModelError(f"years must be a whole number >= 1; got {years}")
    if not (np.isfinite(dispersion) and dispersion >= 0):
        raise ModelError(f"dispersion must be finite and >= 0 (0 is Poisson); got {dispersion}")
    table, mean = alias_table(rate), float(np.sum(rate))
    lam = rng.gamma(mean / dispersion, dispersion, years) if dispersion else np.full(years, mean)
    expected = np.r_[0.0, np.cumsum(lam)]
    n = rng.poisson(expected[-1])
    # Scaled sums of exponentials are ordered uniforms (Devroye, 1986, V.3): no sorting, no count per year.
    gaps = rng.standard_exponential(n + 1)
    when = np.cumsum(gaps)[:-1] * (expected[-1] / gaps.sum())
    ptr = np.asarray(np.searchsorted(when, expected), dtype=np.int64)
    ptr[-1] = n  # rounding may put the last event beyond the last year
    counts = np.diff(ptr)
    day = (when - np.repeat(expected[:-1], counts)) * np.repeat(DAYS / np.maximum(lam, 1e-300), counts)
    return Occurrence(ptr, table.draw(n, rng), np.minimum(day, DAYS - 1).astype(np.int16))


def beta_parameters(mean: F8, sd: F8, exposure: F8) -> tuple[F8, F8, Mask]:
    """(a, b, certain): beta(a, b) on [0, exposure] with the given moments, f8[E] each.

    Method of moments: mu = m/E, s = sd/E, nu = mu (1 - mu)/s^2 - 1, a = mu nu, b = (1 - mu) nu. Where
    `certain`, the loss is its mean (sd 0, or a mean at 0 or at the exposure) and a = b = 1 stand in.
    Raises ModelError naming the row whose sd no distribution on [0, exposure] could have.
    """
    certain = (sd <= 0) | (mean <= 0) | (mean >= exposure)
    safe = np.where(certain, 1.0, exposure)
    mu, s = np.where(certain, 0.5, mean / safe), np.where(certain, 0.25, sd / safe)
    nu = mu * (1 - mu) / s**2 - 1
    if bool((nu <= 0).any()):
        row = int(np.argmax(nu <= 0))
        most = np.sqrt(mean[row] * (exposure[row] - mean[row]))
        raise ModelError(
            f"row {row}: sd {sd[row]} is too large for a loss in [0, {exposure[row]}] of mean {mean[row]}; "
            f"it must be below {most:.6g}"
        )
    return np.where(certain, 1.0, mu * nu), np.where(certain, 1.0, (1 - mu) * nu), certain


def sample_losses(mean: F8, sd: F8, exposure: F8, event_row: I4, rng: np.random.Generator) -> F4:
    """One loss per occurrence, f4[n]: secondary uncertainty, beta on [0, exposure] (`beta_parameters`).

    mean, sd and exposure are f8[E]; event_row i4[n] points into them.
    """
    a, b, certain = beta_parameters(mean, sd, exposure)
    ratio = rng.beta(a[event_row], b[event_row])
    return np.where(certain[event_row], mean[event_row], ratio * exposure[event_row]).astype(np.float32)


def simulate(elt: Elt, years: int, *, seed: int, loss_set: int = 0, views: int = 1, dispersion: float = 0.0) -> Yelt:
    """`views` x `years` years of losses of `elt`: one time line, its losses sampled anew in each view.

    View v owns years v * years .. (v + 1) * years - 1, with the same events on the same days. The streams
    hang on (`seed`, purpose, `loss_set`, view) alone, so whoever simulates a loss set sees the same losses.
    """
    if views < 1:
        raise ModelError(f"views must be a whole number >= 1; got {views}")
    line = occurrence(elt.rate, years, stream(seed, Purpose.OCCURRENCE, loss_set), dispersion)
    losses = [
        sample_losses(elt.mean, elt.sd, elt.exposure, line.event_row, stream(seed, Purpose.SEVERITY, loss_set, v))
        for v in range(views)
    ]
    counts = np.tile(np.diff(line.ptr), views)
    ptr = np.r_[0, np.cumsum(counts)].astype(np.int64)
    return Yelt(ptr, np.tile(elt.event_id[line.event_row], views), np.tile(line.day, views), np.concatenate(losses))
