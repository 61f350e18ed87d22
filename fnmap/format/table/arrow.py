"""Arrow arrays from numpy and Python values and back, by their buffers.

`pyarrow.array` and `to_numpy` do as much, but import pandas wherever it is installed, which costs a
worker that has no use for it 0.3 s and 50 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

_BITS: Final = "little"  # the order of bits in Arrow's bitmaps
_LARGE_BYTES = 1 << 31  # from here on, offsets need 64 bits

MAX_CELL_BYTES = (1 << 31) - (1 << 16)
"""What one cell of a Parquet file holds."""


def from_numpy(flat: Any, kind: Any, absent: Any = None) -> Any:
    """An array of type `kind` over the memory of `flat`, shape (n,), null where `absent`, shape (n,)."""
    data = np.packbits(flat, bitorder=_BITS) if flat.dtype == bool else np.ascontiguousarray(flat)
    return pa.Array.from_buffers(kind, len(flat), [_bitmap(absent), pa.py_buffer(data)])


def from_bytes(cells: Sequence[Any], absent: Any = None, kind: Any = None) -> Any:
    """A binary array (or one of type `kind`) of bytes-like cells, None where `absent`."""
    lengths = [len(cell or b"") for cell in cells] if absent is not None else list(map(len, cells))
    return _joined(b"".join(filter(None, cells)), lengths, absent, kind or pa.binary())


def from_texts(cells: Sequence[str | None], absent: Any = None) -> Any:
    """A string array, null where `absent`. Raises UnicodeEncodeError for a lone surrogate."""
    whole = "".join(filter(None, cells))
    if not whole.isascii():
        return from_bytes([cell and cell.encode() for cell in cells], absent, pa.string())
    lengths = [len(cell or "") for cell in cells] if absent is not None else list(map(len, cells))  # type: ignore[arg-type]
    return _joined(whole.encode(), lengths, absent, pa.string())


def _joined(body: bytes, lengths: list[int], absent: Any, kind: Any) -> Any:
    if len(body) > MAX_CELL_BYTES and max(lengths) > MAX_CELL_BYTES:
        raise OverflowError(f"a cell may have {MAX_CELL_BYTES} bytes, got {max(lengths)}")
    ends = offsets(lengths)
    if ends.dtype == np.int64:
        kind = pa.large_string() if kind == pa.string() else pa.large_binary()
    return pa.Array.from_buffers(kind, len(lengths), [_bitmap(absent), pa.py_buffer(ends), pa.py_buffer(body)])


def offsets(lengths: Any) -> Any:
    """Where cells of these lengths start in their concatenation, and its end: shape (n + 1,)."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends if ends[-1] >= _LARGE_BYTES else ends.astype(np.int32)


def lists(child: Any, lengths: Sequence[int | None]) -> Any:
    """A list array of these lengths (None for a null) over the flat `child`."""
    ends = offsets([length or 0 for length in lengths])
    absent = np.fromiter((length is None for length in lengths), bool, len(lengths))
    large = ends.dtype == np.int64
    kind = pa.LargeListArray if large else pa.ListArray
    starts = from_numpy(ends, pa.int64() if large else pa.int32())
    return kind.from_arrays(starts, child, mask=booleans(absent) if absent.any() else None)


def list_bounds(array: Any) -> Iterable[tuple[int, int]]:
    """Where each list starts and stops in `array.flatten()`."""
    lengths = array.value_lengths()
    counts = to_numpy(lengths, np.int32 if lengths.type == pa.int32() else np.int64)
    ends = offsets(np.where(valid(array), counts, 0)).tolist()
    return pairwise(ends)


def booleans(flags: Any) -> Any:
    """A bool array of numpy bools, shape (n,)."""
    return from_numpy(flags, pa.bool_())


def whole(column: Any) -> Any:
    """A column of a table as one array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def valid(array: Any) -> Any:
    """Where the array is not null: bools, shape (n,), writable."""
    if array.null_count == 0:
        return np.ones(len(array), bool)
    bitmap = array.buffers()[0]
    return np.zeros(len(array), bool) if bitmap is None else _bits(bitmap, array)


def to_numpy(array: Any, dtype: Any) -> Any:
    """The memory of an array as numbers or bools of this dtype, shape (n,), read-only; nulls are anything."""
    data = array.buffers()[1] if len(array) else None
    if data is None or array.null_count == len(array):
        return np.zeros(len(array), dtype)
    if np.dtype(dtype) == bool:
        return _bits(data, array)
    return np.frombuffer(data, dtype, len(array), array.offset * np.dtype(dtype).itemsize)


def _bitmap(absent: Any) -> Any | None:
    if absent is None or not absent.any():
        return None
    return pa.py_buffer(np.packbits(~absent, bitorder=_BITS))


def _bits(bitmap: Any, array: Any) -> Any:
    end = array.offset + len(array)
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=end, bitorder=_BITS)
    return bits[array.offset :].view(bool)
