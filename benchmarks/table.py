"""Fill the tables of benchmarks/README.md from the rows that were measured last: `python -m benchmarks.table`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks import ROOT
from benchmarks.question import Question
from benchmarks.rows import RESULTS, Row, kept
from benchmarks.show import cells, headline, histograms, markdown, verdicts

QUESTIONS = (
    "noop_map", "warm_call", "cold_start", "busy_cores", "heavy_tail", "shared_array", "gather_tables", "price_deals",
    "killed_worker", "plan_scale", "cache_lookup", "forecast", "resume",
    "s3_clients", "s3_throughput", "lambda_map", "lambda_call", "lambda_fanout", "flops", "model_pricing",
    "model_wind", "rollup",
)  # fmt: skip
MARK = "<!-- what follows is written by python -m benchmarks.table -->"
README = ROOT / "benchmarks" / "README.md"


def load(name: str) -> Question:
    """The question of this name."""
    question: Question = importlib.import_module(f"benchmarks.{name}").QUESTION
    return question


def filled(text: str, results: Path) -> str:
    """The page with its tables anew."""
    asked = [(question, _rows(question, results)) for question in map(load, QUESTIONS)]
    overview = [["question", "command", "last result"]]
    overview += [[q.asks, f"`python -m benchmarks.{q.name}`", _headline(q, rows)] for q, rows in asked]
    details = [_details(question, rows) for question, rows in asked if rows]
    return "\n\n".join([text.split(MARK)[0].rstrip(), MARK, markdown(overview), *details]) + "\n"


def _rows(question: Question, results: Path) -> list[Row]:
    """What was measured for real, in the order in which the question names its systems."""
    rows = [row for row in kept(results / f"{question.name}.jsonl") if not row["toy"]]
    order = {name: place for place, name in enumerate(question.systems)}
    return sorted(rows, key=lambda row: order.get(row["system"], len(order)))


def _headline(question: Question, rows: Sequence[Row]) -> str:
    return headline(question.columns[0], rows) if rows else "not measured yet"


def _details(question: Question, rows: Sequence[Row]) -> str:
    errors = [f"- {row['system']}: {row['error']}" for row in rows if row["error"]]
    goals = [f"- {verdict}" for verdict in verdicts(question, rows)]
    pictures = [
        markdown([head, *([*line[:2], f"`{line[2]}`", *line[3:]] for line in body)])
        for head, *body in histograms(question, rows)
    ]
    figures = [markdown(cells(question, rows)), *pictures, "\n".join(errors + goals)]
    parts = [f"## {question.name}", *figures, _provenance(rows)]
    return "\n\n".join(part for part in parts if part)


def _provenance(rows: Sequence[Row]) -> str:
    """When and with what the rows were measured; several where they were not measured together."""
    told = {
        f"{row['date']} UTC, fnmap {row['commit']}, Python {row['python']}, {row['workers']} workers on {row['cores']} "
        f"cores, load {row['load']:g} before": None
        for row in rows
    }
    return "Measured " + "; ".join(told) + "."


if __name__ == "__main__":
    README.write_text(filled(README.read_text(), RESULTS))
