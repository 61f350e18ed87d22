"""What a store must do: a flat map from key to bytes.

A key is a relative path of printable ASCII segments joined by "/" ("part/a/run/0/00.parquet"), and no
key is the folder of another ("a" and "a/b"): `fnmap.storage.checks` has the rules. A store is cheap to
pickle: workers get a copy. After a StoreError of `put` or `create`, reading back tells what happened.
The conformance suite is `fnmap.testing.StoreContract`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeGuard, runtime_checkable

from fnmap.errors import MissingKey

Buffer = bytes | bytearray | memoryview


@runtime_checkable
class Store(Protocol):
    """A flat map from key to bytes."""

    def get(self, key: str) -> bytes:
        """The whole object. Raises MissingKey."""
        ...

    def put(self, key: str, body: Buffer) -> None:
        """Write the object whole or not at all, replacing what was there."""
        ...

    def create(self, key: str, body: Buffer) -> bool:
        """Write the object exclusively: False, and nothing changed, if the key exists."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """The keys that start with `prefix`, in no particular order."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these keys; one that does not exist is not an error."""
        ...


@runtime_checkable
class MapObject(Protocol):
    """A store whose objects can be mapped into memory, so that many readers share one copy."""

    def map(self, key: str) -> memoryview:
        """The object as private copy-on-write memory: writable, and no write reaches the store."""
        ...

    def create_parts(self, key: str, parts: Iterable[Buffer]) -> bool:
        """As `create`, of the concatenated parts, without joining them in memory first."""
        ...


@runtime_checkable
class Sweep(Protocol):
    """A store in which a writer that dies may leave something behind."""

    def sweep(self) -> int:
        """Remove what dead writers left: how many pieces."""
        ...


@runtime_checkable
class Url(Protocol):
    """A store that other libraries can read by an address."""

    def url(self, key: str) -> str:
        """An address of the object that pyarrow, DuckDB and polars understand."""
        ...


@runtime_checkable
class GetRange(Protocol):
    """A store that reads some of an object, far from here: through it pyarrow reads datasets."""

    def get(self, key: str) -> bytes:
        """As of Store."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """These bytes, all of which must be there. Raises MissingKey."""
        ...

    def size(self, key: str) -> int:
        """The bytes of the object. Raises MissingKey."""
        ...


@runtime_checkable
class Parallel(Protocol):
    """A store that is slow to answer one request, and answers many at a time."""

    at_once: int  # how many are worth it


def open_object(store: Store | None, key: str) -> memoryview:
    """An object as memory: mapped where the store can, else read."""
    if store is None:
        raise MissingKey(f"{key!r} lies in a store, and none was given")
    return store.map(key) if can_map(store) else memoryview(bytearray(store.get(key)))


def create_parts(store: Store, key: str, parts: Iterable[Buffer]) -> bool:
    """`store.create` of the concatenated parts, joining them only where the store needs that."""
    if can_map(store):
        return store.create_parts(key, parts)
    return store.create(key, b"".join(parts))


def is_parallel(store: Store | None) -> bool:
    """As isinstance(store, Parallel), which takes ten times as long."""
    return hasattr(store, "at_once")


def can_map(store: Store) -> TypeGuard[MapObject]:
    """As isinstance(store, MapObject), which takes ten times as long."""
    return hasattr(store, "map") and hasattr(store, "create_parts")
