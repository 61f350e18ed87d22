"""The tasks of a rollup, pure functions of what those before gave. `model.rollup_plan` says which of which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from model.arrays import F4, F8
from model.capital import Allocation, Tail, allocate, tail_of
from model.losses import Elt
from model.metrics import STANDARD_RETURN_PERIODS, Annual, at_return_periods, ept
from model.portfolio import Claims, DealYears, Timeline, add_and_place, add_claims, deal_years, joined, retro_years
from model.pricing import Deal, DealResult, Loads, price_paid
from model.recoveries import Paid
from model.simulate import EventSet, Occurrence, losses_on, timeline


def draw_line(events: EventSet, *, years: int, seed: int) -> Occurrence:
    """The occurrences of an event set."""
    return timeline(events, years, seed=seed)


def place_line(line: Occurrence, place: int) -> Timeline:
    """When they occur, as pricing takes it."""
    return Timeline.of(line, place)


@dataclass(frozen=True, eq=False)
class Draw:
    """The losses of a loss set in one view, to be drawn."""

    events: EventSet
    elt: Elt
    loss_set: int
    view: int
    seed: int


def draw_losses(draw: Draw, line: Occurrence) -> F4:
    """The loss at every occurrence of the event set."""
    years = line.ptr.size - 1
    options = {"seed": draw.seed, "loss_set": draw.loss_set, "view": draw.view}
    return losses_on(draw.events, draw.elt, years, **options, line=line)


@dataclass(frozen=True)
class Job:
    """Some years of a deal in one view. `shares`: those of loss sets, for each of its event sets in turn; `rate`: what
    one unit of the portfolio's currency is in the deal's."""

    deal: Deal
    view: int
    rate: float
    first: int
    last: int
    shares: tuple[tuple[float, ...], ...] = ()


def price_years_of(job: Job, *tables: Timeline | F4) -> DealYears:
    """What a deal pays; `tables` are the time line of each of its event sets, and the losses behind it."""
    left, subject = list[Any](tables), []
    for shares in job.shares:
        line, losses, left = left[0], left[1 : 1 + len(shares)], left[1 + len(shares) :]
        subject.append((line, list(zip(shares, losses, strict=True))))
    return deal_years(job.deal, subject, job.rate, range(job.first, job.last))


def retrocede(job: Job, *sources: DealYears) -> DealYears:
    """What a retrocession pays; `sources` are the deals that it covers, some in several parts."""
    return retro_years(job.deal, sources, job.rate, range(job.first, job.last))


def add_up_events(parts: Sequence[DealYears | Claims]) -> Claims:
    """What deals, or groups of them, pay for each occurrence."""
    return add_claims([part.claims() if hasattr(part, "claims") else part for part in parts])


DIMENSIONS = ("peril", "region", "line")


def view_years(years: int, groups: Sequence[tuple[str, ...]], *claims: Claims) -> dict[str, F8]:
    """The years of one view, by column: the largest and the summed loss of each year, f8[years] each.

    Columns are `column` of a dimension and a value: of each peril, region and line of the inward `groups`, whose
    `claims` come first, and of the portfolio gross, ceded (by the claims that follow) and net.
    """
    inward, ceded = claims[: len(groups)], add_claims(claims[len(groups) :] or [Claims.none()])
    gross, rows = add_and_place(inward)  # sorted once for all that is added up
    found = {}
    for place, dimension in enumerate(DIMENSIONS):
        for value in dict.fromkeys(key[place] for key in groups):
            mine = [n for n, key in enumerate(groups) if key[place] == value]
            row, paid = (np.concatenate([column[n] for n in mine]) for column in (rows, [c.paid for c in inward]))
            total = np.asarray(np.bincount(row, paid, gross.number.size), dtype=np.float64)
            found[dimension, value] = replace(gross, paid=total)
    net = add_claims([gross, ceded], [1.0, -1.0])
    found |= {("portfolio", "gross"): gross, ("portfolio", "ceded"): ceded, ("portfolio", "net"): net}
    both = [(column(*key), part.annual(years)) for key, part in found.items()]
    return {f"{what} {name}": one for name, pair in both for what, one in zip(("largest", "sum"), pair, strict=True)}


def column(dimension: str, value: str) -> str:
    """What the columns of `view_years` call them."""
    return f"{dimension} {value}"


def find_tail(net: list[F8], *, return_period: float) -> Tail:
    """The tail of the portfolio over the years of all views."""
    return tail_of(np.concatenate(net), return_period)


def curves(views: list[dict[str, F8]], *, summaries: Sequence[tuple[int, str]]) -> pa.Table:
    """Exceedance curves over all views (EPCalc 2, full uncertainty), as an ORD EPT table.

    `summaries`: the SummaryId and the name of each that is asked for.
    """
    tables = []
    for number, name in summaries:
        largest, total = (np.stack([view[f"{what} {name}"] for view in views]) for what in ("largest", "sum"))
        run = Annual(largest, total)
        tables.append(ept(run, calcs=(2,), return_periods=STANDARD_RETURN_PERIODS, summary_id=number))
    return pa.concat_tables(tables)


@dataclass(frozen=True)
class Report:
    """A deal's price, and its part in the capital of the portfolio (in the portfolio's currency).

    `oep100` is its loss of return period 100 from one occurrence, in its own currency.
    """

    price: DealResult
    allocation: Allocation
    oep100: float


@dataclass(frozen=True)
class Asked:
    """A deal to be reported; `firsts` is what to add to the years of each of its parts."""

    deal: Deal
    rate: float
    years: int
    views: int
    firsts: tuple[int, ...]
    loads: Loads


def report(asked: Asked, tail: Tail, *parts: DealYears) -> Report:
    """The price of a deal over all views, and its part in the portfolio's tail."""
    whole = joined(list(zip(asked.firsts, parts, strict=True)))
    n = asked.years * asked.views
    paid = []
    for k in range(len(asked.deal.layers)):
        at = slice(*np.searchsorted(whole.layer, (k, k + 1)))
        loss, premium, largest = (x[at].astype(np.float64) for x in (whole.loss, whole.premium, whole.largest))
        year = whole.layer_year[at].astype(np.int64)
        paid.append(Paid(year, loss * asked.rate, premium, largest * asked.rate))
    price = price_paid(
        asked.deal, paid, n, views=asked.views, loads=asked.loads, events=whole.number.size, gross_aal=0.0
    )
    worst, total = whole.annual(n)
    hit = np.flatnonzero(total != 0)
    sign = -1.0 if asked.deal.covers else 1.0
    oep100 = float(at_return_periods(worst[hit] * asked.rate, (100.0,), n).loss[0])
    return Report(price, allocate(tail, hit, sign * total[hit]), oep100)
