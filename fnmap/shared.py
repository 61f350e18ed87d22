"""Large buffers that many tasks use: each is stored once a run, and mapped by every worker of this machine."""

from __future__ import annotations

import mmap
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from fnmap.errors import StoreError
from fnmap.format import keys
from fnmap.format.payload import Buffer, Frame, Ref, nbytes
from fnmap.storage.base import Store, create_parts
from fnmap.storage.files import FileStore

T = TypeVar("T")
SHARED_BYTES = 1 << 20  # a buffer so large is stored once for all calls of a run
Place = tuple[int, int]  # address and bytes of a buffer

_lying: dict[Place, str] = {}  # buffers of `share`, while they live, and the files that they are
_own_lock = threading.Lock()
_own: FileStore | None = None  # where these files are
_number = 0


def share(obj: T) -> T:
    """An equal object whose large buffers are read-only and lie where workers of this machine map them.

    A run that uses it copies nothing: drop the original, and there is one copy for all processes together. It holds for
    numpy, Arrow, pandas and whatever else pickles its buffers apart. Raises what pickling the object raises.
    """
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(obj, 5, buffer_callback=buffers.append)
    again: T = pickle.loads(pickled, buffers=[_laid_down(buffer.raw()) for buffer in buffers])
    return again


def _laid_down(raw: memoryview) -> Buffer:
    """The buffer as read-only memory that is mapped from a file; a small one as it is."""
    if raw.nbytes < SHARED_BYTES:
        return bytes(raw)
    global _number
    store = _own_store()
    with _own_lock:
        key, _number = f"share/{_number}", _number + 1
    store.create(key, raw)
    path = str(store.path(key))
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    place = _place(memoryview(mapped))
    _lying[place] = path
    weakref.finalize(mapped, _forget, place)
    return memoryview(mapped)


def _forget(place: Place) -> None:
    """Nobody has the buffer any more. Runs that use it have the file under a name of their own."""
    path = _lying.pop(place)
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108


def _own_store() -> FileStore:
    from fnmap.storage.scratch import new_scratch

    global _own
    with _own_lock:
        if _own is None:
            store = new_scratch()
            assert isinstance(store, FileStore)
            _own = store
            weakref.finalize(store, _remove, FileStore(store.root), os.getpid())
        return _own


def _remove(store: FileStore, pid: int) -> None:
    from fnmap.storage.scratch import remove_scratch

    if os.getpid() == pid:  # not a process that was forked from it
        remove_scratch(store)


def _place(raw: memoryview) -> Place:
    import numpy as np

    return np.frombuffer(raw, np.uint8).__array_interface__["data"][0], raw.nbytes


class Shared:
    """Buffers of over 1 MB that the function or several items refer to: each is stored once a run. `check` raises for
    sizes that no worker could hold."""

    def __init__(self, scratch: Callable[[], Store], run_id: str, check: Callable[[int], None] | None = None) -> None:
        self._scratch, self._run_id, self._check = scratch, run_id, check
        self._seen: dict[Place, tuple[Ref, memoryview]] = {}  # the view keeps the address taken
        self.keys: list[str] = []
        self._sizes: dict[str, int] = {}

    def __call__(self, raw: memoryview) -> Ref | None:
        """Called by the pickler with each large buffer."""
        if raw.nbytes < SHARED_BYTES:
            return None
        if self._check is not None:
            self._check(raw.nbytes)  # before it is sent anywhere
        where = _place(raw)
        if where not in self._seen:
            self._seen[where] = (self._put(raw, _lying.get(where)), raw)
        return self._seen[where][0]

    def check(self, frames: Sequence[Frame], more: int = 0) -> None:
        """Raise NotPicklable if these frames and what they refer to, and so many bytes `more`, are together more than a
        worker could hold."""
        if self._check is not None:
            own = sum(nbytes(frame) for frame in frames if not isinstance(frame, Ref))
            stored = {frame.key for frame in frames if isinstance(frame, Ref)}
            self._check(own + sum(map(self._sizes.__getitem__, stored)) + more)

    def put(self, body: Buffer) -> Ref:
        """Store one frame."""
        return self._put(body, None)

    def _put(self, body: Buffer, lies_in: str | None) -> Ref:
        key = keys.shared(self._run_id, len(self.keys))
        self.keys.append(key)
        self._sizes[key] = nbytes(body)
        store = self._scratch()
        if lies_in is None or not (isinstance(store, FileStore) and store.adopt(key, lies_in)):
            create_parts(store, key, [body])
        return Ref(key)

    def clear_with(self, owner: object) -> None:
        """Delete the stored buffers when the owner is gone."""
        if self.keys:
            weakref.finalize(owner, _delete, self._scratch(), self.keys)


def _delete(store: Store, stored: list[str]) -> None:
    with suppress(StoreError):  # what is left goes with the session, or expires
        store.delete(stored)
