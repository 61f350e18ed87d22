"""A few plain results as a Parquet object, written and read here: that takes a tenth of the time that building and
writing an Arrow table does, and a worker whose results are all of this kind never imports pyarrow.

What is written reads back as if `fnmap.format.table` had written it; only what is written here is read here. See the
format's parquet.thrift and Thrift's compact protocol: a struct is fields, each with the distance to the number of
the one before.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from fnmap.format.footer import MARK_BYTES, begin, mark
from fnmap.storage.base import Buffer

if TYPE_CHECKING:
    from fnmap.format.call import Failure

KEY, FORMAT = b"fnmap", 1  # where a part keeps what its columns cannot say, and the version of that
MOST_TASKS = 64  # more of them are worth the columns' better encodings
MOST_BYTES = 1 << 15  # and from here on, compression

_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12  # types of the compact protocol
_INT64, _DOUBLE, _BYTE_ARRAY = 2, 5, 6  # types of Parquet
_PLAIN, _RLE, _OPTIONAL, _UTF8 = 0, 3, 1, 0


class Decoded(NamedTuple):
    """What a part holds. `failures` by position; the value there is None."""

    tasks: Sequence[int]
    values: list[Any]
    failures: dict[int, Failure]
    info: dict[str, Any]


def to_parquet(tasks: Sequence[int], values: Sequence[Any], info: Mapping[str, object]) -> bytes | None:
    """The results as one Parquet object; None unless they are few, small, and all int, float, str or bytes."""
    kinds = set(map(type, values))
    if len(kinds) != 1 or len(values) > MOST_TASKS or not isinstance(tasks, range) or tasks.step != 1:
        return None
    (kind,) = kinds
    if kind not in _BODIES or (kind in (str, bytes) and sum(map(len, values)) > MOST_BYTES):
        return None
    try:
        body = _BODIES[kind](values)
    except (struct.error, UnicodeEncodeError):  # an int of over 64 bits, a lone surrogate
        return None
    meta = _meta(kind, tasks, info)
    return _file(kind, tasks, (_integers(tasks), body), json.dumps(meta).encode())


def from_parquet(buffer: Buffer) -> Decoded | None:
    """The inverse; None unless the pages are, byte for byte, those that `to_parquet` makes of what is read, and the
    footer's checksum is right: so nothing that is damaged passes, and what others wrote is left to Arrow."""
    if len(buffer) > 2 * MOST_BYTES:
        return None
    file = bytes(buffer)
    at = begin(file)
    kind = next((kind for kind, schema in _SCHEMAS.items() if at > 0 and file.startswith(schema, at)), None)
    if kind is None or file[at - MARK_BYTES : at] != mark(file[at:]):
        return None
    try:
        meta = _decoder.raw_decode(file[file.index(b'{"format"', at) :].decode("latin1"))[0]
        tasks, info = range(*meta["tasks"]), meta["info"]
        before = b"PAR1" + _page(len(tasks), _integers(tasks))
        _, _, body = file[len(before) : at - MARK_BYTES].partition(_counts(len(tasks))[1])
        values = _VALUES[kind](body, len(tasks))
        written = before + _page(len(tasks), _BODIES[kind](values))
        whole = written == file[: at - MARK_BYTES] and meta == _meta(kind, tasks, info)
        return Decoded(tasks, values, {}, info) if whole else None
    except Exception:  # whatever damage does to it: Arrow says what it is
        return None


def _meta(kind: type[Any], tasks: range, info: Mapping[str, object]) -> dict[str, Any]:
    """What the columns cannot say."""
    spec = {"layout": "value", "spec": {"as": kind.__name__}}
    return {"format": FORMAT, "tasks": [tasks.start, tasks.stop], **spec, "info": dict(info)}


def _file(kind: type[Any], tasks: range, bodies: Sequence[bytes], meta: bytes) -> bytes:
    """Two columns, a page each, and the footer that describes them."""
    pages = [_page(len(tasks), body) for body in bodies]
    columns = _described(kind.__name__, tasks.start, tasks.stop, *map(len, pages))
    noted = _fields((1, _BINARY, _text(KEY)), (2, _BINARY, _text(meta)))
    size = len(columns) + len(noted) + len(_MADE_BY)
    footer = b"".join((columns, noted, _MADE_BY, struct.pack("<I", size), b"PAR1"))
    return b"".join((b"PAR1", *pages, mark(footer), footer))


@lru_cache  # a function's results are often of one size
def _described(name: str, start: int, stop: int, *sizes: int) -> bytes:
    """The footer up to what is noted in it: the schema, and where the columns are that have pages of these sizes."""
    kind = next(kind for kind in _TYPES if kind.__name__ == name)
    rows, at, columns = _int(stop - start), 4, list[bytes]()
    limits = _fields((5, _BINARY, _text(_integers((stop - 1,)))), (6, _BINARY, _text(_integers((start,)))))
    for column, size in zip(_COLUMNS[kind], sizes, strict=True):
        more = () if columns else ((12, _STRUCT, limits),)
        known = (5, _I64, rows), (6, _I64, _int(size)), (7, _I64, _int(size)), (9, _I64, _int(at)), *more
        columns.append(_fields((2, _I64, _int(at)), (3, _STRUCT, column + _fields(*known, after=4))))
        at += size
    group = _fields((1, _LIST, _list(_STRUCT, columns)), (2, _I64, _int(at - 4)), (3, _I64, rows))
    noted = _list(_STRUCT, (b"",))  # of one thing, which follows
    rest = _fields((3, _I64, rows), (4, _LIST, _list(_STRUCT, (group,))), (5, _LIST, noted), after=2)
    return _SCHEMAS[kind] + rest[:-1]


def _page(rows: int, body: bytes) -> bytes:
    """A page of values, none of which is null."""
    counts, levels = _counts(rows)
    check = zlib.crc32(body, zlib.crc32(levels))
    return b"".join((_sized(len(levels) + len(body)), _signed(check), counts, levels, body))


@lru_cache
def _sized(size: int) -> bytes:
    """The head of a page of that size, up to its checksum."""
    return _fields((1, _I32, b"\0"), (2, _I32, _int(size)), (3, _I32, _int(size)), (4, _I32, b""))[:-1]


@lru_cache(maxsize=MOST_TASKS)
def _counts(rows: int) -> tuple[bytes, bytes]:
    """The end of the head of a page of so many values, after its checksum, and what says that none of them is null."""
    run = _varint(rows << 1) + b"\1"
    head = (1, _I32, _int(rows)), (2, _I32, _int(_PLAIN)), (3, _I32, _int(_RLE)), (4, _I32, _int(_RLE))
    return _fields((5, _STRUCT, _fields(*head)), after=4), struct.pack("<I", len(run)) + run


def _columns(kind: type[Any]) -> tuple[bytes, ...]:
    """What is the same in the description of the two columns of all files: the fields up to the fourth."""
    ways = _list(_I32, (_int(_PLAIN), _int(_RLE)))
    fields = (
        ((1, _I32, _int(of)), (2, _LIST, ways), (3, _LIST, _list(_BINARY, (_text(name),))), (4, _I32, _int(0)))
        for name, of in ((b"task", _INT64), (b"value", _TYPES[kind]))
    )
    return tuple(_fields(*some)[:-1] for some in fields)


def _schema(kind: type[Any]) -> bytes:
    """The first two fields of the footer: the version of the format, and the schema."""
    root = _fields((4, _BINARY, _text(b"schema")), (5, _I32, _int(2)))
    texts = ((6, _I32, _int(_UTF8)), (10, _STRUCT, _fields((1, _STRUCT, _fields())))) if kind is str else ()
    leaves = [
        _fields((1, _I32, _int(type_)), (3, _I32, _int(_OPTIONAL)), (4, _BINARY, _text(name)), *more)
        for name, type_, more in ((b"task", _INT64, ()), (b"value", _TYPES[kind], texts))
    ]
    return _fields((1, _I32, _int(2)), (2, _LIST, _list(_STRUCT, (root, *leaves))))[:-1]


def _integers(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def _floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def _strings(values: Iterable[bytes]) -> bytes:
    return b"".join(chain.from_iterable((struct.pack("<I", len(value)), value) for value in values))


def _texts(values: Sequence[str]) -> bytes:
    return _strings(value.encode() for value in values)


_TYPES: dict[type[Any], int] = {int: _INT64, float: _DOUBLE, str: _BYTE_ARRAY, bytes: _BYTE_ARRAY}
_BODIES: dict[type[Any], Callable[[Any], bytes]] = {int: _integers, float: _floats, str: _texts, bytes: _strings}


def _apart(body: bytes, rows: int) -> list[bytes]:
    out, at = list[bytes](), 0
    for _ in range(rows):
        (size,) = struct.unpack_from("<I", body, at)
        out.append(body[at + 4 : at + 4 + size])
        at += 4 + size
    return out


_VALUES: dict[type[Any], Callable[[bytes, int], list[Any]]] = {
    int: lambda body, rows: list(struct.unpack(f"<{rows}q", body)),
    float: lambda body, rows: list(struct.unpack(f"<{rows}d", body)),
    str: lambda body, rows: [text.decode() for text in _apart(body, rows)],
    bytes: _apart,
}
_decoder = json.JSONDecoder()  # of what has something else behind it


def _fields(*fields: tuple[int, int, bytes], after: int = 0) -> bytes:
    """A struct, or the rest of one `after` a field: (number, type, value) of each field, in order."""
    out = bytearray()
    for number, kind, value in fields:
        out.append((number - after) << 4 | kind)
        out += value
        after = number
    out.append(0)
    return bytes(out)


def _list(kind: int, members: Sequence[bytes]) -> bytes:
    """A list of fewer than 15 members."""
    return bytes((len(members) << 4 | kind,)) + b"".join(members)


def _text(value: bytes) -> bytes:
    return _varint(len(value)) + value


def _int(value: int) -> bytes:
    """An integer >= 0."""
    return _varint(value << 1)


def _signed(bits: int) -> bytes:
    """The integer that 32 bits stand for."""
    return _varint((bits << 1 ^ (0xFFFFFFFF if bits >> 31 else 0)) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    if value < 128:
        return _BYTES[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_BYTES = [bytes((value,)) for value in range(128)]
_ORDERS = _list(_STRUCT, (_fields((1, _STRUCT, _fields())),) * 2)  # of each column: as its type says
_MADE_BY = _fields((6, _BINARY, b"\x05fnmap"), (7, _LIST, _ORDERS), after=5)
_COLUMNS = {kind: _columns(kind) for kind in _TYPES}
_SCHEMAS = {kind: _schema(kind) for kind in _TYPES}
