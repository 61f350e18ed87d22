"""Small results that are written and read without pyarrow: the same objects, and the same file to any reader."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fnmap.format import small
from fnmap.format.table import decode, encode, from_parquet, to_parquet

INFO = {"attempt": 2, "laps": [[1, 0.5]], "ran": 1}
VALUES: list[list[Any]] = [
    [0],
    [1, -2, 2**63 - 1, -(2**63)],
    [-0.0, 1.5, float("inf"), 5e-324],
    ["", "a", "é\0" * 700],
    [b""],
    [b"\0\xff" * 8000, b"b"],
    list(range(64)),
]
CELLS = [str(values)[:20] for values in VALUES]


def written(tasks: range, values: list[Any]) -> bytes:
    body = small.to_parquet(tasks, values, INFO)
    assert body is not None
    return body


@pytest.mark.parametrize("values", VALUES, ids=CELLS)
@pytest.mark.parametrize("first", [0, 7, 2**40])
def test_a_reader_cannot_tell_who_wrote_it(values: list[Any], first: int) -> None:
    tasks = range(first, first + len(values))
    table = from_parquet(written(tasks, values))
    other = from_parquet(to_parquet(encode(tasks, values, info=INFO)))
    assert table.equals(other, check_metadata=True)


@pytest.mark.parametrize("values", VALUES, ids=CELLS)
def test_the_very_same_values_come_back(values: list[Any]) -> None:
    tasks = range(3, 3 + len(values))
    for back in (decode(from_parquet(written(tasks, values))), small.from_parquet(written(tasks, values))):
        assert back is not None
        assert (back.tasks, back.info, list(map(repr, back.values))) == (tasks, INFO, list(map(repr, values)))
        assert back.failures == {}


@pytest.mark.parametrize(
    "values",
    [[], [None], [1, None], [True], [1, 2.0], [2**63], ["\ud800"], [b"a" * 40_000], [np.int64(1)], [{}], [0] * 65],
    ids=lambda values: repr(values)[:12],
)
def test_what_is_not_few_and_plain_is_left_to_arrow(values: list[Any]) -> None:
    assert small.to_parquet(range(len(values)), values, INFO) is None


@pytest.mark.parametrize("tasks", [[0, 1], range(0, 4, 2)], ids=repr)
def test_tasks_apart_are_left_to_arrow(tasks: Any) -> None:
    assert small.to_parquet(tasks, [1, 2], INFO) is None


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1" * 9, b"{}" * small.MOST_BYTES * 2], ids=len)
def test_what_is_no_such_file_is_left_to_arrow(body: bytes) -> None:
    assert small.from_parquet(body) is None


def test_what_arrow_wrote_is_left_to_arrow() -> None:
    assert small.from_parquet(to_parquet(encode(range(2), [1, 2], info=INFO))) is None


@pytest.mark.parametrize("values", [[1, -2], [0.5], ["a", "bc"], [b"", b"ab"]], ids=repr)
def test_damage_of_any_byte_is_left_to_arrow(values: list[Any]) -> None:
    body = written(range(len(values)), values)
    for at in range(len(body)):
        assert small.from_parquet(body[:at]) is None
        for flip in (1, 0x80, 0xFF):
            assert small.from_parquet(body[:at] + bytes([body[at] ^ flip]) + body[at + 1 :]) is None


@pytest.mark.parametrize("values", VALUES, ids=CELLS)
def test_other_tools_read_it(tmp_path: Any, values: list[Any]) -> None:
    path = tmp_path / "part.parquet"
    path.write_bytes(written(range(len(values)), values))
    rows = list(enumerate(values))
    assert pl.read_parquet(path).rows() == rows
    assert duckdb.sql(f"select * from '{path}' order by task").fetchall() == rows
    last = len(values) - 1
    assert duckdb.sql(f"select count(*) from '{path}' where task = {last}").fetchall() == [(1,)]


def test_a_task_can_be_found_by_the_statistics() -> None:
    group = pq.ParquetFile(pa.BufferReader(written(range(5, 8), [1.0, 2.0, 3.0]))).metadata.row_group(0)
    found = group.column(0).statistics
    assert (found.min, found.max) == (5, 7)


def test_who_commits_and_reads_plain_results_never_imports_pyarrow(tmp_path: Any) -> None:
    program = f"""
import sys
from fnmap.format.call import Call, Job
from fnmap.format.parts import read_report, read_values
from fnmap.format.payload import Values
from fnmap.storage.files import FileStore
from fnmap.worker import Worker
job = Job("abs", (), live=(abs, {{}}))
place = FileStore({str(tmp_path)!r}), "part/a/run/0.000.00000000.parquet"
report = Worker().run(Call("c", job, range(1), Values.of_plain([-1]), commit=place))
assert report.committed == "won", report
assert read_values(*place, None)[0] == [1] and read_report(*place)[0] == range(1)
assert "pyarrow" not in sys.modules and "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
