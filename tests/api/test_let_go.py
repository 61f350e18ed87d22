"""What a run holds goes with the run, without the garbage collector."""

from __future__ import annotations

import gc
import weakref

import pytest

import fnmap


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
