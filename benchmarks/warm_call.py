"""How long is one call under way, 10 KB in and 10 KB out, when the workers are warm?"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator

from benchmarks.peers import System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check, timed


def turned(data: bytes) -> bytes:
    """As many bytes out as in, and not the same ones."""
    return data[::-1]


def measure(system: System, calls: int, at_most_s: float, payload_bytes: int = 10_000) -> Iterator[Metrics]:
    """Percentiles of the milliseconds of calls, one after the other; of fewer if they take too long."""
    with system:
        for _ in range(10):
            call_ms(system, payload_bytes)
        taken: list[float] = []
        end = time.perf_counter() + at_most_s
        while len(taken) < calls and time.perf_counter() < end:
            taken.append(call_ms(system, payload_bytes))
    p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100, method="inclusive")[98]
    yield {"p50_ms": p50, "p99_ms": p99, "p99_by_p50": p99 / p50, "calls": len(taken)}


def call_ms(system: System, payload_bytes: int) -> float:
    """The milliseconds of one call with bytes that were never seen before."""
    data = os.urandom(payload_bytes)
    seconds, result = timed(system.call, turned, data)
    check(result == data[::-1], "a call did not turn its bytes round")
    return seconds * 1000


QUESTION = Question(
    name="warm_call",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("p50_ms", "p99_ms", "p99_by_p50", "calls")),),
    columns=(
        Column("p50_ms", "p50", "ms"),
        Column("p99_ms", "p99", "ms"),
        Column("p99_by_p50", "p99 / p50", "x"),
        Column("calls", "calls", "count"),
    ),
    systems=("fnmap", "fnmap-durable", "mp", "cf", "loky", "joblib", "mpire", "dask", "ray", "lithops"),
    toy_systems=("fnmap", "fnmap-durable", "mp", "cf"),
    full={"calls": 1000, "at_most_s": 15.0},
    toy={"calls": 50, "at_most_s": 1.0},
    goals=(
        Goal("a warm call against ProcessPoolExecutor", "fnmap", "p50_ms", 1.0, against="cf"),
        Goal("the slowest in a hundred calls against the median", "fnmap", "p99_by_p50", 5.0),
        Goal("a warm durable call", "fnmap-durable", "p50_ms", 1.0),
    ),
    reference="cf",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
