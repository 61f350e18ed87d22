"""The management of functions: create, change, list, delete, limits, tags."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from fnmap.testing.aws import code, functions
from fnmap.testing.aws.errors import Refused, invalid, too_large
from fnmap.testing.aws.fleet import Account, Fleet
from fnmap.testing.aws.functions import Fields
from fnmap.testing.aws.settings import UNZIPPED_BYTES, UPLOAD_BYTES


class Ask(NamedTuple):
    """A request: the function or ARN in its path, its JSON, and what stands after the question mark."""

    name: str
    given: Fields
    query: dict[str, list[str]]


class Management:
    """Answers what is not an invocation."""

    def __init__(self, account: Account) -> None:
        self.account, self.settings = account, account.settings
        self.endpoint = ""
        one = r"functions/([^/]+)"
        self._routes: list[tuple[str, int, Callable[[Ask], Any]]] = [
            ("POST functions", 201, self._create),
            ("GET functions", 200, self._list),
            (f"GET {one}", 200, self._get),
            (f"DELETE {one}", 204, self._delete),
            (f"GET {one}/configuration", 200, self._configuration),
            (f"PUT {one}/configuration", 200, self._reconfigure),
            (f"PUT {one}/code", 200, self._recode),
            (f"PUT {one}/concurrency", 200, self._reserve),
            (f"GET {one}/concurrency", 200, self._reserved),
            (f"DELETE {one}/concurrency", 204, self._unreserve),
            (f"PUT {one}/event-invoke-config", 200, self._put_events),
            (f"POST {one}/event-invoke-config", 200, self._update_events),
            (f"GET {one}/event-invoke-config", 200, self._events),
            (f"DELETE {one}/event-invoke-config", 204, self._delete_events),
            ("GET account-settings", 200, self._account),
            ("GET tags/(.+)", 200, self._tags),
            ("POST tags/(.+)", 204, self._tag),
            ("DELETE tags/(.+)", 204, self._untag),
        ]

    async def answer(self, method: str, raw_path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body."""
        path, _, query = raw_path.partition("?")
        route = f"{method} {path.partition('/')[2].partition('/')[2].rstrip('/')}"  # without the date
        for pattern, status, act in self._routes:
            if found := re.fullmatch(pattern, route):
                name = unquote(found[1]) if found.groups() else ""
                made = act(Ask(name, _parsed(body), parse_qs(query)))
                made = await made if asyncio.iscoroutine(made) else made
                return status, b"" if status == 204 else json.dumps(made).encode()
        raise Refused(404, "UnknownOperationException", f"The local Lambda service does not build {route}")

    def _named(self, ask: Ask) -> Fleet:
        return self.account.named(ask.name, ask.query.get("Qualifier", ["$LATEST"])[0])

    async def _take(self, where: Fields) -> functions.Code:
        taken = await asyncio.to_thread(code.take, where, self.settings)
        if taken.size + self._stored() > self.settings.code_storage_bytes:
            raise Refused(400, "CodeStorageExceededException", "Code storage limit exceeded.")
        return taken

    def _stored(self) -> int:
        return sum(fleet.config.code.size for fleet in self.account.fleets.values())

    async def _create(self, ask: Ask) -> Fields:
        functions.checked(ask.given, self.settings)
        self._absent(ask.given["FunctionName"])
        taken = await self._take(ask.given.get("Code", {}))
        self._absent(ask.given["FunctionName"])
        fleet = Fleet(self.account, functions.create(ask.given, taken, self.settings))
        fleet.tags = dict(ask.given.get("Tags") or {})
        self.account.fleets[fleet.config.name] = fleet
        return fleet.config.to_json()

    def _absent(self, name: str) -> None:
        if name in self.account.fleets:
            raise Refused(409, "ResourceConflictException", f"Function already exist: {name}")

    def _list(self, ask: Ask) -> Fields:
        most, after = int(ask.query.get("MaxItems", ["50"])[0]), ask.query.get("Marker", [""])[0]
        names = sorted(name for name in self.account.fleets if name > after)
        page: Fields = {"Functions": [self.account.fleets[name].config.to_json() for name in names[: min(most, 50)]]}
        if len(names) > len(page["Functions"]):
            page["NextMarker"] = page["Functions"][-1]["FunctionName"]
        return page

    def _get(self, ask: Ask) -> Fields:
        fleet = self._named(ask)
        got: Fields = {
            "Configuration": fleet.config.to_json(),
            "Code": {"RepositoryType": "S3", "Location": f"{self.endpoint}/code/{fleet.config.code.zip.name}"},
            "Tags": fleet.tags,
        }
        if fleet.reserved is not None:
            got["Concurrency"] = {"ReservedConcurrentExecutions": fleet.reserved}
        return got

    def _configuration(self, ask: Ask) -> Fields:
        return self._named(ask).config.to_json()

    def _delete(self, ask: Ask) -> None:
        fleet = self._named(ask)
        del self.account.fleets[fleet.config.name]
        fleet.retire()

    def _reconfigure(self, ask: Ask) -> Fields:
        fleet = self._named(ask)
        functions.unchanged(fleet.config, ask.given)
        fields = functions.checked(ask.given, self.settings)
        fields |= {field: ask.given[field] for field in ("Environment", "DeadLetterConfig") if field in ask.given}
        fleet.change(fleet.config.changed(fields=fields))
        return fleet.config.to_json()

    async def _recode(self, ask: Ask) -> Fields:
        fleet = self._named(ask)
        functions.unchanged(fleet.config, ask.given)
        taken = await self._take(ask.given)
        changed = fleet.config.changed(
            code=taken, fields={k: ask.given[k] for k in ("Architectures",) if ask.given.get(k)}
        )
        if not ask.given.get("DryRun"):
            fleet.change(changed)
        return changed.to_json()

    def _reserve(self, ask: Ask) -> Fields:
        fleet = self._named(ask)
        if not isinstance(ask.given.get("ReservedConcurrentExecutions"), int):
            raise invalid("ReservedConcurrentExecutions is mandatory.")
        fleet.reserve(ask.given["ReservedConcurrentExecutions"])
        return {"ReservedConcurrentExecutions": fleet.reserved}

    def _reserved(self, ask: Ask) -> Fields:
        reserved = self._named(ask).reserved
        return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    def _unreserve(self, ask: Ask) -> None:
        self._named(ask).reserve(None)

    def _put_events(self, ask: Ask, old: Fields | None = None) -> Fields:
        fleet = self._named(ask)
        _bounds(ask.given)
        fleet.event_config = {**(old or {}), **{k: v for k, v in ask.given.items() if v is not None}}
        return self._events(ask)

    def _update_events(self, ask: Ask) -> Fields:
        return self._put_events(ask, self._named(ask).event_config)

    def _events(self, ask: Ask) -> Fields:
        fleet = self._named(ask)
        if fleet.event_config is None:
            message = f"The function {fleet.config.arn}:$LATEST doesn't have an EventInvokeConfig"
            raise Refused(404, "ResourceNotFoundException", message)
        return {"FunctionArn": f"{fleet.config.arn}:$LATEST", "LastModified": 0.0, **fleet.event_config}

    def _delete_events(self, ask: Ask) -> None:
        self._events(ask)
        self._named(ask).event_config = None

    def _account(self, ask: Ask) -> Fields:
        return {
            "AccountLimit": {
                "TotalCodeSize": self.settings.code_storage_bytes,
                "CodeSizeUnzipped": UNZIPPED_BYTES,
                "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": self.settings.concurrency,
                "UnreservedConcurrentExecutions": self.account.unreserved(),
            },
            "AccountUsage": {"TotalCodeSize": self._stored(), "FunctionCount": len(self.account.fleets)},
        }

    def _tags(self, ask: Ask) -> Fields:
        return {"Tags": self._named(ask).tags}

    def _tag(self, ask: Ask) -> None:
        self._named(ask).tags |= ask.given["Tags"]

    def _untag(self, ask: Ask) -> None:
        for key in ask.query.get("tagKeys", []):
            self._named(ask).tags.pop(key, None)


def _parsed(body: bytes) -> Fields:
    if len(body) > UPLOAD_BYTES:
        raise too_large(f"Request must be smaller than {UPLOAD_BYTES} bytes for the CreateFunction operation")
    try:
        parsed: Fields = json.loads(body or b"{}")
    except ValueError as e:
        raise Refused(400, "SerializationException", f"Could not parse request body into json: {e}") from None
    return parsed


def _bounds(given: Fields) -> None:
    for name, (low, high) in {"MaximumRetryAttempts": (0, 2), "MaximumEventAgeInSeconds": (60, 21_600)}.items():
        functions.bounded(low if given.get(name) is None else given[name], name[0].lower() + name[1:], low, high)
