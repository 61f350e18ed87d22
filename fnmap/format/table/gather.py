"""Many chunks' tables as one table for the user: columns of values, in the order of the tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from fnmap.format.table import arrow
from fnmap.format.table.records import distinct

Common = Callable[[Any, Any], Any]  # the type for columns of two types, or None

_OURS = {"task", "value", "error"}


def combine(tables: Iterable[Any]) -> Any:
    """One pyarrow Table of the tables of several chunks, without copying where their columns agree.

    Columns: `task`, those of the values in order of appearance, and `error` if a task failed. Numbers are
    promoted (int to double), missing columns are null; types that have nothing in common stay apart, as
    `value` and `value_string`.
    """
    chunks = sorted(map(_view, tables), key=_first_task)
    if not chunks:
        return _table({"task": pa.nulls(0, pa.int64()), "value": pa.nulls(0)})
    try:
        whole = _concat(chunks, _promoted)
    except pa.ArrowInvalid:  # a number that its promoted type cannot hold
        whole = _concat(chunks, _same)
    tasks = [arrow.to_numpy(chunk, np.int64) for chunk in whole.column("task").chunks if len(chunk)]
    in_order = all(one[-1] <= other[0] for one, other in pairwise(tasks))
    if not in_order or any((part[1:] < part[:-1]).any() for part in tasks):  # chunks that were split
        order = np.argsort(np.concatenate(tasks), kind="stable")
        whole = whole.take(arrow.from_numpy(order, pa.int64()))
    return whole


def _view(table: Any) -> Any:
    """The columns that mean something to the user, as nullable fields without metadata."""
    names = [name for name in table.column_names if name != "failure"]
    if set(names) <= _OURS and "value" in names and pa.types.is_null(table.schema.field("value").type):
        names.remove("value")  # nothing but None: its type is whatever other chunks have
    return _table({name: table.column(name) for name in names})


def _table(columns: dict[str, Any]) -> Any:
    return pa.Table.from_arrays(list(columns.values()), list(columns))


def _first_task(table: Any) -> int:
    return int(table.column("task")[0].as_py()) if len(table) else -1


def _concat(chunks: list[Any], common: Common) -> Any:
    unified = _Unified(common)
    for schema in dict.fromkeys(chunk.schema for chunk in chunks):
        for field in schema:
            unified.add(field.name, field.type)
    return pa.concat_tables(unified.fit(chunks))


class _Unified:
    """The columns of several schemas as one schema."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._names: list[str] = []
        self._types: list[Any] = []
        self._place: dict[tuple[str, Any], int] = {}  # a column as it comes -> where it goes

    def add(self, name: str, kind: Any) -> None:
        """Find or make the column for values of this type under this name."""
        if (name, kind) in self._place:
            return
        for at, known in enumerate(self._types):
            if self._names[at] == name and (common := self._common(known, kind)) is not None:
                self._types[at] = common
                self._place[name, kind] = at
                return
        self._place[name, kind] = len(self._types)
        self._names.append(name)
        self._types.append(kind)

    def fit(self, tables: Iterable[Any]) -> Iterator[Any]:
        """The tables with all the columns: as they are where types agree, else cast, or null."""
        labels = self._labels()
        for table in tables:
            given = {self._place[field.name, field.type]: table.column(field.name) for field in table.schema}
            columns = {}
            for at, (label, kind) in enumerate(zip(labels, self._types, strict=True)):
                column = given.get(at)
                columns[label] = pa.nulls(len(table), kind) if column is None else _cast(column, kind)
            error = columns.pop("error", None)
            if len(columns) == 1:
                columns["value"] = pa.nulls(len(table))
            yield _table(columns if error is None else {**columns, "error": error})

    def _labels(self) -> list[str]:
        """Column names: the first of a name keeps it, another shows its type."""
        seen: set[str] = set()
        labels = []
        for name, kind in zip(self._names, self._types, strict=True):
            word = re.split(r"\W", str(kind))[0]
            labels.append(f"{name}_{word}" if name in seen else name)
            seen.add(name)
        return distinct(labels, ())


def _promoted(one: Any, other: Any) -> Any | None:
    """A type that values of both can be cast to without becoming something else, or None."""
    kinds, is_ = {one, other}, pa.types
    if any(map(is_.is_decimal, kinds)) and all(is_.is_decimal(k) or is_.is_signed_integer(k) for k in kinds):
        return pa.decimal128(38, max(kind.scale for kind in kinds if is_.is_decimal(kind)))
    texts = sum(is_.is_string(kind) or is_.is_large_string(kind) for kind in kinds)
    if texts == 1 and pa.null() not in kinds:
        return None  # Arrow would make text bytes
    if pa.uint64() in kinds and any(map(is_.is_signed_integer, kinds)):
        return None
    try:
        schemas = [pa.schema([("", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def _same(one: Any, other: Any) -> Any | None:
    if pa.null() in (one, other):
        return other if one == pa.null() else one
    return one if one == other else None


def _cast(column: Any, kind: Any) -> Any:
    # an int over 2**53 as a double is near enough for a column that has halves too
    return column if column.type == kind else column.cast(kind, safe=not pa.types.is_floating(kind))
