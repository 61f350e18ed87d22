"""One chunk's results <-> one Arrow table."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa

from fnmap.errors import Damaged, StoreError
from fnmap.format.call import Failure
from fnmap.format.small import FORMAT, KEY, Decoded
from fnmap.format.table import arrow, layout
from fnmap.format.table import failures as failed
from fnmap.format.table.cells import CELLS, dump_cell, load_cell
from fnmap.format.table.columns import Dumps, Loads
from fnmap.format.table.spec import Spec, pack, unpack


def encode(
    tasks: Sequence[int],
    values: Sequence[object],
    failures: Mapping[int, Failure] = MappingProxyType({}),
    *,
    dumps: Dumps = cloudpickle.dumps,
    info: Mapping[str, object] = MappingProxyType({}),
) -> Any:
    """A chunk's results as a pyarrow Table: `values[i]` belongs to `tasks[i]`, unless `failures` has i.

    A value that cannot be pickled becomes a failure too. `info` (JSON) comes back from `decode`.
    """
    cells = list(values)
    for at in failures:
        cells[at] = None
    found = layout.lay_out(cells, failures, dumps)
    if found.lost:
        more = {at: _lost(tasks[at], why) for at, why in found.lost.items()}
        return encode(tasks, values, {**failures, **more}, dumps=dumps, info=info)
    numbers, noted = _numbers(tasks)
    meta: Spec = {"format": FORMAT, "tasks": noted, **found.spec, "info": dict(info)}
    if dumps is dump_cell:
        meta["cells"] = CELLS
    firsts = np.arange(len(numbers))
    if found.counts is not None:
        meta["rows"] = pack(found.counts)
        rows = np.maximum(found.counts, 0)
        numbers, firsts = np.repeat(numbers, rows), np.cumsum(rows) - rows
    columns = {"task": arrow.from_numpy(numbers, pa.int64()), **found.columns}
    if failures:
        columns |= failed.encode({int(firsts[at]): f for at, f in failures.items()}, len(numbers))
    return pa.Table.from_arrays(list(columns.values()), list(columns), metadata={KEY: json.dumps(meta)})


def decode(table: Any, *, loads: Loads = pickle.loads) -> Decoded:
    """The inverse of `encode`. A value that cannot be rebuilt here is a failure of kind "lost"."""
    meta = read_meta(table)
    packed = meta["tasks"]
    tasks = unpack(packed, np.int64).tolist() if isinstance(packed, str) else range(*packed)
    failures = failed.decode(table)
    if "rows" in meta:  # from rows to positions
        ends = np.cumsum(np.maximum(unpack(meta["rows"], np.int64), 0))
        failures = {int(np.searchsorted(ends, row, side="right")): f for row, f in failures.items()}
    values, lost = layout.read(table, meta, len(tasks), list(failures), loads_of(meta, loads))
    failures |= {at: _lost(tasks[at], why) for at, why in lost.items()}
    return Decoded(tasks, values, failures, meta["info"])


def loads_of(meta: Spec, loads: Loads) -> Loads:
    """What reads the cells of this table: `loads`, unless they were written without pickles."""
    return load_cell if meta.get("cells") == CELLS else loads


def _numbers(tasks: Sequence[int]) -> tuple[Any, list[int] | str]:
    """Task indices, shape (n,), and how the metadata notes them."""
    if isinstance(tasks, range) and tasks.step == 1:
        return np.arange(tasks.start, tasks.stop), [tasks.start, tasks.stop]
    numbers = np.array(tasks, np.int64)
    return numbers, pack(numbers)


def _lost(task: int, why: str) -> Failure:
    return Failure("lost", f"task {task} ran, but its result is lost: {why}")


def read_info(table: Any) -> dict[str, Any]:
    """The `info` of a table, without its values."""
    info: dict[str, Any] = read_meta(table)["info"]
    return info


def read_meta(table: Any) -> Spec:
    """What is said of the columns. Raises Damaged."""
    packed = (table.schema.metadata or {}).get(KEY)
    if packed is None:
        raise Damaged("this table holds no results of fnmap: its schema has no metadata 'fnmap'")
    try:
        meta: Spec = json.loads(packed)
    except ValueError as error:
        raise Damaged(f"what describes these results cannot be read: {error}") from error
    if meta["format"] != FORMAT:
        theirs = f"these results are in format {meta['format']}, this fnmap reads format {FORMAT}"
        raise StoreError(f"{theirs}: read them with the fnmap that wrote them")
    return meta
