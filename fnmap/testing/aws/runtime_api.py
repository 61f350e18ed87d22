"""The Runtime API: what the process of one environment asks for its next invocation, and tells the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from fnmap.testing.aws.functions import Config
from fnmap.testing.aws.http import Server, reply
from fnmap.testing.aws.invocation import Invocation
from fnmap.testing.aws.settings import RESPONSE_BYTES

if TYPE_CHECKING:
    from fnmap.testing.aws.process import End

ROOT = "/2018-06-01/runtime/"
ACCEPTED = b'{"status":"OK"}'


class RuntimeApi:
    """A server on a port of its own. Each process that is started there finds an empty inbox."""

    def __init__(self, settle: Callable[[End], bool]) -> None:
        self._settle = settle
        self._server = Server(self._answer)
        self._inbox: asyncio.Queue[tuple[Invocation, float] | None] = asyncio.Queue()
        self._request_id = ""
        self._arn = ""
        self.port = 0

    async def open(self) -> None:
        """Listen on a free port."""
        self.port = self.port or await self._server.open(0)

    def close(self) -> None:
        """Close the port, and the connections."""
        self._inbox.put_nowait(None)
        self._server.close()

    def renew(self, config: Config) -> None:
        """Another process comes: one that is gone must not take its invocations."""
        self._arn = config.arn
        self._inbox.put_nowait(None)
        self._inbox = asyncio.Queue()

    def give(self, invocation: Invocation, deadline_s: float) -> None:
        """Hand an invocation to the process, at once or when it asks."""
        self._request_id = invocation.request_id
        self._inbox.put_nowait((invocation, deadline_s))

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        from fnmap.testing.aws.process import End

        path = request.raw_path
        if path == ROOT + "invocation/next":
            self._settle(End("ready"))
            return await self._next()
        body = await request.read()
        if path == ROOT + "init/error":
            self._settle(End("error", body))
            return reply(202, ACCEPTED)
        request_id, _, what = path.removeprefix(ROOT + "invocation/").partition("/")
        if request_id != self._request_id or what not in ("response", "error"):
            return reply(400, b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}')
        if len(body) > RESPONSE_BYTES:
            self._settle(End("too large"))
            return reply(
                413,
                b'{"errorMessage":"Exceeded maximum allowed payload size.","errorType":"RequestEntityTooLarge"}',
            )
        self._settle(End("response" if what == "response" else "error", body))
        return reply(202, ACCEPTED)

    async def _next(self) -> web.Response:
        given = await self._inbox.get()
        if given is None:
            return reply(410, b"")
        invocation, deadline_s = given
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(deadline_s * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self._arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
        }
        if invocation.client_context:
            headers["Lambda-Runtime-Client-Context"] = invocation.client_context
        return web.Response(body=invocation.event, headers=headers)
