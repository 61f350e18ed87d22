"""A store that tries again what failed for the moment, and finds out what became of a write."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fnmap.errors import MissingKey, StoreBusy
from fnmap.storage.base import Buffer, Store
from fnmap.storage.checks import flat

T = TypeVar("T")


class Retrying:
    """Around a store that raises StoreBusy. A `create` of unknown outcome is resolved by reading back: the object
    that is there is ours if it is the same, byte for byte; two writers of the same bytes have both won.

    Waits min(`backoff_s` * 2**k, `most_s`) seconds times a random factor of 0.5 to 1 before try k + 1, and gives
    up after `tries`.
    """

    def __init__(
        self,
        store: Store,
        *,
        tries: int = 10,
        backoff_s: float = 0.05,
        most_s: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store, self.tries, self.backoff_s, self.most_s, self.sleep = store, tries, backoff_s, most_s, sleep

    def get(self, key: str) -> bytes:
        return self._persist(lambda: self.store.get(key))

    def put(self, key: str, body: Buffer) -> None:
        self._persist(lambda: self.store.put(key, body))

    def create(self, key: str, body: Buffer) -> bool:
        unsure = False

        def attempt() -> bool:
            nonlocal unsure
            try:
                created = self.store.create(key, body)
            except StoreBusy:
                unsure = True
                raise
            return created or (unsure and self._is_there(key, body))

        return self._persist(attempt)

    def list(self, prefix: str) -> Iterator[str]:
        return iter(self._persist(lambda: list(self.store.list(prefix))))

    def delete(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        self._persist(lambda: self.store.delete(gone))

    def _is_there(self, key: str, body: Buffer) -> bool:
        try:
            return self.get(key) == bytes(flat(body))
        except MissingKey:  # made by another, and deleted since
            return False

    def _persist(self, attempt: Callable[[], T]) -> T:
        for tried in range(self.tries):
            try:
                return attempt()
            except StoreBusy:
                if tried == self.tries - 1:
                    raise
                wait_s = min(self.backoff_s * 2.0**tried, self.most_s)
                self.sleep(wait_s * random.uniform(0.5, 1.0))
        raise AssertionError("tries must be at least 1")

    def __repr__(self) -> str:
        return f"Retrying({self.store!r})"
