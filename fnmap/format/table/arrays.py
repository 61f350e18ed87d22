"""numpy scalars and arrays <-> typed Arrow arrays, exact in dtype, shape and value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fnmap.format.table import arrow
from fnmap.format.table.scalars import with_none
from fnmap.format.table.spec import Column, Spec, pack, unpack

_MAX_BYTES = 1 << 30  # a larger array could be too much for one page of a Parquet file
_NAT = np.int64(np.iinfo(np.int64).min)


def encode_scalars(values: Sequence[Any], kind: type[Any], absent: Any) -> Column | None:
    """numpy scalars of one dtype, or None where `absent`, as a column; or None if it would not be exact."""
    present = [v for v in values if v is not None]
    dtype = present[0].dtype
    if dtype.type is not kind or len({v.dtype for v in present}) > 1 or not _has_column(dtype):
        return None
    flat = np.zeros(len(values), dtype)
    flat[... if absent is None else ~absent] = present
    if dtype.kind in "Mm" and np.isnat(flat).any():
        return None  # a null would be None or not-a-time
    array = _to_arrow(flat, absent)
    return None if array is None else Column(array, {"as": "numpy", "dtype": dtype.str})


def decode_scalars(array: Any, spec: Spec) -> list[Any]:
    """numpy scalars of the spec's dtype, or None."""
    return with_none(list(_to_numpy(array, np.dtype(spec["dtype"]))), array)


def encode_arrays(values: Sequence[Any]) -> Column | None:
    """Arrays of one dtype and rank: lists of their elements in C order; shapes (n, ndim) in the spec."""
    present = [v for v in values if v is not None]
    dtype, ndim = present[0].dtype, present[0].ndim
    if any((v.dtype, v.ndim) != (dtype, ndim) for v in present) or not _has_column(dtype):
        return None
    if any(v.flags.f_contiguous and not v.flags.c_contiguous for v in present):
        return None  # a pickle keeps the order in memory
    if max(v.nbytes for v in present) > _MAX_BYTES:
        return None
    parts = [v.ravel() for v in present]
    child = _to_arrow(parts[0] if len(parts) == 1 else np.concatenate(parts), None)
    if child is None:
        return None
    spec = {"as": "array", "dtype": dtype.str, "ndim": ndim}
    if ndim != 1:
        spec["shapes"] = pack(np.array([(0,) * ndim if v is None else v.shape for v in values], np.int64))
    return Column(arrow.lists(child, [None if v is None else v.size for v in values]), spec)


def decode_arrays(array: Any, spec: Spec) -> list[Any]:
    """numpy arrays, each with its own memory and writable, or None."""
    flat = _to_numpy(array.flatten(), np.dtype(spec["dtype"]))
    cells = (flat[start:stop].copy() for start, stop in arrow.list_bounds(array))
    if spec["ndim"] == 1:
        return with_none(list(cells), array)
    shapes = unpack(spec["shapes"], np.int64).reshape(len(array), spec["ndim"]).tolist()
    pairs = zip(cells, shapes, arrow.valid(array).tolist(), strict=True)
    return [cell.reshape(shape) if there else None for cell, shape, there in pairs]


def _has_column(dtype: Any) -> bool:
    # asked before numpy joins arrays, which makes their byte order native
    return dtype.isnative and dtype.itemsize <= 8 and dtype.kind in "biufMm"


def _to_arrow(flat: Any, absent: Any) -> Any | None:
    """An array, shape (n,), of a type that Parquet keeps and other tools read, or None."""
    if flat.dtype.kind in "Mm":
        return _times_to_arrow(flat, absent)
    stored = _stored(flat.dtype)
    return arrow.from_numpy(flat.astype(stored, copy=False), pa.from_numpy_dtype(stored), absent)


def _times_to_arrow(flat: Any, absent: Any) -> Any | None:
    """Not-a-time becomes null. Days have 32 bits in Arrow, and Parquet knows no seconds since an epoch."""
    unit, count = np.datetime_data(flat.dtype)
    unit = "ms" if (flat.dtype.kind, unit) == ("M", "s") else unit
    if count != 1 or unit not in (("s", "ms", "us", "ns") if flat.dtype.kind == "m" else ("D", "ms", "us", "ns")):
        return None
    moved = flat.astype(f"{flat.dtype.kind}8[{unit}]")
    stored = moved.view(np.int64).astype(_stored(flat.dtype))
    nat = np.isnat(flat)
    exact = (stored == moved.view(np.int64)) & (moved.astype(flat.dtype) == flat) | nat
    kind = pa.date32() if unit == "D" else pa.from_numpy_dtype(moved.dtype)
    return arrow.from_numpy(stored, kind, nat if absent is None else nat | absent) if exact.all() else None


def _stored(dtype: Any) -> Any:
    """The dtype of the numbers in Arrow's memory."""
    if dtype.kind in "Mm":
        return np.dtype(np.int32 if np.datetime_data(dtype)[0] == "D" else np.int64)
    return np.dtype(np.float32) if dtype.char == "e" else dtype  # few tools read half floats


def _to_numpy(array: Any, dtype: Any) -> Any:
    """The inverse of `_to_arrow`, shape (n,); may be a read-only view of Arrow's memory."""
    flat = arrow.to_numpy(array, _stored(dtype))
    if dtype.kind not in "Mm":
        return flat.astype(dtype, copy=False)
    counts = np.where(arrow.valid(array), flat.astype(np.int64), _NAT)
    unit = "D" if pa.types.is_date32(array.type) else array.type.unit
    return counts.view(f"{dtype.kind}8[{unit}]").astype(dtype)
