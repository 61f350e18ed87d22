"""HTTP/1.1 as AWS speaks it, for requests by the thousand: one at a time over each of many connections, which are kept.

By measurement (`python -m benchmarks.lambda_fanout`): a signed request costs a third of the CPU that it costs through
aiohttp. There are no redirects, cookies and compressed answers; bodies come whole. A proxy is asked for a tunnel.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fnmap.aws.tunnel import Proxy, proxy_for

CONNECT_S = 10.0
IDLE_S = 55.0  # AWS drops a connection that is idle for a minute
ADDRESSES_S = 60.0  # the addresses of a host hold for so long
HEAD_BYTES = 64 << 10


class Answer(NamedTuple):
    """What came back; the names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(OSError):
    """The other end hung up, or what it said is no HTTP."""


class Connections:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._idle: dict[str, list[_Connection]] = {}
        self._found: dict[str, tuple[float, list[Any]]] = {}
        self._open: set[_Connection] = set()
        self._tls: ssl.SSLContext | None = None

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        """One request; `headers` have the host. Raises OSError (TimeoutError is one) if there is no answer."""
        scheme, host, path, query, _ = urlsplit(url)
        place = f"{scheme}://{host}"
        lines = [f"{method} {path or '/'}{'?' if query else ''}{query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1")
        if head.count(b"\n") != len(lines) + 2:
            raise ValueError("there is a line break in a header")
        connection = self._take(place) or await self._connect(place)
        answer = await connection.ask(head + body, timeout_s)
        if connection.lasts:
            self._idle.setdefault(place, []).append(connection)
        return answer

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self._open)

    def close(self) -> None:
        """Drop all connections."""
        for connection in [*self._open]:
            connection.drop(NoAnswer("the connections were closed"))

    def _take(self, place: str) -> _Connection | None:
        """The one that was used last, so that the others grow old."""
        idle = self._idle.get(place, [])
        since = asyncio.get_running_loop().time() - IDLE_S
        while idle:
            connection = idle.pop()
            if connection.lasts and connection.idle_since > since:
                return connection
            connection.drop(NoAnswer("idle"))
        return None

    async def _connect(self, place: str) -> _Connection:
        loop, parts = asyncio.get_running_loop(), urlsplit(place)
        secure, host = parts.scheme == "https", parts.hostname or ""
        if secure and self._tls is None:
            self._tls = ssl.create_default_context()
        tls: dict[str, Any] = {"ssl": self._tls, "server_hostname": host} if secure else {}
        failed: OSError = NoAnswer(f"{host} has no address")
        proxy = proxy_for(place)
        async with asyncio.timeout(CONNECT_S):
            if proxy is not None:
                return await self._through(proxy, host, parts.port or 443)
            for address in await self._addresses(place, host, parts.port or (443 if secure else 80)):
                try:
                    _, made = await loop.create_connection(lambda: _Connection(self._open), *address[:2], **tls)
                except OSError as error:
                    failed = error
                else:
                    return made
        raise failed

    async def _through(self, proxy: Proxy, host: str, port: int) -> _Connection:
        """A connection through a tunnel that the proxy makes."""
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        try:
            writer.write(proxy.connect(host, port))
            said = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0].decode("latin-1")
            if said[9:12] != "200":
                raise NoAnswer(f"the proxy {proxy.host}:{proxy.port} makes no tunnel to {host}:{port}: {said[9:]}")
            assert self._tls is not None  # only https goes through proxies
            await writer.start_tls(self._tls, server_hostname=host)
        except asyncio.IncompleteReadError as error:
            raise NoAnswer(f"the proxy {proxy.host}:{proxy.port} hung up") from error
        except BaseException:
            writer.transport.abort()
            raise
        made = _Connection(self._open)
        made.tunnel = writer  # which would close the transport with its own end
        writer.transport.set_protocol(made)
        made.connection_made(writer.transport)
        return made

    async def _addresses(self, place: str, host: str, port: int) -> list[Any]:
        """Where a host is: those of the kind that its resolver prefers first, in any order, to spread the load."""
        loop = asyncio.get_running_loop()
        until, found = self._found.get(place, (0.0, []))
        if until < loop.time():
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._found[place] = loop.time() + ADDRESSES_S, found
        mixed = random.sample(found, len(found))
        return [info[4] for info in sorted(mixed, key=lambda info: info[0] != found[0][0])]


class _Connection(asyncio.Protocol):
    """One connection. `lasts`: it may be used again."""

    def __init__(self, open_ones: set[_Connection]) -> None:
        self._open = open_ones
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._heard = bytearray()
        self._head: tuple[int, dict[str, str], int] | None = None  # status, headers, where the body begins
        self.lasts, self.idle_since = True, 0.0
        self.tunnel: asyncio.StreamWriter | None = None

    async def ask(self, message: bytes, timeout_s: float) -> Answer:
        """Send a request and wait for the answer. If there is none, the connection is of no more use."""
        if self._transport.is_closing():
            raise NoAnswer("the connection was closed")
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._waiter = waiter
        timer = self._loop.call_later(timeout_s, self.drop, TimeoutError(f"no answer for {timeout_s:.0f} s"))
        self._transport.write(message)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.drop(NoAnswer("cancelled"))
            raise
        finally:
            timer.cancel()
            self._waiter = None
            self.idle_since = self._loop.time()

    def drop(self, why: OSError) -> None:
        """Close it at once."""
        self.lasts = False
        self._transport.abort()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio calls it; so do the others."""
        self._transport = transport
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        try:
            answer = self._answer(ended=False)
        except ValueError as error:
            self.drop(NoAnswer(f"this is no HTTP: {error}"))
        else:
            self._tell(answer)

    def connection_lost(self, why: Exception | None) -> None:
        self._open.discard(self)
        self.lasts = False
        with suppress(ValueError):
            self._tell(self._answer(ended=True))
        self.drop(NoAnswer(f"the connection was lost: {why or 'closed by the other end'}"))

    def _tell(self, answer: Answer | None) -> None:
        if answer is None:
            return
        self.lasts = self.lasts and not self._heard
        if self._waiter is None or self._waiter.done():  # nobody has asked
            self.drop(NoAnswer("an answer without a question"))
        else:
            self._waiter.set_result(answer)
        if not self.lasts:
            self._transport.close()

    def _answer(self, *, ended: bool) -> Answer | None:
        """The answer, once it is there as a whole; what comes after it is left."""
        head = self._head = self._head or self._headed()
        if head is None:
            return None
        status, headers, at = head
        if "chunked" in headers.get("transfer-encoding", ""):
            found = _unchunked(self._heard, at)
            if found is None:
                return None
            body, end = found
        elif "content-length" in headers or status in (204, 304):
            end = at + _size(headers.get("content-length", "0"), 10)
            if len(self._heard) < end:
                return None
            body = bytes(self._heard[at:end])
        elif ended:
            body, end = bytes(self._heard[at:]), len(self._heard)
        else:
            return None  # it ends with the connection
        del self._heard[:end]
        self._head = None
        self.lasts = self.lasts and headers.get("connection", "").lower() != "close"
        return Answer(status, headers, body)

    def _headed(self) -> tuple[int, dict[str, str], int] | None:
        """Status, headers, and where the body begins."""
        while (end := self._heard.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._heard[:end].decode("latin-1").split("\r\n")
            if not first.startswith("HTTP/1."):
                raise ValueError(first[:40])
            status = int(first[9:12])
            if status >= 200:
                pairs = (line.partition(":") for line in lines)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                if first[7] == "0":
                    headers.setdefault("connection", "close")
                return status, headers, end + 4
            del self._heard[: end + 4]  # "100 Continue", which nobody has asked for
        if len(self._heard) > HEAD_BYTES:
            raise ValueError("a head without end")
        return None


def _unchunked(heard: bytearray, at: int) -> tuple[bytes, int] | None:
    """A chunked body that begins there, and where it ends."""
    parts = list[bytes]()
    while (line := heard.find(b"\r\n", at)) >= 0:
        size = _size(heard[at:line].partition(b";")[0], 16)
        at = line + 2
        if size == 0:
            end = heard.find(b"\r\n", at) if heard[at : at + 2] == b"\r\n" else heard.find(b"\r\n\r\n", at) + 2
            return (b"".join(parts), end + 2) if end >= at else None
        if len(heard) < at + size + 2:
            return None
        if heard[at + size : at + size + 2] != b"\r\n":
            raise ValueError("a chunk without end")
        parts.append(bytes(heard[at : at + size]))
        at += size + 2
    return None


def _size(text: str | bytearray, base: int) -> int:
    if (size := int(text, base)) < 0:
        raise ValueError(f"a size of {size}")
    return size
