"""What reinsurance pays: years of losses through a programme of terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.arrays import F8, I4, I8, Mask
from model.errors import ModelError
from model.losses import DAYS, Yelt
from model.terms import Layer, Programme


@dataclass(frozen=True, eq=False)
class Paid:
    """What one term pays in the A years in which it pays or might: 0-based year i8[A], the rest f8[A].

    For the placed share: loss is the year's recovery, reinst_premium what the cedent pays for reinstatements,
    occ_max the largest recovery of one occurrence (annual terms used up in order of events).
    """

    year: I8
    loss: F8
    reinst_premium: F8
    occ_max: F8


@dataclass(frozen=True, eq=False)
class Recovered:
    """What a programme pays, term by term, stage by stage; and, if asked for, event by event.

    `ceded` is what the last stage takes of each event, without the events of which it takes nothing; `net` is
    what is left of all events.
    """

    terms: tuple[Paid, ...]
    net: Yelt | None
    ceded: Yelt | None


@dataclass(frozen=True, eq=False)
class YltResult:
    """`Recovered` as K terms x Y years, f8[K, Y] each: layer_loss, reinst_premium and occ_max of `Paid`."""

    layer_loss: F8
    reinst_premium: F8
    occ_max: F8
    net: Yelt | None


def recover(programme: Programme, yelt: Yelt, *, by_event: bool = False) -> Recovered:
    """Run the years of `yelt` through `programme`; with `by_event`, also what is ceded and left of each event.

    Annual terms are used up in order of events, so what a later stage sees depends on the days.
    Raises ModelError if a stage cedes more of an event than there is (overlapping terms).
    """
    terms: list[Paid] = []
    ceded = net = None
    for number, stage in enumerate(programme.stages, 1):
        layers = [term.as_layer() for term in stage]
        hits = _Hits.above(yelt, min(layer.attachment for layer in layers))
        keep = by_event or number < len(programme.stages)
        taken = np.zeros(hits.loss.size)
        for layer in layers:
            reached, at = hits.reaching(layer.attachment)
            paid, event = _recover(layer, reached, by_event=keep)
            terms.append(paid)
            if keep:
                taken[at] += layer.share * event
        if keep:
            net = _less(yelt, hits, taken, stage=number)
            ceded = _only(yelt, hits.row, taken)
            yelt = net
    return Recovered(tuple(terms), *((net, ceded) if by_event else (None, None)))


def apply(programme: Programme, yelt: Yelt, *, net: bool = False) -> YltResult:
    """As `recover`, with all years in place of those that matter."""
    found = recover(programme, yelt, by_event=net)
    loss, premium, largest = (all_years(found.terms, c, yelt.years) for c in ("loss", "reinst_premium", "occ_max"))
    return YltResult(loss, premium, largest, found.net)


def all_years(terms: Sequence[Paid], name: str, years: int) -> F8:
    """A column of `Paid` of each of K terms over all years, f8[K, years]."""
    out = np.zeros((len(terms), years))
    for k, paid in enumerate(terms):
        out[k, paid.year] = getattr(paid, name)
    return out


def year_of(ptr: I8 | I4, row: I8) -> I8:
    """The 0-based year of rows, where year y has rows ptr[y]:ptr[y + 1]."""
    if 8 * row.size < ptr[-1]:  # then looking a few up is faster than spelling all out
        return np.searchsorted(ptr, row, side="right") - 1
    return np.repeat(np.arange(ptr.size - 1), np.diff(ptr))[row]


@dataclass(frozen=True, eq=False)
class _Hits:
    """The m losses above an attachment in year order, the year of each; where each of A years starts, which it is."""

    row: I8
    loss: F8
    elapsed: F8
    when: I8
    start: I8
    year: I8

    @classmethod
    def above(cls, yelt: Yelt, attachment: float) -> _Hits:
        row = np.flatnonzero(yelt.loss > attachment)
        year = year_of(yelt.ptr, row)
        return cls.of(row, yelt.loss[row].astype(np.float64), yelt.day[row] / DAYS, year)

    @classmethod
    def of(cls, row: I8, loss: F8, elapsed: F8, year: I8) -> _Hits:
        first = np.ones(year.size, dtype=np.bool_)
        np.not_equal(year[1:], year[:-1], out=first[1:])
        start = np.flatnonzero(first)
        return cls(row, loss, elapsed, year, start, year[start])

    def reaching(self, attachment: float) -> tuple[_Hits, I8]:
        """Those of them above a higher attachment, and which they are."""
        at = np.flatnonzero(self.loss > attachment)
        if at.size == self.row.size:
            return self, at
        return self.of(self.row[at], self.loss[at], self.elapsed[at], self.when[at]), at


def _recover(layer: Layer, hits: _Hits, *, by_event: bool) -> tuple[Paid, F8]:
    """What the layer pays by year, for its share, and by event f8[m] (if asked for), for 100 %."""
    x = np.clip(hits.loss - layer.attachment, 0.0, layer.limit)
    if x.size == 0:
        return Paid(hits.year, x, x, x), x
    total, largest = np.add.reduceat(x, hits.start), np.maximum.reduceat(x, hits.start)
    event, paid = x, layer.annual(total)
    if layer.by_event:
        charge = np.zeros_like(total)
    elif by_event or layer.pro_rata_time:
        run = layer.annual(_running_sum(x, hits.start))
        used = _steps(layer.reinstated(run), hits.start) * (1.0 - layer.pro_rata_time * hits.elapsed)
        event = _steps(run, hits.start)
        charge, largest = np.add.reduceat(used, hits.start), np.maximum.reduceat(event, hits.start)
    else:
        charge, bound = layer.reinstated(paid), paid < total
        if bound.any():  # only where an annual term bites does the order of events matter
            largest[bound] = _largest_in_order(layer, x, hits.start, bound)
    return Paid(hits.year, layer.share * paid, layer.share * layer.premium * charge, layer.share * largest), event


def _largest_in_order(layer: Layer, x: F8, start: I8, years: Mask) -> F8:
    """The largest recovery of each of some years, its annual terms used up event by event."""
    count = np.diff(start, append=x.size)[years]
    first = np.cumsum(count) - count
    some = x[np.repeat(start[years] - first, count) + np.arange(count.sum())]
    return np.maximum.reduceat(_steps(layer.annual(_running_sum(some, first)), first), first)


def _running_sum(x: F8, start: I8) -> F8:
    """Cumulative sum of `x` within each year, event by event: no cancellation, unlike one long cumsum."""
    out, count = x.copy(), np.diff(start, append=x.size)
    rank = 1
    while (more := count > rank).any():
        start, count = start[more], count[more]
        out[start + rank] += out[start + rank - 1]
        rank += 1
    return out


def _steps(running: F8, start: I8) -> F8:
    """What each event adds to a running amount of its year."""
    step = running.copy()
    step[1:] -= running[:-1]
    step[start] = running[start]
    return step


def _less(yelt: Yelt, hits: _Hits, ceded: F8, *, stage: int) -> Yelt:
    left = hits.loss - ceded
    over = left < -1e-9 * hits.loss
    if over.any():
        row = int(hits.row[int(np.argmax(over))])
        raise ModelError(
            f"stage {stage} cedes more of event {yelt.event_id[row]} (row {row}) than its loss: "
            "move overlapping terms to a later stage or lower their shares"
        )
    loss = yelt.loss.astype(np.float64)
    loss[hits.row] = np.maximum(left, 0.0)
    return replace(yelt, loss=loss)


def _only(yelt: Yelt, row: I8, amount: F8) -> Yelt:
    """A table of these amounts in place of the losses of rows of `yelt`, without those of 0."""
    row, amount = row[amount > 0], amount[amount > 0]
    before = np.zeros(yelt.loss.size + 1, dtype=np.int64)
    before[row + 1] = 1
    return Yelt(np.cumsum(before)[yelt.ptr], yelt.event_id[row], yelt.day[row], amount)
