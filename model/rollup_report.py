"""What came of a rollup: tables, and text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model import report, tables
from model.arrays import F8
from model.capital import Tail
from model.metrics import Annual, alt
from model.pricing import Deal
from model.rollup_tasks import Report, column


@dataclass(frozen=True, eq=False)
class Outcome:
    """A rollup's results. `summaries` says what the SummaryIds of `curves` are; `failed` what is wrong with deals."""

    deals: dict[int, Deal]
    reports: dict[int, Report]
    tail: Tail
    curves: pa.Table
    summaries: dict[int, tuple[str, str]]
    views: list[dict[str, F8]]
    fx: Mapping[str, float]
    failed: dict[int, str]
    currency: str = "GBP"


def collected(made: Any, ended: Any) -> Outcome:
    """The outcome of a run of a `model.rollup_plan.Rollup`. Raises what ended the run."""
    reports, failed = {}, dict(made.refused)
    for deal, found in zip(made.deals, ended["reports"], strict=True):
        if hasattr(found, "allocation"):
            reports[deal.deal_id] = found
        else:  # a TaskError in its place
            failed[deal.deal_id] = str(found)
    stages = [name for name in ended.runs if name.startswith("curves by ")]
    kept = [table for name in stages for table in ended[name] if isinstance(table, pa.Table)]  # others failed
    return Outcome(
        deals={deal.deal_id: deal for deal in made.deals},
        reports=dict(sorted(reports.items())),
        tail=next(iter(ended["tail"])),
        curves=pa.concat_tables(kept),
        summaries=made.summaries,
        views=[view for view in ended["years"] if isinstance(view, dict)],
        fx=made.book.fx,
        failed=failed,
        currency=made.book.currency,
    )


def capital_table(found: Outcome) -> pa.Table:
    """Each deal's expected loss, its part in the portfolio's TVaR and what the TVaR would fall by without it, in the
    portfolio's currency; those of retrocessions are below 0."""
    rows = []
    for deal_id, told in found.reports.items():
        sign, rate = (-1.0 if found.deals[deal_id].covers else 1.0), found.fx[told.price.currency]
        rows.append((deal_id, sign * told.price.el / rate, told.allocation.co_tvar, told.allocation.marginal))
    columns = list(zip(*rows, strict=True)) or 4 * [()]
    kinds = (pa.int32(), pa.float64(), pa.float64(), pa.float64())
    names = ("DealId", "EL", "CoTVaR", "MarginalTVaR")
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def write(found: Outcome, out: Path) -> None:
    """deals.parquet (a row a layer), capital.parquet, ept.parquet and palt.parquet (ORD) and their summaries.parquet,
    into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    about = {"currency": found.currency, "return_period": f"{found.tail.years / found.tail.k:g}"}
    tables.write(
        report.deals_table(told.price for told in found.reports.values()), out / "deals.parquet", "deals", about
    )
    tables.write(found.curves, out / "ept.parquet", "ept", about)
    tables.write(averages(found), out / "palt.parquet", "alt", about)
    pq.write_table(capital_table(found), out / "capital.parquet")
    ids, dimensions, values = zip(*((n, *pair) for n, pair in found.summaries.items()), strict=True)
    summary = pa.table({"SummaryId": pa.array(ids, pa.int32()), "Dimension": dimensions, "Value": values})
    pq.write_table(summary, out / "summaries.parquet")


def averages(found: Outcome) -> pa.Table:
    """Mean and standard deviation of annual losses over all views, as an ORD PALT."""
    found_tables = []
    for number, pair in found.summaries.items():
        largest, total = (
            np.stack([view[f"{of} {column(*pair)}"] for view in found.views]) for of in ("largest", "sum")
        )
        found_tables.append(alt(Annual(largest, total), summary_id=number))
    return pa.concat_tables(found_tables)


def annual(found: Outcome, which: str) -> F8:
    """The years of all views of the portfolio: `which` is gross, ceded or net."""
    return np.concatenate([view[f"sum {column('portfolio', which)}"] for view in found.views])


def summary(found: Outcome, top: int = 10) -> str:
    """The portfolio's curves, and the deals with the most capital, in millions."""
    mean = {which: float(annual(found, which).mean()) for which in ("gross", "ceded", "net")}
    return "\n".join(
        [
            "Annual losses (millions; AEP, and AEP TVaR in brackets)",
            aligned(_curve_rows(found)),
            "",
            "Mean annual loss: " + ", ".join(f"{which} {value / 1e6:,.1f}" for which, value in mean.items()),
            f"TVaR {found.tail.years / found.tail.k:g} years, net: {found.tail.tvar / 1e6:,.1f}; the "
            f"{min(top, len(found.reports))} deals with most of it (millions; retrocessions below 0)",
            aligned(_deal_rows(found, top)),
            *(f"left out: {why}" for _, why in sorted(found.failed.items())),
            "",
        ]
    )


_SHOWN = (10, 50, 100, 250, 1000)


def _curve_rows(found: Outcome) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "", *(f"{years} y" for years in _SHOWN))]
    curves: dict[tuple[int, int], dict[float, float]] = {}
    for row in found.curves.to_pylist():
        curves.setdefault((row["SummaryId"], row["EPType"]), {})[row["ReturnPeriod"]] = row["Loss"]
    for number, (dimension, value) in found.summaries.items():
        loss, tail = curves.get((number, 3), {}), curves.get((number, 4), {})
        cells = (f"{loss[y] / 1e6:,.0f} ({tail[y] / 1e6:,.0f})" if y in loss else "-" for y in map(float, _SHOWN))
        rows.append((dimension, value, *cells))
    return rows


def _deal_rows(found: Outcome, top: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("deal", "ccy", "EL", "+-SE", "TVaR100", "OEP100", "premium", "co-TVaR", "marginal", "co-TVaR/TVaR100")
    ]
    ranked = sorted(found.reports.items(), key=lambda item: -abs(item[1].allocation.co_tvar))[:top]
    for deal_id, told in ranked:
        price, part = told.price, told.allocation
        rate = found.fx[price.currency] * 1e6
        amounts = (price.el, price.se, price.tvar100, told.oep100, price.premium)
        share = part.co_tvar * found.fx[price.currency] / price.tvar100 if price.tvar100 > 0 else float("nan")
        cells = (f"{amount / rate:,.2f}" for amount in amounts)
        rows.append(
            (
                str(deal_id),
                price.currency,
                *cells,
                f"{part.co_tvar / 1e6:,.2f}",
                f"{part.marginal / 1e6:,.2f}",
                f"{share:.0%}",
            )
        )
    return rows


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, aligned to the right."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
