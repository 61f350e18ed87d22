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
from fnmap.format.payload import Buffer, Frame, Ref, Values, pack, unpack

LARGE_BYTES = 64 << 10  # of a frame: from here on, words are summed, which costs next to nothing


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
    return pack([zlib.crc32(head).to_bytes(4, "little"), head, *frames])


def decode(part: memoryview) -> Framed:
    """The inverse of `encode`; the values are views of the part. Raises Damaged."""
    try:
        said, head, *frames = unpack(part)
    except (struct.error, ValueError) as error:
        raise Damaged(f"a result object is not the one that was written: {error}") from error
    if isinstance(said, Ref) or isinstance(head, Ref) or said != zlib.crc32(head).to_bytes(4, "little"):
        raise Damaged("a result object is not the one that was written: it begins in another way")
    numbers, failures, info, checks = pickle.loads(head)
    if [_check(frame) for frame in frames] != checks:
        raise Damaged("a result object is not the one that was written: its checksum is another")
    tasks = range(*numbers) if isinstance(numbers, tuple) else numbers
    return Framed(tasks, Values.from_frames(frames, _no_ref), failures, info)


def _check(frame: Frame) -> tuple[int, int]:
    """The length of a frame, and a checksum."""
    if isinstance(frame, Ref):
        return -1, 0
    body = memoryview(frame).cast("B")
    if len(body) < LARGE_BYTES:
        return len(body), zlib.crc32(body)
    import numpy as np  # most frames of this size are arrays

    whole = len(body) & ~7
    words = np.frombuffer(body[:whole], np.uint64)
    return len(body), int(words.sum()) ^ int.from_bytes(body[whole:], "little")


def _no_ref(key: str) -> memoryview:
    raise Damaged(f"a part has all of its results in it, and this one refers to {key!r}")
