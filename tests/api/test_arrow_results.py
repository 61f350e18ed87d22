"""results="arrow": what comes back is Arrow columns, and nothing of it is unpickled."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

import fnmap
from fnmap.errors import ComputeError, ResultLost, TaskError, UsageError
from fnmap.format.call import Report
from fnmap.format.payload import pack
from fnmap.format.table import decode, encode, from_parquet, to_parquet
from fnmap.format.table.cells import dump_cell, load_cell
from fnmap.storage.open import open_store

VALUES = [
    3, 2.5, "text", b"bytes", True, None, [1, 2], (1, "a"), {"a": 1, "b": [1.5]}, np.arange(3),
    datetime(2024, 5, 1, 12, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=2), "here")), pa.table({"x": [1, 2]}),
]  # fmt: skip


@dataclass
class Deal:
    number: int


def alike(a, b):
    return a.equals(b) if isinstance(a, pa.Table) else type(a) is type(b) and np.array_equal(a, b)


@pytest.fixture
def never(monkeypatch):
    """Nothing is unpickled in this process from here on but what it sent itself."""

    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    for where in ("parts", "payload", "call"):
        monkeypatch.setattr(f"fnmap.format.{where}.pickle.loads", refuse)


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_values_come_back_as_they_were(local, value):
    assert all(alike(got, value) for got in local.map(lambda _, v=value: v, range(3), results="arrow"))


def test_results_that_share_no_column_come_back_too(local):
    assert list(local.map(lambda at: [1, "a", None, [2]][at], range(4), chunksize=4, results="arrow")) == [
        1,
        "a",
        None,
        [2],
    ]


def test_a_result_that_needs_a_pickle_is_the_error_of_its_task_alone(session):
    got = list(session.map(lambda x: Deal(x) if x == 1 else x, range(3), errors="return", chunksize=3, results="arrow"))
    assert (got[0], type(got[1]), got[2]) == (0, ResultLost, 2)
    assert "Deal has no place in Arrow columns" in str(got[1])


def test_what_a_task_raised_comes_as_text(session):
    def fail(x):
        raise ValueError(f"no {x}")

    with pytest.raises(TaskError, match="raised ValueError: no 7") as caught:
        session.map(fail, [7], results="arrow").result()
    assert (type(caught.value), caught.value.exception) == (TaskError, None)
    assert "in fail" in caught.value.traceback


def test_nothing_of_an_answer_is_unpickled(local, never):
    def work(x):
        if x == 2:
            raise ValueError("two")
        return {"x": x}

    got = list(local.map(work, range(4), errors="return", results="arrow"))
    assert got[:2] == [{"x": 0}, {"x": 1}]


def test_an_answer_that_is_a_pickle_is_refused_unread():
    message = b"".join(pack([pickle.dumps("a head"), b"frames"]))
    for whole in (message, pickle.dumps("alone")):
        with pytest.raises(ComputeError, match="without unpickling"):
            Report.from_message(bytearray(whole), arrow=True)


def test_cells_are_never_pickles():
    table = encode(range(2), [1, Deal(1)])
    assert decode(table, loads=load_cell).failures[1].kind == "lost"
    with pytest.raises(ResultLost, match="nothing is unpickled"):
        load_cell(pickle.dumps(1))
    assert load_cell(dump_cell({"a": 1})) == {"a": 1}
    zone = decode(from_parquet(to_parquet(encode(range(1), [VALUES[11]]))), loads=load_cell).values
    assert zone == [VALUES[11]]


def test_named_runs_commit_no_pickles_and_are_read_without(local, tmp_path, monkeypatch):
    def work(x):
        if x == 1:
            raise ValueError("one")
        return {"x": x, "mixed": [x, str(x)][x % 2]}

    with fnmap.Session(workers=1, store=tmp_path, results="arrow") as session:
        run = session.map(work, range(4), name="plain", errors="return")
        assert run[2] == {"x": 2, "mixed": 2}
        assert type(run[1]) is TaskError
        run.finish()
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.attach("plain")
        assert run[3] == {"x": 3, "mixed": "3"}


def test_a_part_with_pickles_in_it_is_not_read(tmp_path):
    with fnmap.Session(workers=1, store=tmp_path) as session:
        session.map(Deal, range(2), name="planted", results="arrow", errors="return").result()
        store = open_store(tmp_path)
        for key in list(store.list("part/")):
            store.put(key, bytes(to_parquet(encode(range(2), [Deal(1), Deal(2)], info={"laps": [], "ran": 2}))))
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.attach("planted")
        assert [type(value) for value in run] == [ResultLost] * 2


def test_large_results_go_through_the_scratch_store_and_come_back(local):
    (got,) = local.map(lambda _: np.ones(1 << 18), [1], results="arrow")
    assert got.sum() == 1 << 18


def test_calls_of_such_a_session_are_so_too():
    with fnmap.Session(workers=1, results="arrow") as session:
        assert session.submit(lambda: {"a": 1}).result() == {"a": 1}
        with pytest.raises(ResultLost, match="no place in Arrow"):
            session.submit(Deal, 1).result()


def test_what_does_not_go_together_is_refused(local):
    with pytest.raises(UsageError, match='results must be "pickle" or "arrow"'):
        local.map(abs, [1], results="parquet")
    with pytest.raises(UsageError, match="cache="):
        local.map(abs, [1], results="arrow", cache=True)
    plan = fnmap.plan()
    plan.map(abs, [1])
    with fnmap.Session(on="inline", results="arrow") as session, pytest.raises(UsageError, match="another session"):
        session.run_plan(plan)
