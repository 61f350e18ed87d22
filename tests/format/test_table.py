"""Results come back from Parquet as the very objects they were, and other tools see real columns."""

from __future__ import annotations

import enum
import math
import mmap
import pickle
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fnmap.errors import StoreError
from fnmap.format.table import Failure, arrow, combine, decode, encode, from_parquet, parquet, to_parquet

property_test = partial(settings, derandomize=True, deadline=None)


class Deal(NamedTuple):
    id: int
    price: float


class Point(NamedTuple):
    task: str
    x: Any


@dataclass
class Loss:
    year: int
    loss: float
    task: str = "t"


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    b: str


@dataclass
class Odd:
    a: int
    doubled: int = field(init=False)
    b: int = 0

    def __post_init__(self) -> None:
        self.doubled = 2 * self.a


@dataclass
class Stateful:
    a: int

    def __getstate__(self) -> int:
        return self.a

    def __setstate__(self, a: int) -> None:
        self.a = a


@dataclass
class Listing(list):  # type: ignore[type-arg]
    a: int


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, all the way down. NaN is NaN, -0.0 is not 0.0, 1 is not True."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (float, np.floating)):
        return bool((a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b)))
    if isinstance(a, (Decimal, Fraction)):
        return repr(a) == repr(b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, (datetime, time)):
        return (repr(a), a.fold) == (repr(b), b.fold)
    if isinstance(a, (np.ndarray, np.generic)):
        return same_array(np.asarray(a), np.asarray(b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if is_dataclass(a):
        order = list(vars(a)) == list(vars(b)) if hasattr(a, "__dict__") else True
        return order and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return same_table(a, b) if isinstance(a, TABLES) else bool(a == b)


def same_array(a: Any, b: Any) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.dtype.kind in "fcO":
        return all(map(same, a.ravel().tolist(), b.ravel().tolist()))
    return bool(a.tobytes() == b.tobytes())


TABLES = (pa.Table, pa.RecordBatch, pd.DataFrame, pd.Series, pl.DataFrame)


def same_table(a: Any, b: Any) -> bool:
    if isinstance(a, (pa.Table, pa.RecordBatch)):
        return bool(a.schema.equals(b.schema, check_metadata=True)) and same(a.to_pydict(), b.to_pydict())
    if isinstance(a, pl.DataFrame):
        return list(a.schema.items()) == list(b.schema.items()) and same(a.rows(), b.rows())
    check = pd.testing.assert_series_equal if a.ndim == 1 else pd.testing.assert_frame_equal
    check(a, b, check_exact=True, check_freq=True, check_index_type="exact")
    cells = (x.to_frame().map(str).values.tolist() if x.ndim == 1 else x.map(str).values.tolist() for x in (a, b))
    return type(a.index) is type(b.index) and a.index.identical(b.index) and same(*cells)


def stored(values: list[Any], **options: Any) -> pa.Table:
    return from_parquet(to_parquet(encode(range(5, 5 + len(values)), values, **options)))


def as_if_large(table: pa.Table) -> memoryview:
    with mock.patch.object(parquet, "MOST_BYTES", 0):
        return to_parquet(table)


def back(values: list[Any]) -> list[Any]:
    """Values there and back through Parquet, as small and as large ones, and through Arrow's own format."""
    table = encode(range(len(values)), values)
    found = decode(from_parquet(to_parquet(table)))
    assert same(decode(from_parquet(as_if_large(table))), found)
    with pa.BufferOutputStream() as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    assert same(decode(pa.ipc.open_stream(sink.getvalue()).read_all()), found)
    assert (list(found.tasks), found.failures) == (list(range(len(values))), {})
    return found.values


def assert_exact(values: list[Any]) -> None:
    assert same(back(values), values), (values, back(values))


# --- any value ---------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=5)
ZONES = st.none() | st.timezones() | st.just(UTC) | st.just(timezone(timedelta(hours=-3), "here"))
SCALARS: list[st.SearchStrategy[Any]] = [
    st.booleans(),
    st.integers(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    ANY_TEXT,
    st.text(max_size=5),
    st.binary(max_size=5),
    st.datetimes(),
    st.datetimes(timezones=ZONES),
    st.datetimes(timezones=st.just(ZoneInfo("Europe/Paris"))),
    st.dates(),
    st.times(timezones=ZONES),
    st.times(),
    st.timedeltas(),
    st.timedeltas(timedelta(days=-9), timedelta(days=9)),
    st.decimals(),
    st.decimals(allow_nan=False, allow_infinity=False, places=2),
    st.decimals(-1000, 1000, places=4),
    st.complex_numbers(),
    st.fractions(),
    st.uuids(),
    st.frozensets(st.integers(), max_size=3),
    st.sampled_from([Level.LOW, Text("a"), Ellipsis, int, range(3)]),
    st.integers(0, 3) | st.floats() | st.floats().map(np.float64) | st.integers(0, 9).map(np.int64),
]
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.datetime64_dtypes(endianness="="),  # numpy pickles the others as native
    hnp.timedelta64_dtypes(endianness="="),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(max_len=3),
    st.sampled_from([np.dtype(object), np.dtype("i4,f8")]),
)
SHAPES = st.just((3,)) | hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


def arrays_of(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    if dtype.kind == "O":
        return hnp.arrays(dtype, SHAPES, elements=st.integers(0, 3))
    return hnp.arrays(dtype, SHAPES)


def scalars_of(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    return st.none() if dtype.kind == "O" else hnp.arrays(dtype, ()).map(lambda a: a[()])


HOMOGENEOUS = st.one_of(
    st.sampled_from(SCALARS).flatmap(lambda one: st.lists(one, max_size=6)),
    st.sampled_from(SCALARS).flatmap(lambda one: st.lists(st.none() | one, max_size=6)),
    DTYPES.flatmap(lambda dtype: st.lists(arrays_of(dtype), max_size=4)),
    DTYPES.flatmap(lambda dtype: st.lists(st.none() | scalars_of(dtype), max_size=4)),
)
LEAVES = st.one_of(st.none(), st.one_of(SCALARS), DTYPES.flatmap(arrays_of))


def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(ANY_TEXT, inner, max_size=3),
        st.builds(Frozen, inner, st.just("b")),
        st.builds(Point, st.just("p"), inner),
    )


@property_test(max_examples=300)
@given(HOMOGENEOUS)
def test_values_of_one_kind(values: list[Any]) -> None:
    assert_exact(values)


@property_test(max_examples=150)
@given(st.lists(st.recursive(LEAVES, nest, max_leaves=5), max_size=4))
def test_mixed_and_nested_values(values: list[Any]) -> None:
    assert_exact(values)


ELEMENT = st.sampled_from(SCALARS)


def rows_of(one: Any, other: Any) -> st.SearchStrategy[Any]:
    """Strategies for rows of one shape, whose fields are of the given kinds or None."""
    x, y = st.none() | one, other
    return st.sampled_from(
        [
            st.fixed_dictionaries({"x": x, "task": y, "": st.lists(y, max_size=2)}),
            st.fixed_dictionaries({"a": x, "A": y}),
            st.tuples(x, y),
            st.builds(Point, y, x),
            st.builds(Frozen, st.builds(Deal, y, x), st.just("b")),
            st.builds(Loss, x, y),
            st.builds(Odd, st.integers(0, 9)),
            st.lists(st.tuples(y, x), max_size=3),
            st.lists(st.fixed_dictionaries({"x": x, "y": y}), max_size=3).map(tuple),
            st.fixed_dictionaries({"x": st.fixed_dictionaries({"y": x}), "z": st.lists(st.lists(y, max_size=2))}),
        ]
    ).flatmap(lambda row: st.lists(st.none() | row, max_size=4))


@property_test(max_examples=200)
@given(st.tuples(ELEMENT, ELEMENT).flatmap(lambda pair: rows_of(*pair)))
def test_rows(values: list[Any]) -> None:
    assert_exact(values)


# --- tables ------------------------------------------------------------------------------------------

ARROW_COLUMNS = {
    "task": pa.array([1, 2, None], pa.int8()),
    "Error": pa.array(["a", None, ""], pa.large_string()),
    "nothing": pa.nulls(3),
    "when": pa.array([1, None, 3], pa.timestamp("ns", "Asia/Tokyo")),
    "lists": pa.array([[1.5], None, []], pa.large_list(pa.float32())),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
    "exact": pa.array([Decimal("1.50"), None, Decimal("-2")], pa.decimal128(12, 2)),
    "took": pa.array([1, None, 2], pa.duration("s")),
    "u": pa.array([2**64 - 1, 0, 1], pa.uint64()),
    "nan": pa.array([math.nan, None, -0.0]),
}


def arrow_table() -> Any:
    required = pa.field("required", pa.string(), nullable=False, metadata={"unit": "m"})
    table = pa.table(ARROW_COLUMNS).append_column(required, pa.array(["a", "b", "c"]))
    return table.replace_schema_metadata({"made": "here"})


REQUIRED = pa.struct([pa.field("a", pa.int8(), nullable=False)])


@pytest.mark.parametrize(
    "kind",
    [pa.int64(), pa.timestamp("s"), pa.dictionary(pa.int8(), pa.string()), REQUIRED, pa.list_(REQUIRED)],
    ids=str,
)
def test_arrow_tables(kind: Any) -> None:
    table = arrow_table().append_column("kind", pa.nulls(3, kind))
    failed = stored([table, None], failures={1: Failure("raised", "")})
    assert same(decode(failed).values, [table, None])
    assert_exact([table, None, table.slice(1, 2), table.slice(0, 0), pa.concat_tables([table, table])])
    batch = table.to_batches()[0]
    assert_exact([batch, batch.slice(1), batch.slice(0, 0), None])
    assert_exact([table, table.replace_schema_metadata(None), batch])
    assert_exact([pa.table({}), pa.table({"a": [1]}).rename_columns(["\u00e9"])])


POLARS = pl.DataFrame(
    {
        "task": [1, None],
        "text": ["a", None],
        "nested": [{"a": [1.5]}, None],
        "nan": [math.nan, None],
        "day": [date(2020, 2, 29), None],
        "when": [datetime(2020, 1, 1, tzinfo=UTC), None],
        "exact": pl.Series([Decimal("1.5"), None], dtype=pl.Decimal(10, 2)),
        "took": [timedelta(seconds=1), None],
        "at": [time(1, 2), None],
        "bytes": [b"a", None],
        "null": [None, None],
    }
)


@pytest.mark.parametrize("dtype", [pl.UInt8, pl.Categorical, pl.Enum(["a"]), pl.Array(pl.Int8, 2)])
def test_polars_frames(dtype: Any) -> None:
    frame = POLARS.with_columns(pl.Series("kind", [None, None], dtype=dtype))
    assert_exact([frame, None, frame.slice(1, 1), frame.clear()])
    assert_exact([pl.DataFrame(), pl.DataFrame({"a": [1]})])


def pandas_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": [1, 2, 3],
            "text": ["a", None, ""],
            "object": pd.Series(["a", None, "b"], dtype=object),
            "nan": [math.nan, -0.0, 1.5],
            "small": np.array([1, 2, 3], np.uint8),
            "flag": [True, False, True],
            "masked": pd.array([1, None, 3], dtype="Int64"),
            "when": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
            "zone": pd.date_range("2020-03-28 12:00", periods=3, tz="Europe/Paris"),
            "took": pd.to_timedelta([1, None, 3], unit="s"),
        }
    )


PANDAS_INDEXES = {
    "range": pd.RangeIndex(3),
    "slice": pd.RangeIndex(4, 11, 3, name="n"),
    "ints": pd.Index([3, 1, 2], name="task"),
    "days": pd.date_range("2020-01-01", periods=3, freq="D"),
    "labels": pd.Index(["a", "b", "c"], dtype=object),
    "text": pd.Index(["a", "b", "c"], name="key"),
    "multi": pd.MultiIndex.from_product([[1], ["a", "b", "c"]]),
}


@pytest.mark.parametrize("index", PANDAS_INDEXES)
def test_pandas_frames(index: str) -> None:
    frame = pandas_frame().set_index(PANDAS_INDEXES[index])
    assert_exact([frame, None, frame.iloc[:2], frame.iloc[:0]])
    assert_exact([frame["nan"], frame["nan"].iloc[1:]])
    assert_exact([frame.rename(columns={"nan": 7}), frame.rename(columns={"nan": 7})])


def with_attrs(frame: pd.DataFrame) -> pd.DataFrame:
    frame.attrs["unit"] = "m"
    return frame


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.Categorical(["x", "y"], categories=["y", "x", "z"])}),
        pd.DataFrame({"a": [1, "x"]}),
        pd.DataFrame({"a": [1, 2]}, dtype=object),
        pd.DataFrame({"a": pd.Series(["a", math.nan], dtype=object)}),
        pd.DataFrame({"a": pd.Series([0, 1], dtype="Sparse[int]")}),
        pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="M")}),
        pd.DataFrame({"a": [1j, 2]}),
        pd.DataFrame({"a": np.array([1, 2], "M8[s]")}),
        pd.DataFrame({"a": np.array([1, 2], np.float16)}),
        pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
        pd.DataFrame([[1, 2.5]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
        pd.DataFrame([[1, 2.5]], columns=pd.Index(["a", "b"], name="kind")),
        pd.DataFrame([[1]]),
        pd.DataFrame({"a": pd.array([1.5, None], dtype="Float64")}),
        pd.DataFrame({"a": pd.array([True, None], dtype="boolean")}),
        pd.DataFrame({"a": pd.array(["a", None], dtype="string")}),
        pd.DataFrame({"a": pd.array([1, None], dtype=pd.ArrowDtype(pa.int32()))}),
        pd.DataFrame(index=range(3)),
        pd.DataFrame(),
        with_attrs(pd.DataFrame({"a": [1]})),
        pd.Series([1, 2], name=("a", 1)),
        pd.Series(["a", "b"], dtype=object),
    ],
)
def test_odd_pandas_frames(frame: Any) -> None:
    assert_exact([frame])
    assert getattr(back([frame])[0], "attrs", None) == frame.attrs


def test_what_comes_back_can_be_changed() -> None:
    array, frame = back([np.arange(3.0)])[0], back([pandas_frame()])[0]
    array[0] = 7
    frame.iloc[0, 0] = 7
    assert (array[0], frame.iloc[0, 0]) == (7, 7)


# --- classes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Odd(1),
        Stateful(3),
        Listing(4),
        Frozen(Level.LOW, "b"),
        Loss(True, 1.0),  # type: ignore[arg-type]
        Text("a"),
        OrderedDict(a=1),
        {Text("a"): 1},
        {"a": {"b": {}}},
        (),
        [[]],
        tuple(range(50)),
        np.datetime64("NaT", "s"),
        np.ones(3, ">f4"),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array(["NaT"], "M8[D]"),
        np.array([1 << 40], "M8[D]"),
        np.array([1, -1], "M8[s]"),
        np.array([1 << 61], "M8[s]"),
        np.array([1, "NaT"], "m8[s]"),
        np.datetime64("2020-01-01"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        datetime(2024, 3, 31, 2, 30, tzinfo=ZoneInfo("Europe/Paris")),  # a time that never was
        "\ud800",
        2**63,
    ],
    ids=repr,
)
def test_values_that_could_be_taken_for_others(value: Any) -> None:
    assert_exact([value])
    assert_exact([value, None, value])
    assert_exact([value, 1])
    assert_exact([{"a": value, "b": 1}])


def test_state_beside_the_fields_is_kept() -> None:
    loss = Loss(2020, 1.5)
    loss.note = "n"  # type: ignore[attr-defined]
    assert vars(back([loss])[0]) == vars(loss)


def test_lists_that_contain_themselves() -> None:
    ring: list[Any] = []
    ring += [ring] * 1000
    (once,) = decode(stored([ring])).values
    assert once[999] is once


def test_a_class_defined_in_a_function() -> None:
    @dataclass
    class Local:
        a: int

    (value,) = decode(stored([Local(1)])).values
    assert (type(value), value.a) == (Local, 1)


@pytest.fixture
def deals(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that readers do not have, once `monkeypatch.undo()` was called."""
    module = ModuleType("deals")
    monkeypatch.setitem(sys.modules, "deals", module)
    source = "from typing import NamedTuple; from enum import Enum\nclass Deal(NamedTuple):\n  id: int"
    exec(source + "\nclass Kind(Enum):\n  CAT = 1", vars(module))
    return module


@pytest.mark.parametrize("nested", [lambda x: x, lambda x: {"a": x, "b": 1}, lambda x: [x]])
@pytest.mark.parametrize("name", ["Deal", "Kind"])
def test_without_its_class_a_value_is_lost_at_its_place(
    deals: Any, monkeypatch: pytest.MonkeyPatch, name: str, nested: Any
) -> None:
    table = stored([nested(getattr(deals, name)(1)), None])
    monkeypatch.undo()
    _, values, failures, _ = decode(table)
    assert (values, list(failures), failures[0].kind) == ([None, None], [0], "lost")
    assert "task 5 ran, but its result is lost" in failures[0].message
    assert "No module named 'deals'" in failures[0].message


def test_a_missing_class_is_named(deals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = stored([deals.Deal(1)])
    monkeypatch.undo()
    assert "the class deals.Deal cannot be loaded" in decode(table).failures[0].message


def test_one_pickle_that_cannot_be_loaded_spoils_no_other(deals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = stored([{1}, deals.Kind(1), "b"])
    monkeypatch.undo()
    assert decode(table).values == [{1}, None, "b"]


@pytest.mark.parametrize("bad", [(x for x in "a"), {"a": 1, "b": (x for x in "a")}])
def test_one_value_that_cannot_be_pickled_spoils_no_other(bad: Any) -> None:
    good = {"a": 2, "b": "b"}
    _, values, failures, _ = decode(stored([good, bad, good]))
    assert (values, list(failures), failures[1].kind) == ([good, None, good], [1], "lost")
    assert "task 6 ran" in failures[1].message
    assert "cannot be pickled" in failures[1].message


# --- failures, tasks, info ---------------------------------------------------------------------------

FAILURE = Failure("raised", "boom \ud800", b"\x00", "Traceback", "log", True, "Deal(1)", 3)


@pytest.mark.parametrize(
    "value",
    [1, "a", {"x": 1}, Deal(1, 2.0), {1}, np.arange(3), arrow_table(), POLARS, pandas_frame(), None],
    ids=lambda v: type(v).__name__,
)
def test_failures_keep_their_place(value: Any) -> None:
    values = [object(), value, None, value, object()]
    failures = {0: FAILURE, 4: Failure("lost", "")}
    tasks, found, failed, info = decode(stored(values, failures=failures, info={"seconds": [1.5]}))
    assert same(found, [None, value, None, value, None])
    assert (tasks, info) == (range(5, 10), {"seconds": [1.5]})
    assert failed == {
        0: Failure("raised", "boom \\ud800", b"\x00", "Traceback", "log", True, "Deal(1)", 3),
        4: Failure("lost", ""),
    }


def test_all_failed_and_no_tasks() -> None:
    failures = {at: Failure("timeout", f"task {at}") for at in range(3)}
    assert decode(stored([None] * 3, failures=failures))[1:3] == ([None] * 3, failures)
    assert decode(stored([])) == (range(5, 5), [], {}, {})


@pytest.mark.parametrize("value", [1.5, {1}, pa.table({"a": [1, 2]}), Deal(1, 2.0)], ids=repr)
@pytest.mark.parametrize("tasks", [range(7, 9), [3, 11], range(0, 4, 2), np.array([1, 2])], ids=repr)
def test_tasks_come_back(tasks: Any, value: Any) -> None:
    table = from_parquet(to_parquet(encode(tasks, [value, value])))
    assert list(decode(table).tasks) == list(tasks)
    assert set(table.column("task").to_pylist()) == set(tasks)


def test_what_is_not_ours_is_refused() -> None:
    with pytest.raises(StoreError, match="no results of fnmap"):
        decode(pa.table({"task": [1]}))
    with pytest.raises(StoreError, match="cannot be read as Parquet"):
        from_parquet(b"PAR1 it is not")
    with pytest.raises(StoreError, match="format 99"):
        decode(encode([1], [1]).replace_schema_metadata({"fnmap": '{"format": 99}'}))


def test_a_memory_map_is_read_where_it_lies(tmp_path: Any) -> None:
    path = tmp_path / "part.parquet"
    path.write_bytes(to_parquet(encode(range(2), [b"a", b"b"])))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert decode(from_parquet(mapped)).values == [b"a", b"b"]


def test_columns_and_cells_over_2_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "_LARGE_BYTES", 50)
    monkeypatch.setattr(arrow, "MAX_CELL_BYTES", 300)
    assert_exact(["a" * 30, "\u00e9" * 15, None])
    assert_exact([{"a" * 10}, {"b" * 10}, {"c"}])
    _, values, failures, _ = decode(stored(["a" * 301, "b"]))
    assert (values, list(failures)) == ([None, "b"], [0])
    assert "more than 2 GiB must be returned in parts" in failures[0].message


# --- what other tools see ----------------------------------------------------------------------------

VIEWS = [
    ([1.5, None], [(5, 1.5), (6, None)], "task value"),
    ([0, 0.5], [(5, 0.0), (6, 0.5)], "task value"),
    ([Deal(1, 2.5), Deal(2, 0.5)], [(5, 1, 2.5), (6, 2, 0.5)], "task id price"),
    ([Loss(1, 2.0), Loss(2, 3.0, "u")], [(5, 1, 2.0, "t"), (6, 2, 3.0, "u")], "task year loss task_"),
    ([{"Task": 1, "error": "e", "": 2}], [(5, 1, "e", 2)], "task Task_ error_ _"),
    ([("a", 1)], [(5, "a", 1)], "task value_0 value_1"),
    ([{"a": 1, "b": {1}}], [(5, 1, b"...")], "task a b_pickle"),
    ([np.arange(2), np.arange(1)], [(5, [0, 1]), (6, [0])], "task value"),
    ([[Deal(1, 2.0)], []], [(5, [{"id": 1, "price": 2.0}]), (6, [])], "task value"),
    ([np.float32(1.5), None], [(5, 1.5), (6, None)], "task value"),
    ([Decimal("1.50")], [(5, Decimal("1.50"))], "task value"),
    ([date(2020, 1, 2)], [(5, date(2020, 1, 2))], "task value"),
    ([pa.table({"task": [1, 2]}), pa.table({"task": [3]})], [(5, 1), (5, 2), (6, 3)], "task task_"),
    ([POLARS.select("text")], [(5, "a"), (5, None)], "task text"),
    ([pd.DataFrame({"a": [1]}, index=["i"])], [(5, 1, "i")], "task a index"),
]


@pytest.mark.parametrize("write", [to_parquet, as_if_large], ids=["small", "large"])
@pytest.mark.parametrize(("values", "rows", "names"), VIEWS, ids=[view[2] for view in VIEWS])
def test_other_tools_see_real_columns(tmp_path: Any, values: Any, rows: Any, names: str, write: Any) -> None:
    path = tmp_path / "part.parquet"
    path.write_bytes(write(encode(range(5, 5 + len(values)), values)))
    ducks = duckdb.sql(f"select * from '{path}'")
    polar, pandas = pl.read_parquet(path), pd.read_parquet(path)
    assert ducks.columns == polar.columns == list(pandas) == names.split()
    assert pandas["task"].tolist() == [row[0] for row in rows]
    if "pickle" not in names:
        assert same(ducks.fetchall(), rows)
        assert same(polar.rows(), rows)


def test_numbers_of_large_tables_are_encoded_by_what_they_are() -> None:
    columns = {
        "whole": np.arange(9000), "like": np.arange(9000.0), "unlike": np.tile([0, 0, 0.1, 1 / 3], 2250),
        "text": ["a"] * 9000, "list": [[1]] * 9000, "struct": [{"at": 0.5}] * 9000,
    }  # fmt: skip
    group = pq.ParquetFile(pa.BufferReader(to_parquet(encode([0], [pa.table(columns)])))).metadata.row_group(0)
    leaves = [group.column(at) for at in range(group.num_columns)]
    found = {leaf.path_in_schema: (*set(leaf.encodings) - {"RLE"}, leaf.compression) for leaf in leaves}
    differences, bytes_apart, plain = ("DELTA_BINARY_PACKED", "LZ4"), ("BYTE_STREAM_SPLIT", "LZ4"), ("PLAIN", "LZ4")
    assert found == {
        "task": differences, "whole": differences, "like": bytes_apart, "unlike": plain,
        "text": ("PLAIN", "ZSTD"), "list.list.element": differences, "struct.at": plain,
    }  # fmt: skip


def test_other_tools_read_the_ends_of_the_numbers(tmp_path: Any) -> None:
    ends = [-(2**63), 2**63 - 1, 0, None, 2**63 - 1, -(2**63)]
    path = tmp_path / "part.parquet"
    path.write_bytes(as_if_large(encode(range(6), ends)))
    assert duckdb.sql(f"select value from '{path}'").fetchall() == [(end,) for end in ends]
    assert pl.read_parquet(path)["value"].to_list() == ends


def test_columns_that_share_a_path_come_back() -> None:
    values = [pa.table({"a": [{"b": 1}], "a.b": ["text"]})]
    assert same(decode(from_parquet(as_if_large(encode([0], values)))).values, values)


def test_messages_can_be_queried(tmp_path: Any) -> None:
    path = tmp_path / "part.parquet"
    path.write_bytes(to_parquet(encode(range(2), [1, None], {1: FAILURE})))
    query = f"select task, error, failure.kind from '{path}' where error is not null"
    assert duckdb.sql(query).fetchall() == [(1, "boom \\ud800", "raised")]
    assert pl.read_parquet(path)["error"].to_list() == [None, "boom \\ud800"]
    assert pd.read_parquet(path)["error"][1] == "boom \\ud800"


# --- many chunks -------------------------------------------------------------------------------------


def chunks(*parts: list[Any]) -> list[pa.Table]:
    starts = [sum(map(len, parts[:at])) for at in range(len(parts))]
    chunk = [encode(range(start, start + len(part)), part) for start, part in zip(starts, parts, strict=True)]
    return [from_parquet(to_parquet(table)) for table in chunk]


COMBINED: list[tuple[list[list[Any]], dict[str, list[Any]]]] = [
    ([[1], [0.5], [None]], {"value": [1.0, 0.5, None]}),
    ([[None], [None]], {"value": [None, None]}),
    ([[1], ["a"]], {"value": [1, None], "value_string": [None, "a"]}),
    ([["a"], [b"b"]], {"value": ["a", None], "value_binary": [None, b"b"]}),
    ([[None], [Deal(1, 2.0)]], {"id": [None, 1], "price": [None, 2.0]}),
    ([[{"a": 1}], [{"a": None, "b": [1]}]], {"a": [1, None], "b": [None, [1]]}),
    (
        [[Decimal("1.5")], [Decimal("0.25")], [1]],
        {"value": [Decimal("1.50"), Decimal("0.25"), Decimal("1.00")]},
    ),
    ([[[1]], [[0.5]]], {"value": [[1.0], [0.5]]}),
    ([[np.uint64(2**64 - 1)], [-1]], {"value": [2**64 - 1, None], "value_int64": [None, -1]}),
    ([[2**53 + 1], [0.5]], {"value": [2.0**53, 0.5]}),
]


@pytest.mark.parametrize(("parts", "columns"), COMBINED, ids=[str(parts) for parts, _ in COMBINED])
def test_chunks_of_several_types_are_one_table(parts: Any, columns: Any) -> None:
    tables = chunks(*parts)
    expected = {"task": list(range(len(parts))), **columns}
    assert same(combine(tables).to_pydict(), expected)
    assert combine(reversed(tables)).column("task").to_pylist() == expected["task"]


def test_pickles_stand_beside_values() -> None:
    table = combine(chunks([1.5], [{1}]))
    assert table.column_names == ["task", "value", "pickle"]
    assert pickle.loads(table["pickle"][1].as_py()) == {1}


def test_a_combined_table_is_clean() -> None:
    failed = encode([3], [None], {0: FAILURE})
    table = combine([encode([0, 4], [1.5, 2.5]), failed, encode([2, 1], [0.5, None])])
    assert table.to_pydict() == {
        "task": [0, 1, 2, 3, 4],
        "value": [1.5, None, 0.5, None, 2.5],
        "error": [None, None, None, "boom \\ud800", None],
    }
    assert table.schema.metadata is None


def test_pandas_is_not_imported_for_values_of_other_kinds() -> None:
    code = """if True:
        import sys, datetime, decimal, numpy
        from fnmap.format.table import Failure, combine, decode, encode, from_parquet, to_parquet
        now, one = datetime.datetime.now(), decimal.Decimal(1)
        kinds = [1, 0.5, 'a', b'a', {1}, now, now.date(), now.time(), one, numpy.arange(2), numpy.float32(1)]
        for values in [[None, kind] for kind in kinds] + [[{'a': kinds[:3], 'b': 1}] * 2, [1, 0.5], [True] * 2]:
            table = encode(range(2), values, {0: Failure('raised', 'boom')})
            decode(from_parquet(to_parquet(table)))
            combine([table, table])
        assert 'pandas' not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_chunks_are_an_empty_table() -> None:
    assert combine([]).column_names == combine([encode([], [])]).column_names == ["task", "value"]


def test_tables_are_combined_without_copies() -> None:
    one = pa.table({"a": np.arange(1000.0)})
    whole = combine([encode([at], [one]) for at in range(3)])
    assert whole.num_rows == 3000
    assert whole["a"].chunk(2).buffers()[1].address == one["a"].chunk(0).buffers()[1].address
