"""A thread with an event loop, in which requests to AWS wait by the thousand."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any

from fnmap.aws.http import Answer, Connections
from fnmap.aws.requests import Service
from fnmap.aws.signing import sign

TRIES = 6
BACKOFF_S = 0.2


class Wire:
    """Requests to `service` unless another is said. `busy`: futures that are not settled yet."""

    def __init__(self, service: Service) -> None:
        self._service, self.busy = service, 0
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[Future[Any], asyncio.Task[None]] = {}
        self._connections = Connections()
        self._thread = threading.Thread(target=self._serve, name="fnmap-lambda", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, None], future: Future[Any]) -> None:
        """Run this in the loop, for that future."""
        self.busy += 1
        future.add_done_callback(self._freed)
        if threading.current_thread() is self._thread:
            self._begin(work, future)
        else:
            self._loop.call_soon_threadsafe(self._begin, work, future)

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this in the loop."""
        self._loop.call_soon_threadsafe(lambda: self._keep(self._loop.create_task(work)))

    def cancel(self, future: Future[Any]) -> None:
        """Stop what runs for that future."""

        def stop() -> None:
            if (task := self._tasks.get(future)) is not None:
                task.cancel()

        self._loop.call_soon_threadsafe(stop)

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float, service: Service | None = None
    ) -> Answer:
        """One request; the status is 0 if there was no answer. What may pass is tried again, but for 429."""
        service = service or self._service
        url, who = service.url + path, service.who
        for tried in range(TRIES):
            signed = sign(who(), service.name, service.region, "POST", url, headers, body)
            try:
                answer = await self._connections.ask("POST", url, signed, body, timeout_s)
            except OSError as error:
                answer = Answer(0, {}, f"{type(error).__name__}: {error}".encode())
            if 0 < answer.status < 500 or tried == TRIES - 1:
                return answer
            await asyncio.sleep(BACKOFF_S * 2.0**tried * random.uniform(0.5, 1.0))
        raise AssertionError("TRIES is at least 1")

    def close(self) -> None:
        """Cancel everything and end the thread."""
        if threading.current_thread() is self._thread:
            self._loop.call_soon(self._loop.stop)
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _freed(self, _: Future[Any]) -> None:
        self.busy -= 1

    def _begin(self, work: Coroutine[Any, Any, None], future: Future[Any]) -> None:
        task = self._tasks[future] = self._loop.create_task(work)
        task.add_done_callback(lambda _: self._tasks.pop(future, None))

    def _keep(self, task: asyncio.Task[None]) -> None:
        key: Any = task
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._end())
            self._loop.close()

    async def _end(self) -> None:
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._connections.close()
