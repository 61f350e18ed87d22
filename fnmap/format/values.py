"""How values are taken apart for their digests: arrays and tables by their content, others as pickle would.

Never a pickle's bytes: these tell objects that are the same from such as are equal, and follow the order
of sets. What pickle refuses is refused here.
"""

from __future__ import annotations

import copyreg
import marshal
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

from fnmap.format.digest import Shape, Unknown

_LIVE = frozenset({"fnmap.session", "fnmap.run", "fnmap.executor", "fnmap.compute"})  # no two of them are the same


def value_shape(obj: Any) -> Shape:
    """A value that is no container, function, class or module, taken apart. Raises Unknown."""
    kind = type(obj)
    known = _KINDS.get(kind)
    if known is not None:
        return known(obj)
    home, *inner = str(kind.__module__).split(".")
    if home in _LIBRARIES and home in sys.modules:
        shape = _LIBRARIES[home](obj)
        if shape is not None:
            return shape
    if ".".join([home, *inner[:1]]) in _LIVE:
        raise Unknown(obj)
    return _reduced(obj)


def _raw(kind: str, view: Any) -> Shape:
    return Shape(kind.encode() + blake2b(view, digest_size=16).digest())


def _numpy(obj: Any) -> Shape | None:
    import numpy as np

    if isinstance(obj, np.generic):
        whole = _numpy(np.asarray(obj))
        return whole and Shape(b"scalar " + whole.tag, whole.children)
    if type(obj) not in (np.ndarray, np.memmap):
        return None  # dtypes, generators and subclasses with more to them
    obj = np.asarray(obj)
    about = marshal.dumps(("ndarray", str(obj.dtype.str), obj.shape), 2)
    if obj.dtype.names is not None:  # by fields, as there may be gaps between them
        return Shape(about, [obj.dtype.names, *(np.ascontiguousarray(obj[name]) for name in obj.dtype.names)])
    if obj.dtype.hasobject or obj.dtype.kind == "T":  # pointers
        return Shape(about, obj.ravel().tolist())
    if obj.dtype.char in "gG":  # as wide as the machine likes, with bytes that mean nothing
        return Shape(about, [repr(number) for number in obj.ravel()])
    return Shape(about + blake2b(np.ascontiguousarray(obj).reshape(-1).view(np.uint8).data, digest_size=16).digest())


def _pandas(obj: Any) -> Shape | None:
    import pandas as pd

    if type(obj) is pd.DataFrame:
        columns = [obj.iloc[:, at] for at in range(obj.shape[1])]
        return Shape(b"pandas.DataFrame", [obj.columns, obj.index, obj.attrs, *map(_column, columns)])
    if type(obj) is pd.Series:
        return Shape(b"pandas.Series", [obj.name, obj.index, obj.attrs, _column(obj)])
    if isinstance(obj, pd.api.extensions.ExtensionArray) and hasattr(obj, "__arrow_array__"):
        return Shape(b"pandas array", [str(obj.dtype), obj.__arrow_array__()])  # without its caches
    return None


def _column(series: Any) -> Any:
    """A column's array; one of an extension type as itself."""
    import numpy as np

    return series.to_numpy() if isinstance(series.dtype, np.dtype) else series.array


def _arrow(obj: Any) -> Shape | None:
    import pyarrow as pa

    if isinstance(obj, pa.Table):
        kind, table = "table", obj
    elif isinstance(obj, pa.RecordBatch):
        kind, table = "batch", pa.Table.from_batches([obj])
    elif isinstance(obj, (pa.Array, pa.ChunkedArray)):
        kind, table = "array", pa.table({"": obj})
    else:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return _raw(f"arrow {kind}", sink.getvalue())


def _reduced(obj: Any) -> Shape:
    """As pickle takes it apart."""
    kind = type(obj)
    try:
        special = copyreg.dispatch_table.get(kind)
        reduced = special(obj) if special is not None else obj.__reduce_ex__(5)
        return _of_reduced(obj, reduced)
    except Unknown:
        raise
    except Exception as error:  # whatever a user's __reduce_ex__ raises; pickle's own refusals are of many types
        raise Unknown(obj) from error


def _of_reduced(obj: Any, reduced: Any) -> Shape:
    if isinstance(reduced, str):  # a global of that name
        return Shape(b"global " + reduced.encode(), [type(obj), getattr(obj, "__dict__", None)])
    make, args, state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
    names, values = _attributes(state)
    children = [make, *args, setter, *values, list(items or ()), list(pairs or ())]
    about = marshal.dumps(("object", len(args), names), 2)
    return Shape(about, children, [""] * (2 + len(args)) + [f"attribute {name!r}" if name else "" for name in names])


def _attributes(state: Any) -> tuple[list[str], list[Any]]:
    """The state of an object as names and values; the name is empty where there is none."""
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    if all(part is None or (type(part) is dict and all(type(k) is str for k in part)) for part in parts):
        found = {name: value for part in parts if part for name, value in part.items()}
        return sorted(found), [found[name] for name in sorted(found)]
    return [""], [state]


def _slice(obj: slice) -> Iterator[Any]:
    yield from (obj.start, obj.stop, obj.step)


_KINDS: dict[type, Callable[[Any], Shape]] = {
    bytearray: lambda obj: _raw("bytearray", obj),
    memoryview: lambda obj: Shape(b"memoryview", [obj.format, obj.shape, obj.tobytes()]),
    pickle.PickleBuffer: lambda obj: _raw("buffer", obj.raw()),
    slice: lambda obj: Shape(b"slice", tuple(_slice(obj))),
    type(...): lambda _: Shape(b"Ellipsis"),
    type(NotImplemented): lambda _: Shape(b"NotImplemented"),
    types.MappingProxyType: lambda obj: Shape(b"mappingproxy", [dict(obj)]),
    type({}.keys()): lambda obj: Shape(b"keys", list(obj)),
    type({}.values()): lambda obj: Shape(b"values", list(obj)),
    type({}.items()): lambda obj: Shape(b"items", list(obj)),
}
_LIBRARIES: dict[str, Callable[[Any], Shape | None]] = {"numpy": _numpy, "pandas": _pandas, "pyarrow": _arrow}
