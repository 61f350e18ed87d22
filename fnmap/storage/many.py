"""Many requests at a time, for stores that are slow to answer each and quick to answer all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from fnmap.storage.base import Store

if TYPE_CHECKING:
    from concurrent.futures import Future

Key = TypeVar("Key")
Answer = TypeVar("Answer")


def at_once(store: Store, least: int = 1) -> int:
    """How many requests at a time the store is good for."""
    return max(least, getattr(store, "at_once", 1))


def for_each(store: Store, do: Callable[[Key], Answer], keys: Iterable[Key], *, least: int = 1) -> Iterator[Answer]:
    """`do` of each key, in order: one after another in a store that answers at once, else as many at a time as it is
    good for, and no further ahead of the reader than that."""
    width = at_once(store, least)
    if width == 1:
        return map(do, keys)
    return _ahead(do, keys, width)


def list_all(store: Store, prefixes: Iterable[str]) -> list[str]:
    """The keys that start with any of these."""
    return [key for keys in for_each(store, lambda prefix: list(store.list(prefix)), prefixes) for key in keys]


def _ahead(do: Callable[[Key], Answer], keys: Iterable[Key], width: int) -> Iterator[Answer]:
    from concurrent.futures import ThreadPoolExecutor  # cannot be imported first when a program ends

    under_way: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(width, thread_name_prefix="fnmap-store") as pool:
        try:
            for key in keys:
                under_way.append(pool.submit(do, key))
                if len(under_way) > width:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for late in under_way:
                late.cancel()
