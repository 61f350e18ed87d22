"""What does it cost when 200 tasks use one array of 200 MB, in the closure or as an argument of all items?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.peers import System
from benchmarks.processes import watching_pss
from benchmarks.question import Column, Goal, Metrics, Part, Question, check, timed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Way = Literal["closure", "argument"]


def total(array: Array, task: int, tasks: int) -> float:
    """The sum of the task's share of the array."""
    size = len(array) // tasks
    return float(array[task * size : (task + 1) * size].sum())


def total_of(item: tuple[Array, int, int]) -> float:
    """As `total`, of a tuple of its arguments."""
    return total(*item)


def _swapped(array: Array, tasks: int, task: int) -> float:
    return total(array, task, tasks)


def work(way: Way, array: Array, tasks: int, *, closures: bool) -> tuple[Callable[[Any], float], list[Any]]:
    """The function and the items. Where closures do not travel, a partial stands for one."""
    if way == "argument":
        return total_of, [(array, task, tasks) for task in range(tasks)]
    if not closures:
        return partial(_swapped, array, tasks), list(range(tasks))
    return lambda task: total(array, task, tasks), list(range(tasks))


def measure(
    system: System, way: Way, megabytes: int = 200, tasks: int = 200, *, memory: bool = False
) -> Iterator[Metrics]:
    """Seconds, or with `memory` the peak of the memory of client and workers in MB."""
    import numpy as np

    array = system.prepared(np.arange(megabytes * 1_000_000 // 8, dtype=np.float64))
    fn, items = work(way, array, tasks, closures=system.closures)
    with system:
        system.map(*work(way, array[:tasks], 2 * system.workers, closures=system.closures))
        if memory:
            with watching_pss() as peak:
                results = system.map(fn, items)
            figure = {f"{way}_mb": peak[0] / 1e6}
        else:
            seconds, results = timed(system.map, fn, items)
            figure = {f"{way}_s": seconds}
    check(results == [total(array, task, tasks) for task in range(tasks)], "wrong sums of the shared array")
    yield figure


QUESTION = Question(
    name="shared_array",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(
        Part(("closure_s",), {"way": "closure"}),
        Part(("argument_s",), {"way": "argument"}),
        Part(("closure_mb",), {"way": "closure", "memory": True}, once=True, needs="closure_s"),
        Part(("argument_mb",), {"way": "argument", "memory": True}, once=True, needs="argument_s"),
    ),
    columns=(
        Column("closure_s", "in the closure"),
        Column("closure_mb", "all processes (one copy: 200 MB)", "MB"),
        Column("argument_s", "as an argument"),
        Column("argument_mb", "all processes (one copy: 200 MB)", "MB"),
    ),
    systems=("fnmap", "fnmap-share", "mp", "cf", "cf-chunks", "loky", "joblib", "mpire", "dask", "ray", "lithops"),
    toy_systems=("fnmap", "fnmap-share", "mp"),
    full={"megabytes": 200, "tasks": 200},
    toy={"megabytes": 4, "tasks": 20},
    goals=(
        Goal("200 tasks over an array in the closure", "fnmap", "closure_s", 0.3),
        Goal("memory of all processes, shared beforehand", "fnmap-share", "closure_mb", 260.0),
    ),
    reference="joblib",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
