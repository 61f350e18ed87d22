"""The results of a run as Arrow tables and datasets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from fnmap.format.call import Failure
from fnmap.format.parts import encode_part, read_table
from fnmap.format.table import combine
from fnmap.stage import Part
from fnmap.storage.base import GetRange, Store
from fnmap.storage.many import for_each

Failures = Mapping[int, Failure]
READERS = 8  # parts read at the same time: no slower on two cores than two of them, and a far store is slow to answer


def live_table(parts: Sequence[Part], total: int, failures: Failures, *, skip: bool) -> Any:
    """One table of results that this process holds. Failed tasks have a row with their `error`, or none."""
    values: list[Any] = [None] * total
    for part in parts:
        for position, task in enumerate(part.tasks):
            if position not in part.failures:
                values[task] = part.values[position]
    if skip and failures:
        tasks = [t for t in range(total) if t not in failures]
        return combine([encode_part(tasks, [values[t] for t in tasks], {})])
    plain = {t: replace(f, exception=None) for t, f in failures.items()}
    return combine([encode_part(range(total), values, plain)])


def stored_table(store: Store, parts: Sequence[Part], failures: Collection[int], *, skip: bool) -> Any:
    """One table of committed parts. Of a task that failed before it succeeded, only the success is there."""

    def read(part: Part) -> Any:
        if part.rows is not None:  # of another run: some of its results, with other numbers
            return encode_part(part.tasks, list(part.values), {})
        return _current(read_table(store, str(part.key)), failures, skip=skip)

    return combine(for_each(store, read, parts, least=READERS))


def _current(table: Any, failures: Collection[int], *, skip: bool) -> Any:
    if "error" not in table.column_names:
        return table
    return table.filter(_rows(pc.field("task"), pc.field("error"), failures, skip=skip))


def _rows(task: Any, error: Any, failures: Collection[int], *, skip: bool) -> Any:
    """Which rows count: results, and the errors of tasks that have none."""
    ok = error.is_null()
    return ok if skip else ok | task.isin(pa.array(sorted(failures), pa.int64()))


def stored_dataset(store: Any, parts: Sequence[Part], failures: Collection[int], *, skip: bool) -> Any:
    """The committed parts as a dataset that is read when it is asked for something."""
    files, paths = None, [store.url(part.key) for part in parts]
    if isinstance(store, GetRange):
        from fnmap.storage.arrow import file_system

        files, paths = file_system(store), [str(part.key) for part in parts]
    schemas = [s.remove_metadata() for s in for_each(store, lambda p: pq.read_schema(p, filesystem=files), paths)]
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # an int in one part, a text in another: columns of their own
        return pads.dataset(stored_table(store, parts, failures, skip=skip))
    dataset = pads.dataset(paths, schema=schema, format="parquet", filesystem=files)
    if "error" not in schema.names:
        return dataset
    return dataset.filter(_rows(pc.field("task"), pc.field("error"), failures, skip=skip))
