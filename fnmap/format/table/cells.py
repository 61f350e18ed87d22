"""Cells without pickles: a value that shares no column with its mates is a table of its own.

What `dump_cell` wrote, and all columns beside it, is read without running anything: a list, a dict, an array or a table
comes of it, or an error.
"""

from __future__ import annotations

from typing import Any, NoReturn

import pyarrow as pa

from fnmap.errors import ResultLost
from fnmap.format.table import layout
from fnmap.format.table.spec import Unfit

CELLS = "arrow"  # what the metadata calls them


def dump_cell(value: Any) -> bytes:
    """A value as a table. Raises Unfit for one that only a pickle could hold."""
    from fnmap.format.table.chunk import encode

    found = layout.lay_out([value], (), _refuse).lost  # encode() would make a failure of it
    if found:
        raise Unfit(found[0])
    table, sink = encode(range(1), [value], dumps=_refuse), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def load_cell(body: Any) -> Any:
    """The inverse. Raises ResultLost for what `dump_cell` did not write."""
    from fnmap.format.table.chunk import decode

    try:
        table = pa.ipc.open_stream(pa.py_buffer(bytes(body))).read_all()
    except pa.ArrowException as error:
        raise ResultLost(f"it is no Arrow table, and nothing is unpickled here: {error}") from error
    decoded = decode(table, loads=_refuse)
    if decoded.failures:
        raise ResultLost(decoded.failures[0].message)
    return decoded.values[0]


def _refuse(what: Any) -> NoReturn:
    kind = type(what)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise Unfit(
        f'a {name} has no place in Arrow columns, and results="arrow" does without pickles: return numbers, texts,'
        " times, arrays, Arrow or polars tables, or lists, tuples and dicts of them"
    )
