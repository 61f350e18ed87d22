"""A concurrent.futures.Executor over a session, for code that takes one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, NoReturn, Unpack

from fnmap.compute.base import Compute
from fnmap.errors import NotPicklable
from fnmap.options import SessionOptions, check_names, shows
from fnmap.session import Session
from fnmap.storage.base import Store


class Executor(futures.Executor):
    """`submit` and `map` as the standard executors have them, on any compute. Options as of Session."""

    @shows(SessionOptions)
    def __init__(
        self,
        *,
        on: str | Compute = "local",
        store: str | Path | Store | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        check_names(SessionOptions, "Executor", options, "on", "store")
        self._session = Session(on=on, store=store, **options)
        self._futures: set[futures.Future[Any]] = set()
        self._shut = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """One call; RuntimeError after shutdown."""
        if self._shut or self._session.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = self._session.submit(fn, *args, **kwargs)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> bool | None:
        """Wait for the calls, unless Ctrl-C came through: then stop at once."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._session.close()
        return super().__exit__(kind, error, trace)

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("an Executor cannot be sent to or from a worker: make one inside the function")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the calls, or with `cancel_futures` withdraw those that have not started; then stop the workers."""
        if cancel_futures:
            for future in list(self._futures):
                future.cancel()
        left = list(self._futures)
        if wait or not left:
            futures.wait(left)
            self._session.close()
        else:
            threading.Thread(target=self._close_after, args=(left,), name="fnmap-shutdown").start()
        self._shut = True

    def _close_after(self, left: list[futures.Future[Any]]) -> None:
        futures.wait(left)
        self._session.close()
