"""A store that tries again what failed for the moment, and finds out what became of a write."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fnmap.errors import MissingKey, StoreBusy, StoreThrottled
from fnmap.storage.base import Buffer, Store
from fnmap.storage.checks import flat
from fnmap.storage.pace import Pace

T = TypeVar("T")


class Retrying:
    """Around a store that raises StoreBusy. A `create` of unknown outcome is resolved by reading back: the object
    that is there is ours if it is the same, byte for byte; two writers of the same bytes have both won.

    Waits min(`backoff_s` * 2**k, `most_s`) seconds times a random factor of 0.5 to 1 before try k + 1, and gives
    up after `tries`. With a `pace`, requests go out no faster than it allows, and it hears of StoreThrottled.
    """

    def __init__(
        self,
        store: Store,
        *,
        tries: int = 10,
        backoff_s: float = 0.05,
        most_s: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
        pace: Pace | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.tries, self.backoff_s, self.most_s, self.sleep = store, tries, backoff_s, most_s, sleep
        self.pace, self.now = pace, now

    def get(self, key: str) -> bytes:
        return self.persist(lambda: self.store.get(key))

    def put(self, key: str, body: Buffer) -> None:
        self.persist(lambda: self.store.put(key, body))

    def create(self, key: str, body: Buffer) -> bool:
        return self.settle(lambda: self.store.create(key, body), lambda: self._is_there(key, body))

    def list(self, prefix: str) -> Iterator[str]:
        return iter(self.persist(lambda: list(self.store.list(prefix))))

    def delete(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        self.persist(lambda: self.store.delete(gone))

    def settle(self, create: Callable[[], bool], ours: Callable[[], bool]) -> bool:
        """Was it created? Where a try may have succeeded unheard, `ours` tells whose the object is that is there."""
        unsure = False

        def attempt() -> bool:
            nonlocal unsure
            try:
                created = create()
            except StoreBusy:
                unsure = True
                raise
            return created or (unsure and self.persist(ours))

        return self.persist(attempt)

    def persist(self, attempt: Callable[[], T]) -> T:
        """What the attempt returns, once it does not raise StoreBusy."""
        for tried in range(self.tries):
            if self.pace is not None and (early_s := self.pace.wait_s(self.now())) > 0:
                self.sleep(early_s)
            try:
                return attempt()
            except StoreBusy as busy:
                if self.pace is not None and isinstance(busy, StoreThrottled):
                    self.pace.slowed(self.now())
                if tried == self.tries - 1:
                    raise
                wait_s = min(self.backoff_s * 2.0**tried, self.most_s)
                self.sleep(wait_s * random.uniform(0.5, 1.0))
        raise AssertionError("tries must be at least 1")

    def _is_there(self, key: str, body: Buffer) -> bool:
        try:
            return self.store.get(key) == bytes(flat(body))
        except MissingKey:  # made by another, and deleted since
            return False

    def __repr__(self) -> str:
        return f"Retrying({self.store!r})"
