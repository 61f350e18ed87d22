"""Objects to bytes and back: pickles with their large buffers beside them, not inside.

A payload is a list of frames. A frame is bytes-like, or a `Ref` to an object of a store that readers
map into memory: that is how 200 tasks over one 200 MB array cost 200 MB, once. Any object that speaks
pickle protocol 5 (numpy, Arrow, pandas, polars) takes part without being known here.
"""

from __future__ import annotations

import io
import pickle
import struct
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from types import BuiltinFunctionType, FunctionType
from typing import Any, Protocol

Buffer = bytes | bytearray | memoryview

INLINE_BUFFER_BYTES = 16 << 10  # a smaller buffer stays inside its pickle: a frame costs more than a copy
ALIGN = 64  # what Arrow asks of a buffer, and a cache line


@dataclass(frozen=True, slots=True)
class Ref:
    """A frame that lies in a store."""

    key: str


Frame = Buffer | Ref
Share = Callable[[memoryview], Ref | None]  # puts a large buffer where all readers find it, once
Open = Callable[[str], memoryview]  # the other end: the buffer behind a Ref
Take = Callable[[pickle.PickleBuffer], bool]  # False: the buffer was taken, and is not in the pickle


class Dumper(Protocol):
    """A pickler that is used for many objects, one after another."""

    def dump(self, obj: Any, /) -> None: ...
    def common(self) -> bytes:
        """A pickled list of the classes that the pickles refer to by place (`common_object`), or b""."""
        ...

    def clear_memo(self) -> None: ...


Dumping = Callable[[io.BytesIO, Take], AbstractContextManager[Dumper]]


def size(frames: Iterable[Frame]) -> int:
    """Bytes that travel when the frames are sent."""
    return sum(len(f.key) if isinstance(f, Ref) else nbytes(f) for f in frames)


def nbytes(buffer: Buffer) -> int:
    """The length of a buffer in bytes, whatever its items are."""
    return len(buffer) if type(buffer) is bytes else memoryview(buffer).nbytes


def pack(frames: Sequence[Frame]) -> list[Buffer]:
    """The frames as one message: parts to be written one after another, each frame aligned."""
    lengths = [-len(f.key) if isinstance(f, Ref) else nbytes(f) for f in frames]
    head = struct.pack(f"<q{len(frames)}q", len(frames), *lengths)
    parts: list[Buffer] = [head]
    at = len(head)
    for frame in frames:
        if gap := -at % ALIGN:
            parts.append(bytes(gap))
        parts.append(body := _flat(frame))
        at += gap + len(body)
    return parts


def _flat(frame: Frame) -> Buffer:
    if type(frame) is bytes:
        return frame
    return frame.key.encode() if isinstance(frame, Ref) else memoryview(frame).cast("B")


def is_pickle(message: Buffer) -> bool:
    """Is this message a lone pickle, rather than packed frames? Those start with their number, a small one."""
    return message[0] == _PICKLE_MARK


_PICKLE_MARK = pickle.PROTO[0]


def unpack(message: Buffer) -> list[Frame]:
    """The frames of a message, as views into it."""
    view = memoryview(message).cast("B")
    (count,) = struct.unpack_from("<q", view)
    lengths = struct.unpack_from(f"<{count}q", view, 8)
    frames: list[Frame] = []
    at = 8 + 8 * count
    for length in lengths:
        at += -at % ALIGN
        body = view[at : at + abs(length)]
        frames.append(body if length >= 0 else Ref(str(body, "ascii")))
        at += abs(length)
    return frames


COMPACT_BYTES = 64 << 10  # values so small are copied once more rather than framed


class _Sink:
    """Where the pickler leaves the buffers that it does not write inside."""

    def __init__(self, share: Share | None) -> None:
        self.frames: list[Frame] = []
        self._share = share

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < INLINE_BUFFER_BYTES:
            return True  # in band
        self.frames.append((self._share and self._share(raw)) or raw)
        return False


def dump(obj: Any, dumping: Dumping, share: Share | None = None) -> list[Frame]:
    """One object as frames: its pickle, then its large buffers."""
    out, sink = io.BytesIO(), _Sink(share)
    with dumping(out, sink.take) as dumper:
        dumper.dump(obj)
    return [out.getvalue(), *sink.frames]


def load(frames: Sequence[Frame], open_ref: Open) -> Any:
    """The object of `dump`."""
    pickled, *buffers = _opened(frames, open_ref)
    return pickle.loads(pickled, buffers=buffers)


def _opened(frames: Sequence[Frame], open_ref: Open) -> list[Buffer]:
    return [open_ref(f.key) if isinstance(f, Ref) else f for f in frames]


_STANDARD = frozenset({"datetime", "decimal", "fractions", "uuid"})  # their classes load everywhere
_NAMED = (type, FunctionType, BuiltinFunctionType)  # pickled by name, as part of a standard value
SLICE = 8192  # values that are pickled together ahead of time
AHEAD_BYTES = 64 << 20  # of pickles that are kept ahead; of more, the pickles are made once more as chunks leave


class _Foreign(Exception):
    """A value is of a type that might fail to travel."""


class _PlainPickler(pickle.Pickler):
    """Pickles built-in and standard types, all the way down. It is asked about nothing but what is not built in, so to
    know that values are plain costs no more than their pickle."""

    def reducer_override(self, obj: Any) -> Any:
        module = obj.__module__ if isinstance(obj, _NAMED) else type(obj).__module__
        if module in _STANDARD or module == "copyreg" or type(obj) is complex:
            return NotImplemented
        raise _Foreign


def plain_pickle(values: list[Any]) -> bytes | None:
    """One pickle of all values, which can neither fail here nor at the reader; None unless every value is of built-in
    or standard types all the way down."""
    out = io.BytesIO()
    try:
        _PlainPickler(out, 5).dump(values)
    except (_Foreign, RecursionError):
        return None
    return out.getvalue()


class Plain(Sequence[Any]):
    """Items of built-in and standard types, ready to travel in any chunks: a copy of those given, in slices."""

    __slots__ = ("_length", "_pickles", "_slices", "_step", "nbytes")

    def __init__(
        self, slices: Sequence[Sequence[Any]], length: int, pickles: Sequence[bytes] = (), nbytes: int = 0
    ) -> None:
        """Of slices of one length but the last, with the pickles of the first ones. `nbytes`: of all that travel."""
        self._slices, self._length, self._pickles, self.nbytes = slices, length, pickles, nbytes
        self._step = len(slices[0]) if length else 1

    @classmethod
    def of(cls, values: Sequence[Any]) -> Plain | None:
        """None if there is a value that might fail to travel."""
        if isinstance(values, range):
            return cls([values], len(values))
        slices, pickles, ahead = list[list[Any]](), list[bytes](), 0
        for at in range(0, len(values), SLICE):
            some = values[at : at + SLICE]
            some = some if type(some) is list else list(some)
            body = plain_pickle(some)
            if body is None:
                return None
            slices.append(some)
            if ahead <= AHEAD_BYTES:
                pickles.append(body)
            ahead += len(body)
        return cls(slices, sum(map(len, slices)), pickles, ahead)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._slices)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return self._between(*at.indices(self._length)[:2]) if at.step in (None, 1) else list(self)[at]
        at = range(self._length)[at]
        return self._slices[at // self._step][at % self._step]

    def _between(self, a: int, b: int) -> Sequence[Any]:
        step, first, last = self._step, a // self._step, (b - 1) // self._step
        if first >= last:
            return self._slices[first][a - first * step : b - first * step] if a < b else []
        return list(islice(chain.from_iterable(self._slices[first : last + 1]), a - first * step, b - first * step))

    def encode(self, positions: Sequence[int]) -> Values:
        """The values at these positions."""
        if not isinstance(positions, range) or positions.step != 1:
            return Values.of_plain([self[at] for at in positions])
        a, b, step = positions.start, positions.stop, self._step
        first, end = -(-a // step), min(b // step, len(self._pickles))
        if b == self._length and len(self._pickles) * step >= b:
            end = len(self._pickles)
        if first >= end:
            return Values.of_plain(self._between(a, b))
        if end - first == 1 and b - a == len(self._slices[first]):
            return Values(self._pickles[first], b - a)
        between = (a, first * step), (end * step, b)
        head, tail = (pickle.dumps(self._between(x, y), 5) if x < y else b"" for x, y in between)
        return Values(b"".join([head, *self._pickles[first:end], tail]), b - a)


class NotDumped(Exception):
    """A value could not be pickled. `at` is its position."""

    def __init__(self, at: int, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.at, self.cause = at, cause


_NONE = pickle.dumps(None, 5)
_loading = threading.local()


def common_object(at: int) -> Any:
    """Called by a pickle: the class at this place of the list that came with the values."""
    return _loading.common[at]


@lru_cache(maxsize=32)
def _classes(common: bytes) -> list[Any]:
    """What `Dumper.common` wrote. Kept, as most calls of a stage bring the same classes, and to make one takes a
    thousand times as long as to look it up."""
    classes: list[Any] = pickle.loads(common)
    return classes


class Values:
    """A sequence of values, each of which can be loaded, or fail to load, by itself.

    Plain values (see `plain_pickle`) are a pickle of a list, or several one after another; others are a pickle
    each, in one frame with their offsets, so that a slice is cheap and a value that cannot be read spoils no
    other. Classes that travel by value are pickled once, in front.
    """

    __slots__ = ("_buffers", "_common", "_counts", "_length", "_list", "_offsets", "_pickled")

    def __init__(
        self,
        pickled: Buffer,
        length: int,
        offsets: array[int] | None = None,
        counts: array[int] | None = None,
        common: Buffer = b"",
        buffers: Sequence[Frame] = (),
    ) -> None:
        self._pickled, self._length = pickled, length
        self._offsets, self._counts, self._buffers = offsets, counts, buffers
        self._common: Buffer | list[Any] = common
        self._list: list[Any] | None = None

    @classmethod
    def of(
        cls,
        values: Sequence[Any],
        dumping: Dumping,
        share: Share | None = None,
        on_error: Callable[[int, Exception], None] | None = None,
    ) -> Values:
        """Encode. A value that cannot be pickled raises NotDumped, or is told to `on_error` and is None."""
        if (body := plain_pickle(values if type(values) is list else list(values))) is not None:
            return cls(body, len(values))
        out, sink = io.BytesIO(), _Sink(share)
        offsets, counts = array("q", [0]), array("q", [0])
        with dumping(out, sink.take) as dumper:
            for at, value in enumerate(values):
                try:
                    dumper.dump(value)
                except Exception as cause:  # whatever a user's __reduce__ raises
                    if on_error is None:
                        raise NotDumped(at, cause) from cause
                    on_error(at, cause)
                    out.seek(offsets[-1])
                    out.truncate()
                    del sink.frames[counts[-1] :]
                    out.write(_NONE)
                dumper.clear_memo()
                offsets.append(out.tell())
                counts.append(len(sink.frames))
            common = dumper.common()
        return cls(out.getvalue(), len(values), offsets, counts, common, sink.frames)

    @classmethod
    def of_plain(cls, values: Sequence[Any]) -> Values:
        """Encode values that are known to be plain."""
        return cls(pickle.dumps(values, 5), len(values))

    def __len__(self) -> int:
        return self._length

    @property
    def each(self) -> bool:
        """True when the values are a pickle each."""
        return self._offsets is not None

    def take(self, positions: Sequence[int]) -> Values:
        """The values at these positions; only for values that are a pickle each."""
        if isinstance(positions, range) and positions.step == 1:
            return self._slice(positions.start, positions.stop)
        offsets, counts, buffers = array("q", [0]), array("q", [0]), list[Frame]()
        ones = [self._slice(p, p + 1) for p in positions]
        for one in ones:
            offsets.append(offsets[-1] + len(one._pickled))
            buffers += one._buffers
            counts.append(len(buffers))
        body = b"".join(one._pickled for one in ones)
        return Values(body, len(ones), offsets, counts, self._sent_common(), buffers)

    def _slice(self, a: int, b: int) -> Values:
        assert self._offsets is not None
        assert self._counts is not None
        first, buffer = self._offsets[a], self._counts[a]
        offsets = array("q", [o - first for o in self._offsets[a : b + 1]])
        counts = array("q", [c - buffer for c in self._counts[a : b + 1]])
        body = memoryview(self._pickled)[first : self._offsets[b]]
        return Values(body, b - a, offsets, counts, self._sent_common(), self._buffers[buffer : self._counts[b]])

    def _sent_common(self) -> Buffer:
        assert not isinstance(self._common, list), "values are sliced where they were encoded"
        return self._common

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded values; of plain ones that were loaded, what a pointer and a number take."""
        return 32 * self._length if self._list is not None else len(self._pickled) + size(self._buffers)

    def compact(self) -> tuple[bytes, int] | None:
        """The arguments to make plain values again, few enough to go inside another pickle; else None."""
        if self._offsets is not None or type(self._pickled) is not bytes or len(self._pickled) > COMPACT_BYTES:
            return None
        return self._pickled, self._length

    def frames(self) -> list[Frame]:
        """What is sent; `from_frames` is the other end."""
        if self._offsets is None or self._counts is None:
            return [self._length.to_bytes(8, "little"), self._pickled]
        head = [self._offsets.tobytes(), self._counts.tobytes(), self._sent_common()]
        return [*head, self._pickled, *self._buffers]

    @classmethod
    def from_frames(cls, frames: Sequence[Frame], open_ref: Open) -> Values:
        """Encoded values as they arrived."""
        first, second, *rest = _opened(frames, open_ref)
        if not rest:
            return cls(second, int.from_bytes(first, "little"))
        offsets, counts = array("q"), array("q")
        offsets.frombytes(first)
        counts.frombytes(second)
        return cls(rest[1], len(offsets) - 1, offsets, counts, rest[0], rest[2:])

    def __getitem__(self, at: int) -> Any:
        """Load one value; raises whatever its unpickling raises."""
        if self._offsets is None or self._counts is None:
            return self.plain()[at]
        if len(self._common):
            if not isinstance(self._common, list):
                self._common = _classes(bytes(self._common))
            _loading.common = self._common
        body = memoryview(self._pickled)[self._offsets[at] : self._offsets[at + 1]]
        return pickle.loads(body, buffers=self._buffers[self._counts[at] : self._counts[at + 1]])

    def plain(self) -> list[Any]:
        """All values of a plain sequence, loaded once."""
        pickled = self._pickled  # before the look at the list, which another thread may make
        if self._list is None:
            values = pickle.loads(pickled) if self._length <= SLICE else ()  # more are of several pickles, most often
            if len(values) < self._length:
                source = io.BytesIO(pickled)
                values = pickle.load(source)
                while len(values) < self._length:
                    values += pickle.load(source)  # one unpickler for all would mix up what they refer to
            self._list = values if type(values) is list else list(values)
            self._pickled = b""  # the list is all there is to keep
        return self._list

    def __iter__(self) -> Iterator[Any]:
        """An iterator that goes on after a value that failed to load."""
        if self._offsets is None:
            return iter(self.plain())
        return map(self.__getitem__, range(self._length))
