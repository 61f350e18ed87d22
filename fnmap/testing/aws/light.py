"""An environment that is an object: thousands fit into one process."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from fnmap.testing.aws import invocation as made
from fnmap.testing.aws.functions import Config
from fnmap.testing.aws.invocation import Invocation, Outcome
from fnmap.testing.aws.settings import RESPONSE_BYTES, Settings

Handler = Callable[[Any, Any], Any]


def resolve(handler: Handler | str) -> Handler:
    """A handler, or what a dotted name says."""
    if not isinstance(handler, str):
        return handler
    module, _, name = handler.rpartition(".")
    found: Handler = getattr(importlib.import_module(module), name)
    return found


class Context:
    """What a handler is told besides the event: as in Lambda, and `environment`, a dict that lasts as long as that."""

    function_version = "$LATEST"
    identity = None

    def __init__(self, invocation: Invocation, config: Config, environment: dict[str, Any]) -> None:
        self.aws_request_id = invocation.request_id
        self.function_name, self.invoked_function_arn = config.name, config.arn
        self.memory_limit_in_mb = str(config.memory_mb)
        self.log_group_name = config.log_group
        self.client_context = json.loads(invocation.client_context) if invocation.client_context else None
        self.environment = environment
        self._deadline = time.monotonic() + config.timeout_s

    def get_remaining_time_in_millis(self) -> int:
        """How long until the time-out."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


class LightEnvironment:
    """Calls the handler: a coroutine function in the loop, any other in a pool of threads."""

    pid = None

    def __init__(self, number: int, config: Config, settings: Settings, handler: Handler, pool: Executor) -> None:
        self.number, self.config, self.settings = number, config, settings
        self.dead = self.busy = False
        self._handler, self._pool = handler, pool
        self._awaited = inspect.iscoroutinefunction(handler)
        self._memory: dict[str, Any] = {}
        self._cold = True
        self._task: asyncio.Task[Any] | None = None

    async def run(self, invocation: Invocation) -> Outcome:
        """One invocation."""
        cold, self._cold, init_s = self._cold, False, self.settings.cold_s
        if cold and init_s:
            await asyncio.sleep(init_s)
        self._task, begun = asyncio.current_task(), time.perf_counter()
        payload, failed = await self._call(invocation)
        self._task = None
        took = time.perf_counter() - begun
        log = made.framed(invocation, self.config, b"", took, init_s=init_s if cold else None)
        return Outcome(payload, failed, log)

    async def _call(self, invocation: Invocation) -> tuple[bytes, bool]:
        request, timeout_s = invocation.request_id, self.config.timeout_s
        context = Context(invocation, self.config, self._memory)
        try:
            async with asyncio.timeout(timeout_s) as timer:
                value = await self._handle(json.loads(invocation.event), context)
        except asyncio.CancelledError:
            if not self.dead:
                raise
            return made.exit_json(request, -signal.SIGKILL), True
        except BaseException as e:  # a handler may raise anything
            if timer.expired():
                self.dead = True
                return made.timeout_json(request, timeout_s), True
            if isinstance(e, SystemExit):
                self.dead = True
                return made.exit_json(request, e.code if isinstance(e.code, int) else bool(e.code)), True
            return _raised(request, e), True
        return _answered(request, value)

    async def _handle(self, event: Any, context: Context) -> Any:
        if self._awaited:
            return await self._handler(event, context)
        return await asyncio.get_running_loop().run_in_executor(self._pool, _shielded, self._handler, event, context)

    def freeze(self) -> None:
        """There is nothing to stop."""

    def watch_memory(self) -> None:
        """There is no memory of its own."""

    def kill(self) -> None:
        """Fail the invocation that runs; a thread that is in it goes on unheard."""
        self.dead = True
        if self._task:
            self._task.cancel()

    close = kill


def _shielded(handler: Handler, event: Any, context: Context) -> Any:
    """SystemExit would not come through a future of asyncio."""
    try:
        return handler(event, context)
    except (SystemExit, KeyboardInterrupt) as e:
        raise SystemExit(e.code if isinstance(e, SystemExit) else 130) from None


def _raised(request: str, e: BaseException) -> bytes:
    error = {
        "errorMessage": str(e),
        "errorType": type(e).__name__,
        "requestId": request,
        "stackTrace": traceback.format_tb(e.__traceback__),
    }
    return json.dumps(error).encode()


def _answered(request: str, value: Any) -> tuple[bytes, bool]:
    try:
        payload = json.dumps(value).encode()
    except (TypeError, ValueError) as e:
        error = {"errorType": "Runtime.MarshalError", "errorMessage": f"Unable to marshal response: {e}"}
        return json.dumps(error | {"requestId": request, "stackTrace": []}).encode(), True
    if len(payload) > RESPONSE_BYTES:
        return made.size_json(RESPONSE_BYTES), True
    return payload, False
