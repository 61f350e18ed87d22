"""A run in a running event loop."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from gates import say_at, wait_at

import fnmap


def test_awaiting_a_run_gives_its_results(session):
    async def main():
        return await session.map(abs, [-1, -2])

    assert asyncio.run(main()) == [1, 2]


def test_async_for_gives_the_results_in_order(session):
    async def main():
        return [x async for x in session.map(abs, range(100))]

    assert asyncio.run(main()) == list(range(100))


def test_the_loop_goes_on_while_a_run_is_awaited(local, gate):
    pipe = gate.path

    async def main():
        run = local.map(lambda x: (wait_at(pipe), x)[1], [7])
        waiting = asyncio.ensure_future(_result(run))
        await asyncio.sleep(0)  # the loop turns, and so the task is not done by the loop's standing still
        gate.open()
        return await waiting

    assert asyncio.run(main()) == [7]


async def _result(run):
    return await run


def test_a_failure_is_raised_out_of_await_and_async_for(session):
    async def waiting():
        await session.map(lambda x: 1 / x, [1, 0])

    async def iterating():
        return [x async for x in session.map(lambda x: 1 / x, [1, 0])]

    for main in (waiting, iterating):
        with pytest.raises(ZeroDivisionError):
            asyncio.run(main())


@pytest.mark.parametrize("errors", ["return", "skip"])
def test_async_for_treats_failures_as_for_does(session, errors):
    run = session.map(lambda x: 1 / x, [1, 0, 2], errors=errors)

    async def main():
        return [x async for x in run]

    assert asyncio.run(main()) == list(run)


def test_an_infinite_stream_can_be_left_in_the_middle(session):
    async def main():
        run = session.map(abs, itertools.count())
        taken = []
        async for x in run:
            taken.append(x)
            if x == 99:
                break
        run.cancel()
        return taken

    assert asyncio.run(main()) == list(range(100))


def test_cancelling_the_await_cancels_the_run(local, begun, gate):
    here, pipe = begun.path, gate.path

    async def main():
        run = local.map(lambda _: (say_at(here), wait_at(pipe)), [1])
        task = asyncio.ensure_future(_result(run))
        await asyncio.to_thread(begun.heard)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return run

    run = asyncio.run(main())
    assert run.wait()
    assert run.status.state == "cancelled"


def test_many_runs_are_gathered(local):
    async def main():
        return await asyncio.gather(*(_result(local.map(abs, range(20))) for _ in range(8)))

    assert asyncio.run(main()) == [list(range(20))] * 8


def test_a_submitted_call_can_be_wrapped(local):
    async def main():
        return await asyncio.wrap_future(local.submit(abs, -3))

    assert asyncio.run(main()) == 3


def test_the_default_session_works_in_a_loop_too():
    async def main():
        with fnmap.use(on="inline"):
            return await fnmap.map(abs, [-4])

    assert asyncio.run(main()) == [4]
