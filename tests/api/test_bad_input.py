"""Bad input is a clear error of our tree at the call: nothing started, nothing lost."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest
from gates import wait_at

import fnmap
from fnmap.errors import NotCallable, NotPicklable, RunBusy, RunNotFound, UsageError

ONE = [1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"chunksize": 0}, "chunksize must be 'auto' or an int >= 1; got 0"),
        ({"chunksize": "big"}, "chunksize must be"),
        ({"retries": -1}, "retries must be an int >= 0.*got -1"),
        ({"chunksize": True}, "chunksize must be"),
        ({"chunksize": 2.0}, "chunksize must be"),
        ({"retries": np.bool_(True)}, "retries must be"),
        ({"buffersize": np.int64(0)}, "buffersize must be"),
        ({"timeout": np.float32(0)}, "timeout must be seconds > 0"),
        ({"timeout": True}, "timeout must be"),
        ({"retries": fnmap.Retry(-1)}, "retries must be"),
        ({"retries": fnmap.Retry(1, on=("ValueError",))}, "exception types"),
        ({"retries": fnmap.Retry(1, memory_factor=0.5)}, r"Retry\(memory_factor=\.\.\.\) must be 1 to 1000; got 0\.5"),
        ({"retries": fnmap.Retry(1, memory_factor="2")}, "must be 1 to 1000; got '2'"),
        ({"timeout": 0}, "timeout must be seconds > 0"),
        ({"timeout": "5"}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"buffersize": 0}, "buffersize must be"),
        ({"errors": "ignore"}, 'errors must be "raise", "return", "skip"'),
        ({"errors": fnmap.Tolerate(2)}, "share must be in 0..1"),
        ({"errors": fnmap.Tolerate("a")}, "share must be"),
        ({"cost": [1, 2]}, "cost must"),
        ({"cost": [float("nan")]}, "cost must be numbers"),
        ({"cost": ["a"]}, "cost must be"),
        ({"cost": -5}, "cost"),
        ({"name": "a/b"}, "name must be"),
        ({"kwargs": [1]}, "kwargs"),
        ({"kwargs": {1: 2}}, "kwargs"),
    ],
    ids=repr,
)
def test_an_option_that_is_wrong_names_itself(session, tmp_path, options, match):
    def touch(x):
        (tmp_path / "ran").touch()

    with pytest.raises(UsageError, match=match):
        session.map(touch, ONE, **options)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_backend_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"inline, lambda, lithops, local; got 'lokal'"):
        fnmap.map(abs, ONE, on="lokal")


@pytest.mark.parametrize("on", [3, ["local"], 2.5], ids=repr)
def test_a_backend_that_is_none_is_refused(on):
    with pytest.raises(UsageError, match="on must be"):
        fnmap.map(abs, ONE, on=on)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fnmap.map(abs, ONE, on="inline", chunk_size=3),
        lambda: fnmap.starmap(abs, [(1,)], on="inline", chunk_size=3),
        lambda: fnmap.map_reduce(abs, ONE, sum, on="inline", chunk_size=3),
        lambda: fnmap.Session(on="inline", chunk_size=3),
        lambda: fnmap.Executor(on="inline", chunk_size=3),
        lambda: fnmap.task(chunk_size=3),
    ],
    ids=["map", "starmap", "map_reduce", "Session", "Executor", "task"],
)
def test_an_unknown_option_is_refused_by_its_name(call):
    with pytest.raises((UsageError, TypeError), match="chunk_size"):
        call()


@pytest.mark.parametrize("workers", [0, -1, "2", 1.5])
def test_the_number_of_workers_is_checked(workers):
    with pytest.raises(UsageError, match="workers must be"):
        fnmap.Session(workers=workers)


def test_an_option_that_a_backend_does_not_take_is_refused():
    with pytest.raises(UsageError, match="workers"):
        fnmap.Session(on="inline", workers=2)


@pytest.mark.parametrize("fn", [3, "abs", None, [abs]], ids=repr)
def test_what_cannot_be_called_cannot_be_mapped(session, fn):
    for call in (lambda: session.map(fn, ONE), lambda: session.starmap(fn, [ONE]), lambda: session.submit(fn)):
        with pytest.raises(NotCallable, match="callable"):
            call()


@pytest.mark.parametrize("items", [5, None, abs, np.array(3)], ids=["int", "None", "function", "array without axis"])
def test_what_cannot_be_iterated_cannot_be_mapped(session, items):
    with pytest.raises(UsageError, match="cannot be iterated"):
        session.map(abs, items)


def test_a_map_without_items_is_refused(session):
    with pytest.raises(UsageError, match="at least one iterable"):
        session.map(abs)


def test_a_tuple_of_arguments_that_is_none_is_named(local):
    with pytest.raises((UsageError, fnmap.TaskError, TypeError), match="iterable"):
        list(local.starmap(abs, [(1,), 2]))
    assert list(local.map(abs, [-1])) == [1]


def test_an_item_that_cannot_be_pickled_is_named_by_its_index(local, tmp_path):
    with pytest.raises(NotPicklable, match=r"item 2 cannot be sent to a worker: .*lock"):
        local.map(lambda x: (tmp_path / "ran").touch(), [0, 1, threading.Lock()], chunksize=1)
    assert not (tmp_path / "ran").exists()


def test_a_function_that_cannot_be_pickled_says_what_to_do(local):
    lock = threading.Lock()
    with pytest.raises(NotPicklable, match="create it inside the function"):
        local.map(lambda x: (lock, x), ONE)


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        fnmap.map(abs, ONE, name="x", store=tmp_path / "file", on="inline")


def test_an_unknown_run_lists_the_known_ones(tmp_path):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        session.map(abs, ONE, name="known").wait()
        with pytest.raises(RunNotFound, match="known"):
            session.attach("unknown")


def test_two_live_runs_cannot_have_one_name(gate, tmp_path):
    pipe = gate.path
    with fnmap.Session(workers=1, store=tmp_path) as session:
        first = session.map(wait_at, [pipe], name="same")
        with pytest.raises(RunBusy, match="same"):
            session.map(wait_at, [pipe], name="same")
        gate.open()
        assert list(first) == [None]


def test_a_name_belongs_to_one_function_over_one_number_of_items(tmp_path):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        session.map(abs, [1, 2], name="mine").wait()
        for fn, items in ((str, [1, 2]), (abs, [1, 2, 3])):
            with pytest.raises(UsageError, match="mine"):
                session.map(fn, items, name="mine")


@pytest.mark.parametrize("items", [[-7, -8], [1, 3]], ids=repr)
def test_a_name_never_gives_the_results_of_other_items(tmp_path, items):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        session.map(abs, [1, 2], name="mine").wait()
        with contextlib.suppress(UsageError):  # as good: it says that the name is taken
            assert list(session.map(abs, items, name="mine")) == [abs(x) for x in items]
