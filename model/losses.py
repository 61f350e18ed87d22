"""Event losses: by event with a rate (`Elt`), and by simulated year (`Yelt`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.arrays import F4, F8, I2, I4, I8, Floats, Mask
from model.errors import ModelError

DAYS = 365
"""Days in a model year; day 0 is 1 January."""


@dataclass(frozen=True, eq=False)
class Elt:
    """An event loss table: E events, each with its annual rate and the distribution of its loss.

    event_id i4[E], strictly increasing; rate f8[E] in events per year; mean, sd and exposure f8[E] in
    one currency. A loss lies in [0, exposure]. `samples` f4[S, E], where there are some, are the losses themselves, of
    which view v takes row v modulo S. Raises ModelError naming the row and event that break this.
    """

    event_id: I4
    rate: F8
    mean: F8
    sd: F8
    exposure: F8
    samples: F4 | None = None

    def __post_init__(self) -> None:
        if self.event_id.size == 0:
            raise ModelError("the event loss table has no events; give at least one")
        for name in ("rate", "mean", "sd", "exposure"):
            column = getattr(self, name)
            if column.shape != self.event_id.shape:
                raise ModelError(f"{name} has shape {column.shape}, event_id {self.event_id.shape}: one a row")
            self._require(np.isfinite(column) & (column >= 0), name, "be a finite number >= 0")
        self._require(self.mean <= self.exposure, "mean", "not exceed the exposure")
        ascending = np.r_[True, np.diff(self.event_id) > 0]
        self._require(ascending, "event_id", "ascend without duplicates: sort the rows and merge repeated events")

    def _require(self, ok: Mask, column: str, rule: str) -> None:
        if not ok.all():
            row = int(np.argmin(ok))
            value = getattr(self, column)[row]
            raise ModelError(f"row {row} (event {self.event_id[row]}): {column} must {rule}; got {value}")

    @property
    def aal(self) -> float:
        """Mean annual loss, sum r m (Homer & Li, CAS E-Forum Spring 2017 vol. 2)."""
        return float(self.rate @ self.mean)

    @property
    def annual_sd(self) -> float:
        """Standard deviation of the annual loss with Poisson counts: sqrt(sum r (m^2 + sd^2)) (ibid.)."""
        return float(np.sqrt(self.rate @ (self.mean**2 + self.sd**2)))

    def scaled(self, factor: float) -> Elt:
        """The same events with every amount times `factor` (> 0): a share, or another currency."""
        if not (np.isfinite(factor) and factor > 0):
            raise ModelError(f"a loss set is scaled by a finite factor > 0; got {factor}")
        samples = None if self.samples is None else self.samples * np.float32(factor)
        amounts = {name: getattr(self, name) * factor for name in ("mean", "sd", "exposure")}
        return replace(self, **amounts, samples=samples)


@dataclass(frozen=True, eq=False)
class Yelt:
    """A year event loss table of n losses in Y years, laid out by year (CSR).

    Year y (0-based; Period y + 1 in tables) owns rows ptr[y]:ptr[y + 1], in order of day, so a year
    without events costs one pointer. ptr i8[Y + 1]; event_id i4[n]; day i2[n] in [0, 365); loss
    f4[n] or f8[n] >= 0. Raises ModelError naming the row that breaks this; the order of days is left to `from_rows`.
    """

    ptr: I8
    event_id: I4
    day: I2
    loss: Floats

    def __post_init__(self) -> None:
        n = self.loss.size
        if self.ptr.size < 2:
            raise ModelError("a year event loss table needs at least one year: ptr has years + 1 entries")
        if self.ptr[0] != 0 or self.ptr[-1] != n or bool((np.diff(self.ptr) < 0).any()):
            raise ModelError(f"ptr must ascend from 0 to the number of losses, {n}")
        if self.event_id.size != n or self.day.size != n:
            raise ModelError(
                f"event_id, day and loss must be equally long; got {self.event_id.size}, {self.day.size}, {n}"
            )
        if n and not (self.loss.min() >= 0 and self.loss.max() < np.inf):
            row = int(np.argmin(np.isfinite(self.loss) & (self.loss >= 0)))
            raise ModelError(
                f"row {row} (event {self.event_id[row]}): loss must be finite and >= 0; got {self.loss[row]}"
            )

    @classmethod
    def from_rows(cls, period: I4, event_id: I4, day: I2, loss: Floats, *, years: int) -> Yelt:
        """Build from rows sorted by `period` (1..years) and `day`; one row an event, period and day.

        Raises ModelError for rows out of order, out of range, or repeated.
        """
        if period.size and not 1 <= int(period.min()) <= int(period.max()) <= years:
            raise ModelError(f"Period must lie in 1..{years}; got {period.min()}..{period.max()}: check the years")
        if day.size and not 0 <= int(day.min()) <= int(day.max()) < DAYS:
            raise ModelError(f"Day must lie in 0..{DAYS - 1}; got {day.min()}..{day.max()}")
        same, later = period[1:] == period[:-1], period[1:] > period[:-1]
        ok = later | (same & (day[1:] >= day[:-1]))
        if not ok.all():
            row = int(np.argmin(ok)) + 1
            raise ModelError(f"row {row} (event {event_id[row]}) comes before its predecessor: sort by Period, Day")
        _reject_repeats(np.flatnonzero(same & (day[1:] == day[:-1])), event_id)
        ptr = np.zeros(years + 1, dtype=np.int64)
        np.cumsum(np.bincount(period, minlength=years + 1)[1:], out=ptr[1:])
        return cls(ptr, event_id, day, loss)

    @classmethod
    def from_years(cls, losses: Sequence[Sequence[float]], days: Sequence[Sequence[int]] | None = None) -> Yelt:
        """Build from each year's losses in order, f8, for examples; events are numbered 1.. throughout.

        `days` has the same shape, ascending within a year (default: all 0).
        """
        counts = [len(year) for year in losses]
        flat = np.array([x for year in losses for x in year], dtype=np.float64)
        when = np.zeros(flat.size) if days is None else np.array([d for year in days for d in year])
        period = np.repeat(np.arange(1, len(counts) + 1, dtype=np.int32), counts)
        event = np.arange(1, flat.size + 1, dtype=np.int32)
        return cls.from_rows(period, event, when.astype(np.int16), flat, years=len(counts))

    @property
    def years(self) -> int:
        """Number of simulated years Y, with or without events."""
        return self.ptr.size - 1

    def year(self) -> I4:
        """The 0-based year of each loss, i4[n]."""
        return np.repeat(np.arange(self.years, dtype=np.int32), np.diff(self.ptr))

    def rows(self, year: int) -> slice:
        """The rows of 0-based `year`."""
        return slice(int(self.ptr[year]), int(self.ptr[year + 1]))

    def annual(self) -> tuple[F8, F8]:
        """(largest, sum) of each year's losses, f8[Y] each; a year without events has 0.

        Only years with events are reduced: `reduceat` on an empty year would answer with the next
        year's first loss.
        """
        largest, total = np.zeros(self.years), np.zeros(self.years)
        busy = np.flatnonzero(np.diff(self.ptr))
        if busy.size:
            loss = self.loss.astype(np.float64)
            largest[busy] = np.maximum.reduceat(loss, self.ptr[busy])
            total[busy] = np.add.reduceat(loss, self.ptr[busy])
        return largest, total


def _reject_repeats(tied: I8, event_id: I4) -> None:
    """Raise if an event stands twice on one day; `tied` rows are on the day of the row after them, ascending."""
    first, lag = tied, 1
    while first.size:
        twice = event_id[first] == event_id[first + lag]
        if bool(twice.any()):
            row = int(first[int(np.argmax(twice))]) + lag
            raise ModelError(
                f"row {row}: event {event_id[row]} stands twice on one day of its period; add the losses up first"
            )
        first = first[np.isin(first + lag, tied, assume_unique=True)]  # the row after is on the day as well
        lag += 1


def merge(tables: Sequence[Yelt]) -> Yelt:
    """One table of all losses, year by year in order of day (ties keep the order of `tables`).

    The tables must have the same number of years: they share one time line, which is what keeps the
    dependence between them.
    """
    if not tables:
        raise ModelError("there is no loss set to merge; give at least one")
    if len({t.years for t in tables}) > 1:
        raise ModelError(f"loss sets on different time lines cannot be merged: years {[t.years for t in tables]}")
    if len(tables) == 1:
        return tables[0]
    key = np.concatenate([t.year().astype(np.int64) * DAYS + t.day for t in tables])
    order = np.argsort(key, kind="stable")  # timsort: merges what is sorted already
    ptr: I8 = np.stack([t.ptr for t in tables]).sum(axis=0)
    columns = (np.concatenate([getattr(t, c) for t in tables])[order] for c in ("event_id", "day", "loss"))
    return Yelt(ptr, *columns)
