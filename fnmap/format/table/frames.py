"""Tables as values: Arrow tables and batches, pandas and polars frames <-> rows of one Arrow table.

All tables of a chunk must have one schema, of types that Parquet gives back as they were; anything else
is left to be pickled. pandas and polars are imported only where such a value is met.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fnmap.format.table.records import distinct
from fnmap.format.table.spec import Spec, binary, pack, text, unpack

_EXACT = {
    *map(pa.type_for_alias, ("null", "bool", "float32", "float64", "date32", "time32[ms]")),
    *map(pa.type_for_alias, ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")),
    *map(pa.type_for_alias, ("string", "large_string", "binary", "large_binary")),
    *map(pa.type_for_alias, ("time64[us]", "time64[ns]")),
    *map(pa.duration, ("s", "ms", "us", "ns")),
}


class Frames(NamedTuple):
    """A table per value (None for None), all with the same columns, and how to read them back."""

    tables: list[Any]
    spec: Spec


def encode(values: Sequence[Any], kind: type[Any], dumps: Callable[[Any], bytes]) -> Frames | None:
    """`values` (of type `kind`, or None) as Arrow tables with real columns, or None if that is not exact."""
    name = _name(kind)
    if name is None:
        return None
    try:
        found = _READERS[name]([v for v in values if v is not None], dumps)
    except Exception:  # whatever pandas or polars cannot turn into Arrow is pickled
        return None
    if found is None:
        return None
    tables, more = found
    schema = tables[0].schema
    if not len(schema) or not all(map(_keeps, schema.types)):
        return None
    if not all(table.schema.equals(schema, check_metadata=True) for table in tables):
        return None
    columns = distinct(schema.names)
    spec = {"as": name, "schema": text(schema.serialize().to_pybytes()), "columns": columns, **more}
    stream = (table.rename_columns(columns) for table in tables)
    return Frames([None if v is None else next(stream) for v in values], spec)


def decode(table: Any, spans: Sequence[Span], spec: Spec, loads: Callable[[Any], Any]) -> list[Any]:
    """The inverse: a value for each span of the rows of `table`, and None for None."""
    schema = pa.ipc.read_schema(pa.py_buffer(binary(spec["schema"])))
    fields = zip(map(table.column, spec["columns"]), schema.types, strict=True)
    arrays = [column if column.type == kind else column.cast(kind) for column, kind in fields]
    whole = pa.Table.from_arrays(arrays, schema=schema)
    make = _MAKERS[spec["as"]](spec, loads)
    return [None if span is None else make(whole.slice(*span)) for span in spans]


Span = tuple[int, int] | None  # first row, number of rows
Found = tuple[list[Any], Spec]
Make = Callable[[Any], Any]  # called for each value's rows, in order


def _name(kind: type[Any]) -> str | None:
    if kind in (pa.Table, pa.RecordBatch):
        return f"arrow.{kind.__name__}"
    library = sys.modules.get(kind.__module__.partition(".")[0])
    name = f"{getattr(library, '__name__', '')}.{kind.__name__}"
    return name if name in _READERS and getattr(library, kind.__name__, None) is kind else None


def _keeps(kind: Any) -> bool:
    """Whether Parquet gives back exactly this Arrow type, and a failed task's row can be null in it."""
    if pa.types.is_timestamp(kind):
        return bool(kind.unit != "s")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _keeps(kind.value_type) and bool(kind.value_field.nullable)
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_keeps(field.type) and field.nullable for field in kind)
    return kind in _EXACT or pa.types.is_decimal128(kind)


def _read_arrow(values: list[Any], _dumps: Callable[[Any], bytes]) -> Found:
    return [v if isinstance(v, pa.Table) else pa.Table.from_batches([v]) for v in values], {}


def _make_table(_spec: Spec, _loads: Callable[[Any], Any]) -> Make:
    return lambda table: table


def _make_batch(_spec: Spec, _loads: Callable[[Any], Any]) -> Make:
    def make(table: Any) -> Any:
        columns = [column.combine_chunks() for column in table.columns]
        return pa.RecordBatch.from_arrays(columns, schema=table.schema)

    return make


def _read_polars(values: list[Any], _dumps: Callable[[Any], bytes]) -> Found | None:
    pl = sys.modules["polars"]
    if any(dtype.is_(pl.Object) for value in values for dtype in value.dtypes):
        return None
    tables = [value.to_arrow(compat_level=pl.CompatLevel.oldest()) for value in values]
    back = pl.from_arrow(tables[0].schema.empty_table())
    return (tables, {}) if all(value.schema == back.schema for value in values) else None


def _make_polars(_spec: Spec, _loads: Callable[[Any], Any]) -> Make:
    from_arrow: Make = import_module("polars").from_arrow
    return from_arrow


def _read_pandas(values: list[Any], dumps: Callable[[Any], bytes]) -> Found | None:
    """Frames or series. An empty one goes along as the model of dtypes, labels and index."""
    model = values[0].iloc[:0]
    if not all(_is_like(value, model) for value in values):
        return None
    if not all(isinstance(d, np.dtype) or hasattr(d, "__from_arrow__") for d in _dtypes(model)):
        return None
    tables = [_pandas_to_arrow(value) for value in values]
    spec: Spec = {"model": text(dumps(model))}
    if _has_range(model):
        ranges = [(v.index.start, v.index.stop, v.index.step) for v in values]
        spec["ranges"] = pack(np.array(ranges, np.int64))
    for at, (value, table) in enumerate(zip(values, tables, strict=True)):
        bounds = ranges[at] if _has_range(model) else None
        if not _is_same(_arrow_to_pandas(table, model, bounds), value):
            return None
    return tables, spec


def _dtypes(value: Any) -> list[Any]:
    return [value.dtype] if value.ndim == 1 else list(value.dtypes)


def _has_range(value: Any) -> bool:
    return isinstance(value.index, sys.modules["pandas"].RangeIndex)


def _is_like(value: Any, model: Any) -> bool:
    """Whether `value` has the dtypes, labels and kind of index of `model`, and no state besides."""
    if value.attrs or not value.flags.allows_duplicate_labels or value.index.nlevels > 1:
        return False
    one, other = value.index, model.index
    if type(one) is not type(other) or one.dtype != other.dtype or one.names != other.names:
        return False
    if _dtypes(value) != _dtypes(model):
        return False
    return bool(value.name == model.name if value.ndim == 1 else value.columns.identical(model.columns))


def _is_same(back: Any, value: Any) -> bool:
    """Whether pandas data came back the same; its column labels come from the model."""
    same_freq = getattr(back.index, "freq", None) == getattr(value.index, "freq", None)
    return bool(same_freq and back.index.identical(value.index) and back.equals(value))


def _pandas_to_arrow(value: Any) -> Any:
    columns = [value] if value.ndim == 1 else [value.iloc[:, at] for at in range(value.shape[1])]
    names = ["value" if label is None else str(label) for label in (column.name for column in columns)]
    if not _has_range(value):
        columns.append(value.index)
        names.append("index" if value.index.name is None else str(value.index.name))
    return pa.Table.from_arrays(list(map(_column_to_arrow, columns)), names)


def _column_to_arrow(column: Any) -> Any:
    if not isinstance(column.dtype, np.dtype):
        return pa.array(column.array)
    cells = column.to_numpy()
    if cells.dtype.kind == "O":
        if set(map(type, cells)) - {str, type(None)}:
            raise TypeError("a column of Python objects other than str")
        return pa.array(list(cells), pa.string())
    return pa.array(cells)


def _arrow_to_pandas(table: Any, model: Any, bounds: Sequence[int] | None) -> Any:
    """A frame or series like `model`; its index is the range `bounds`, or the last column."""
    pd = import_module("pandas")
    arrays = [column.combine_chunks() for column in table.columns]
    name = model.index.name
    if bounds is not None:
        index = pd.RangeIndex(*bounds, name=name)
    else:
        index = pd.Index(_arrow_to_cells(arrays.pop(), model.index.dtype), dtype=model.index.dtype, name=name)
        if getattr(model.index, "freq", None) is not None:
            index.freq = model.index.freq
    dtypes = _dtypes(model)
    cells = [_arrow_to_cells(array, dtype) for array, dtype in zip(arrays, dtypes, strict=True)]
    if model.ndim == 1:
        return pd.Series(cells[0], index=index, name=model.name, dtype=model.dtype, copy=True)
    series = [pd.Series(c, index=index, dtype=dtype) for c, dtype in zip(cells, dtypes, strict=True)]
    frame = pd.DataFrame(dict(enumerate(series)), index=index)
    frame.columns = model.columns
    return frame


def _arrow_to_cells(array: Any, dtype: Any) -> Any:
    if isinstance(dtype, np.dtype):
        return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return dtype.__from_arrow__(array)


def _make_pandas(spec: Spec, loads: Callable[[Any], Any]) -> Make:
    model = loads(binary(spec["model"]))
    if "ranges" not in spec:
        return lambda table: _arrow_to_pandas(table, model, None)
    ranges = iter(unpack(spec["ranges"], np.int64).reshape(-1, 3).tolist())
    return lambda table: _arrow_to_pandas(table, model, next(ranges))


_READERS: dict[str, Callable[[list[Any], Callable[[Any], bytes]], Found | None]] = {
    "arrow.Table": _read_arrow,
    "arrow.RecordBatch": _read_arrow,
    "polars.DataFrame": _read_polars,
    "pandas.DataFrame": _read_pandas,
    "pandas.Series": _read_pandas,
}
_MAKERS: dict[str, Callable[[Spec, Callable[[Any], Any]], Make]] = {
    "arrow.Table": _make_table,
    "arrow.RecordBatch": _make_batch,
    "polars.DataFrame": _make_polars,
    "pandas.DataFrame": _make_pandas,
    "pandas.Series": _make_pandas,
}
