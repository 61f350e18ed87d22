"""What does a map of tasks that do nothing take, from a thousand to a million of them, workers warm?"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.peers import System
from benchmarks.processes import peak_bytes, tree_cpu_s
from benchmarks.question import Cap, Column, Goal, Metrics, Part, Question, check, timed

SEVERAL = 5  # a map of few tasks is over in milliseconds: the median of so many


def nothing(item: int) -> int:
    """The least that a task can do."""
    return item


def measure(system: System, sizes: Sequence[int]) -> Iterator[Metrics]:
    """Seconds for each size; CPU a task (client and workers) and the client's memory for the largest."""
    with system:
        mapped(system, 100)
        for size in sizes:
            cpu_s, wall_s = mapped(system, size)
            again = [mapped(system, size)[1] for _ in range(SEVERAL - 1)] if size <= 10_000 and wall_s < 1 else []
            yield {f"s_{size}": statistics.median([wall_s, *again])}
        yield {"cpu_us": cpu_s / size * 1e6, "client_mb": peak_bytes() / 1e6}


def mapped(system: System, size: int) -> tuple[float, float]:
    """CPU and wall seconds of one map."""
    items: list[Any] = list(range(size))
    before_s = tree_cpu_s(os.getpid())
    wall_s, results = timed(system.map, nothing, items)
    cpu_s = tree_cpu_s(os.getpid()) - before_s
    check(results == items, f"{size} no-ops did not give their items back")
    return cpu_s, wall_s


QUESTION = Question(
    name="noop_map",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("s_1000", "s_10000", "s_100000", "s_1000000", "cpu_us", "client_mb")),),
    columns=(
        Column("s_1000000", "1 M tasks"),
        Column("s_100000", "100 k"),
        Column("s_10000", "10 k"),
        Column("s_1000", "1 k"),
        Column("cpu_us", "CPU a task", "us"),
        Column("client_mb", "client", "MB"),
    ),
    systems=(
        "fnmap", "fnmap-durable", "mp", "cf", "cf-chunks", "joblib", "loky", "mpire", "dask", "dask-bag", "ray",
        "ray-pool", "lithops",
    ),
    toy_systems=("fnmap", "fnmap-durable", "mp", "cf-chunks"),
    full={"sizes": (1_000, 10_000, 100_000, 1_000_000)},
    toy={"sizes": (1_000, 10_000)},
    caps={
        "cf": Cap("measured at 10 k", {"sizes": (1_000, 10_000)}),
        "loky": Cap("measured at 10 k", {"sizes": (1_000, 10_000)}),
        "dask": Cap("measured at 10 k", {"sizes": (1_000, 10_000)}),
        "dask-bag": Cap("measured at 100 k", {"sizes": (1_000, 10_000, 100_000)}),
        "ray": Cap("measured at 10 k", {"sizes": (1_000, 10_000)}),
        "lithops": Cap("measured at 1 k", {"sizes": (1_000,)}),
    },
    goals=(
        Goal("1 M no-ops against mp.Pool.map", "fnmap", "s_1000000", 1.0, against="mp"),
        Goal("10 k no-ops", "fnmap", "s_10000", 0.020),
        Goal("1 M no-ops, durable", "fnmap-durable", "s_1000000", 2.0),
        Goal("CPU a no-op, client and workers", "fnmap", "cpu_us", 2.0),
        Goal("peak memory of the client against mp.Pool's", "fnmap", "client_mb", 2.0, against="mp"),
    ),
)  # fmt: skip

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
