"""How near does `plan.explain()` come to what the plan then takes on this machine?"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from benchmarks.peers import System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check, timed


class Forecast(System):
    """A plan whose tasks sleep for as long as they say they will."""

    name = "fnmap"
    by_cost: ClassVar[bool] = True


class Unaided(Forecast):
    name, by_cost = "fnmap-unaided", False


def work(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def rest(_: Any, *, seconds: float) -> float:
    return work(seconds)


def total(values: list[float]) -> float:
    return work(0.02) + sum(values)


def measure(system: Forecast, tasks: int, longest_s: float) -> Iterator[Metrics]:
    """Seconds that were foretold, that it took, and the error of the first as a share of the second."""
    import fnmap

    dice = random.Random(1)
    takes = [dice.uniform(longest_s / 10, longest_s) for _ in range(tasks)]
    with fnmap.plan("forecast") as plan:
        first = plan.map(work, takes, cost=takes if system.by_cost else None)
        second = plan.map(
            rest, first, kwargs={"seconds": longest_s / 5}, cost=longest_s / 5 if system.by_cost else None
        )
        plan.reduce(total, second, fan_in=16, cost=0.02 if system.by_cost else None)
    seconds = {"work": takes, "rest": longest_s / 5} | {s.name: 0.02 for s in plan.stages if s.name.startswith("total")}
    foretold = plan.explain(on="local", workers=system.workers, seconds=seconds)
    with fnmap.Session(workers=system.workers) as session:
        session.map(abs, range(100)).wait()
        took_s, run = timed(lambda: session.run_plan(plan).result())
    check(run > 0, "the plan has no result")
    off = abs(foretold.makespan_s - took_s) / took_s
    yield {"foretold_s": foretold.makespan_s, "took_s": took_s, "off": off}


QUESTION = Question(
    name="forecast",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("foretold_s", "took_s", "off")),),
    columns=(Column("foretold_s", "foretold"), Column("took_s", "took"), Column("off", "off by", "share")),
    systems=("fnmap", "fnmap-unaided"),
    toy_systems=("fnmap", "fnmap-unaided"),
    full={"tasks": 200, "longest_s": 0.1},
    toy={"tasks": 10, "longest_s": 0.02},
    goals=(
        Goal("the forecast is off by, with costs", "fnmap", "off", 0.15),
        Goal("the forecast is off by, without", "fnmap-unaided", "off", 0.15),
    ),
    own=(Forecast, Unaided),
    reference="fnmap",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
