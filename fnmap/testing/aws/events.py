"""The queue of asynchronous invocations: retries, age, dead letters, destinations;
and events that are lost or come twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from fnmap.testing.aws.code import client
from fnmap.testing.aws.errors import Refused
from fnmap.testing.aws.fleet import Account, Fleet
from fnmap.testing.aws.invocation import Outcome
from fnmap.testing.aws.settings import Settings

AGE_S = 21_600
RETRIES = 2
RETRY_S = (60.0, 120.0)
BUSY_S = 300.0  # the longest pause after a 429


class Events:
    """Takes events, and sees to it that they come to something."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._dice = random.Random(account.settings.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._letters = Letters(account.settings)

    def accept(self, fleet: Fleet, event: bytes, request_id: str) -> None:
        """The client is told 202 in any case."""
        settings, counts = self.account.settings, self.account.counts
        counts["events"] += 1
        chance = self._dice.random() if settings.lose or settings.duplicate else 1.0
        if chance < settings.lose:
            counts["lost"] += 1
            return
        twice = chance < settings.lose + settings.duplicate
        counts["duplicated"] += twice
        for _ in range(1 + twice):
            task = asyncio.create_task(self._deliver(fleet, event, request_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Forget what waits."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._letters.close()

    async def _deliver(self, fleet: Fleet, event: bytes, request_id: str) -> None:
        scale, accepted, outcome = self.account.settings.delay_scale, time.monotonic(), None
        tries = refusals = 0
        while self.account.fleets.get(fleet.config.name) is fleet:
            config = fleet.event_config or {}
            if time.monotonic() - accepted > config.get("MaximumEventAgeInSeconds", AGE_S) * scale:
                await self._fail(fleet, event, request_id, "EventAgeExceeded", tries, outcome)
                return
            try:
                outcome = await fleet.invoke(event, request_id)
            except Refused:
                await asyncio.sleep(min(BUSY_S, 2.0**refusals) * scale)
                refusals += 1
                continue
            tries += 1
            if not outcome.failed:
                await self._tell(fleet, "OnSuccess", _record(fleet, event, request_id, "Success", tries, outcome))
                return
            if tries > config.get("MaximumRetryAttempts", RETRIES):
                await self._fail(fleet, event, request_id, "RetriesExhausted", tries, outcome)
                return
            await asyncio.sleep(RETRY_S[tries - 1] * scale)

    async def _fail(
        self, fleet: Fleet, event: bytes, request_id: str, condition: str, tries: int, outcome: Outcome | None
    ) -> None:
        self.account.counts["given_up"] += 1
        await self._tell(fleet, "OnFailure", _record(fleet, event, request_id, condition, tries, outcome))
        arn = fleet.config.fields.get("DeadLetterConfig", {}).get("TargetArn")
        if arn:
            message = json.loads(outcome.payload).get("errorMessage", "") if outcome else condition
            attributes = {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": message[:1024] or "-"}
            await self._send(arn, event.decode(), attributes)

    async def _tell(self, fleet: Fleet, which: str, record: dict[str, Any]) -> None:
        destinations = (fleet.event_config or {}).get("DestinationConfig", {})
        if arn := destinations.get(which, {}).get("Destination"):
            await self._send(arn, json.dumps(record), {})

    async def _send(self, arn: str, body: str, attributes: dict[str, str]) -> None:
        try:
            await self._letters.send(arn, body, attributes)
        except Exception:  # whatever boto3 raises: the real service drops the letter and counts it, too
            self.account.counts["letters_lost"] += 1


class Letters:
    """Messages to queues of SQS, by boto3 in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, "fnmap-lambda-letters")
        self._urls: dict[str, str] = {}

    @cached_property
    def _sqs(self) -> Any:
        return client("sqs", self._settings)

    async def send(self, arn: str, body: str, attributes: dict[str, str]) -> None:
        """One message."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._post, arn, body, attributes)

    def close(self) -> None:
        """Send no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _post(self, arn: str, body: str, attributes: dict[str, str]) -> None:
        name = arn.rpartition(":")[2]
        if name not in self._urls:
            self._urls[name] = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        kinds = {"ErrorCode": "Number"}
        typed = {k: {"DataType": kinds.get(k, "String"), "StringValue": v} for k, v in attributes.items()}
        self._sqs.send_message(QueueUrl=self._urls[name], MessageBody=body, MessageAttributes=typed)


def _record(
    fleet: Fleet, event: bytes, request_id: str, condition: str, tries: int, outcome: Outcome | None
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{fleet.config.arn}:$LATEST",
            "condition": condition,
            "approximateInvokeCount": tries,
        },
        "requestPayload": json.loads(event),
    }
    if outcome:
        record["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST"}
        if outcome.failed:
            record["responseContext"]["functionError"] = "Unhandled"
        with contextlib.suppress(ValueError):
            record["responsePayload"] = json.loads(outcome.payload)
    return record
