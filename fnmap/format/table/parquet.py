"""An Arrow table <-> one Parquet object, in encodings that write and read fast and stay small.

Numbers are the bulk of large results. As differences (whole numbers, times) or as streams of bytes (doubles that
resemble one another) they shrink as much as under zstd, and LZ4 does the rest in a fraction of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fnmap.errors import Damaged
from fnmap.format.footer import check_footer, marked
from fnmap.format.small import MOST_BYTES
from fnmap.format.table import arrow

_THREADS_BYTES = 1 << 20  # below this, so does waking threads
_SAMPLE = 8192  # numbers that are tried, to see what makes a column of them smaller

_DELTA = "DELTA_BINARY_PACKED"
_SPLIT = "BYTE_STREAM_SPLIT"


def to_parquet(table: Any) -> memoryview:
    """The table as one Parquet object."""
    encodings, codecs = ({"task": _DELTA}, "none") if table.nbytes < MOST_BYTES else _fitting(table)
    try:
        return _write(table, 1024, encodings, codecs)
    except OSError:  # such a batch was over the 2 GiB of a page, or two columns have one path ("a.b" and b of a)
        return _write(table, 1, {}, "zstd")


def from_parquet(buffer: Any) -> Any:
    """The table in a Parquet object, read from any buffer (bytes, memoryview, mmap) where it lies."""
    try:
        check_footer(buffer)
        source = pa.py_buffer(buffer)
        with pq.ParquetFile(pa.BufferReader(source), page_checksum_verification=True) as file:
            return file.read(use_threads=source.size > _THREADS_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"a result object cannot be read as Parquet: {error}") from error


def _write(table: Any, rows_a_batch: int, encodings: dict[str, str], codecs: dict[str, str] | str) -> memoryview:
    bare, sink = table.replace_schema_metadata(None), pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        bare.schema,
        compression=codecs,
        use_dictionary=False,  # numbers gain nothing from it, and zstd does as well for texts
        write_statistics=["task"],  # to find a task by
        column_encoding=encodings,
        write_batch_size=rows_a_batch,
        write_page_checksum=True,  # what a loss of power leaves may be whole but for a page
    ) as writer:
        writer.write_table(bare)
        # in the schema, the metadata would be written twice
        writer.add_key_value_metadata(table.schema.metadata)
    return marked(memoryview(sink.getvalue()).cast("B"))


def _fitting(table: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The encodings and the codecs of a large table, by the paths of its leaves."""
    encodings, codecs = {}, {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        for path, kind in _leaves(name, column.type):
            whole = pa.types.is_integer(kind) or pa.types.is_temporal(kind)
            codecs[path] = "lz4" if whole or pa.types.is_floating(kind) else "zstd"
            if whole:
                encodings[path] = _DELTA
            elif pa.types.is_floating(kind) and _resemble(column):
                encodings[path] = _SPLIT
    return encodings, codecs


def _leaves(path: str, kind: Any) -> Iterator[tuple[str, Any]]:
    """The columns that Parquet makes of one of this type: their paths and types."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def _resemble(column: Any) -> bool:
    """Do the doubles of a column, or of its lists, get smaller when their first bytes stand together, and so on?"""
    array = max(column.chunks, key=len, default=pa.nulls(0))
    while isinstance(array, (pa.ListArray, pa.LargeListArray)):
        array = array.flatten()
    if not pa.types.is_floating(array.type):  # of a struct: not worth a look
        return False
    sample = arrow.to_numpy(array, array.type.to_pandas_dtype())[:_SAMPLE]
    codec, split = pa.Codec("lz4_raw"), sample.view(np.uint8).reshape(len(sample), sample.itemsize).T
    return bool(len(codec.compress(np.ascontiguousarray(split))) < len(codec.compress(sample)))
