"""Parts that only this machine's processes read, and that go with their run: results as they travel, pickles with
their large buffers beside them. A reader maps the file, and arrays are views of it; a Parquet object takes fifty times
as long to write, and is copied when it is read.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fnmap.errors import Damaged, ResultLost
from fnmap.format.call import Failure
from fnmap.format.payload import Buffer, Ref, Values, pack, unpack

MARK = b"fnf1"
_END_BYTES = len(MARK) + 4


class Framed(NamedTuple):
    """What a part holds, as `fnmap.format.table.Decoded`; values are loaded when they are asked for."""

    tasks: Sequence[int]
    values: Values
    failures: dict[int, Failure]
    info: dict[str, Any]


def encode(
    tasks: Sequence[int], values: Values, failures: Mapping[int, Failure], info: Mapping[str, Any]
) -> list[Buffer]:
    """A part, to be written piece by piece: `values[i]` belongs to `tasks[i]`, unless `failures` has i."""
    numbers = (tasks.start, tasks.stop) if isinstance(tasks, range) and tasks.step == 1 else list(tasks)
    head = pickle.dumps((numbers, dict(failures), dict(info)), 5)
    parts, check = pack([head, *values.frames()]), 0
    for part in parts:
        check = zlib.crc32(part, check)
    return [*parts, MARK + check.to_bytes(4, "little")]


def decode(part: memoryview) -> Framed:
    """The inverse of `encode`; the values are views of the part. Raises Damaged."""
    body = part[:-_END_BYTES]
    if bytes(part[-_END_BYTES:]) != MARK + zlib.crc32(body).to_bytes(4, "little"):
        raise Damaged("a result object is not the one that was written")
    head, *frames = unpack(body)
    assert not isinstance(head, Ref)
    numbers, failures, info = pickle.loads(head)
    tasks = range(*numbers) if isinstance(numbers, tuple) else numbers
    return Framed(tasks, Values.from_frames(frames, _no_ref), failures, info)


def _no_ref(key: str) -> memoryview:
    raise ResultLost(f"a part has all of its results in it, and this one refers to {key!r}")
