"""A worker is killed at item 100 of 200: what becomes of the other 199, is the item named, is there life after?"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.peers import System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check, timed

TASK_S = 0.002


def deadly(victim: int, item: int) -> int:
    """Two milliseconds of work; one item takes its worker with it, as running out of memory would."""
    end = time.thread_time() + TASK_S
    while time.thread_time() < end:
        pass
    if item == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def negative(item: int) -> int:
    """What is asked for afterwards."""
    return -item


def measure(system: System, tasks: int) -> Iterator[Metrics]:
    """Results of the others; whether the item alone is said to have failed; whether the next map is right."""
    victim = tasks // 2
    with system:
        system.map(abs, range(2 * system.workers))
        seconds, outcomes = timed(tried, system.map_each, partial(deadly, victim), range(tasks))
        failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
        check(all(outcomes[i] == i * i for i in range(tasks) if i not in failed), "a result is not that of its item")
        yield {"returned": tasks - len(failed), "named": failed == [victim], "wall_s": seconds}
        after = tried(system.map, negative, range(tasks))
        yield {"usable": "foreign results" if strange(after) else after == [-i for i in range(tasks)]}


def tried(map_: Callable[..., list[Any]], fn: Callable[[int], int], items: range) -> list[Any]:
    """What a map gives; its exception for each item if it gives nothing else."""
    try:
        return list(map_(fn, items))
    except Exception as error:  # whatever a system says of a dead worker
        return [error] * len(items)


def strange(results: list[Any]) -> bool:
    """Are there results of the map before?"""
    return any(not isinstance(result, BaseException) and result > 0 for result in results)


QUESTION = Question(
    name="killed_worker",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("returned", "named", "usable", "wall_s")),),
    columns=(
        Column("returned", "results of the others", "count"),
        Column("named", "item is named", "yes"),
        Column("usable", "usable after", "yes"),
        Column("wall_s", "wall"),
    ),
    systems=("fnmap", "fnmap-durable", "mp", "cf", "loky", "joblib", "mpire", "dask", "ray", "lithops"),
    toy_systems=("fnmap", "cf"),
    full={"tasks": 200},
    toy={"tasks": 40},
    goals=(
        Goal("results of the others", "fnmap", "returned", 199, at_least=True),
        Goal("the item is named", "fnmap", "named", 1, at_least=True),
        Goal("usable afterwards", "fnmap", "usable", 1, at_least=True),
    ),
    reference="fnmap",
    limit_s=30.0,
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
