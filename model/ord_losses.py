"""Losses of events or of years as Open Results Data (ORD) names them: MELT, QELT, SELT, MPLT, QPLT and SPLT.

A file may hold many loss sets, by SummaryId. Of the loss tables by event, and of MPLT and QPLT, the moments of each
loss are kept; the losses of an SPLT are kept sample by sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from model.arrays import F4, F8, I2, I4, I8
from model.errors import ModelError
from model.losses import DAYS
from model.sheets import Sheet

_LEADING = {"M": ("MeanLoss", "SDLoss"), "Q": ("Quantile", "Loss"), "S": ("Loss",)}
_MONTH_LENGTH = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_MONTH_START = np.r_[0, np.cumsum(_MONTH_LENGTH)[:-1]]


@dataclass(frozen=True, eq=False)
class Losses:
    """The losses of a loss set: a row an event, or an event of a period, in order of (period, day,) event.

    event i4[n]; mean, sd, exposure f8[n]; rate f8[n] if the table has it; of a table by period: period i4[n] from 1,
    day i2[n]; samples f4[S, n] of an SPLT.
    """

    event: I4
    mean: F8
    sd: F8
    exposure: F8
    rate: F8 | None = None
    period: I4 | None = None
    day: I2 | None = None
    samples: F4 | None = None

    def scaled(self, factor: float) -> Losses:
        """In another currency."""
        samples = None if self.samples is None else self.samples * np.float32(factor)
        amounts = {name: getattr(self, name) * factor for name in ("mean", "sd", "exposure")}
        return replace(self, **amounts, samples=samples)


def losses_of(sheet: Sheet) -> tuple[dict[int, Losses], dict[int, str]]:
    """The loss sets of a table, by SummaryId, and what is wrong with others of them.

    Raises ModelError for a table without the columns of any kind, or without sound ids.
    """
    table = _Table(sheet)
    found, faults = dict[int, Losses](), dict[int, str]()
    summary = sheet.ids("SummaryId")
    order = np.argsort(summary, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(summary[order])) + 1):
        if rows.size:
            number = int(summary[rows[0]])
            try:
                found[number] = table.losses(rows)
            except ModelError as e:
                faults[number] = f"loss set {number}: {e}"
    return found, faults


def years_of(sheet: Sheet) -> int | None:
    """How many periods a table by period says there are, by its PeriodWeight; None if it has none.

    Raises ModelError if periods have unequal weights.
    """
    if not (sheet.has("PeriodWeight") and sheet.has("Period") and sheet.table.num_rows):
        return None
    weight = sheet.numbers("PeriodWeight")
    odd = ~(np.abs(weight - weight[0]) <= 1e-6 * weight[0])
    if odd.any() or weight[0] <= 0:
        row = int(np.argmax(odd))
        raise ModelError(f"{sheet.where(row)}: periods must have one weight > 0; got {weight[row]} and {weight[0]}")
    return round(1 / float(weight[0]))


def day_of(sheet: Sheet, month: str, day: str) -> I2:
    """The day in the year of each row, from 0 on: of two columns as in ORD, or of a column Day of 0..364 alone.

    29 February is the 28th. Raises ModelError naming the row with a day that there is not.
    """
    if not sheet.has(day):
        return np.zeros(sheet.table.num_rows, np.int16)
    when, last = sheet.numbers(day), DAYS - 1
    if sheet.has(month):
        number = sheet.numbers(month)
        ok = (number >= 1) & (number <= 12)
        start = _MONTH_START[np.where(ok, number, 1).astype(np.int64) - 1]
        length = _MONTH_LENGTH[np.where(ok, number, 1).astype(np.int64) - 1]
        ok &= (when >= 1) & (when <= length + (number == 2))
        when = start + np.minimum(when, length) - 1
    else:
        ok = (when >= 0) & (when <= last)
    if not ok.all():
        row = int(np.argmin(ok))
        shown = ", ".join(f"{name} {sheet.cell(name, row)}" for name in (month, day) if sheet.has(name))
        raise ModelError(f"{sheet.where(row)}: there is no such day: {shown}")
    return np.asarray(when.astype(np.int16))


class _Table:
    """A loss table, its columns as arrays once for all of its loss sets."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        fitting = [kind for kind, columns in _LEADING.items() if all(map(sheet.has, columns))]
        if not (fitting and sheet.has("EventId") and sheet.has("SummaryId")):
            raise ModelError(
                f"{sheet.name} has the columns {sheet.table.column_names}; losses in ORD have SummaryId, EventId,"
                " Period if they are by period, and MeanLoss and SDLoss, Quantile and Loss, or SampleId and Loss"
            )
        self.kind = fitting[0]
        self.event = sheet.ids("EventId")
        self.period = sheet.ids("Period") if sheet.has("Period") else None
        self.columns: dict[str, F8] = {}

    def column(self, name: str) -> F8:
        """A column as numbers."""
        if name not in self.columns:
            self.columns[name] = self.sheet.numbers(name)
        return self.columns[name]

    def amounts(self, name: str, rows: I8) -> F8:
        return self.sheet.amounts(name, rows, self.column(name), "EventId")

    @cached_property
    def day(self) -> I2:
        """Of a table by period, the day of each row."""
        return day_of(self.sheet, "Month", "Day")

    def losses(self, rows: I8) -> Losses:
        """Those of one loss set."""
        return {"M": self._moments, "Q": self._quantiles, "S": self._samples}[self.kind](rows)

    def _keys(self, rows: I8) -> tuple[I8, I8]:
        """The rows in order, and where in them each event (of a period) begins."""
        parts: list[I4 | I2] = [self.event]
        if self.period is not None:
            parts += [self.day, self.period]
        rows = rows[np.lexsort([part[rows] for part in parts])]
        same = np.ones(max(rows.size - 1, 0), dtype=np.bool_)
        for part in parts:
            same &= np.diff(part[rows]) == 0
        return rows, np.flatnonzero(np.r_[True, ~same])

    def _told(self, rows: I8, mean: F8, sd: F8, exposure: F8, samples: F4 | None = None) -> Losses:
        """`rows` has the first row of each."""
        rate = None
        if self.sheet.has("EventRate") and not np.isnan(self.column("EventRate")[rows]).all():
            rate = self.amounts("EventRate", rows)
        period = None if self.period is None else self.period[rows]
        day = None if period is None else self.day[rows]
        if period is not None and bool((period < 1).any()):
            raise ModelError(f"{self.sheet.where(int(rows[int(period.argmin())]))}: Period counts from 1")
        over = mean > exposure * (1 + 1e-6)
        if over.any():
            k = int(np.argmax(over))
            raise ModelError(
                f"{self.sheet.where(int(rows[k]))} (event {self.event[rows[k]]}): the mean loss, {mean[k]:g}, exceeds"
                f" the most that can be lost, {exposure[k]:g}"
            )
        wide = (sd > 0) & (mean > 0) & (mean < exposure) & (sd**2 >= mean * (exposure - mean))
        if wide.any():
            k = int(np.argmax(wide))
            raise ModelError(
                f"{self.sheet.where(int(rows[k]))} (event {self.event[rows[k]]}): no loss from 0 to {exposure[k]:g} of"
                f" mean {mean[k]:g} has a standard deviation of {sd[k]:g}"
            )
        return Losses(self.event[rows], np.minimum(mean, exposure), sd, exposure, rate, period, day, samples)

    def _moments(self, rows: I8) -> Losses:
        """Those of samples (SampleType 2) where there are some, else of the analytical kind."""
        if self.sheet.has("SampleType"):
            kind = self._whole("SampleType", rows)
            rows = rows[kind == (2 if (kind == 2).any() else 1)]
            if not rows.size:
                raise ModelError(f"{self.sheet.name} has no row of SampleType 1 or 2 for it")
        rows, start = self._keys(rows)
        if start.size < rows.size:
            self._repeated(rows, start)
        cap = next((c for c in ("FootprintExposure", "MaxLoss") if self.sheet.has(c)), None)
        if cap is None:
            raise ModelError(f"{self.sheet.name} has neither FootprintExposure nor MaxLoss: the most that can be lost")
        mean, sd, most = (self.amounts(name, rows) for name in ("MeanLoss", "SDLoss", cap))
        return self._told(rows, mean, sd, most)

    def _whole(self, name: str, rows: I8) -> F8:
        """A column of whole numbers, which may be below 0, in these rows. Raises ModelError naming one that is none."""
        found = self.column(name)[rows]
        ok = found == np.floor(found)
        if not ok.all():
            row = int(rows[int(np.argmin(ok))])
            raise ModelError(
                f"{self.sheet.where(row)} (event {self.event[row]}): {name} must be a whole number; got"
                f" {self.sheet.cell(name, row)}"
            )
        return found

    def _repeated(self, rows: I8, start: I8) -> None:
        again = rows[np.setdiff1d(np.arange(rows.size), start)[0]]
        raise ModelError(
            f"{self.sheet.where(int(again))}: event {self.event[again]} stands there a second time; merge its rows"
        )

    def _samples(self, rows: I8) -> Losses:
        """SampleId from 1 on, a missing one being a loss of 0; of mean damage (-1) where there are no others."""
        sample = np.ones(self.event.size)
        if self.sheet.has("SampleId"):
            sample = self.column("SampleId")
            self._whole("SampleId", rows)
        n = max(int(np.nanmax(sample)), 1)
        chosen = rows[sample[rows] > 0]
        rows = chosen if chosen.size else rows[sample[rows] == -1]
        if not rows.size:
            raise ModelError(f"{self.sheet.name} has no row with a SampleId above 0 (or -1) for it")
        loss = self.amounts("Loss", rows)
        order, start = self._keys(rows)
        place = np.empty(self.event.size, dtype=np.int64)
        place[order] = np.repeat(np.arange(start.size), np.diff(start, append=order.size))
        at = np.maximum(sample[rows].astype(np.int64), 1) - 1
        _, first = np.unique(place[rows] * n + at, return_index=True)
        if first.size < rows.size:
            self._repeated(rows, first)
        out = np.zeros((n, start.size))
        out[at, place[rows]] = loss
        mean, sd = out.mean(axis=0), out.std(axis=0, ddof=1) if n > 1 else np.zeros(start.size)
        cap = next((c for c in ("FootprintExposure", "ImpactedExposure", "Exposure") if self.sheet.has(c)), None)
        most = out.max(axis=0)
        if cap is not None and self.period is None:
            most = np.maximum(most, np.maximum.reduceat(self.amounts(cap, order), start))
        possible = (1 - 1e-6) * np.sqrt(np.maximum(mean * (most - mean), 0.0))  # n samples may spread a little more
        kept = None if self.period is None else out.astype(np.float32)
        return self._told(order[start], mean, np.minimum(sd, possible), most, kept)

    def _quantiles(self, rows: I8) -> Losses:
        """The moments of losses that are linear between quantiles, and constant beyond the outermost."""
        rows, start = self._keys(rows)
        loss, quantile = self.amounts("Loss", rows), self.amounts("Quantile", rows)
        event = np.repeat(np.arange(start.size), np.diff(start, append=rows.size))
        order = np.lexsort((quantile, event))
        rows, loss, quantile = rows[order], loss[order], quantile[order]
        within = np.diff(event) == 0
        bad = (quantile > 1) | np.r_[False, within & ((np.diff(quantile) <= 0) | (np.diff(loss) < 0))]
        if bad.any():
            row = int(rows[int(np.argmax(bad))])
            raise ModelError(
                f"{self.sheet.where(row)} (event {self.event[row]}): quantiles must lie in 0..1, differ, and losses"
                " ascend with them"
            )
        last = np.r_[start[1:], rows.size] - 1
        a, b, width = loss[:-1], loss[1:], np.where(within, np.diff(quantile), 0.0)
        low, high = quantile[start], 1 - quantile[last]

        def integral(piece: F8, ends: F8) -> F8:
            inner = np.bincount(event[:-1], weights=piece * width, minlength=start.size)
            return np.asarray(inner + low * ends[start] + high * ends[last])

        mean = integral((a + b) / 2, loss)
        square = integral((a * a + a * b + b * b) / 3, loss**2)
        sd, most = np.sqrt(np.maximum(square - mean**2, 0.0)), loss[last]
        return self._told(rows[start], mean, np.minimum(sd, (1 - 1e-6) * np.sqrt(mean * (most - mean))), most)
