"""Roll a portfolio up: ``python -m model.rollup --scale small --out rollup``, or your own: ``--book DIR``.

Simulates a synthetic portfolio on shared event sets, or takes one from files (`model.book_files`), prices every deal in
every view, retrocedes what deals leave, adds up by peril, region and line, and allocates the capital of the portfolio
back to the deals: a plan of `model.rollup_plan`, run by fnmap. What an earlier run has computed is found in the store.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fnmap
from model import rollup_report
from model.book import Book, book
from model.book_files import read_book, write_book
from model.command_line import Parser, at_least
from model.errors import ModelError
from model.rollup_plan import Options, Rollup, rollup


@dataclass(frozen=True)
class Scale:
    """How large a portfolio is; all have 100 000 years."""

    deals: int
    views: int
    event_sets: int
    task_s: float = 0.5


SCALES = {
    "small": Scale(deals=60, views=5, event_sets=12),
    "medium": Scale(deals=700, views=5, event_sets=24),
    "full": Scale(deals=7000, views=150, event_sets=150, task_s=300.0),
}
YEARS = 100_000
WORKERS = 5000  # of a full one
MEAN_S, SIGMA = 17.0, 1.5  # of a task of a real model: lognormal, from about 1 s to 45 min
KERNEL_S = 0.02  # of a task of this one, with what it reads and writes
LOSSES_MB, RESULT_MB = 0.6, 1.0  # of the losses of a loss set in one view, of what a deal pays in one


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="rollup", description="Roll a portfolio of reinsurance deals up.")
    parser.add_argument(
        "--book", type=Path, metavar="DIR", help="your deals and losses (docs/model.md), not synthetic ones"
    )
    parser.add_argument("--write-book", type=Path, metavar="DIR", help="write the deals and losses there, and end")
    parser.add_argument("--scale", choices=SCALES, default="small", help="full is planned and simulated only")
    parser.add_argument("--deals", type=at_least(1), help="inward deals (of the scale)")
    parser.add_argument("--views", type=at_least(1), help="samplings of the losses of each year (of the scale)")
    parser.add_argument("--years", type=at_least(1000), help=f"simulated years ({YEARS:,}, or those of the book)")
    parser.add_argument("--seed", type=at_least(0), default=1, help="of portfolio and simulation (%(default)s)")
    parser.add_argument("--change", type=at_least(0), default=0, metavar="N", help="renew N deals first")
    parser.add_argument("--errors", choices=("raise", "return"), default="raise", help="return: price the rest")
    parser.add_argument("--on", default="local", help="where to run: local, inline, ... (%(default)s)")
    parser.add_argument("--store", help="where results are kept, and found by the next run")
    parser.add_argument("--name", help="of the run, to attach to")
    parser.add_argument("--top", type=at_least(1), default=10, help="deals in the summary (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for Parquet files")
    return parser.parse_args(argv)


def asked(args: argparse.Namespace) -> Book:
    """The portfolio that the arguments ask for."""
    if args.book is not None:
        return read_book(args.book, years=args.years, errors=args.errors)
    scale = SCALES[args.scale]
    return book(args.deals or scale.deals, args.seed, event_sets=scale.event_sets)


def planned(args: argparse.Namespace, portfolio: Book) -> Rollup:
    """The rollup that the arguments ask for."""
    scale = SCALES[args.scale]
    years, views = portfolio.years or args.years or YEARS, args.views or portfolio.views or scale.views
    options = Options(years=years, views=views, seed=args.seed, task_s=scale.task_s)
    work = heavy(portfolio, options.seed) if args.scale == "full" else None
    return rollup(portfolio, options, errors=args.errors, work=work)


def heavy(portfolio: Book, seed: int) -> list[float]:
    """For each deal, how many times as long as this model's the tasks of a real one take (see MEAN_S)."""
    draws = np.random.default_rng(seed).lognormal(-(SIGMA**2) / 2, SIGMA, len(portfolio.deals))
    times = np.maximum(draws * MEAN_S, 1.0) / KERNEL_S
    return [1.0 if deal.covers else float(x) for deal, x in zip(portfolio.deals, times, strict=True)]


def foretold(made: Rollup) -> str:
    """What a full rollup would take on Lambda."""
    forecast = made.plan.explain(on="lambda", workers=WORKERS, seconds=made.seconds)
    deals, losses = len(made.seconds["deals"]), len(made.seconds["losses"])
    core_h = sum(made.seconds["deals"]) / 3600
    return (
        f"{forecast}\n\ndeals: {core_h:,.0f} core-hours, as heavy as those of real models ({MEAN_S:g} s a task in the"
        f" mean, lognormal); the kernels of this one take {deals * KERNEL_S / 3600:,.1f}\n"
        f"data: {losses * LOSSES_MB / 1e3:,.0f} GB of simulated losses in, {deals * RESULT_MB / 1e6:,.1f} TB of what"
        " deals pay out, as measured on the small portfolio\n"
    )


def run(made: Rollup, args: argparse.Namespace) -> Any:
    """Run the plan to its end; what is there already is not run again."""
    options = {"on": args.on, "store": args.store, "name": args.name}
    given = {key: value for key, value in options.items() if value is not None}
    errors = "raise" if args.errors == "raise" else "return"
    ended = made.plan.run(cache=args.store is not None, errors=errors, **given)
    ended.wait()
    if errors == "raise":
        ended.result()  # raises what went wrong first, not what fell with it
    return ended


def told(ended: Any, seconds: float) -> str:
    """Stage by stage: what ran, what was found, and how long it took."""
    rows = [("stage", "tasks", "found", "ran", "calls", "seconds in tasks")]
    stages: Mapping[str, Any] = ended.report()
    found = 0
    for name, stage in stages.items():
        over = stage["done"] + stage["failed"]
        # Without a call nothing ran: an earlier run of that name had these results.
        ran = over - stage["cached"] if stage["calls"] else stage["failed"]
        found += over - ran
        total, earlier, now = (f"{n:,}" for n in (stage["total"], over - ran, ran))
        rows.append((name, total, earlier, now, str(stage["calls"]), f"{stage['run_s']:.2f}"))
    text, tasks = rollup_report.aligned(rows), sum(stage["total"] for stage in stages.values())
    return f"{text}\n\n{found:,} of {tasks:,} tasks were found in the store; {seconds:.1f} s\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, or 1 after saying in one line what went wrong."""
    args = _arguments(argv)
    try:
        portfolio = asked(args).changed(args.change)
        if args.write_book:
            write_book(portfolio, args.write_book)
            sys.stdout.write(f"{len(portfolio.deals)} deals in {args.write_book}\n")
            return 0
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)  # now, lest all that is computed cannot be written
        start = time.perf_counter()
        made = planned(args, portfolio)
        sys.stdout.write(f"{made.plan}\nplanned in {time.perf_counter() - start:.1f} s\n\n")
        if args.scale == "full":
            sys.stdout.write(foretold(made))
            return 0
        start = time.perf_counter()
        ended = run(made, args)
        seconds = time.perf_counter() - start
        found = rollup_report.collected(made, ended)
        sys.stdout.write(rollup_report.summary(found, args.top) + "\n" + told(ended, seconds))
        if args.out:
            rollup_report.write(found, args.out)
            sys.stdout.write(f"tables in {args.out}\n")
    except (ModelError, OSError, fnmap.FnmapError) as error:
        sys.stderr.write(f"rollup: {error}\n")
        return 1
    return 0
