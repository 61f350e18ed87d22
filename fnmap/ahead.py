"""Parts of a far store are read before they are asked for, while results are handed out in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fnmap.storage.base import Store, is_parallel

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from fnmap.results import Results
    from fnmap.stage import Part

AHEAD = 6  # parts; fewer than are kept once they are read


class Ahead:
    """Of one reader. In a store that answers at once it does nothing."""

    def __init__(self, results: Results, store: Store | None) -> None:
        self._results, self._store, self._far = results, store, is_parallel(store)
        self._order: list[str] = []
        self._place: dict[str, int] = {}
        self._coming: dict[str, Future[Any]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def reached(self, part: Part) -> None:
        """The reader has come to this part: it is in memory on return, and the next ones are on their way."""
        if not self._far or part.key is None or not self._is_stored(part):
            return
        if part.key not in self._place:
            self._look()
        at = self._place.get(part.key)
        if at is None:  # of no run that is held here
            return
        if self._pool is None:
            from concurrent.futures import (
                ThreadPoolExecutor,
            )  # that cannot be imported for the first time when a program ends

            self._pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="fnmap-ahead")
        for key in self._order[at : at + AHEAD]:
            if key not in self._coming:
                self._coming[key] = self._pool.submit(self._read, key)
        self._coming[part.key].exception()  # the reader meets it again, and says whose it is

    def close(self) -> None:
        """The reader is done."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        """The stored parts there are by now, in the order of their tasks."""
        stored = [part for part in list(self._results.order) if part.key is not None and self._is_stored(part)]
        stored.sort(key=lambda part: part.tasks[0])
        self._order = list(dict.fromkeys(str(part.key) for part in stored))
        self._place = {key: at for at, key in enumerate(self._order)}

    def _is_stored(self, part: Part) -> bool:
        from fnmap.format.parts import Stored

        return isinstance(part.values, Stored) and len(part.tasks) > 0

    def _read(self, key: str) -> None:
        from fnmap.format.parts import load

        assert self._store is not None
        load(self._store, key)
