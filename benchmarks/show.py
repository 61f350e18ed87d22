"""Rows as tables that people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.histogram import lines
from benchmarks.question import Column, Goal, Question
from benchmarks.rows import Row

_SCALES: dict[str, list[tuple[float, float, str]]] = {
    # of each unit: from where on, divided by what, called what
    "s": [(1.0, 1.0, "s"), (0.0, 1e-3, "ms")],
    "ms": [(1000.0, 1000.0, "s"), (0.0, 1.0, "ms")],
    "us": [(1000.0, 1000.0, "ms"), (0.0, 1.0, "us")],
    "MB": [(1000.0, 1000.0, "GB"), (0.0, 1.0, "MB")],
}


def shown(value: Any, unit: str) -> str:
    """One figure with its unit: three digits, and no more than were measured."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if unit == "yes":
        return "yes" if value else "no"
    if unit == "count":
        return f"{value:.0f}"
    if unit == "share":
        return f"{value:.3f}"
    for least, by, name in _SCALES.get(unit, [(0.0, 1.0, unit)]):
        if value >= least:
            return f"{_digits(value / by)} {name}"
    return f"{_digits(value)} {unit}"


def ratio(question: Question, row: Row, rows: Sequence[Row]) -> str:
    """The row's first figure as a multiple of the reference's, unless it is of another size."""
    key = question.columns[0].key
    theirs = {r["system"]: r["metrics"].get(key) for r in rows}.get(question.reference)
    mine = row["metrics"].get(key)
    if row["note"] or not _is_number(mine) or not _is_number(theirs) or not theirs:
        return "-"
    return f"{_digits(mine / theirs)}x"


def cells(question: Question, rows: Sequence[Row]) -> list[list[str]]:
    """The heads of the columns, then a line for each row."""
    heads = ["system", *(c.title for c in question.columns), f"first / {question.reference}", ""]
    body = []
    for row in rows:
        figures = [shown(row["metrics"].get(column.key), column.unit) for column in question.columns]
        body.append([row["system"], *figures, ratio(question, row, rows), row["note"]])
    return [heads, *body]


def histograms(question: Question, rows: Sequence[Row]) -> list[list[list[str]]]:
    """What each worker reached, as tables with bars."""
    tables = []
    for column in question.histograms:
        have = {row["system"]: row["histograms"][column.key]["figures"] for row in rows if row.get("histograms")}
        tables += [lines(column.title, column.unit, have)] if have else []
    return tables


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Columns for a terminal."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in table)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Columns for a page."""
    heads, *body = [[cell.replace("|", "\\|") for cell in line] for line in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *body])


def verdicts(question: Question, rows: Sequence[Row]) -> list[str]:
    """What has become of each goal for which all figures are there."""
    units = {column.key: column.unit for column in question.columns}
    told = []
    for goal in question.goals:
        if (value := _reached(goal, rows)) is not None:
            unit = "x" if goal.against else units[goal.key]
            met = value >= goal.limit if goal.at_least else value <= goal.limit
            aim = f"goal {'>=' if goal.at_least else '<='} {shown(goal.limit, unit)}"
            told.append(f"{'met' if met else 'MISSED'}: {goal.text}: {shown(value, unit)}, {aim}")
    return told


def headline(column: Column, rows: Sequence[Row]) -> str:
    """One figure of all systems in a line, the best of those that have it first."""
    have = {row["system"]: row["metrics"][column.key] for row in rows if row["metrics"].get(column.key) is not None}
    numbers = {name: value for name, value in have.items() if _is_number(value)}
    best = sorted(numbers, key=numbers.__getitem__, reverse=_more_is_better(column))
    names = [*best, *(name for name in have if name not in numbers)]
    notes = {row["system"]: f" ({row['note']})" if row["note"] else "" for row in rows}
    return f"{column.title}: " + ", ".join(f"{name} {shown(have[name], column.unit)}{notes[name]}" for name in names)


def _reached(goal: Goal, rows: Sequence[Row]) -> float | None:
    metrics = {row["system"]: row["metrics"].get(goal.key) for row in rows}
    value = metrics.get(goal.system)
    if goal.against is None:
        return value if _is_number(value) else None
    theirs = metrics.get(goal.against)
    return value / theirs if _is_number(value) and _is_number(theirs) and theirs else None


def _more_is_better(column: Column) -> bool:
    return column.unit in ("share", "count", "yes")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
