"""What does one warm call take on AWS Lambda, against an invocation of a function that does nothing?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import lambda_map
from benchmarks.aws import spent
from benchmarks.lambda_map import OnLambda, nothing
from benchmarks.peers import Fn, System
from benchmarks.question import Cap, Column, Goal, Metrics, Part, Question, check, timed


class Fnmap(lambda_map.Fnmap):
    """`submit`, through the whole path."""

    def call(self, fn: Fn, item: Any) -> Any:
        return self.session.submit(fn, item).result()


class Lithops(lambda_map.Lithops):
    """A map of one item."""

    def call(self, fn: Fn, item: Any) -> Any:
        return self.map(fn, [item])[0]


class Boto3(OnLambda):
    """The bare invocation. It takes no function along: what is asked for is computed here."""

    name, module = "boto3", "boto3"

    def connect(self) -> None:
        self.invoke = self.aws.client("lambda").invoke

    def call(self, fn: Fn, item: Any) -> Any:
        self.invoke(FunctionName="empty")["Payload"].read()
        return fn(item)


def measure(system: System, calls: int) -> Iterator[Metrics]:
    """Percentiles of the milliseconds of calls one after the other, each followed by a bare invocation from the same
    process; CPU of both here and there; and how often S3 was asked."""
    with system:
        for item in range(5):
            check(system.call(nothing, item) == item, "a call did not give its item back")
        if isinstance(system, OnLambda):
            yield from _beside_bare(system, calls)


def _beside_bare(system: OnLambda, calls: int) -> Iterator[Metrics]:
    bare = Boto3(system.workers)
    bare.aws = system.aws
    bare.connect()
    mine, its = _Taken(), _Taken()
    its.take(bare, 0)
    before = system.aws.counts()
    for item in range(calls):
        mine.take(system, item)
        its.take(bare, item)
    used, by_two = spent(before, system.aws.counts()), 2 if isinstance(system, Boto3) else 1
    bare_ms = used["cpu_s_empty"] / calls / by_two * 1e3
    worker_ms = bare_ms if isinstance(system, Boto3) else (used["cpu_s"] - used["cpu_s_empty"]) / calls * 1e3
    p50 = statistics.median(mine.ms)
    yield {"p50_ms": p50, "p99_ms": statistics.quantiles(mine.ms, n=100, method="inclusive")[98]}
    yield {"by_bare": p50 / statistics.median(its.ms[1:]), "client_ms": mine.cpu_s / calls * 1e3}
    yield {"worker_ms": worker_ms, "worker_more_ms": worker_ms - bare_ms, "s3_call": used["s3"] / calls}


class _Taken:
    """What the calls of one kind have taken so far."""

    def __init__(self) -> None:
        self.ms, self.cpu_s = list[float](), 0.0

    def take(self, system: System, item: int) -> None:
        begun = time.process_time()
        seconds, found = timed(system.call, nothing, item)
        self.cpu_s += time.process_time() - begun
        self.ms.append(seconds * 1e3)
        check(found == item, "a call did not give its item back")


QUESTION = Question(
    name="lambda_call",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("p50_ms", "p99_ms", "by_bare", "client_ms", "worker_ms", "worker_more_ms", "s3_call")),),
    columns=(
        Column("p50_ms", "p50", "ms"),
        Column("p99_ms", "p99", "ms"),
        Column("by_bare", "p50 / bare invocations in between", "x"),
        Column("worker_ms", "CPU of the worker", "ms"),
        Column("worker_more_ms", "less the bare one's", "ms"),
        Column("client_ms", "of the client", "ms"),
        Column("s3_call", "S3 requests", "share"),
    ),
    systems=("fnmap", "boto3", "lithops"),
    toy_systems=("fnmap", "boto3"),
    full={"calls": 200},
    toy={"calls": 10},
    caps={"lithops": Cap("10 calls", {"calls": 10})},
    goals=(
        Goal("a warm call against bare invocations in between", "fnmap", "by_bare", 3.0),
        Goal("CPU of the worker for a warm call", "fnmap", "worker_ms", 5.0),
        Goal("S3 requests of a warm call", "fnmap", "s3_call", 0.0),
    ),
    own=(Fnmap, Boto3, Lithops),
    reference="boto3",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
