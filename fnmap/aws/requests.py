"""Requests to AWS from one thread after another, over connections that are kept: what the function and the checks of
the client need. Thousands at a time are `fnmap.compute.aws_lambda`'s."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from fnmap.aws.signing import Provider, credentials, endpoint, region, sign
from fnmap.aws.tunnel import proxy_for
from fnmap.errors import DeployError

TRIES = 5
BACKOFF_S = 0.1
TIMEOUT_S = 30.0
_PASSING = frozenset({429, 500, 502, 503, 504})


class Refused(DeployError):
    """AWS has said no. `status` and `code` are what it said."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(slots=True)
class Service:
    """One service of one region."""

    name: str
    who: Provider = field(default_factory=credentials)
    region: str = field(default_factory=region)
    _kept: threading.local = field(default_factory=threading.local)
    _open: set[http.client.HTTPConnection] = field(default_factory=set)

    @property
    def url(self) -> str:
        return endpoint(self.name, self.region)

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """The body of the answer. What may pass is tried again; anything but success raises Refused."""
        url = self.url + path
        for tried in range(TRIES):
            signed = sign(self.who(), self.name, self.region, method, url, headers or {}, body)
            try:
                status, said, answer = self._once(method, url, body, signed)
            except (OSError, http.client.HTTPException) as error:
                status, said, answer = 0, {}, f"{type(error).__name__}: {error}".encode()
            if 200 <= status < 300:
                return answer
            if status and status not in _PASSING:
                break
            time.sleep(BACKOFF_S * 2.0**tried * random.uniform(0.5, 1.0))
        code = code_of(said, answer)
        raise Refused(f"{self.name}: {code or status or 'no answer'}: {_text(answer)}", status, code)

    def call(self, target: str, **parameters: Any) -> dict[str, Any]:
        """One action of a service that speaks the JSON protocol, as SQS does."""
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": target}
        answer: dict[str, Any] = json.loads(self.ask("POST", "/", json.dumps(parameters).encode(), headers) or b"{}")
        return answer

    def close(self) -> None:
        """Close the connections. One that is needed after all is made anew."""
        for connection in list(self._open):
            connection.close()

    def _once(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(url)
        connection = getattr(self._kept, "connection", None)
        if connection is None:
            connection = self._kept.connection = _connection(url)
            self._open.add(connection)
        try:
            connection.request(method, parts.path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except BaseException:
            connection.close()
            self._open.discard(connection)
            self._kept.connection = None
            raise
        return response.status, {name.lower(): value for name, value in response.getheaders()}, answer


def _connection(url: str) -> http.client.HTTPConnection:
    """To the host of this address, through a proxy if the environment names one."""
    parts, proxy = urlsplit(url), proxy_for(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    if proxy is None:
        return kind(parts.netloc, timeout=TIMEOUT_S)
    connection = kind(proxy.host, proxy.port, timeout=TIMEOUT_S)
    connection.set_tunnel(parts.hostname or "", parts.port or 443, proxy.headers)
    return connection


def function_path(function: str, rest: str = "") -> str:
    """Where a function is, by its name or ARN."""
    return f"/2015-03-31/functions/{quote(function, safe='')}{rest}"


def code_of(headers: Mapping[str, str], body: bytes) -> str:
    """The name that AWS gives to what went wrong."""
    said = headers.get("x-amzn-errortype", "").partition(":")[0]
    if not said:
        try:
            said = str(json.loads(body).get("__type", ""))
        except (ValueError, AttributeError):
            said = ""
    return said.rpartition("#")[2]


def _text(body: bytes) -> str:
    try:
        said = json.loads(body)
        return str(said.get("Message") or said.get("message") or said)
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")
