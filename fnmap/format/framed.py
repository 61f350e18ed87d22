"""Parts that only this machine's processes read, and that go with their run: results as they travel, pickles with
their large buffers beside them. A reader maps the file, and arrays are views of it; a Parquet object takes many times
as long to write and to read.
"""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fnmap.errors import Damaged
from fnmap.format.call import Failure
from fnmap.format.payload import ALIGN, Buffer, Frame, Ref, Values, nbytes, pack, unpack

LARGE_BYTES = 64 << 10  # a frame of that size is trusted to memory, as what is shared is: each reader would read it all
_START = struct.Struct("<II")  # the checksum and the length of the head


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
    frames = values.frames()
    head = pickle.dumps((numbers, dict(failures), dict(info), [_check(frame) for frame in frames]), 5)
    return [_START.pack(zlib.crc32(head), len(head)), head, bytes(_gap(len(head))), *pack(frames)]


def decode(part: memoryview) -> Framed:
    """The inverse of `encode`; the values are views of the part. Raises Damaged."""
    crc, length = _START.unpack_from(part) if len(part) >= _START.size else (0, 0)
    head = part[_START.size : _START.size + length]
    if not length or zlib.crc32(head) != crc:
        raise Damaged("a result object is not the one that was written: it begins in another way")
    numbers, failures, info, checks = pickle.loads(head)
    try:
        frames = unpack(part[_START.size + length + _gap(length) :])
    except (struct.error, ValueError) as error:
        raise Damaged(f"a result object is not the one that was written: {error}") from error
    if [_check(frame) for frame in frames] != checks:
        raise Damaged("a result object is not the one that was written: its checksum is another")
    tasks = range(*numbers) if isinstance(numbers, tuple) else numbers
    return Framed(tasks, Values.from_frames(frames, _no_ref), failures, info)


def _gap(length: int) -> int:
    """Bytes between a head of that length and the frames, which are aligned."""
    return -(_START.size + length) % ALIGN


def _check(frame: Frame) -> tuple[int, int]:
    """The length of a frame, and a checksum of it if it is not large."""
    if isinstance(frame, Ref):
        return -1, 0
    size = nbytes(frame)
    return size, zlib.crc32(frame) if size < LARGE_BYTES else 0


def _no_ref(key: str) -> memoryview:
    raise Damaged(f"a part has all of its results in it, and this one refers to {key!r}")
