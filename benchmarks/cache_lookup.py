"""How long does it take to find a million tasks among a million that are cached, and how often is the store read?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.peers import Fn, System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check

CHUNK = 1000  # tasks whose results are one part


def no_op(item: int) -> int:
    """What ran for all of them."""
    return item


class Cached(System):
    """fnmap's cache by itself: in a store of files, the results of no more than the first `size` items."""

    name, module = "fnmap-cache", "fnmap"

    def start(self) -> None:
        from fnmap.format.identity import function_identity
        from fnmap.storage.files import FileStore
        from fnmap.testing import CountingStore

        self.folder = tempfile.TemporaryDirectory()
        self.store = CountingStore(FileStore(self.folder.name))
        self.identity = function_identity(no_op)

    def map(self, _: Fn, items: Sequence[Any]) -> list[Any]:
        """Where the result of each item is; of items that are not in the cache, -1."""
        import numpy as np

        from fnmap.cache import lookup
        from fnmap.format.task_keys import item_keys

        found = lookup(self.store, self.identity, item_keys(self.identity, items, "item"))
        places = np.array([_number(part) for part in found.parts] + [0])[found.part_of] * CHUNK + found.positions
        return np.where(found.positions < 0, -1, places).tolist()

    def fill(self, size: int) -> None:
        """Commit empty parts, for only their names count, and write down what they would have."""
        import numpy as np

        from fnmap.cache import write_manifest
        from fnmap.format import keys
        from fnmap.format.task_keys import item_keys

        parts = [keys.part("filled", 0, chunk) for chunk in range(-(-size // CHUNK))]
        for part in parts:
            self.store.create(part, b"")
        places = np.arange(size)
        own = item_keys(self.identity, range(size), "item")
        write_manifest(self.store, self.identity, "filled", own, parts, places // CHUNK, places % CHUNK)

    def close(self) -> None:
        self.folder.cleanup()


def _number(part: str) -> int:
    return int(part.split(".")[-2])


def measure(system: System, size: int) -> Iterator[Metrics]:
    """Seconds to compute the keys and to look them up: of items that are all there, and of which none is."""
    with system:
        if isinstance(system, Cached):
            system.fill(size)
        for key, items, expected in _asked(size):
            begin = _reads(system)
            start = time.perf_counter()
            places = system.map(no_op, items)
            seconds = time.perf_counter() - start
            check(places == expected, f"{key}: wrong places")
            yield {f"{key}_s": seconds, f"{key}_reads": _reads(system) - begin}


def _asked(size: int) -> Iterator[tuple[str, list[int], list[int]]]:
    yield "hit", list(range(size)), list(range(size))
    yield "miss", list(range(size, 2 * size)), [-1] * size


def _reads(system: System) -> int:
    return system.store.calls["get"] + system.store.calls["list"] if isinstance(system, Cached) else 0


QUESTION = Question(
    name="cache_lookup",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("hit_s", "hit_reads", "miss_s", "miss_reads")),),
    columns=(
        Column("hit_s", "all there"),
        Column("hit_reads", "reads", "count"),
        Column("miss_s", "none there"),
        Column("miss_reads", "reads", "count"),
    ),
    systems=("fnmap-cache",),
    toy_systems=("fnmap-cache",),
    full={"size": 1_000_000},
    toy={"size": 5_000},
    goals=(
        Goal("1 M items among 1 M", "fnmap-cache", "hit_s", 3.0),
        Goal("lists and reads for 1 M items", "fnmap-cache", "hit_reads", 64),
    ),
    own=(Cached,),
    reference="fnmap-cache",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
