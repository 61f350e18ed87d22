"""A thread with an event loop, in which requests to AWS wait by the thousand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Any

from fnmap.aws.http import Answer, Connections
from fnmap.aws.requests import Service
from fnmap.aws.signing import sign
from fnmap.errors import WorkerLost

TRIES = 6
BACKOFF_S = 0.2
OVERDUE = -1
WITHDRAWN = "the call was withdrawn while it ran"


class Wire:
    """Requests to `service` unless another is said."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting = set[Future[Any]]()
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[Future[Any], asyncio.Task[None]] = {}
        self._connections = Connections()
        self._ending, self._ended = threading.Lock(), False
        self._thread = threading.Thread(target=self._serve, name="fnmap-lambda", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, None], future: Future[Any]) -> None:
        """Run this in the loop, for that future."""
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        if threading.current_thread() is self._thread:
            self._begin(work, future)
        elif not self._call(self._begin, work, future):
            work.close()
            _withdraw(future)

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this in the loop."""
        if not self._call(self._keep, work):
            work.close()

    @property
    def busy(self) -> int:
        """Futures that are not settled yet."""
        return len(self._waiting)

    def cancel(self, future: Future[Any]) -> None:
        """Stop what runs for that future."""

        def stop() -> None:
            if (task := self._tasks.get(future)) is not None:
                task.cancel()

        self._call(stop)

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float, service: Service | None = None
    ) -> Answer:
        """One request; the status is 0 if the service cannot be reached, OVERDUE if it took too long. What may pass is
        tried again, but for 429."""
        service = service or self._service
        url, who, begun = service.url + path, service.who, self._loop.time()
        for tried in range(TRIES):
            signed = sign(who(), service.name, service.region, "POST", url, headers, body)
            try:
                answer = await self._connections.ask("POST", url, signed, body, timeout_s)
            except OSError as error:
                if self._loop.time() - begun >= timeout_s:
                    return Answer(OVERDUE, {}, f"no answer in {timeout_s:g} s".encode())
                answer = Answer(0, {}, f"{type(error).__name__}: {error}".encode())
            if 0 < answer.status < 500 or tried == TRIES - 1:
                return answer
            await asyncio.sleep(BACKOFF_S * 2.0**tried * random.uniform(0.5, 1.0))
        raise AssertionError("TRIES is at least 1")

    def close(self) -> None:
        """Cancel everything and end the thread."""
        self._call(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _call(self, work: Callable[..., Any], *arguments: Any) -> bool:
        """Call this in the loop. False if that has ended."""
        with self._ending:
            if not self._ended:
                self._loop.call_soon_threadsafe(work, *arguments)
            return not self._ended

    def _begin(self, work: Coroutine[Any, Any, None], future: Future[Any]) -> None:
        task = self._tasks[future] = self._loop.create_task(work)
        task.add_done_callback(lambda _: self._gone(future))

    def _gone(self, future: Future[Any]) -> None:
        del self._tasks[future]
        if not future.done():  # it was cancelled before its first step
            _withdraw(future)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task: Any = self._loop.create_task(work)
        self._tasks[task] = task
        task.add_done_callback(self._tasks.pop)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            with self._ending:
                self._ended = True
            self._loop.run_until_complete(self._end())
            self._loop.close()

    async def _end(self) -> None:
        await asyncio.sleep(0)  # what was to be begun is
        while left := list(self._tasks.values()):
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await asyncio.sleep(0)  # they are taken off the list
        self._connections.close()
        await self._loop.shutdown_default_executor()


def _withdraw(future: Future[Any]) -> None:
    with contextlib.suppress(InvalidStateError):
        future.set_exception(WorkerLost(WITHDRAWN))
