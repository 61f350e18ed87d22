"""What share of all cores runs the user's code, when tasks take 1, 10 or 100 ms of CPU?"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.peers import System
from benchmarks.question import Cap, Column, Goal, Metrics, Part, Question, check, timed


def spin(item: tuple[int, float]) -> tuple[int, float]:
    """Use so many seconds of CPU, and say how many they were in the end."""
    number, seconds = item
    begin = time.thread_time()
    while (used := time.thread_time() - begin) < seconds:
        sum(range(500))  # some microseconds of work for each look at the clock
    return number, used


def measure(system: System, task_ms: int, core_s: float, most_tasks: int | None = None) -> Iterator[Metrics]:
    """The share: seconds in tasks over seconds of cores. As many tasks as keep each core busy for `core_s`."""
    tasks = round(core_s * system.workers * 1000 / task_ms)
    items = [(number, task_ms / 1000) for number in range(min(tasks, most_tasks or tasks))]
    with system:
        system.map(spin, [(number, 0.001) for number in range(2 * system.workers)])
        wall_s, results = timed(system.map, spin, items)
    check([number for number, _ in results] == [number for number, _ in items], "results out of order")
    check(min(used for _, used in results) >= task_ms / 1000, f"not every task ran for {task_ms} ms")
    yield {f"share_{task_ms}ms": sum(used for _, used in results) / (system.workers * wall_s)}


QUESTION = Question(
    name="busy_cores",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(
        Part(("share_1ms",), {"task_ms": 1}),
        Part(("share_10ms",), {"task_ms": 10}),
        Part(("share_100ms",), {"task_ms": 100}),
    ),
    columns=(
        Column("share_1ms", "1 ms tasks", "share"),
        Column("share_10ms", "10 ms", "share"),
        Column("share_100ms", "100 ms", "share"),
    ),
    systems=("fnmap", "mp", "mp-1", "cf", "cf-chunks", "loky", "joblib", "mpire", "dask", "ray", "lithops"),
    toy_systems=("fnmap", "mp"),
    full={"core_s": 3.0},
    toy={"core_s": 0.1},
    caps={"lithops": Cap("measured at 100 tasks", {"most_tasks": 100})},
    goals=(
        Goal("cores busy with 1 ms tasks", "fnmap", "share_1ms", 0.95, at_least=True),
        Goal("cores busy with 10 ms tasks", "fnmap", "share_10ms", 0.97, at_least=True),
        Goal("cores busy with 100 ms tasks", "fnmap", "share_100ms", 0.98, at_least=True),
    ),
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
