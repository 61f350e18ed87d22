"""An object of a store, named instead of sent."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from fnmap.storage.base import Store, open_object
from fnmap.storage.open import open_store


@dataclass(frozen=True, slots=True)
class Stored:
    """The object at `key` of `store`: a store, a directory or a URL, as every `store=` takes it.

    It is small, whatever lies there. To the cache it is the same as another of that store and key: do not change what
    lies behind one that a cached run has read.
    """

    store: Store | str | PathLike[str]
    key: str

    def view(self) -> memoryview:
        """The object's bytes, mapped where the store can. Raises MissingKey."""
        return open_object(open_store(self.store), self.key)

    def write(self, body: bytes | memoryview) -> None:
        """Put the object there whole."""
        open_store(self.store).put(self.key, body)
