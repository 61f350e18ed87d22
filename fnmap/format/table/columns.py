"""One column: a list of Python values <-> an Arrow array from which the very same values come back.

`encode(values)` answers a `Column`: the array, which other tools can read, and a `Spec` (JSON) that says
what the array cannot: the Python or numpy type, a time zone, the shapes of arrays. None is a null. Lists
become list columns and rows become structs, to any sensible depth. Where no typed array would be exact it
answers None, and the caller pickles (`encode_pickles`).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa

from fnmap.format.table import arrays, arrow, records, scalars
from fnmap.format.table.spec import Column, Spec, Unfit

Dumps = Callable[[Any], bytes]
Loads = Callable[[Any], Any]

_INEXACT = (ValueError, TypeError, OverflowError, pickle.PicklingError, pa.ArrowException)


@dataclass
class _Nesting:
    """How much of a nested value may still become columns. Objects that refer to one another in circles
    run into these limits, and are pickled."""

    dumps: Dumps
    levels: int = 6
    columns: int = 2000
    cells: int = 1 << 24


def encode(values: Sequence[Any], dumps: Dumps, kinds: set[type[Any]] | None = None) -> Column | None:
    """`values` as a typed column, or None where no typed column gives back exactly these objects.
    `kinds` are their types, where the caller knows."""
    return _encode(values, _Nesting(dumps), kinds or set(map(type, values)))


def _encode(values: Sequence[Any], nesting: _Nesting, kinds: set[type[Any]]) -> Column | None:
    absent = np.array([v is None for v in values], bool) if NoneType in kinds else None
    kinds = kinds - {NoneType}
    if not kinds:
        return Column(pa.nulls(len(values)), {"as": "null"})
    if nesting.levels == 0 or nesting.columns == 0:
        return None
    nesting.levels -= 1
    nesting.columns -= 1
    try:
        if len(kinds) > 1:
            return scalars.encode_numbers(values, kinds, absent)
        return _encode_kind(values, kinds.pop(), absent, nesting)
    except _INEXACT:
        return None
    finally:
        nesting.levels += 1


def _encode_kind(values: Sequence[Any], kind: type[Any], absent: Any, nesting: _Nesting) -> Column | None:
    """Values of one type, or None where `absent`."""
    if kind is np.ndarray:
        return arrays.encode_arrays(values)
    if issubclass(kind, np.generic):
        return arrays.encode_scalars(values, kind, absent)
    if split := records.split(values, kind, nesting.dumps):
        struct = _encode_struct(split, absent, nesting)
        if struct or kind is not tuple:
            return struct
    if kind in (list, tuple):
        return _encode_list(values, kind, nesting)
    return scalars.encode(values, kind, absent)


def decode(column: Any, spec: Spec, loads: Loads) -> list[Any]:
    """The values of a column, a list as long as it. Raises what `loads` raises for a missing class."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if len(chunks) > 1 and spec["as"] in ("str", "bytes"):  # together they may be over 2 GiB
        return list(chain.from_iterable(scalars.decode(chunk, spec) for chunk in chunks))
    array = arrow.whole(column)
    if spec["as"] == "struct":
        return _decode_struct(array, spec, loads)
    if spec["as"] in ("list", "tuple"):
        return _decode_list(array, spec, loads)
    if spec["as"] == "array":
        return arrays.decode_arrays(array, spec)
    return arrays.decode_scalars(array, spec) if spec["as"] == "numpy" else scalars.decode(array, spec)


def _encode_struct(split: records.Split, absent: Any, nesting: _Nesting) -> Column | None:
    """Rows of one shape, all of whose fields are typed."""
    children, specs = [], []
    for field in split.fields:
        child = _encode(field, nesting, set(map(type, field)))
        if child is None:
            return None
        children.append(child.array)
        specs.append(child.spec)
    names = records.distinct(split.shape["names"], ())
    mask = None if absent is None else arrow.booleans(absent)
    array = pa.StructArray.from_arrays(children, names, mask=mask)
    return Column(array, {"as": "struct", "shape": split.shape, "fields": specs})


def _decode_struct(array: Any, spec: Spec, loads: Loads) -> list[Any]:
    fields = [decode(child, of, loads) for child, of in zip(array.flatten(), spec["fields"], strict=True)]
    return records.build(records.Split(spec["shape"], fields), arrow.valid(array).tolist(), loads)


def _encode_list(values: Sequence[Any], kind: type[Any], nesting: _Nesting) -> Column | None:
    """Lists, or tuples of several lengths, whose members are together a typed column."""
    lengths = [None if v is None else len(v) for v in values]
    nesting.cells -= sum(filter(None, lengths))
    if nesting.cells < 0:
        return None
    cells = list(chain.from_iterable(filter(None, values)))
    child = _encode(cells, nesting, set(map(type, cells)))
    if child is None:
        return None
    return Column(arrow.lists(child.array, lengths), {"as": kind.__name__, "item": child.spec})


def _decode_list(array: Any, spec: Spec, loads: Loads) -> list[Any]:
    cells = decode(array.flatten(), spec["item"], loads)
    kind = {"list": list, "tuple": tuple}[spec["as"]]
    values: list[Any] = [kind(cells[start:stop]) for start, stop in arrow.list_bounds(array)]
    return scalars.with_none(values, array)


def encode_pickles(values: Sequence[Any], dumps: Dumps) -> tuple[Any, dict[int, str]]:
    """A binary column with a pickle per value, and why some positions have none."""
    lost: dict[int, str] = {}
    pickles: list[bytes | None] = [None] * len(values)
    for at, value in enumerate(values):
        if value is None:
            continue
        try:
            pickled = dumps(value)
        except Unfit as error:
            lost[at] = str(error)
            continue
        except Exception as error:  # whatever a user's __reduce__ raises
            lost[at] = f"it cannot be pickled: {type(error).__name__}: {error}"
            continue
        if len(pickled) > arrow.MAX_CELL_BYTES:
            lost[at] = f"its pickle has {len(pickled)} bytes; more than 2 GiB must be returned in parts"
        else:
            pickles[at] = pickled
    return arrow.from_bytes(pickles, np.array([p is None for p in pickles], bool)), lost


def decode_pickles(array: Any, loads: Loads) -> tuple[list[Any], dict[int, str]]:
    """The inverse of `encode_pickles`; `loads` is given views of the column's memory, not copies."""
    lost: dict[int, str] = {}
    values: list[Any] = []
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        for view in _views(chunk):
            try:
                values.append(None if view is None else loads(view))
            except Exception as error:  # loading runs the user's imports
                lost[len(values)] = f"it cannot be unpickled here: {type(error).__name__}: {error}"
                values.append(None)
    return values, lost


def _views(chunk: Any) -> Iterable[memoryview | None]:
    """The cells of a binary array."""
    if chunk.null_count == len(chunk):
        return [None] * len(chunk)
    _, offsets, data = chunk.buffers()
    dtype = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
    ends = np.frombuffer(offsets, dtype)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
    view = memoryview(data).cast("B") if data else memoryview(b"")
    bounds = zip(pairwise(ends), arrow.valid(chunk).tolist(), strict=True)
    return (view[start:stop] if there else None for (start, stop), there in bounds)
