"""Thousands of calls from one process: they come back, and leave nothing behind in it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import fnmap
from fnmap.compute.aws_lambda import LambdaCompute
from fnmap.format.call import Call

PATIENCE_S = 60


def square(x):
    return x * x


def resident_mb() -> float:
    gc.collect()
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def test_ten_thousand_tasks(make_aws):
    make_aws(concurrency=3000, ramp=100_000)
    with fnmap.use(on="lambda"):
        assert sum(fnmap.map(square, range(10_000))) == 333283335000


def test_a_burst_of_two_thousand_calls(make_aws):
    aws = make_aws(concurrency=3000, ramp=100_000)
    with fnmap.use(on="lambda"):
        assert sum(fnmap.map(square, range(2000), chunksize=1, idempotent=False)) == 2664667000
    assert aws.service.counts["invocations"] >= 2000


def test_memory_does_not_grow_with_the_number_of_calls(make_aws):
    aws = make_aws(concurrency=100, ramp=100_000)
    with fnmap.Session(on=LambdaCompute(workers=50)) as session:
        many = range(1000)

        def burst() -> None:
            assert len(list(session.map(square, iter(many), chunksize=1, idempotent=False))) == len(many)

        burst()
        before = resident_mb()
        for _ in range(3):
            burst()
        assert resident_mb() - before < 15
        wire = session.compute.wire

        async def rest() -> None:  # the last answers are told before their requests are put away
            if left := list(wire._tasks.values()):
                await asyncio.wait(left)

        asyncio.run_coroutine_threadsafe(rest(), wire._loop).result(10)
        assert (wire.busy, len(wire._tasks)) == (0, 0)
    assert aws.service.counts["invocations"] >= 4 * len(many)


def test_calls_jobs_and_futures_are_freed(make_aws):
    make_aws()
    seen = weakref.WeakSet()
    with fnmap.Session(on=LambdaCompute(workers=4)) as session:
        submit = session.compute.submit

        def watched(call: Call):
            seen.add(call.job)
            future = submit(call)
            seen.add(future)
            return future

        session.compute.submit = watched
        for n in range(30):
            list(session.map(lambda x, n=n: x + n, range(3)))
        gc.collect()
        assert len(seen) < 5


def test_nothing_is_left_of_a_closed_session(make_aws):
    make_aws()
    before = set(threading.enumerate())
    for mode in ("direct", "detached"):
        with fnmap.Session(on=LambdaCompute(workers=2, mode=mode)) as session:
            assert list(session.map(square, range(4), name=f"left-{mode}")) == [0, 1, 4, 9]
    left = {t.name for t in set(threading.enumerate()) - before}
    assert not [name for name in left if name.startswith("fnmap-lambda") and "_" not in name]
