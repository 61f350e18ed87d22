"""How much longer than its own kernels does a rollup of a portfolio take, and are the cores busy with it?"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from benchmarks.peers import System
from benchmarks.processes import tree_cpu_s
from benchmarks.question import Column, Goal, Metrics, Part, Question, check, timed


class Rollup(System):
    """The plan of `model.rollup` on local workers."""

    name = "fnmap"

    def reports(self, run: Any) -> list[Any]:
        """What came of the deals, in their order."""
        return list(run["reports"])


class Counted:
    """The CPU seconds that calls of functions take in this process."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(fn)
        def counted(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            try:
                return fn(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - begin

        return counted


def measure(system: Rollup, deals: int, views: int, years: int, rounds: int) -> Iterator[Metrics]:
    """Seconds of the plan and of its functions alone, counted in this process, where the same plan runs right before
    it: the machine may be slower a minute later. The medians of some rounds of both.

    `kernels_s` is CPU inside the functions, whose arguments lie in this process's own memory; `with_files_s` that of
    the whole, with the results that tasks hand each other written and read as Parquet, as named runs keep them.
    """
    from model.book import book
    from model.rollup_plan import Options, rollup

    made = rollup(book(deals), Options(years=years, views=views))
    each = [_one_round(system, made.plan) for _ in range(rounds)]
    yield {key: statistics.median(one[key] for one in each) for key in each[0]} | {"tasks": len(made.plan)}


def _one_round(system: Rollup, plan: Any) -> dict[str, float]:
    import fnmap
    from fnmap.storage.memory import MemoryStore

    count, plain = Counted(), [stage.fn for stage in plan.stages]
    for stage in plan.stages:
        stage.fn = count(stage.fn)
    begin = time.process_time()
    with fnmap.Session(on="inline", store=MemoryStore(), progress=False) as session:
        there = list(session.run_plan(plan, name="kernels")["reports"])
    with_files_s = time.process_time() - begin
    for stage, fn in zip(plan.stages, plain, strict=True):
        stage.fn = fn
    with fnmap.Session(workers=system.workers, progress=False) as session:
        session.map(abs, range(100)).wait()
        before_s = tree_cpu_s(os.getpid())
        wall_s, run = timed(lambda: _ended(session.run_plan(plan)))
        cpu_s = tree_cpu_s(os.getpid()) - before_s
        in_calls_s = sum(told[key] for told in run.report().values() for key in ("fetch_s", "run_s", "commit_s"))
        here = system.reports(run)
    check([r.price.el for r in here] == [r.price.el for r in there], "deals have other prices")
    check(sum(r.allocation.co_tvar for r in here) > 0, "there is no capital")
    return {
        "wall_s": wall_s,
        "by_files": wall_s * system.workers / with_files_s,
        "by_kernels": wall_s * system.workers / count.seconds,
        "busy": in_calls_s / (system.workers * wall_s),
        "cpu_s": cpu_s,
        "kernels_s": count.seconds,
    }


def _ended(run: Any) -> Any:
    run.wait()
    return run


QUESTION = Question(
    name="rollup",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("wall_s", "by_files", "by_kernels", "busy", "cpu_s", "kernels_s", "tasks"), once=True),),
    columns=(
        Column("wall_s", "the portfolio"),
        Column("by_kernels", "against CPU in the functions / cores", "x"),
        Column("by_files", "with the Parquet between them", "x"),
        Column("busy", "workers in calls", "share"),
        Column("cpu_s", "CPU of all processes"),
        Column("kernels_s", "CPU in the functions"),
        Column("tasks", "tasks", "count"),
    ),
    systems=("fnmap",),
    toy_systems=("fnmap",),
    full={"deals": 60, "views": 5, "years": 100_000, "rounds": 3},
    toy={"deals": 4, "views": 1, "years": 500, "rounds": 1},
    goals=(
        Goal("against the functions' own CPU on all cores", "fnmap", "by_kernels", 1.15),
        Goal("workers in calls between the first and the last task", "fnmap", "busy", 0.90, at_least=True),
    ),
    own=(Rollup,),
    reference="fnmap",
    limit_s=300.0,
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
