"""A store in the memory of one process: for inline runs, tests and documentation."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import NoReturn

from fnmap.errors import MissingKey, UsageError
from fnmap.storage.base import Buffer
from fnmap.storage.checks import check_key, check_keys, check_prefix, flat


class MemoryStore:
    """Keeps objects in a dict. It lives and dies with its process, and no other process can see it."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        """The whole object. Raises MissingKey."""
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise MissingKey(f"no object {key!r} in {self!r}") from None

    def put(self, key: str, body: Buffer) -> None:
        """Keep a copy of the body, replacing what was there."""
        check_key(key)
        copy = bytes(flat(body))
        with self._lock:
            self._objects[key] = copy

    def create(self, key: str, body: Buffer) -> bool:
        """Keep a copy of the body unless the key exists: then False."""
        check_key(key)
        copy = bytes(flat(body))
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = copy
            return True

    def list(self, prefix: str) -> Iterator[str]:
        """The keys there are now that start with `prefix`."""
        check_prefix(prefix)
        with self._lock:
            return iter([key for key in self._objects if key.startswith(prefix)])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these keys; one that does not exist is not an error."""
        for key in check_keys(keys):
            with self._lock:
                self._objects.pop(key, None)

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            f"{self!r} lives in one process and cannot be sent to another: use it with on='inline', "
            "or give store= a directory or a URL that the workers can reach"
        )

    def __repr__(self) -> str:
        return f"MemoryStore(<{len(self._objects)} objects>)"
