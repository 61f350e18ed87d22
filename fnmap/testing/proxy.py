"""A proxy before an HTTP server that does to requests and answers what networks and throttled servers do.

with s3_server() as server, FaultyProxy(server.endpoint, rate=0.2, seed=7) as proxy:
    store = S3Store("bucket", endpoint=proxy.endpoint)
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

Fault = Literal["503", "500", "409", "reset", "stall", "drip", "truncate", "flip"]
FAULTS: tuple[Fault, ...] = ("503", "500", "reset", "drip", "truncate", "flip")
"""Those that are drawn unless others are asked for. "409" is for conditional writes; "stall" takes what the client's
own time limit is."""

_CODES = {503: "SlowDown", 500: "InternalError", 409: "ConditionalRequestConflict"}
_DRIPS, _DRIP_S = 4, 0.002


@dataclass(frozen=True)
class _Message:
    """A request or an answer: the first line and headers as they came, and the body as it is framed."""

    head: bytes
    body: bytes

    @property
    def first(self) -> list[str]:
        return self.head.partition(b"\r\n")[0].decode("latin-1").split(" ")

    def header(self, name: str) -> str:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return ""


class FaultyProxy:
    """Passes requests on to `target`, and does one of `faults` to a share `rate` of them.

    Errors ("503", "500") and resets strike before or after the request took effect; "flip" turns one bit of an object's
    body, not of lists and deletes: not every server compares these with the digest that they carry. What befalls a
    request depends on the seed, its method and path and how often it was made before, not on the order of threads.
    `rate` may be changed while it runs; `answers` are given, status and body, to the next requests in place of the
    server's. `requests` counts by method, `failures` by fault, `asked` what was not answered here by method and path.
    `region`: where its buckets are; who signs for another is sent there, as S3 does.
    """

    def __init__(
        self, target: str, *, rate: float, seed: int = 0, faults: Sequence[Fault] = FAULTS, region: str = ""
    ) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target, self.rate, self.seed, self.faults = (host, int(port)), rate, seed, tuple(faults)
        self.region = region
        self.answers: deque[tuple[int, bytes]] = deque()
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.endpoint = ""
        self.asked: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fnmap-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        port = serving.result().sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                request = await _read(reader, writer)
                server = server or await asyncio.open_connection(*self._target)
                if not await self._pass(request, server, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one end has gone, or all is over
        finally:
            for end in (writer, server[1] if server else None):
                if end is not None:
                    end.transport.abort()  # a reset, as far as anything is still on its way

    async def _pass(
        self, request: _Message, server: tuple[asyncio.StreamReader, asyncio.StreamWriter], to: asyncio.StreamWriter
    ) -> bool:
        """Answer one request. False: the connection is of no more use."""
        method, path = request.first[:2]
        self.requests[method] += 1
        if self.answers:
            return await _say(to, _error(*self.answers.popleft()))
        if self.region and f"/{self.region}/" not in request.header("authorization"):
            return await _say(to, _error(301, _ELSEWHERE.encode(), f"x-amz-bucket-region: {self.region}\r\n"))
        fault, dice = self._draw(method, path, request)
        late = dice.random() < 0.5
        if fault in ("503", "500", "409", "reset", "stall") and not late:
            return await self._fail(fault, to)
        if fault == "flip" and method == "PUT":
            request = _Message(request.head, _flipped(request.body, dice))
        server[1].write(request.head + request.body)
        answer = await _read(server[0], None, of=method)
        if fault in ("503", "500", "reset", "stall"):  # it took effect; a 409 says that it did not
            return await self._fail(fault, to)
        if fault == "truncate":
            await _say(to, answer.head + answer.body[: len(answer.body) // 2])
            return False
        if fault == "flip" and method == "GET" and answer.body and "list-type" not in path:
            answer = _Message(answer.head, _flipped(answer.body, dice))
        if fault == "drip":
            return await _drip(to, answer)
        return await _say(to, answer.head + answer.body)

    def _draw(self, method: str, path: str, request: _Message) -> tuple[Fault | None, random.Random]:
        what = f"{method} {path}"
        self.asked[what] += 1
        dice = random.Random(f"{self.seed} {what} {self.asked[what]}")
        if dice.random() >= self.rate:
            return None, dice
        fault = dice.choice(self.faults)
        if fault == "409" and not request.header("if-none-match"):
            return None, dice
        self.failures[fault] += 1
        return fault, dice

    async def _fail(self, fault: Fault, to: asyncio.StreamWriter) -> bool:
        if fault == "stall":
            await asyncio.sleep(3600)  # until the client has had enough
        if fault in ("reset", "stall"):
            return False
        return await _say(to, _error(int(fault), b""))


async def _read(reader: asyncio.StreamReader, client: asyncio.StreamWriter | None, *, of: str = "") -> _Message:
    """The next message, whole. `of`: the method that it answers; `client` is told to go on where it waits for that."""
    head = await reader.readuntil(b"\r\n\r\n")
    message = _Message(head, b"")
    if not client and message.first[1] == "100":
        return await _read(reader, client, of=of)
    if client and message.header("expect"):
        await _say(client, b"HTTP/1.1 100 Continue\r\n\r\n")
    if of == "HEAD" or (of and message.first[1] in ("204", "304")):
        return message
    if message.header("transfer-encoding") == "chunked":
        return _Message(head, await _chunks(reader))
    return _Message(head, await reader.readexactly(int(message.header("content-length") or 0)))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body, still in chunks."""
    body = b""
    while True:
        line = await reader.readline()
        size = int(line.partition(b";")[0], 16)
        body += line + await reader.readexactly(size + 2)
        if size == 0:
            return body


async def _say(to: asyncio.StreamWriter, text: bytes) -> bool:
    to.write(text)
    await to.drain()
    return True


async def _drip(to: asyncio.StreamWriter, answer: _Message) -> bool:
    """The answer in pieces with a pause after each."""
    whole = answer.head + answer.body
    step = max(1, len(whole) // _DRIPS)
    for first in range(0, len(whole), step):
        await _say(to, whole[first : first + step])
        await asyncio.sleep(_DRIP_S)
    return True


_ELSEWHERE = (
    "<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to access must be addressed using the"
    " specified endpoint. Please send all future requests to this endpoint.</Message></Error>"
)


def _error(status: int, body: bytes, headers: str = "") -> bytes:
    """An answer as S3 words it."""
    text = body or f"<Error><Code>{_CODES.get(status, status)}</Code><Message>injected</Message></Error>".encode()
    head = (
        f"HTTP/1.1 {status} Injected\r\nContent-Type: application/xml\r\n{headers}Content-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


def _flipped(body: bytes, dice: random.Random) -> bytes:
    """The body with one bit that is another."""
    changed = bytearray(body)
    with suppress(ValueError):  # of nothing
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)
