"""The HTTP face of the service: what boto3 and other clients of Lambda ask for."""

from __future__ import annotations

import base64
import binascii
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote

from aiohttp import web

from fnmap.testing.aws.errors import Refused, invalid, too_large
from fnmap.testing.aws.events import Events
from fnmap.testing.aws.fleet import Account, Fleet, new_id
from fnmap.testing.aws.http import reply
from fnmap.testing.aws.manage import Management
from fnmap.testing.aws.settings import EVENT_BYTES, REQUEST_BYTES, TAIL_BYTES

INVOKE = re.compile(r"/2015-03-31/functions/([^/?]+)/invocations(?:\?(.*))?")


class Api:
    """Answers each request of a client."""

    def __init__(self, account: Account, events: Events) -> None:
        self.events, self.settings = events, account.settings
        self.account, self.management = account, Management(account)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, whose refusal is an answer, too."""
        request_id = new_id()
        try:
            if "Authorization" not in request.headers and not request.raw_path.startswith("/code/"):
                raise Refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
            body = await request.read()
            if (invoke := INVOKE.fullmatch(request.raw_path)) and request.method == "POST":
                qualifier = parse_qs(invoke[2] or "").get("Qualifier", ["$LATEST"])[0]
                fleet = self.account.named(unquote(invoke[1]), qualifier)
                return await self._invoke(fleet, request, body, request_id)
            if request.raw_path.startswith("/code/"):
                return web.FileResponse(self._zip(request.raw_path))
            status, content = await self.management.answer(request.method, request.raw_path, body)
            return reply(status, content, {"X-Amzn-RequestId": request_id})
        except Refused as no:
            headers = {"X-Amzn-RequestId": request_id, "X-Amzn-ErrorType": no.kind}
            if no.retry_after_s is not None:
                headers["Retry-After"] = str(no.retry_after_s)
            return reply(no.status, no.body(), headers)

    async def _invoke(self, fleet: Fleet, request: web.BaseRequest, body: bytes, request_id: str) -> web.Response:
        asked = request.headers
        kind = asked.get("X-Amz-Invocation-Type", "RequestResponse")
        _measure(kind, len(body))
        event = body or b"{}"
        try:
            json.loads(event)
        except ValueError as e:
            raise Refused(
                400, "InvalidRequestContentException", f"Could not parse request body into json: {e}"
            ) from None
        headers = {"X-Amzn-RequestId": request_id, "X-Amz-Executed-Version": "$LATEST"}
        if kind == "DryRun":
            return web.Response(status=204, headers=headers)
        if kind == "Event":
            self.events.accept(fleet, event, request_id)
            return web.Response(status=202, headers=headers)
        outcome = await fleet.invoke(event, request_id, _context(asked.get("X-Amz-Client-Context")))
        if outcome.failed:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if asked.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log[-TAIL_BYTES:]).decode()
        return reply(200, outcome.payload, headers)

    def _zip(self, path: str) -> Path:
        return self.settings.root / "zips" / Path(path).name


def _measure(kind: str, size: int) -> None:
    if kind not in ("RequestResponse", "Event", "DryRun"):
        raise invalid(f"Unknown invocation type {kind}")
    if size > REQUEST_BYTES:
        raise too_large(f"Request must be smaller than {REQUEST_BYTES} bytes for the InvokeFunction operation")
    if kind == "Event" and size > EVENT_BYTES:
        raise too_large(f"{size} byte payload is too large for the Event invocation type (limit {EVENT_BYTES} bytes)")


def _context(header: str | None) -> str | None:
    if header is None:
        return None
    try:
        return base64.b64decode(header, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Refused(
            400, "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."
        ) from None
