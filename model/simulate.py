"""Years out of an event loss table: when events occur, which, and how large each loss is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    def since(self, year: int) -> Occurrence:
        """Without the years before `year`."""
        row = int(self.ptr[year])
        return Occurrence(self.ptr[year:] - row, self.event_row[row:], self.day[row:])


@dataclass(frozen=True, eq=False)
class EventSet:
    """The events of a peril and region, which all loss sets on them share: so their losses fall in the same years.

    event_id i4[E], strictly increasing; rate f8[E] in events per year; `dispersion` as in `occurrence`.
    `set_id` names its random streams. `line`, where it is given, is when they occurred, and nothing is drawn.
    Raises ModelError naming the row and event that break this.
    """

    set_id: int
    event_id: I4
    rate: F8
    dispersion: float = 0.0
    line: Occurrence | None = None

    def __post_init__(self) -> None:
        if self.rate.shape != self.event_id.shape or self.rate.size == 0:
            raise ModelError(f"event set {self.set_id}: give one rate an event, and at least one event")
        for ok, rule in (
            (np.isfinite(self.rate) & (self.rate >= 0), "have a finite rate >= 0"),
            (np.r_[True, np.diff(self.event_id) > 0], "ascend without duplicates"),
        ):
            if not ok.all():
                row = int(np.argmin(ok))
                raise ModelError(f"event set {self.set_id}, row {row} (event {self.event_id[row]}): events must {rule}")

    def rows_of(self, elt: Elt) -> I4:
        """The row in `elt` of each event, i4[E]; -1 where it has none.

        Raises ModelError naming an event of `elt` that the set lacks, or gives another rate.
        """
        at = np.minimum(np.searchsorted(self.event_id, elt.event_id), self.event_id.size - 1)
        known = self.event_id[at] == elt.event_id
        same = np.isclose(self.rate[at], elt.rate, rtol=1e-6)
        for ok, fault in ((known, "is not in it"), (same, "has another rate in it")):
            if not ok.all():
                row = int(np.argmin(ok))
                where = f"event {elt.event_id[row]} (row {row})"
                raise ModelError(f"{where} does not fit event set {self.set_id}: it {fault}")
        rows = np.full(self.event_id.size, -1, dtype=np.int32)
        rows[at] = np.arange(elt.event_id.size, dtype=np.int32)
        return rows


def occurrence(rate: F8, years: int, rng: np.random.Generator, dispersion: float = 0.0) -> Occurrence:
    """Which event occurs in which of `years` years, on which day.

    `rate` f8[E] is in events per year. Events form a Poisson process in time; the count of a year is
    Poisson(sum rate), or with `dispersion` d > 0 negative binomial of the same mean and variance (1 + d)
    mean, as a gamma mixture of Poissons: clustering. Days are uniform. More years only add years: the first
    are the same to the last bit. Raises ModelError for years < 1, a bad dispersion or bad rates.
    """
    if years < 1:
        raise ModelError(f"years must be a whole number >= 1; got {years}")
    if not (np.isfinite(dispersion) and dispersion >= 0):
        raise ModelError(f"dispersion must be finite and >= 0 (0 is Poisson); got {dispersion}")
    return _occurrence(alias_table(rate), float(np.sum(rate)), years, rng, dispersion)


def _occurrence(table: AliasTable, mean: float, years: int, rng: np.random.Generator, dispersion: float) -> Occurrence:
    intensity, arrival, which = rng.spawn(3)  # a stream each, so that none depends on how much of another is used
    lam = intensity.gamma(mean / dispersion, dispersion, years) if dispersion else np.full(years, mean)
    expected = np.r_[0.0, np.cumsum(lam)]
    # Arrivals of a Poisson process are sums of exponentials (Devroye, 1986, VI.1): no sorting, no count per year.
    gaps = arrival.standard_exponential(_enough(expected[-1]))
    while (when := np.cumsum(gaps))[-1] < expected[-1]:
        gaps = np.r_[gaps, arrival.standard_exponential(_enough(expected[-1] - when[-1]))]
    ptr = np.asarray(np.searchsorted(when, expected), dtype=np.int64)
    counts, n = np.diff(ptr), int(ptr[-1])
    day = (when[:n] - np.repeat(expected[:-1], counts)) * np.repeat(DAYS / np.maximum(lam, 1e-300), counts)
    return Occurrence(ptr, table.draw(n, which), np.clip(day, 0, DAYS - 1).astype(np.int16))


def _enough(expected: float) -> int:
    """Nearly always more than a Poisson count of this mean."""
    return int(expected + 6 * np.sqrt(expected)) + 16


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


BLOCK_YEARS = 10_000
"""Years that share a random stream. Part of every result: never change it."""


def timeline(events: EventSet, years: int | range, *, seed: int) -> Occurrence:
    """The one time line of `events` in years 0..`years` - 1, or in a range of years; rows are those of `events`.

    It is drawn in blocks of years with a stream each, so any cut of the years gives the same events.
    """
    return _joined([line.since(low) for line, low, _ in _blocks(events, years, seed, Purpose.EVENT_SET)])


def losses_on(
    events: EventSet,
    elt: Elt,
    years: int | range,
    *,
    seed: int,
    loss_set: int,
    view: int = 0,
    line: Occurrence | None = None,
) -> F4:
    """The loss of `elt` at every row of the `timeline` of `events`, f4[n]; 0 where the event is not in `elt`.

    Views sample the losses of the same events anew. The stream hangs on (`seed`, `loss_set`, `view`) and the
    block of years alone. `line` spares drawing the time line again where that of years from 0 on is at hand.
    Raises ModelError if `elt` does not fit `events`.
    """
    rows, parts = events.rows_of(elt), []
    blocks = _blocks(events, years, seed, Purpose.EVENT_SET) if line is None else _cut(line)
    for part, low, block in blocks:
        row = rows[part.event_row]
        loss = np.zeros(row.size, dtype=np.float32)
        hit = row >= 0
        loss[hit] = _losses(elt, row[hit], view, stream(seed, Purpose.SEVERITY, loss_set, view, block))
        parts.append(loss[part.ptr[low] :])
    return np.concatenate(parts)


def _cut(line: Occurrence) -> Iterator[tuple[Occurrence, int, int]]:
    """A time line from year 0 on in blocks of years, as `_blocks` has them."""
    for block in range(-(-(line.ptr.size - 1) // BLOCK_YEARS)):
        ptr = line.ptr[block * BLOCK_YEARS : (block + 1) * BLOCK_YEARS + 1]
        yield Occurrence(ptr - ptr[0], line.event_row[ptr[0] : ptr[-1]], line.day[ptr[0] : ptr[-1]]), 0, block


def simulate(
    elt: Elt, years: int | range, *, seed: int, loss_set: int = 0, views: int = 1, dispersion: float = 0.0
) -> Yelt:
    """`views` x `years` years of losses of `elt`: one time line of its own, its losses sampled anew in each view.

    View v owns the v-th `years` years, with the same events on the same days. The streams hang on (`seed`,
    purpose, `loss_set`, view) and the block of years alone, so whoever simulates a loss set sees the same
    losses, and any range of years is what it is among all.
    """
    if views < 1:
        raise ModelError(f"views must be a whole number >= 1; got {views}")
    events = EventSet(loss_set, elt.event_id, elt.rate, dispersion)
    blocks = list(_blocks(events, years, seed, Purpose.OCCURRENCE))
    line = _joined([line.since(low) for line, low, _ in blocks])
    losses = [
        _losses(elt, line.event_row, view, stream(seed, Purpose.SEVERITY, loss_set, view, block))[line.ptr[low] :]
        for view in range(views)
        for line, low, block in blocks
    ]
    counts = np.tile(np.diff(line.ptr), views)
    ptr = np.r_[0, np.cumsum(counts)].astype(np.int64)
    return Yelt(ptr, np.tile(elt.event_id[line.event_row], views), np.tile(line.day, views), np.concatenate(losses))


def _losses(elt: Elt, event_row: I4, view: int, rng: np.random.Generator) -> F4:
    if elt.samples is not None:
        return np.asarray(elt.samples[view % len(elt.samples)][event_row])
    return sample_losses(elt.mean, elt.sd, elt.exposure, event_row, rng)


def _blocks(events: EventSet, years: int | range, seed: int, purpose: Purpose) -> Iterator[tuple[Occurrence, int, int]]:
    """Of each block of years that is asked for: its occurrences up to the last year of interest, the first such
    year, its number."""
    wanted = years if isinstance(years, range) else range(years)
    if not (wanted.step == 1 and 0 <= wanted.start < wanted.stop):
        raise ModelError(f"years must be a whole number >= 1, or a range of years from 0 on; got {years}")
    if events.line is not None:
        yield from _given(events, events.line, wanted)
        return
    table, mean = alias_table(events.rate), float(np.sum(events.rate))
    if not (np.isfinite(events.dispersion) and events.dispersion >= 0):
        raise ModelError(f"dispersion must be finite and >= 0 (0 is Poisson); got {events.dispersion}")
    for block in range(wanted.start // BLOCK_YEARS, (wanted.stop - 1) // BLOCK_YEARS + 1):
        first = block * BLOCK_YEARS
        low, high = max(wanted.start - first, 0), min(wanted.stop - first, BLOCK_YEARS)
        rng = stream(seed, purpose, events.set_id, block)
        yield _occurrence(table, mean, high, rng, events.dispersion), low, block


def _given(events: EventSet, line: Occurrence, wanted: range) -> Iterator[tuple[Occurrence, int, int]]:
    """As `_blocks`, of a time line that is there."""
    if wanted.stop >= line.ptr.size:
        raise ModelError(f"event set {events.set_id} has {line.ptr.size - 1} years; got {wanted.stop}")
    for part, _, block in _cut(line):
        first = block * BLOCK_YEARS
        low, high = max(wanted.start - first, 0), min(wanted.stop - first, part.ptr.size - 1)
        if low < high:
            n = int(part.ptr[high])
            yield Occurrence(part.ptr[: high + 1], part.event_row[:n], part.day[:n]), low, block


def _joined(lines: Sequence[Occurrence]) -> Occurrence:
    counts = np.concatenate([np.diff(line.ptr) for line in lines])
    ptr = np.r_[0, np.cumsum(counts)].astype(np.int64)
    return Occurrence(ptr, np.concatenate([x.event_row for x in lines]), np.concatenate([x.day for x in lines]))
