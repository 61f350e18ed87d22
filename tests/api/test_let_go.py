"""What a run holds goes with the run, without the garbage collector."""

from __future__ import annotations

import gc
import operator
import threading
import weakref

import pytest
from gates import Gate, wait_at

import fnmap
from fnmap.errors import StoreError
from fnmap.observe.events import RunEnded
from fnmap.storage.memory import MemoryStore


class Result:
    pass


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", [None, "n"], ids=["unnamed", "named"])
def test_results_are_freed_when_nobody_holds_the_run(tmp_path, no_gc, name):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.map(lambda _: Result(), range(3), name=name)
        list(run)
        ledger, results = weakref.ref(run.ledger), weakref.ref(run.ledger.results)
        del run
        assert ledger() is None
        assert results() is None


@pytest.mark.parametrize("name", [None, "n"], ids=["unnamed", "named"])
@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("on", ["inline", "local"])
def test_a_plan_run_that_has_ended_is_freed_when_nobody_holds_it(tmp_path, no_gc, on, name, progress):
    with fnmap.Session(on=on, store=tmp_path) as session:
        run = session.run_plan(chain(), name=name, progress=progress)
        assert list(run["second"]) == [-1, -2, -3]
        run.finish()
        session.wait()
        freed = weakref.ref(run), weakref.ref(run["first"].ledger.results)
        del run
        assert [ref() for ref in freed] == [None, None]
        assert name is not None or list(session.scratch.list("part/")) == []


def test_a_plan_run_that_was_taken_up_again_is_freed_too(tmp_path, no_gc):
    there = tmp_path / "there"

    def look(x):
        assert there.exists()
        return x

    plan = fnmap.plan()
    plan.map(abs, plan.map(look, [1, -2], name="first"), name="second")
    with fnmap.Session(workers=1) as session:  # a traceback of this very thread would hold its callers
        run = session.run_plan(plan, errors="return")
        run.wait()
        assert run.status.failed == 4
        there.touch()
        assert list(run.retry()) == [1, 2]
        run.finish()
        freed = weakref.ref(run)
        del run
        assert freed() is None


def test_the_run_of_a_stage_and_its_results_keep_what_the_plan_has_made(no_gc):
    with fnmap.Session(on="inline") as session:
        first = session.run_plan(chain())["first"]
        assert list(first) == [1, 2, 3]
        results = iter(session.run_plan(chain()))
        assert list(results) == [-1, -2, -3]
        there = len(list(session.scratch.list("part/")))
        del first, results
        assert there > 0
        assert list(session.scratch.list("part/")) == []


def test_a_cached_run_is_freed_when_nobody_holds_it(tmp_path, no_gc):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.map(abs, [-1, -2], cache=True)
        assert list(run) == [1, 2]
        results = weakref.ref(run.ledger.results)
        del run
        assert results() is None


def chain():
    plan = fnmap.plan()
    plan.map(operator.neg, plan.map(abs, [-1, -2, -3], name="first"), name="second")
    return plan


def test_a_run_that_nobody_holds_is_done_to_its_end(tmp_path, no_gc):
    with fnmap.Session(workers=1, store=tmp_path) as session:
        session.map(abs, range(100), name="n")
        session.wait()
        assert list(session.attach("n")) == list(range(100))
        assert session.runs()[0].state == "done"


def test_a_run_that_was_at_rest_can_be_taken_up_again(no_gc, tmp_path):
    there = tmp_path / "there"

    def look(x):
        assert there.exists()
        return x

    with fnmap.Session(on="inline") as session:
        run = session.map(look, range(3), errors="return")
        assert all(isinstance(error, fnmap.TaskError) for error in run)
        there.touch()
        run.retry()
        assert list(run) == [0, 1, 2]


def test_a_session_forgets_the_runs_that_are_over(tmp_path):
    with fnmap.Session(workers=1, store=tmp_path) as session:
        for number in range(50):  # many, for what is forgotten first varies
            assert list(session.map(abs, [-1], name=f"n{number}")) == [1]
        session.wait()
        assert list(session._board.stages()) == []


def test_who_asks_twice_for_the_run_of_a_stage_gets_the_same(local):
    run = local.run_plan(chain())
    first = run["first"]
    assert run["first"] is first
    assert run["second"] is not first


def test_all_stages_of_a_plan_that_nobody_holds_are_told_of(no_gc):
    told = []

    def fail(x):
        raise ValueError(x)

    plan = fnmap.plan()
    plan.map(fail, plan.map(abs, [-1], name="first"), name="last")
    with fnmap.Session(workers=1, listeners=[told.append]) as session:
        session.run_plan(plan)
        session.wait()
    ends = [event.run_id.rpartition("/")[2] for event in told if isinstance(event, RunEnded)]
    assert sorted(ends) == ["first", "last"]


def test_a_retry_that_the_store_refuses_lets_go_of_the_run(tmp_path, monkeypatch):
    def fail(x):
        raise ValueError(x)

    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.map(fail, [1], name="n", errors="return")
        list(run)

        def refuse(*_):
            raise StoreError("not now")

        with monkeypatch.context() as patched:
            patched.setattr("fnmap.durable.say_alive", refuse)
            with pytest.raises(StoreError, match="not now"):
                run.retry()
        assert session.durables == set()
        assert isinstance(next(iter(run.retry())), fnmap.TaskError)


def test_the_dataset_of_a_plan_without_a_name_outlives_its_run(no_gc):
    class Addressed(MemoryStore):
        def url(self, key):
            raise AssertionError("nobody reads there later")

    with fnmap.Session(on="inline") as session:
        session._scratch = Addressed()
        assert session.run_plan(chain()).dataset().count_rows() == 3


def test_a_plan_that_is_taken_up_again_while_it_is_let_go_of_goes_on_whole(tmp_path, monkeypatch):
    gate, there, again = Gate(tmp_path / "gate"), tmp_path / "there", threading.Event()

    def look(x):
        wait_at(gate.path)
        assert there.exists()
        return x

    plan = fnmap.plan()
    plan.map(abs, plan.map(look, [-1], name="first"), name="second")
    with fnmap.Session(workers=1) as session:
        remove = session._board.remove

        def interrupted(party):
            remove(party)
            if not again.is_set():
                there.touch()
                again.set()
                run.retry()

        monkeypatch.setattr(session._board, "remove", interrupted)
        run = session.run_plan(plan, errors="return")
        gate.open()
        assert again.wait(20)
        gate.open()
        assert run.wait(20)
        assert list(run) == [1]
        session.wait()
        assert list(session._board.stages()) == []
