"""How the values of a chunk become columns: one column, a column a field, tables' own, or pickles."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import chain
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fnmap.format.table import arrow, columns, frames, records
from fnmap.format.table.columns import Dumps, Loads
from fnmap.format.table.spec import Column, Spec, pack, unpack


class Layout(NamedTuple):
    """Columns for values. `counts`: rows per value (-1 for None), where that is not one row each.
    `lost`: why the values at some positions have no place in the columns."""

    columns: dict[str, Any]
    spec: Spec
    counts: Any = None
    lost: Mapping[int, str] = MappingProxyType({})


def lay_out(cells: list[Any], failed: Container[int], dumps: Dumps) -> Layout:
    """The columns for a chunk's values, which are None where the task has failed."""
    kinds = set(map(type, cells))
    if len(kinds - {NoneType}) == 1:
        (kind,) = kinds - {NoneType}
        if found := frames.encode(cells, kind, dumps):
            return _lay_out_frames(found, failed)
        if (split := records.split(cells, kind, dumps)) and (layout := _lay_out_fields(split, cells, dumps)):
            return layout
    if column := columns.encode(cells, dumps, kinds):
        return Layout({"value": column.array}, {"layout": "value", "spec": column.spec})
    array, lost = columns.encode_pickles(cells, dumps)
    return Layout({"pickle": array}, {"layout": "pickle"}, lost=lost)


def _lay_out_fields(split: records.Split, cells: list[Any], dumps: Dumps) -> Layout | None:
    """A column a field, or None if no field is typed."""
    found = [columns.encode(field, dumps) for field in split.fields]
    if not any(found):
        return None
    names, lost = [], dict[int, str]()
    for at, (name, column) in enumerate(zip(split.shape["names"], found, strict=True)):
        names.append(name if column else f"{name}_pickle")
        if column is None:
            array, why = columns.encode_pickles(split.fields[at], dumps)
            found[at] = Column(array, {"as": "pickle"})
            lost |= {row: f"field {name!r}: {reason}" for row, reason in why.items()}
    names = records.distinct(names)
    whole = [column for column in found if column]
    spec: Spec = {"layout": "fields", "shape": split.shape, "columns": names}
    spec["specs"] = [column.spec for column in whole]
    if nones := [at for at, cell in enumerate(cells) if cell is None]:
        spec["none"] = pack(np.array(nones, np.int64))
    return Layout({name: column.array for name, column in zip(names, whole, strict=True)}, spec, lost=lost)


def _lay_out_frames(found: frames.Frames, failed: Container[int]) -> Layout:
    """The rows of all tables, with one row of nulls for a failed task."""
    names = found.spec["columns"]
    types = next(table.schema.types for table in found.tables if table is not None)
    nulls = pa.Table.from_arrays([pa.nulls(1, kind) for kind in types], names)
    tables = [nulls if at in failed else table for at, table in enumerate(found.tables)]
    counts = np.array([-1 if table is None else len(table) for table in tables], np.int64)
    present = [table for table in tables if table is not None]
    joined = {}
    for at, (name, kind) in enumerate(zip(names, types, strict=True)):
        chunks = chain.from_iterable(table.column(at).chunks for table in present)
        joined[name] = pa.chunked_array(chunks, kind)
    return Layout(joined, {"layout": "tables", "spec": found.spec}, counts)


Read = tuple[list[Any], dict[int, str]]  # values, and why some are lost


def read(table: Any, meta: Spec, length: int, failed: Sequence[int], loads: Loads) -> Read:
    """The inverse of `lay_out`: `length` values, None at the positions in `failed`."""
    present = _present(table, meta, length)
    present[failed] = False
    try:
        return _READERS[meta["layout"]](table, meta, present, loads)
    except Exception as error:  # loading runs the user's imports
        why = f"it cannot be rebuilt here: {type(error).__name__}: {error}"
        return [None] * length, dict.fromkeys(np.flatnonzero(present).tolist(), why)


def _present(table: Any, meta: Spec, length: int) -> Any:
    """Which tasks have a value other than None, shape (length,)."""
    if "rows" in meta:
        return unpack(meta["rows"], np.int64) >= 0
    if meta["layout"] != "fields":
        return np.concatenate([np.zeros(0, bool), *map(arrow.valid, table.column(meta["layout"]).chunks)])
    present = np.ones(length, bool)
    if "none" in meta:
        present[unpack(meta["none"], np.int64)] = False
    return present


def _read_value(table: Any, meta: Spec, _present: Any, loads: Loads) -> Read:
    return columns.decode(table.column("value"), meta["spec"], loads), {}


def _read_pickle(table: Any, _meta: Spec, _present: Any, loads: Loads) -> Read:
    return columns.decode_pickles(table.column("pickle"), loads)


def _read_fields(table: Any, meta: Spec, present: Any, loads: Loads) -> Read:
    fields, lost = [], dict[int, str]()
    for name, spec in zip(meta["columns"], meta["specs"], strict=True):
        if spec["as"] == "pickle":
            field, whys = columns.decode_pickles(table.column(name), loads)
            lost |= {at: f"column {name!r}: {why}" for at, why in whys.items()}
        else:
            field = columns.decode(table.column(name), spec, loads)
        fields.append(field)
    values = records.build(records.Split(meta["shape"], fields), present.tolist(), loads)
    for at in lost:
        values[at] = None
    return values, lost


def _read_tables(table: Any, meta: Spec, present: Any, loads: Loads) -> Read:
    counts = unpack(meta["rows"], np.int64)
    rows = np.maximum(counts, 0)
    spans = zip((np.cumsum(rows) - rows).tolist(), rows.tolist(), present.tolist(), strict=True)
    chosen = [(start, count) if there else None for start, count, there in spans]
    return frames.decode(table, chosen, meta["spec"], loads), {}


_READERS = {"value": _read_value, "pickle": _read_pickle, "fields": _read_fields, "tables": _read_tables}
