"""Results as tables."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pyarrow as pa

import fnmap
from fnmap.format.parts import Stored, encode_part
from fnmap.format.table import to_parquet
from fnmap.stage import Part
from fnmap.storage.memory import MemoryStore
from fnmap.tables import stored_table


@dataclass
class Price:
    deal: int
    premium: float


def test_scalars_are_one_column_beside_the_task(session):
    table = session.map(lambda x: x / 2, range(3)).table()
    assert table.to_pylist() == [{"task": i, "value": i / 2} for i in range(3)]


def test_rows_are_columns(session):
    for make in (lambda x: Price(x, x / 2), lambda x: {"deal": x, "premium": x / 2}):
        frame = session.map(make, range(3)).to_pandas()
        assert list(frame.columns) == ["task", "deal", "premium"]
        assert list(frame.premium) == [0.0, 0.5, 1.0]


def test_tables_are_put_one_under_the_other(session):
    table = session.map(lambda x: pa.table({"n": pa.array(range(x), pa.int64())}), [2, 0, 1]).table()
    assert table.to_pydict() == {"task": [0, 0, 2], "n": [0, 1, 0]}


def test_the_rows_are_in_the_order_of_the_items(session):
    assert session.map(lambda x: x, range(500), chunksize=7).table().column("task").to_pylist() == list(range(500))


def test_returned_failures_are_rows_with_an_error(session):
    table = session.map(lambda x: 1 / x, [1, 0], errors="return").table()
    assert table.column("value").to_pylist() == [1.0, None]
    assert table.column("error").to_pylist() == [None, "ZeroDivisionError: division by zero"]


def test_skipped_failures_have_no_row(session):
    assert session.map(lambda x: 1 / x, [1, 0, 2], errors="skip").table().column("task").to_pylist() == [0, 2]


def test_a_dataset_is_there_for_every_run(session):
    assert session.map(abs, range(10)).dataset().count_rows() == 10


def test_a_named_run_gives_the_same_table_from_its_store(tmp_path):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.map(lambda x: {"a": x, "b": str(x)}, range(10), name="kept", chunksize=3)
        live, stored = run.table(), session.attach("kept").table()
        assert live.sort_by("task").to_pylist() == stored.sort_by("task").to_pylist()
        assert session.attach("kept").dataset().count_rows() == 10


def test_stored_parts_are_read_at_the_same_time():
    both_read = threading.Barrier(2, timeout=5)

    class Slow(MemoryStore):
        def get(self, key):
            both_read.wait()
            return super().get(key)

    store = Slow()
    for task in range(2):
        store.create(str(task), to_parquet(encode_part([task], [task / 2], {})))
    parts = [Part([task], Stored(store, str(task), 1), {}, str(task)) for task in range(2)]
    assert stored_table(store, parts, (), skip=False).to_pydict() == {"task": [0, 1], "value": [0.0, 0.5]}
