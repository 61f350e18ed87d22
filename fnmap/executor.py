"""A concurrent.futures.Executor over a session, for code that takes one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

from fnmap.compute.base import Compute
from fnmap.session import Session
from fnmap.storage.base import Store


class Executor(futures.Executor):
    """`submit` and `map` as the standard executors have them, on any compute. Options as of Session."""

    def __init__(self, *, on: str | Compute = "local", store: str | Path | Store | None = None, **options: Any) -> None:
        self._session = Session(on=on, store=store, **options)
        self._futures: set[futures.Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """One call; RuntimeError after shutdown."""
        if self._session.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = self._session.submit(fn, *args, **kwargs)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the calls, or with `cancel_futures` withdraw those that have not started; then stop the workers."""
        if cancel_futures:
            for future in list(self._futures):
                future.cancel()
        if wait:
            futures.wait(list(self._futures))
        self._session.close()
