"""Some columns of the results of a chunk, without reading the others."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fnmap.errors import Damaged, UsageError
from fnmap.format.footer import check_footer
from fnmap.format.table import columns
from fnmap.format.table.chunk import decode, loads_of, read_meta
from fnmap.format.table.parquet import from_parquet
from fnmap.format.table.spec import Spec, unpack


def select(buffer: Any, chosen: str | tuple[str, ...]) -> list[Any]:
    """For each task of a part, one column of its result, or some.

    Of a result that is a table: a numpy array, or an Arrow table of the columns. Of a row (dict, dataclass,
    named tuple): the field's value, or a dict. Of None: None. Raises UsageError if there is no such column.
    """
    names = [chosen] if isinstance(chosen, str) else list(chosen)
    check_footer(buffer)
    try:
        with pq.ParquetFile(pa.BufferReader(pa.py_buffer(buffer)), page_checksum_verification=True) as file:
            meta: Spec = json.loads(file.metadata.metadata[b"fnmap"])
            if meta["layout"] in ("tables", "fields"):
                there = _columns(meta, names)
                table = file.read(columns=list(there.values()), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"a result object cannot be read as Parquet: {error}") from error
    if meta["layout"] not in ("tables", "fields"):
        table = from_parquet(buffer)
    return of_table(table, chosen, meta)


def of_table(table: Any, chosen: str | tuple[str, ...], meta: Spec | None = None) -> list[Any]:
    """The same of a table that is in memory; with `meta` of one that has no other columns, and no metadata."""
    names, meta = [chosen] if isinstance(chosen, str) else list(chosen), meta or read_meta(table)
    there = _columns(meta, names) if meta["layout"] in ("tables", "fields") else {}
    if meta["layout"] == "tables":
        return _of_tables(table, meta, names, chosen)
    if meta["layout"] == "fields":
        fields = [_field(table, meta, there[name]) for name in names]
        values = fields[0] if isinstance(chosen, str) else _rows(names, fields)
        for at in unpack(meta["none"], np.int64).tolist() if "none" in meta else ():
            values[at] = None
        return values
    values = decode(table, loads=pickle.loads).values
    return [_of_object(value, names, chosen) for value in values]


def _columns(meta: Spec, names: Sequence[str]) -> dict[str, str]:
    """Column in the file by name."""
    there = meta["spec"]["columns"] if meta["layout"] == "tables" else meta["columns"]
    found = {name: next((c for c in (name, f"{name}_pickle") if c in there), "") for name in names}
    if missing := [name for name, column in found.items() if not column]:
        raise UsageError(f"the results have no column {missing[0]!r}; they have {', '.join(there)}")
    return found


def _of_tables(table: Any, meta: Spec, names: Sequence[str], chosen: str | tuple[str, ...]) -> list[Any]:
    noted = unpack(meta["rows"], np.int64)
    counts = np.maximum(noted, 0)
    starts = (np.cumsum(counts) - counts).tolist()
    picked = table.select(names)
    tables = [picked.slice(*span) if span[1] >= 0 else None for span in zip(starts, noted.tolist(), strict=True)]
    return [None if t is None else t.column(0).to_numpy() for t in tables] if isinstance(chosen, str) else tables


def _rows(names: Sequence[str], fields: Sequence[list[Any]]) -> list[Any]:
    return [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]


def _field(table: Any, meta: Spec, column: str) -> list[Any]:
    spec, loads = meta["specs"][meta["columns"].index(column)], loads_of(meta, pickle.loads)
    if spec["as"] == "pickle":
        return columns.decode_pickles(table.column(column), loads)[0]
    return columns.decode(table.column(column), spec, loads)


def _of_object(value: Any, names: Sequence[str], chosen: str | tuple[str, ...]) -> Any:
    if value is None:
        return None
    try:
        by_name = hasattr(value, "__getitem__") and not isinstance(value, tuple)
        picked = {name: value[name] if by_name else getattr(value, name) for name in names}
    except (LookupError, TypeError, AttributeError) as error:
        what = type(value).__qualname__
        raise UsageError(f"a result, a {what}, has no column {names}: {type(error).__name__}: {error}") from error
    return picked[chosen] if isinstance(chosen, str) else picked
