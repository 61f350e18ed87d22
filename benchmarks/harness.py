"""Ask a question of several systems in turn, several times, and show their answers side by side."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.child import find
from benchmarks.histogram import told
from benchmarks.peers import missing
from benchmarks.processes import Outcome, run_alone
from benchmarks.question import Part, Question
from benchmarks.rows import RESULTS, Row, about_here, keep
from benchmarks.show import aligned, cells, histograms, verdicts

SLOW_S = 20.0  # what takes longer is measured once


@dataclass
class Tally:
    """What the runs of one system have given so far."""

    figures: dict[str, list[Any]] = field(default_factory=dict)
    workers: dict[str, list[list[float]]] = field(default_factory=dict)  # what each reached, of all runs
    over: set[Part] = field(default_factory=set)  # parts that are not run again
    runs: int = 0
    error: str = ""

    def wants(self, part: Part) -> bool:
        """Is this part to be run again?"""
        needed = self.figures.get(part.needs, [0])
        return part not in self.over and not isinstance(needed[-1], str)

    def add(self, part: Part, outcome: Outcome) -> None:
        """Take in one run of a part. The first figure that it owes says why it does."""
        figures = dict(outcome.metrics)
        for key in [key for key, figure in figures.items() if isinstance(figure, list)]:
            self.workers.setdefault(key, []).extend(figures.pop(key))
        why = outcome.cut or (_kind(outcome.error) if outcome.error else "")
        owed = [key for key in part.keys if key not in figures]
        if why and owed:
            figures[owed[0]] = why
        for key, figure in figures.items():
            self.figures.setdefault(key, []).append(figure)
        self.error = self.error or outcome.error
        if why or part.once or outcome.seconds > SLOW_S:
            self.over.add(part)

    def metrics(self) -> dict[str, Any]:
        """The median of each figure, or what kept a run from giving it."""
        return {key: _median(figures) for key, figures in self.figures.items()}

    def spread(self) -> dict[str, Any]:
        """The least and the most of each figure that was measured more than once."""
        several = {k: v for k, v in self.figures.items() if len(v) > 1 and not any(isinstance(x, str) for x in v)}
        return {key: [_rounded(min(v)), _rounded(max(v))] for key, v in several.items()}


def ask(question: Question, systems: Sequence[str], *, toy: bool, repeat: int, workers: int) -> list[Row]:
    """Run the systems in turn, A B C A B C, each part in a process of its own; a row for each system. Their files stay
    until the end: on some file systems a file is slow to make where many were deleted a moment ago."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return _ask(question, systems, toy=toy, repeat=repeat, workers=workers, folder=folder)


def _ask(question: Question, systems: Sequence[str], *, toy: bool, repeat: int, workers: int, folder: str) -> list[Row]:
    about = about_here() | {"workers": workers, "toy": toy}
    tallies = {name: Tally() for name in systems}
    for number in range(repeat):
        for name, tally in tallies.items():
            tally.runs += 1
            for part in question.parts:
                if tally.wants(part):
                    order = _order(question, name, part, toy=toy, workers=workers)
                    tally.add(part, run_alone(order, question.limit_s, tempfile.mkdtemp(dir=folder)))
            say(f"{question.name} {number + 1}/{repeat} {name}")
    return [_row(question, name, tally, about, toy=toy) for name, tally in tallies.items()]


def report(question: Question, rows: Sequence[Row]) -> str:
    """The rows side by side, then the errors, then the goals."""
    errors = [f"{row['system']}: {row['error']}" for row in rows if row["error"]]
    goals = [] if any(row["toy"] for row in rows) else verdicts(question, rows)
    pictures = [f"\n{aligned(lines)}" for lines in histograms(question, rows)]
    return "\n".join([aligned(cells(question, rows)), *errors, *goals, *pictures])


def main(question: Question, arguments: Sequence[str] | None = None) -> None:
    """`python -m benchmarks.<question>`. Ends with an error if a system gave a wrong answer."""
    options = _options(question, arguments)
    systems = options.systems or list(question.toy_systems if options.toy else question.systems)
    lacking = missing([find(question, name) for name in systems])
    for name, package in lacking.items():
        say(f"{name} is left out: there is no {package} here (pip install 'fnmap[peers]')")
    systems = [name for name in systems if name not in lacking]
    say(question.asks)
    rows = ask(question, systems, toy=options.toy, repeat=options.repeat, workers=options.workers)
    if options.results is not None:
        keep(rows, options.results)
    say(report(question, rows))
    wrong = [row["system"] for row in rows if row["error"].startswith("WrongAnswer")]
    if wrong:
        raise SystemExit(f"wrong answers of {', '.join(wrong)}")


def say(text: str) -> None:
    """The one place that writes to the terminal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _options(question: Question, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{question.name}", description=question.asks)
    parser.add_argument("--toy", action="store_true", help="small sizes and few systems, once, not kept")
    parser.add_argument("--systems", type=lambda text: text.split(","), help="a,b,c of " + ", ".join(question.systems))
    parser.add_argument("--repeat", type=int, help="runs of each system, of which the median counts")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="of each system")
    parser.add_argument("--results", type=Path, help=f"folder of the rows (default: {RESULTS.name})")
    options = parser.parse_args(arguments)
    options.repeat = options.repeat or (1 if options.toy else question.repeat)
    options.results = options.results or (None if options.toy else RESULTS)
    known = [*question.systems, *question.toy_systems]
    for name in options.systems or ():
        if name not in known:
            parser.error(f"no system {name!r}; there are {', '.join(dict.fromkeys(known))}")
    return options


def _order(question: Question, name: str, part: Part, *, toy: bool, workers: int) -> Mapping[str, Any]:
    """What the child is told to do."""
    params = {**(question.toy if toy else question.full), **part.params}
    if name in question.caps and not toy:
        params |= question.caps[name].params
    return {"module": f"benchmarks.{question.name}", "system": name, "workers": workers, "params": params}


def _row(question: Question, name: str, tally: Tally, about: Row, *, toy: bool) -> Row:
    capped = name in question.caps and not toy
    return {
        "question": question.name,
        "system": name,
        **about,
        "runs": tally.runs,
        "metrics": tally.metrics(),
        "spread": tally.spread(),
        "histograms": {key: told(workers) for key, workers in tally.workers.items()},
        "note": question.caps[name].note if capped else "",
        "error": (tally.error.splitlines() or [""])[0][:200],
    }


def _kind(error: str) -> str:
    return "wrong" if error.startswith("WrongAnswer") else "error"


def _median(figures: Sequence[Any]) -> Any:
    told = [figure for figure in figures if isinstance(figure, str)]
    if told:
        return told[-1]
    if any(isinstance(figure, int) for figure in figures):
        return min(figures)  # yes or no, and counts of what went right: the worst is what one can rely on
    return _rounded(statistics.median(figures))


def _rounded(figure: Any) -> Any:
    return float(f"{figure:.4g}") if isinstance(figure, float) else figure
