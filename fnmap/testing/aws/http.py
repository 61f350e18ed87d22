"""aiohttp without its router, which costs more than these servers do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server:
    """One handler on one port of this machine."""

    def __init__(self, answer: Answer) -> None:
        self._web = web.Server(answer, request_factory=_request, access_log=None)
        self._listening: asyncio.Server | None = None

    async def open(self, port: int) -> int:
        """Listen, on a free port if it is 0; the port."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._web, "127.0.0.1", port, backlog=4096)
        return int(self._listening.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listen no more, and drop the connections."""
        if self._listening:
            self._listening.close()
        for connection in self._web.connections:
            if connection.transport:
                connection.transport.abort()


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=0)  # without a limit


def reply(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer in JSON."""
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json", **(headers or {})})
