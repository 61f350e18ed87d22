"""Exceedance curves and averages of annual losses, in the convention of Oasis and Open Results Data (ORD).

Of N equally likely periods sorted by loss, largest first, rank k has return period N / k, and its tail
value at risk is the mean of the k largest. So "the loss of return period 100 in 2000 periods" is the 20th
largest; the actuarial lower quantile at 99 % is the 21st (`value_at_risk`). At a return period between two
ranks the loss is interpolated linearly in return period (numpy's quantile would do so in probability).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from model.arrays import F8, I4, I8, Floats, arrow
from model.errors import ModelError
from model.tables import SCHEMAS

STANDARD_RETURN_PERIODS = (
    2.0,
    5.0,
    10.0,
    20.0,
    25.0,
    30.0,
    50.0,
    75.0,
    100.0,
    150.0,
    200.0,
    250.0,
    500.0,
    1000.0,
)
"""Years. Those of PiWind's published curves."""


@dataclass(frozen=True, eq=False)
class Curve:
    """An exceedance curve: R return periods in years, the loss there and its tail mean, f8[R]."""

    return_period: F8
    loss: F8
    tvar: F8


def exceedance(losses: Floats, periods: int | None = None, weights: F8 | None = None) -> Curve:
    """The whole curve of annual `losses`, one point per positive loss.

    `losses` holds one value a period, in any order; with `periods` (default its size) it may leave out
    periods without loss. `weights` are the periods' probabilities (ORD PeriodWeight); then the return
    period of a rank is 1 / (weight so far) and the tail mean is weighted. Raises ModelError for losses that
    are negative or not finite, or `periods` < the number of losses.
    """
    n = _checked(losses, periods)
    if weights is not None and not (weights.shape == losses.shape and bool((weights > 0).all())):
        raise ModelError(f"weights must be > 0, one for each of {losses.size} periods; got {weights}")
    if weights is None:
        loss = np.sort(losses[losses > 0].astype(np.float64))[::-1]
        rank = np.arange(1.0, loss.size + 1)
        return Curve(n / rank, loss, np.cumsum(loss) / rank)
    order = np.argsort(-losses, kind="stable")[: int(np.count_nonzero(losses > 0))]
    weight, loss = np.cumsum(weights[order]), losses[order].astype(np.float64)
    return Curve(1.0 / weight, loss, np.cumsum(weights[order] * loss) / weight)


def at_return_periods(losses: Floats, return_periods: Sequence[float], periods: int | None = None) -> Curve:
    """The curve of `losses` (as in `exceedance`) at the wanted return periods, in their order.

    Between ranks the loss is linear in return period; the tail mean at R years is that of the ceil(N / R) -
    1 larger losses and the interpolated one (Oasis). Beyond N years both are NaN: nothing is known.
    """
    n = _checked(losses, periods)
    wanted = np.asarray(return_periods, dtype=np.float64)
    if not bool(np.all(wanted >= 1)):
        raise ModelError(f"return periods must be years >= 1; got {list(return_periods)}")
    # Ranks beyond the last positive loss carry 0; two of them suffice to interpolate towards.
    rank = np.maximum(np.ceil(n / wanted - 1e-9), 1).astype(np.int64)
    loss = _largest(losses, int(rank.max(initial=1)))
    here, above = _ranked(loss, rank), _ranked(loss, np.maximum(rank - 1, 1))
    low, high = n / rank, n / np.maximum(rank - 1, 1)
    slope = np.divide(above - here, high - low, out=np.zeros_like(here), where=high > low)
    value = here + slope * (wanted - low)
    tail = (_ranked(np.cumsum(loss), np.minimum(rank - 1, loss.size)) + value) / rank
    known = wanted <= n * (1 + 1e-12)
    return Curve(wanted, np.where(known, value, np.nan), np.where(known, tail, np.nan))


def _largest(losses: Floats, count: int) -> F8:
    """The `count` largest positive losses, or all there are, in falling order."""
    loss = (losses[losses > 0] if losses.min(initial=1.0) <= 0 else losses).astype(np.float64)
    if count < 0.6 * loss.size:  # else it takes as long to tell them apart as to sort all
        loss.partition(loss.size - count)
        loss = loss[-count:]
    loss.sort()
    return loss[::-1]


def _ranked(column: F8, rank: I8) -> F8:
    """What stands at these ranks from 1; 0 at rank 0 and beyond the last."""
    out, there = np.zeros(rank.size), (rank > 0) & (rank <= column.size)
    out[there] = column[rank[there] - 1]
    return out


def _checked(losses: Floats, periods: int | None) -> int:
    n = losses.size if periods is None else periods
    if n < 1 or n < losses.size:
        raise ModelError(f"periods must be >= 1 and cover all {losses.size} losses; got {n}")
    if losses.size and not (losses.min() >= 0 and losses.max() < np.inf):
        raise ModelError("annual losses must be finite and >= 0: look for NaN or negative values upstream")
    return n


@dataclass(frozen=True, eq=False)
class Annual:
    """The largest and the summed loss of each of Y periods under S samples, f8[S, Y]."""

    occurrence: F8
    aggregate: F8


def annual(period: I4, loss: Floats, *, periods: int, sample: I4 | None = None, samples: int = 1) -> Annual:
    """Reduce the rows of a period loss table: `period` 1..periods, `sample` 1..samples (default all 1).

    Raises ModelError naming the first row out of range, negative or not finite.
    """
    which = np.ones_like(period) if sample is None else sample
    ok = (period >= 1) & (period <= periods) & (which >= 1) & (which <= samples) & (loss >= 0) & (loss < np.inf)
    if not ok.all():
        row = int(np.argmin(ok))
        raise ModelError(
            f"row {row}: Period {period[row]}, SampleId {which[row]}, Loss {loss[row]}: they must lie in "
            f"1..{periods}, 1..{samples} and [0, inf)"
        )
    cell = (which.astype(np.int64) - 1) * periods + period - 1
    largest: F8 = np.zeros(samples * periods)
    np.maximum.at(largest, cell, loss.astype(np.float64))
    total = np.asarray(np.bincount(cell, weights=loss, minlength=samples * periods), dtype=np.float64)
    return Annual(largest.reshape(samples, periods), total.reshape(samples, periods))


def ept(
    sampled: Annual | None,
    mean_damage: Annual | None = None,
    *,
    calcs: Sequence[int] = (1, 2, 3, 4),
    return_periods: Sequence[float] | None = None,
    summary_id: int = 1,
) -> pa.Table:
    """The ORD exceedance probability table of one summary, by EPCalc, EPType and falling return period.

    EPCalc 1 is the mean-damage run; 2 full uncertainty: all S x Y sampled periods as one long run; 3 the
    mean over samples of each sample's curve; 4 the curve of each period's mean over samples. EPType 1 OEP,
    3 AEP (largest, summed loss of a period), 2 and 4 their tail means. Without `return_periods` there is a
    row per positive loss, else a row per return period that the run is long enough for. Calculations
    without data are left out. Source: ktools, ORDOutputComponents; ODS Open Results Data, worked examples.
    """
    rows = []
    for calc in calcs:
        source = mean_damage if calc == 1 else sampled
        if source is None:
            continue
        for first_type, losses in ((1, source.occurrence), (3, source.aggregate)):
            curve = _curve(_one_run(losses, calc), return_periods)
            rows += [
                _rows(summary_id, calc, first_type, curve.return_period, curve.loss),
                _rows(summary_id, calc, first_type + 1, curve.return_period, curve.tvar),
            ]
    return pa.concat_tables(rows) if rows else SCHEMAS["ept"].empty_table()


def _one_run(losses: F8, calc: int) -> F8:
    if calc == 3:
        losses = np.sort(losses, axis=1)
    return np.asarray(losses.mean(axis=0) if calc in (3, 4) else losses.ravel())


def _curve(losses: F8, return_periods: Sequence[float] | None) -> Curve:
    if return_periods is None:
        return exceedance(losses)
    known = sorted((r for r in return_periods if r <= losses.size), reverse=True)
    return at_return_periods(losses, known)


def _rows(summary_id: int, calc: int, kind: int, return_period: F8, loss: F8) -> pa.Table:
    ids = [np.full(loss.size, i, dtype=np.int32) for i in (summary_id, calc, kind)]
    columns = [*ids, return_period.astype(np.float32), loss.astype(np.float32)]
    return pa.Table.from_arrays([arrow(column) for column in columns], schema=SCHEMAS["ept"])


def alt(sampled: Annual | None, mean_damage: Annual | None = None, *, summary_id: int = 1) -> pa.Table:
    """The ORD average loss table: mean and sd of annual losses, SampleType 1 mean damage, 2 sampled."""
    runs = [(kind, run) for kind, run in ((1, mean_damage), (2, sampled)) if run is not None]
    rows = [(summary_id, kind, *aal_sd(run.aggregate)) for kind, run in runs]
    return pa.table(list(zip(*rows, strict=True)) or 4 * [()], schema=SCHEMAS["alt"])


def value_at_risk(losses: Floats, probability: float) -> float:
    """The actuarial lower quantile: x_(ceil(n q)) of the n losses in ascending order."""
    if not (0 <= probability <= 1 and losses.size):
        raise ModelError(f"a quantile is that of a probability in 0..1 of losses; got {probability} of {losses.size}")
    k = max(int(np.ceil(losses.size * probability - 1e-9)), 1)
    return float(np.sort(losses)[k - 1])


def aal_sd(losses: Floats, weights: F8 | None = None, *, periods: int | None = None) -> tuple[float, float]:
    """(mean, standard deviation) of annual losses over all periods, those without loss included.

    With `periods`, `losses` may leave out some of 0. Unweighted the variance has N - 1 below (Oasis), weighted
    it is that of the weighted population.
    """
    x = losses.astype(np.float64, copy=False).ravel()
    if weights is None:
        n = x.size if periods is None else periods
        mean = float(x.sum()) / n
        squares = float(np.square(x - mean).sum()) + (n - x.size) * mean**2
        return mean, float(np.sqrt(squares / (n - 1))) if n > 1 else 0.0
    mean = float(np.average(x, weights=weights))
    return mean, float(np.sqrt(np.average((x - mean) ** 2, weights=weights)))


def std_error_mean(losses: Floats) -> float:
    """Standard error of the mean of independent annual losses: sd / sqrt(N)."""
    return aal_sd(losses)[1] / float(np.sqrt(losses.size))


def std_error_probability(probability: float, periods: int) -> float:
    """Standard error of an exceedance probability seen in `periods` years: sqrt(p (1 - p) / N)."""
    return float(np.sqrt(probability * (1 - probability) / periods))


def co_tvar(parts: Floats, return_period: float) -> F8:
    """Each part's mean over the years of the portfolio's tail; they add up to its TVaR.

    f8[D] from annual losses [D, Y]. Kreps, "Riskiness leverage models", PCAS 92, 2005. The tail is the
    ceil(Y / return_period) worst years.
    """
    total = parts.sum(axis=0, dtype=np.float64)
    if not 1 <= return_period <= total.size or not np.isfinite(total).all():
        raise ModelError(f"the tail of {total.size} years of finite losses cannot be had at {return_period} years")
    k = max(int(np.ceil(total.size / return_period - 1e-9)), 1)
    worst = np.argpartition(-total, k - 1)[:k]
    return np.asarray(parts[:, worst].mean(axis=1, dtype=np.float64))


def cov_share(parts: Floats) -> F8:
    """Each part's share Cov(x_d, T) / Var(T) of the portfolio's variance, f8[D] from annual losses [D, Y]."""
    x = parts.astype(np.float64) - parts.mean(axis=1, dtype=np.float64, keepdims=True)
    total = x.sum(axis=0)
    return np.asarray(x @ total / (total @ total))
