"""Event sets out of loss tables: by event with a rate or a list of occurrences, or by period as they were simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.arrays import F8, I2, I4, I8
from model.errors import ModelError
from model.losses import Elt
from model.ord_losses import Losses, day_of
from model.sheets import Sheet
from model.simulate import EventSet, Occurrence


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Which event occurs in which period (from 1), on which day: Oasis's occurrence set, i4[n], i4[n], i2[n]."""

    event: I4
    period: I4
    day: I2

    @classmethod
    def of(cls, sheet: Sheet) -> Occurrences:
        """Of a table of event_id, period_no and, if they matter, occ_month and occ_day."""
        sheet.require(["event_id", "period_no"])
        period = sheet.ids("period_no")
        if period.size and period.min() < 1:
            raise ModelError(f"{sheet.where(int(period.argmin()))}: period_no counts from 1")
        return cls(sheet.ids("event_id"), period, day_of(sheet, "occ_month", "occ_day"))

    def rates(self, years: int) -> dict[int, float]:
        """Occurrences in a year of each event."""
        event, count = np.unique(self.event, return_counts=True)
        return dict(zip(event.tolist(), (count / years).tolist(), strict=True))

    def line(self, events: I4, years: int) -> Occurrence:
        """When these events (ascending) occur."""
        at = np.minimum(np.searchsorted(events, self.event), events.size - 1)
        mine = np.flatnonzero(events[at] == self.event)
        mine = mine[np.lexsort((self.event[mine], self.day[mine], self.period[mine]))]
        return Occurrence(_ptr(self.period[mine], years), at[mine].astype(np.int32), self.day[mine])


def _ptr(period: I4, years: int) -> I8:
    counts = np.bincount(period, minlength=years + 1)[1:]
    return np.asarray(np.r_[0, np.cumsum(counts)], dtype=np.int64)


def assembled(
    set_id: int,
    losses: Mapping[int, Losses],
    *,
    dispersion: float = 0.0,
    rates: Mapping[int, float] | None = None,
    occurrences: Occurrences | None = None,
    years: int | None = None,
) -> tuple[EventSet, dict[int, Elt], dict[int, str]]:
    """The event set of some loss sets, their losses on it, and what is wrong with others of them.

    `rates` are those of events that their tables have none for. Loss sets by period bring their own occurrences,
    others share `occurrences` if there are some. Raises ModelError if no loss set is sound.
    """
    if any(x.period is not None for x in losses.values()):
        return _by_period(set_id, losses, years or 1)
    if occurrences is not None:
        rates = occurrences.rates(years or 1) | dict(rates or {})
    found, faults, known = {}, {}, dict[int, float]()
    for number, x in losses.items():
        try:
            found[number] = Elt(x.event, _rates(x, rates or {}, known), x.mean, x.sd, x.exposure)
            known |= zip(x.event.tolist(), found[number].rate.tolist(), strict=True)
        except ModelError as e:
            faults[number] = f"loss set {number}: {e}"
    if not found:
        raise ModelError("; ".join(faults.values()))
    event = np.array(sorted(known), dtype=np.int32)
    rate = np.array([known[e] for e in event.tolist()])
    line = None if occurrences is None else occurrences.line(event, years or 1)
    return EventSet(set_id, event, rate, dispersion, line), found, faults


def _rates(x: Losses, rates: Mapping[int, float], known: Mapping[int, float]) -> F8:
    """The rate of each event. Raises ModelError naming one that has none, or that loss sets before give another."""
    events = x.event.tolist()
    own = np.full(x.event.size, np.nan) if x.rate is None else x.rate
    given = np.array([rates.get(e, np.nan) for e in events])
    rate = np.where(np.isnan(own), given, own)
    if np.isnan(rate).any():
        event = events[int(np.argmax(np.isnan(rate)))]
        raise ModelError(
            f"event {event} has no rate: give EventRate with the losses or in events.csv, or give occurrence.csv"
        )
    before = np.array([known.get(e, np.nan) for e in events])
    other = ~np.isnan(before) & ~np.isclose(before, rate, rtol=1e-6)
    if other.any():
        row = int(np.argmax(other))
        raise ModelError(
            f"event {events[row]} has rate {rate[row]:g}, and {before[row]:g} in another loss set of its EventSet: put"
            " them into different ones"
        )
    return np.where(np.isnan(before), rate, before)


def _by_period(
    set_id: int, losses: Mapping[int, Losses], years: int
) -> tuple[EventSet, dict[int, Elt], dict[int, str]]:
    """Every occurrence is an event of its own, and occurred once."""
    faults = {
        number: f"loss set {number} is by event and others of event set {set_id} are by period: put it into another"
        for number, x in losses.items()
        if x.period is None
    }
    parts = {number: x for number, x in losses.items() if x.period is not None and x.day is not None}
    names = np.unique(np.concatenate([x.event for x in parts.values()]))
    keys = {
        number: (x.period.astype(np.int64) * 512 + x.day) * names.size + np.searchsorted(names, x.event)
        for number, x in parts.items()
        if x.period is not None and x.day is not None
    }
    key = np.unique(np.concatenate(list(keys.values())))
    period, day = (key // names.size // 512).astype(np.int32), (key // names.size % 512).astype(np.int16)
    numbers = np.arange(1, key.size + 1, dtype=np.int32)
    found = {}
    for number, x in parts.items():
        mine = numbers[np.searchsorted(key, keys[number])]
        rate = np.full(mine.size, 1 / years)
        found[number] = Elt(mine, rate, x.mean, x.sd, x.exposure, x.samples)
    line = Occurrence(_ptr(period, years), numbers - np.int32(1), day)
    return EventSet(set_id, numbers, np.full(key.size, 1 / years), line=line), found, faults
