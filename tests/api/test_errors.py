"""What becomes of failures: raise, return, skip, tolerate; and what they tell."""

from __future__ import annotations

import logging
import threading

import pytest
from gates import wait_at

import fnmap
from fnmap.errors import ResultLost, TaskError, TaskTimeout


class OwnError(Exception):
    pass


def inverse(x):
    return 1 / x


def test_the_first_failure_is_raised_as_its_own_type(session):
    with pytest.raises(ZeroDivisionError):
        list(session.map(inverse, [1, 0, 2]))


def test_results_before_the_failure_are_given_first(session):
    run = session.map(inverse, [1, 2, 0], chunksize=3)
    results = iter(run)
    assert [next(results), next(results)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_exception_class_of_the_user_is_caught_as_itself(session):
    def fail(x):
        raise OwnError("mine", x)

    with pytest.raises(OwnError) as caught:
        list(session.map(fail, [5]))
    assert caught.value.args == ("mine", 5)


def test_the_exception_says_which_item_it_was(session):
    with pytest.raises(ZeroDivisionError) as caught:
        list(session.map(lambda x: 1 / x["n"], [{"n": 1}, {"n": 0}]))
    note = "\n".join(caught.value.__notes__)
    assert "task 1 of" in note
    assert "{'n': 0}" in note
    assert "tried once" in note


def test_the_exception_has_the_traceback_and_the_last_words_of_the_worker(session):
    def fail(x):
        print("whole line")
        logging.getLogger("fail").error("logged")
        print("and half a line", end="")
        return inverse(x)

    with pytest.raises(ZeroDivisionError) as caught:
        list(session.map(fail, [0]))
    note = "\n".join(caught.value.__notes__)
    assert "in inverse" in note
    assert "whole line" in note
    assert "ERROR:fail:logged" in note
    assert "and half a line" in note


def test_returned_failures_stand_in_their_places(session):
    good, bad, last = session.map(inverse, [1, 0, 2], errors="return")
    assert (good, last) == (1.0, 0.5)
    assert isinstance(bad, TaskError)
    assert isinstance(bad.exception, ZeroDivisionError)
    assert (bad.index, bad.item, bad.attempts) == (1, "0", 1)


def test_the_log_and_traceback_are_in_the_returned_error(session):
    def fail(x):
        print("hello")
        return inverse(x)

    (error,) = session.map(fail, [0], errors="return")
    assert error.log == "hello\n"
    assert "ZeroDivisionError" in error.traceback


def test_skipped_failures_leave_no_trace_in_the_results_but_in_errors(session):
    run = session.map(inverse, [1, 0, 2], errors="skip")
    assert list(run) == [1.0, 0.5]
    assert list(run.errors) == [1]
    assert (run.status.done, run.status.failed, len(run)) == (2, 1, 3)


def test_a_tolerated_share_of_failures_is_returned(session):
    run = session.map(inverse, [1, 0, 2, 4], errors=fnmap.Tolerate(0.25))
    assert [type(x) for x in run] == [float, TaskError, float, float]
    assert run.status.state == "done"


def test_more_than_the_tolerated_share_is_raised(session):
    run = session.map(inverse, [0, 0, 2, 4], errors=fnmap.Tolerate(0.25), chunksize=4)
    with pytest.raises(ZeroDivisionError):
        list(run)
    assert run.status.state == "failed"


def test_a_failure_spoils_none_of_its_mates(session):
    run = session.map(inverse, [1, 2, 0, 4], chunksize=4, errors="return")
    assert [x for x in run if isinstance(x, float)] == [1.0, 0.5, 0.25]


def test_after_a_failure_nothing_new_starts_and_each_task_is_accounted_for(local, tmp_path):
    def fail_first(x):
        (tmp_path / str(x)).touch()
        return inverse(x)

    run = local.map(fail_first, range(1000), chunksize=1)
    with pytest.raises(ZeroDivisionError):
        list(run)
    run.wait()
    s = run.status
    assert (s.state, s.failed, s.running, s.done + s.failed + s.waiting) == ("failed", 1, 0, 1000)
    assert len(list(tmp_path.iterdir())) < 1000


def test_a_failure_is_raised_while_others_still_run(local, gate):
    pipe = gate.path
    run = local.map(lambda x: wait_at(pipe) if x else inverse(x), [0, 1], chunksize=1)
    with pytest.raises(ZeroDivisionError):
        list(run)
    assert run.status.running == 1
    gate.open()
    assert run.wait()


def test_an_exception_that_cannot_be_pickled_is_told_in_words(local):
    def fail(x):
        raise OwnError("locked", threading.Lock())

    with pytest.raises(ResultLost, match="locked"):
        list(local.map(fail, [1]))


def test_a_result_that_cannot_be_pickled_is_the_failure_of_its_task_alone(local):
    results = list(local.map(lambda x: threading.Lock() if x == 1 else x, range(3), errors="return", chunksize=3))
    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1], ResultLost)
    assert "lock" in str(results[1])


def test_a_result_whose_class_is_missing_here_is_the_failure_of_its_task_alone(local):
    def strange(x):
        import sys
        import types

        if x != 1:
            return x
        module = sys.modules["only_there"] = types.ModuleType("only_there")
        module.Thing = type("Thing", (), {"__module__": "only_there"})
        return module.Thing()

    results = list(local.map(strange, range(3), errors="return", chunksize=3))
    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1], ResultLost)


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, BaseException])
def test_whatever_a_task_raises_is_its_own_failure(local, leave):
    def fail(x):
        raise leave("out")

    (error,) = local.map(fail, [1], errors="return")
    assert isinstance(error, TaskError)
    assert list(local.map(abs, [-1])) == [1]


def test_a_task_is_tried_again_as_often_as_asked(session, tmp_path):
    def flaky(x):
        tries = tmp_path / "tries"
        n = len(tries.read_text()) if tries.exists() else 0
        tries.write_text("x" * (n + 1))
        if n < 2:
            raise OwnError(n)
        return n

    assert list(session.map(flaky, [1], retries=fnmap.Retry(2, on=(OwnError,), backoff_s=0.001))) == [2]


def test_only_the_named_exceptions_are_tried_again(session, tmp_path):
    def fail(x):
        with (tmp_path / "tries").open("a") as file:
            file.write("x")
        return inverse(x)

    run = session.map(fail, [0], retries=fnmap.Retry(3, on=(OSError,), backoff_s=0.001), errors="return")
    assert run[0].attempts == 1
    assert (tmp_path / "tries").read_text() == "x"


def test_a_task_that_fails_every_time_says_how_often_it_was_tried(session):
    (error,) = session.map(inverse, [0], retries=fnmap.Retry(2, backoff_s=0.001), errors="return")
    assert error.attempts == 3


def test_a_task_over_its_time_is_named_and_its_mates_are_done(session):
    import time

    seconds = 0.3 if session.on == "inline" else 300.0
    run = session.map(time.sleep, [0.0, seconds, 0.0], timeout=0.1, errors="return")
    assert [type(x) for x in run] == [type(None), TaskTimeout, type(None)]


@pytest.mark.parametrize("timeout", [1e7, float("inf")])
def test_a_time_limit_may_be_as_long_as_one_likes(timeout):
    session = fnmap.Session(workers=1)
    try:
        assert list(session.map(abs, [-1], timeout=timeout)) == [1]
    finally:
        session.close()


def test_errors_are_equal_and_pickle_whole(local):
    import pickle

    (error,) = local.map(inverse, [0], errors="return")
    again = pickle.loads(pickle.dumps(error))
    assert again == error
    assert (again.index, again.item, again.traceback) == (error.index, error.item, error.traceback)
