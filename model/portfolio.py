"""A portfolio on one set of occurrences: what each deal pays event by event, and what deals pay together.

Every occurrence of every event set has a number, so what deals pay can be added up event by event; that keeps the
dependence between them. Amounts in a portfolio are in its one currency, and whole multiples of 1 / 64
of it (`on_grid`): sums of such numbers in float64 are exact up to 1.4e14, so adding up is associative and
commutative to the last bit, whoever adds what first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from model.arrays import F4, F8, I2, I4, I8, Floats, Mask
from model.errors import ModelError
from model.losses import Yelt
from model.pricing import Deal, pay
from model.recoveries import Recovered, year_of
from model.simulate import Occurrence

GRID = 64.0
"""A unit of currency in steps of amounts."""


def on_grid(amount: Floats) -> F4:
    """The nearest whole multiple of 1 / GRID, in single precision (where it is one as well)."""
    return (np.rint(amount.astype(np.float64) * GRID) / GRID).astype(np.float32)


SETS = 1024
"""Event sets that a portfolio may have."""


Numbers: TypeAlias = I4 | I8
"""Of occurrences, in a type that holds them all: an event set's are its rows times SETS and its place."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """When the events of set `place` of a portfolio occur: those of 0-based year y are its rows ptr[y]:ptr[y + 1].

    ptr i4[Y + 1]; day i2[n], ascending within a year.
    """

    place: int
    ptr: I4
    day: I2

    @classmethod
    def of(cls, line: Occurrence, place: int) -> Timeline:
        """What pricing takes of a time line. Raises ModelError for a place beyond SETS."""
        if not 0 <= place < SETS:
            raise ModelError(f"a portfolio has at most {SETS} event sets; got one at place {place}")
        return cls(place, line.ptr.astype(np.int32), line.day)

    def at(self, row: I8) -> tuple[Numbers, I4, I2]:
        """(number, year, day) of rows."""
        number = row * SETS + self.place
        short = self.day.size * SETS <= np.iinfo(np.int32).max  # most portfolios: half as much to hand on and to sort
        return number.astype(np.int32) if short else number, year_of(self.ptr, row).astype(np.int32), self.day[row]


@dataclass(frozen=True, eq=False)
class Claims:
    """What is paid for each of n occurrences: number i4[n] or i8[n], year i4[n], day i2[n], paid f4[n] or f8[n]."""

    number: Numbers
    year: I4
    day: I2
    paid: Floats

    @classmethod
    def none(cls) -> Claims:
        """Nothing at all."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(0))

    def in_time(self) -> Claims:
        """In order of year and day, on one day of number: the order in which annual terms are used up."""
        order = np.lexsort((self.number, self.year.astype(np.int64) * 512 + self.day))
        return Claims(self.number[order], self.year[order], self.day[order], self.paid[order])

    def annual(self, years: int) -> tuple[F8, F8]:
        """(largest, sum) of each year, f8[years]."""
        year, paid = self.year.astype(np.intp), self.paid.astype(np.float64, copy=False)
        largest = np.zeros(years)
        np.maximum.at(largest, year, paid)
        return largest, np.asarray(np.bincount(year, weights=paid, minlength=years), dtype=np.float64)


def add_claims(parts: Sequence[Claims], signs: Sequence[float] | None = None) -> Claims:
    """All that is paid for each occurrence, by number, f8[n]; with `signs`, each part times its own."""
    return _merged(list(parts), signs)[0]


def add_and_place(parts: Sequence[Claims]) -> tuple[Claims, list[I8]]:
    """As `add_claims`; and for each part, which row of the whole each of its claims is in."""
    parts = list(parts)
    whole, order, first = _merged(parts)
    row = np.empty(order.size, dtype=np.int64)
    row[order] = np.cumsum(first) - 1
    return whole, np.split(row, np.cumsum([part.number.size for part in parts])[:-1])


def _merged(parts: list[Claims], signs: Sequence[float] | None = None) -> tuple[Claims, I8, Mask]:
    """What is paid for each occurrence; the claims of all parts in order of number; which of these are the first of
    their number."""
    signs = signs or [1.0] * len(parts)
    paid = [part.paid.astype(np.float64) * sign for part, sign in zip(parts, signs, strict=True)]
    number, year, day = (np.concatenate([getattr(part, c) for part in parts]) for c in ("number", "year", "day"))
    order = np.argsort(number, kind="stable")  # merges, as parts are sorted by number or nearly so
    number = number[order]
    first = np.ones(number.size, dtype=np.bool_)
    np.not_equal(number[1:], number[:-1], out=first[1:])
    start = np.flatnonzero(first)
    at = order[start]
    total = np.add.reduceat(np.concatenate(paid)[order], start) if start.size else np.zeros(0)
    return Claims(number[start], year[at], day[at], total), order, first


@dataclass(frozen=True, eq=False)
class DealYears:
    """What a deal pays, in the portfolio's currency: event by event, and layer by layer and year.

    number, year i4[n], day i2[n], paid f4[n] as of `Claims`; left f4[n] is what a retrocession leaves to a deal
    that covers it (f4[0] of other deals: what they pay). layer i2[m] from 0, layer_year i4[m], loss, premium
    (for reinstatements, per unit of premium, for the placed share) and largest (recovery of one occurrence) f4[m]:
    years without loss are left out.
    """

    number: Numbers
    year: I4
    day: I2
    paid: F4
    left: F4
    layer: I2
    layer_year: I4
    loss: F4
    premium: F4
    largest: F4

    def claims(self) -> Claims:
        """What it pays."""
        hit = np.flatnonzero(self.paid != 0)
        return Claims(self.number[hit], self.year[hit], self.day[hit], self.paid[hit])

    def annual(self, years: int) -> tuple[F8, F8]:
        """(largest, sum) of what it pays in each year, f8[years]."""
        return Claims(self.number, self.year, self.day, self.paid).annual(years)

    def net(self) -> Claims:
        """What it leaves to a deal that covers it."""
        return Claims(self.number, self.year, self.day, self.left if self.left.size else self.paid)


LossSets: TypeAlias = Sequence[tuple[Timeline, Sequence[tuple[float, F4]]]]
"""The losses that a deal covers: of each event set its time line, and (share, loss at its every row) of loss sets."""


def deal_years(deal: Deal, subject: LossSets, rate: float, years: range) -> DealYears:
    """What `deal` pays in a range of years; `rate` is what one unit of the portfolio's currency is in the deal's.

    Years are those of the time lines. Any cut of the years gives the same to the last bit.
    """
    claims = _subject(deal, subject, rate, years)
    found = _paid(deal, claims, years)
    return _told(found, claims, rate, years, left=False)


def retro_years(deal: Deal, sources: Sequence[DealYears], rate: float, years: range) -> DealYears:
    """What a retrocession pays of what the deals that it covers leave. Arguments as of `deal_years`."""
    claims = add_claims([source.net() for source in sources]).in_time()
    claims = Claims(claims.number, claims.year, claims.day, claims.paid * rate)
    return _told(_paid(deal, claims, years), claims, rate, years, left=True)


def _subject(deal: Deal, subject: LossSets, rate: float, years: range) -> Claims:
    """The losses that can reach the layers of `deal`, in its currency."""
    floor = np.float32(_floor(deal))
    found = []
    for line, losses in subject:
        begin, end = line.ptr[years.start], line.ptr[years.stop]
        total = sum(np.float32(share * rate) * loss[begin:end] for share, loss in losses)
        at = np.flatnonzero(total > floor)
        found.append((*line.at(at + begin), np.asarray(total)[at]))
    return Claims(*(np.concatenate(column) for column in zip(*found, strict=True))).in_time()


def _floor(deal: Deal) -> float:
    """No loss up to this one matters to the deal."""
    if all(term.as_layer().by_event for term in deal.inuring):
        return min(layer.attachment for layer in deal.layers)
    return 0.0


def _paid(deal: Deal, claims: Claims, years: range) -> Recovered:
    ptr = np.zeros(len(years) + 1, dtype=np.int64)
    np.cumsum(np.bincount(claims.year - years.start, minlength=len(years)), out=ptr[1:])
    row = np.arange(claims.number.size, dtype=np.int32)  # in place of event ids: they say where to look
    return pay(deal, Yelt(ptr, row, claims.day, claims.paid), by_event=True)


def _told(found: Recovered, claims: Claims, rate: float, years: range, *, left: bool) -> DealYears:
    """In the portfolio's currency, with all that is 0 left out."""
    assert found.ceded is not None
    at = found.ceded.event_id
    paid = np.zeros(claims.number.size, dtype=np.float32)
    paid[at] = on_grid(found.ceded.loss / rate)
    if left:
        rest = np.maximum(on_grid(claims.paid / rate).astype(np.float64) - paid, 0.0).astype(np.float32)
    else:
        claims = Claims(claims.number[at], claims.year[at], claims.day[at], claims.paid[at])
        paid, rest = paid[at], np.zeros(0, dtype=np.float32)
    terms = [(k, term, np.flatnonzero(term.loss != 0)) for k, term in enumerate(found.terms)]
    return DealYears(
        number=claims.number,
        year=claims.year,
        day=claims.day,
        paid=paid,
        left=rest,
        layer=np.concatenate([np.full(hit.size, k, dtype=np.int16) for k, _, hit in terms]),
        layer_year=np.concatenate([term.year[hit] for _, term, hit in terms]).astype(np.int32) + np.int32(years.start),
        loss=on_grid(np.concatenate([term.loss[hit] for _, term, hit in terms]) / rate),
        premium=np.concatenate([term.reinst_premium[hit] for _, term, hit in terms]).astype(np.float32),
        largest=on_grid(np.concatenate([term.occ_max[hit] for _, term, hit in terms]) / rate),
    )


def joined(parts: Sequence[tuple[int, DealYears]]) -> DealYears:
    """Parts of a deal as one, layer by layer in order of years; each with what is added to its years (for its view).

    Occurrences keep their numbers, so those of two views are different ones of the same number. Raises ModelError if
    there are no parts.
    """
    if not parts:
        raise ModelError("there are no years of the deal to join")
    moved = [
        replace(part, year=part.year + np.int32(first), layer_year=part.layer_year + np.int32(first))
        for first, part in sorted(parts, key=lambda part: part[0])
    ]
    whole = {name: np.concatenate([getattr(part, name) for part in moved]) for name in vars(moved[0])}
    key = whole["layer"].astype(np.int64) << 32 | whole["layer_year"]
    order = np.argsort(key, kind="stable")  # merges the parts, each of which is in order
    for name in ("layer", "layer_year", "loss", "premium", "largest"):
        whole[name] = whole[name][order]
    return DealYears(**whole)
