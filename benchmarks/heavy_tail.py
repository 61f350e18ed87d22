"""How near to the shortest possible time does a map come, when a few tasks take long and come last?"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.peers import System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check, timed

TASKS = 200
SHAPE = 1.2  # of the Pareto distribution: the longest of 200 takes a sixth of the time of all


def doze(seconds: float) -> float:
    """A task of known length that leaves the cores alone."""
    time.sleep(seconds)
    return seconds


def unlucky(total_s: float, tasks: int = TASKS) -> list[float]:
    """Lengths at the quantiles of a Pareto distribution, the longest last."""
    raw = [(1 - (i + 0.5) / tasks) ** (-1 / SHAPE) for i in range(tasks)]
    return [total_s * length / sum(raw) for length in raw]


def measure(system: System, total_s: float, every: int = 1) -> Iterator[Metrics]:
    """The share that the bound on any schedule, max(total / workers, longest), has in the time it took."""
    items = unlucky(total_s, TASKS // every)
    with system:
        system.map(doze, [0.001] * 2 * system.workers)
        wall_s, results = timed(system.map, doze, items)
    check(results == items, "the tasks did not give their lengths back")
    yield {"share": max(sum(items) / system.workers, items[-1]) / wall_s, "wall_s": wall_s}


QUESTION = Question(
    name="heavy_tail",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("share", "wall_s")),),
    columns=(Column("share", "share of the bound", "share"), Column("wall_s", "wall")),
    systems=(
        "fnmap", "fnmap-cost", "mp", "mp-1", "cf", "cf-chunks", "loky", "joblib", "mpire", "dask", "ray", "lithops",
    ),
    toy_systems=("fnmap", "fnmap-cost", "mp-1"),
    full={"total_s": 6.0},
    toy={"total_s": 0.3, "every": 4},
    goals=(
        Goal("heavy tail, unaided", "fnmap", "share", 0.84, at_least=True),
        Goal("heavy tail, told the costs", "fnmap-cost", "share", 0.97, at_least=True),
    ),
)  # fmt: skip

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
