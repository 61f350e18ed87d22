"""A store whose objects are kept on disk when they are mapped, for a worker that is asked for them again and again."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from fnmap.errors import MissingKey, StoreError
from fnmap.storage.base import Buffer, Store
from fnmap.storage.files import FileStore

MOST, KEEP = "FNMAP_KEEP_MB", "FNMAP_KEEP"
_MOST_MB = 256
_lock = threading.Lock()
_kept: OrderedDict[str, int] = OrderedDict()  # by key, the bytes of files of this process; the oldest first
_files: FileStore | None = None


class Kept:
    """Around a store of objects that never change: `map` fetches one once, and shares it from a file. The least
    recently mapped files go when there are more than FNMAP_KEEP_MB megabytes (256). They are in the folder FNMAP_KEEP,
    where the workers of a machine, one after another, find what those before have left."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def map(self, key: str) -> memoryview:
        """The object as private copy-on-write memory."""
        name = f"{blake2b(f'{self.store!r} {key}'.encode(), digest_size=16).hexdigest()}"
        files = _own_files()
        with _lock:
            if name in _kept:
                _kept.move_to_end(name)
                with suppress(MissingKey):  # another process of this machine has made room
                    return files.map(name)
                del _kept[name]
        body = self.store.get(key)
        with _lock:
            try:
                return _keep(files, name, body)
            except StoreError:  # no room on the disk: then in memory
                return memoryview(bytearray(body))

    def create_parts(self, key: str, parts: Iterable[Buffer]) -> bool:
        return self.store.create(key, b"".join(parts))

    def get(self, key: str) -> bytes:
        return self.store.get(key)

    def put(self, key: str, body: Buffer) -> None:
        self.store.put(key, body)

    def create(self, key: str, body: Buffer) -> bool:
        return self.store.create(key, body)

    def list(self, prefix: str) -> Iterator[str]:
        return self.store.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self.store.delete(keys)

    def __repr__(self) -> str:
        return f"Kept({self.store!r})"


class Shipped:
    """A store that is `Kept` where it arrives, and here as it is."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "store":
            raise AttributeError(name)
        return getattr(self.store, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self.store,)

    def __repr__(self) -> str:
        return f"Shipped({self.store!r})"


def _keep(files: FileStore, name: str, body: bytes) -> memoryview:
    """The object, in a file if there is room for it: what was mapped stays, though its file goes."""
    if len(body) > _most_bytes():
        return memoryview(bytearray(body))
    while _kept and sum(_kept.values()) + len(body) > _most_bytes():
        files.delete([_kept.popitem(last=False)[0]])
    files.create(name, body)
    _kept[name] = len(body)
    return files.map(name)


def _most_bytes() -> int:
    with suppress(ValueError):
        return int(float(os.environ.get(MOST, _MOST_MB)) * 1e6)
    return int(_MOST_MB * 1e6)


def _own_files() -> FileStore:
    global _files
    with _lock:
        if _files is None:
            _files = FileStore(os.environ.get(KEEP) or tempfile.mkdtemp(prefix="fnmap-kept-"))
            _kept.update((name, _files.path(name).stat().st_size) for name in list(_files.list("")))
        return _files
