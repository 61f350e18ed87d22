"""A Run in full."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from gates import say_at, wait_at

import fnmap
from fnmap.errors import NotPicklable, ResultLost, RunCancelled, RunError, TaskError
from fnmap.observe.events import RunEnded


def test_a_run_can_be_read_as_often_as_one_likes(session):
    run = session.map(abs, [-1, -2])
    assert list(run) == list(run) == run.result() == [1, 2]


def test_a_run_is_indexed_as_a_list_is(session):
    run = session.map(abs, range(5))
    assert (len(run), run[0], run[4], run[-1]) == (5, 0, 4, 4)
    for beyond in (5, -6):
        with pytest.raises(IndexError):
            run[beyond]


@pytest.mark.parametrize("index", [np.int64(1), np.uint8(1), np.int32(-1)], ids=repr)
def test_a_run_is_indexed_by_numpy_integers_too(session, index):
    assert session.map(abs, [5, 6])[index] == 6


@pytest.mark.parametrize("index", [1.0, "1", slice(1), None, np.float64(1)], ids=repr)
def test_what_is_no_integer_is_no_index(session, index):
    with pytest.raises(TypeError, match="a run is indexed by an int"):
        session.map(abs, [5, 6])[index]


def test_an_empty_run_is_a_run(session):
    assert session.map(abs, [])


def test_one_result_is_there_before_the_others(local, gate):
    pipe = gate.path
    run = local.map(lambda x: wait_at(pipe) if x else "there", [0, 1], chunksize=1)
    assert run[0] == "there"
    assert run.status.running == 1
    gate.open()
    assert run.wait()


def test_ordered_results_come_in_the_order_of_the_items(local, gate):
    pipe = gate.path
    run = local.map(lambda x: (wait_at(pipe) if x == 0 else None, x)[1], range(4), chunksize=1)
    assert {index for index, _ in _take(run.as_completed(), 3)} == {1, 2, 3}
    gate.open()
    assert list(run) == [0, 1, 2, 3]


def test_unordered_results_come_as_they_arrive(local, gate):
    pipe = gate.path
    run = local.map(lambda x: (wait_at(pipe) if x == 0 else None, x)[1], range(4), chunksize=1, ordered=False)
    results = iter(run)
    assert {next(results) for _ in range(3)} == {1, 2, 3}
    gate.open()
    assert list(results) == [0]


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_as_completed_gives_every_index_once(session):
    run = session.map(abs, range(100))
    assert sorted(run.as_completed()) == [(x, x) for x in range(100)]


@pytest.mark.parametrize("errors", ["return", "skip"])
def test_as_completed_gives_a_failure_once_however_often_it_was_tried(session, errors):
    retry = fnmap.Retry(2, backoff_s=0.001)
    run = session.map(lambda x: 1 / x, [1, 0], errors=errors, retries=retry)
    run.wait()
    assert sorted(i for i, _ in run.as_completed()) == ([0, 1] if errors == "return" else [0])


@pytest.mark.parametrize("errors", ["return", "skip"])
def test_unordered_runs_treat_failures_as_ordered_ones_do(session, errors):
    def read(ordered):
        return sorted(map(str, session.map(lambda x: 1 / x, [1, 0, 2], errors=errors, ordered=ordered)))

    assert read(True) == read(False)


def test_waiting_ends_at_its_time(local, gate):
    pipe = gate.path
    run = local.map(lambda _: wait_at(pipe), [1])
    assert run.wait(0.01) is False
    with pytest.raises(TimeoutError, match="has not ended"):
        run.result(timeout=0.01)
    gate.open()
    assert run.wait() is True


def test_the_status_counts_every_task(session):
    run = session.map(lambda x: 1 / x, [1, 0, 2], errors="return")
    run.wait()
    s = run.status
    assert (s.state, s.total, s.done, s.failed, s.running, s.waiting) == ("done", 3, 2, 1, 0, 0)
    assert "2 of 3 done, 1 failed" in repr(run)
    assert run.report()["done"] == 2
    assert "<table" in run._repr_html_()


def test_errors_tell_what_became_of_which_task(session):
    run = session.map(lambda x: 1 / x, [1, 0, 0], errors="return")
    run.wait()
    assert list(run.errors) == [1, 2]
    assert all(isinstance(e, TaskError) for e in run.errors.values())


def test_a_cancelled_run_kills_what_runs_and_says_so(local, begun, gate):
    here, pipe = begun.path, gate.path
    run = local.map(lambda _: (say_at(here), wait_at(pipe)), range(5), chunksize=1)
    begun.heard(2)
    run.cancel()
    assert run.wait()
    s = run.status
    assert (s.state, s.running, s.done + s.failed + s.waiting) == ("cancelled", 0, 5)
    for read in (lambda: list(run), run.result, lambda: run[0], run.table):
        with pytest.raises(RunCancelled):
            read()


def test_results_that_were_there_stay_after_cancelling(local, gate):
    pipe = gate.path
    run = local.map(lambda x: wait_at(pipe) if x else "kept", [0, 1], chunksize=1)
    assert run[0] == "kept"
    run.cancel()
    run.wait()
    assert run[0] == "kept"


def test_cancelling_twice_or_too_late_is_no_error(session):
    run = session.map(abs, [-1])
    run.wait()
    run.cancel()
    run.cancel()
    assert (list(run), run.status.state) == ([1], "done")


def test_a_cancelled_run_is_finished_by_retry(local, begun, gate):
    here, pipe = begun.path, gate.path
    run = local.map(lambda x: (say_at(here), wait_at(pipe), x)[2], range(4), chunksize=1)
    begun.heard(2)
    run.cancel()
    run.wait()  # the workers that stand at the gate are gone
    gate.open(4)
    assert list(run.retry()) == [0, 1, 2, 3]
    assert run.status.state == "done"


def test_retry_tries_only_what_has_no_result(session, tmp_path):
    def need(x):
        with (tmp_path / "calls").open("a") as file:
            file.write(f"{x} ")
        if x == 1 and not (tmp_path / "mended").exists():
            raise ValueError("not yet")
        return x

    run = session.map(need, range(3), errors="return", chunksize=1)
    assert isinstance(list(run)[1], TaskError)
    (tmp_path / "mended").touch()
    assert list(run.retry()) == [0, 1, 2]
    assert sorted((tmp_path / "calls").read_text().split()) == ["0", "1", "1", "2"]
    assert run.errors == {}


def test_retry_of_a_raised_failure_does_the_rest(session, tmp_path):
    def need(x):
        if x == 0 and not (tmp_path / "mended").exists():
            raise ValueError("not yet")
        return x

    run = session.map(need, range(50))
    with pytest.raises(ValueError, match="not yet"):
        list(run)
    (tmp_path / "mended").touch()
    assert list(run.retry()) == list(range(50))


def test_races_of_cancel_and_retry_lose_nothing(local):
    for at in range(0, 100, 10):
        run = local.map(abs, range(100), chunksize=1)
        assert run[at] == at
        run.cancel()
        assert run.wait()
        assert list(run.retry()) == list(range(100))


def test_an_empty_input_is_an_empty_run(session):
    run = session.map(abs, [])
    assert (list(run), len(run), run.table().num_rows, run.wait(0)) == ([], 0, 0, True)
    assert run.status.state == "done"


def test_a_closed_session_ends_its_runs_and_takes_no_more(gate):
    pipe, heard = gate.path, []

    def read():
        try:
            list(run)
        except RunError as error:
            heard.append(str(error))

    session = fnmap.Session(workers=1)
    run = session.map(lambda _: wait_at(pipe), [1])
    reader = threading.Thread(target=read)
    reader.start()
    session.close()
    reader.join()
    assert heard == ["the session was closed while the run was live"]
    with pytest.raises(RunError, match="closed"):
        session.map(abs, [1])
    session.close()


def test_leaving_a_session_waits_for_its_runs(gate):
    pipe = gate.path
    with fnmap.Session(workers=1) as session:
        run = session.map(lambda x: (wait_at(pipe), x)[1], [1, 2])
        gate.open(2)
    assert list(run) == [1, 2]


def test_an_exception_that_leaves_a_session_stops_its_runs(gate):
    pipe = gate.path
    session = fnmap.Session(workers=1)
    run = session.map(lambda x: wait_at(pipe), [1])
    with pytest.raises(LookupError), session:
        raise LookupError
    assert run.status.state == "failed"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda s: s, "a Session cannot be sent to or from a worker: make one inside the function"),
        (lambda s: s.map(abs, [1]), r"a Run cannot be sent to or from a worker: send list\(run\)"),
        (lambda s: s.submit(abs, 1), r"a Future cannot be sent to or from a worker: send its result\(\)"),
        (lambda s: s.map_reduce(abs, [1], sum), r"a Future cannot be sent to or from a worker: send its result\(\)"),
        (lambda s: fnmap.Executor(), "an Executor cannot be sent to or from a worker: make one inside the function"),
    ],
    ids=["session", "run", "future", "reduction", "executor"],
)
def test_what_belongs_to_its_process_is_refused_at_the_call_and_says_what_to_do(local, make, told):
    held = make(local)
    with pytest.raises(NotPicklable, match=f"^fn=.* refers to what cannot travel: {told}"):
        local.map(lambda x: (held, x), [1])
    with pytest.raises(NotPicklable, match=f"^item 1, .*, cannot be sent to a worker: {told}"):
        local.map(type, [1, [held]])
    with pytest.raises(NotPicklable, match=f"^{told}"):
        pickle.dumps(held)


def test_a_run_that_is_the_result_of_a_task_says_what_to_do(local):
    def nest(x):
        with fnmap.Session(on="inline") as session:
            return session.map(abs, [x])

    with pytest.raises(ResultLost, match=r"a Run cannot be sent to or from a worker: send list\(run\)"):
        list(local.map(nest, [1]))


def test_a_listener_cannot_retry_the_run_whose_end_it_hears_of(gate):
    runs, refused, here = [], [], gate.path

    def again(event):
        if isinstance(event, RunEnded):
            with pytest.raises(RunError, match="listener"):
                runs[0].retry()
            refused.append(event.run_id)

    with fnmap.Session(workers=1, listeners=(again,)) as session:
        runs.append(session.map(lambda x: wait_at(here) or 1 / x, [0], errors="return"))
        gate.open()
        assert runs[0].wait()
        assert runs[0].status.failed == 1
    assert refused == [runs[0].id]


def test_a_listener_that_raises_stops_nothing():
    def broken(event):
        if not type(event).__name__ == "RunStarted":
            raise RuntimeError("in the listener")

    with fnmap.Session(workers=1, listeners=(broken,)) as session:
        assert list(session.map(abs, range(20), chunksize=1)) == list(range(20))


def test_listeners_hear_of_the_beginning_and_the_end():
    heard = []
    with fnmap.Session(on="inline", listeners=(heard.append,)) as session:
        run = session.map(abs, range(3))
        run.wait()
    assert [type(e).__name__ for e in heard][:1] == ["RunStarted"]
    ends = [e for e in heard if type(e).__name__ == "RunEnded"]
    assert [(e.run_id, e.state, e.done) for e in ends] == [(run.id, "done", 3)]
