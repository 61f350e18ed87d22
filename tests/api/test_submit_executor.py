"""submit and Executor: the standard futures."""

from __future__ import annotations

import concurrent.futures as futures
import threading

import pytest
from gates import say_at, wait_at

import fnmap


def test_submit_gives_a_standard_future(session):
    future = session.submit(pow, 2, 5)
    assert isinstance(future, futures.Future)
    assert future.result() == 32


def test_submit_passes_keywords_of_any_name(session):
    assert session.submit(dict, fn=1, timeout=2, session=3).result() == {"fn": 1, "timeout": 2, "session": 3}


def test_a_failed_call_raises_its_own_exception(session):
    future = session.submit(lambda: 1 / 0)
    assert isinstance(future.exception(), ZeroDivisionError)
    assert "fnmap: task 0" in "\n".join(future.exception().__notes__)


def test_futures_work_with_wait_as_completed_and_callbacks(local):
    called = threading.Event()
    calls = [local.submit(abs, -x) for x in range(20)]
    calls[0].add_done_callback(lambda _: called.set())
    assert sorted(f.result() for f in futures.as_completed(calls)) == list(range(20))
    assert called.wait(5)


def test_a_call_that_waits_can_be_cancelled_and_one_that_runs_cannot(gate, begun):
    pipe, here = gate.path, begun.path
    with fnmap.Session(workers=1) as session:
        first = session.submit(lambda: (say_at(here), wait_at(pipe)))
        begun.heard()
        second = session.submit(abs, 1)
        assert second.cancel()
        assert not first.cancel()
        gate.open()
    assert second.cancelled()
    assert first.done()


def test_a_call_that_runs_says_so(local, gate, begun):
    pipe, here = gate.path, begun.path
    future = local.submit(lambda: (say_at(here), wait_at(pipe)))
    begun.heard()
    assert future.running()
    gate.open()
    assert future.result() == (None, None)


def test_a_result_that_is_not_there_in_time_raises_timeout_error(local, gate):
    pipe = gate.path
    future = local.submit(wait_at, pipe)
    with pytest.raises(TimeoutError):
        future.result(0.01)
    gate.open()
    assert future.result() is None


def test_a_worker_that_dies_every_time_is_told_by_the_future(local):
    import os

    with pytest.raises(fnmap.errors.TaskPoisoned):
        local.submit(os._exit, 3).result()


@pytest.mark.parametrize("on", ["local", "inline"])
def test_the_executor_is_a_standard_executor(on):
    with fnmap.Executor(on=on) as executor:
        assert isinstance(executor, futures.Executor)
        assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]
        future = executor.submit(abs, -1)
    assert future.result() == 1


def test_after_shutdown_the_executor_takes_no_calls():
    executor = fnmap.Executor(on="inline")
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_leaving_the_executor_waits_for_its_calls(gate):
    pipe = gate.path
    with fnmap.Executor(workers=1) as executor:
        calls = [executor.submit(wait_at, pipe) for _ in range(3)]
        gate.open(3)
    assert [f.result(0) for f in calls] == [None] * 3


def test_shutdown_without_waiting_still_lets_the_calls_end(gate):
    pipe = gate.path
    executor = fnmap.Executor(workers=1)
    future = executor.submit(wait_at, pipe)
    executor.shutdown(wait=False)
    gate.open()
    assert future.result(10) is None


def test_shutdown_can_withdraw_what_has_not_begun(gate, begun):
    pipe, here = gate.path, begun.path
    executor = fnmap.Executor(workers=1)
    first = executor.submit(lambda: (say_at(here), wait_at(pipe)))
    begun.heard()
    second = executor.submit(abs, 1)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown()
    assert second.cancelled()
    assert first.done()
