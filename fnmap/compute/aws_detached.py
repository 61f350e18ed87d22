"""Calls that AWS Lambda takes into its own queue: they run whether their caller lives or not.

Their results are committed; their reports come through a queue of this process. An event that Lambda has lost, or whose
report was, is found out by its age: then the store says whether the call has committed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fnmap.aws import envelope
from fnmap.aws.requests import Refused, Service, function_path
from fnmap.compute.aws_lambda import settle
from fnmap.errors import DeployError, StoreError, WorkerLost
from fnmap.format.call import Call, Report

if TYPE_CHECKING:
    from fnmap.compute.aws_lambda import LambdaCompute

EVENT_BYTES = 1_000_000  # Lambda takes 1 MiB
INLINE_BYTES = 64 << 10  # of results that come in a report; the others are read where they were committed
FAN = 100  # events that one invoker sends on
FAN_MOST = 20  # fewer go out from here
POLL_S = 20  # the longest that SQS lets a request wait
RECEIVERS = 8
PATIENCE_S = 120.0  # that an event may wait in Lambda's queue, besides its time-out, before it counts as lost
LOOK_S = 1.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Out:
    """A call that was sent."""

    call: Call
    future: Future[Report]
    overdue_at: float


class Detached:
    """The asynchronous way of a LambdaCompute, which it shares the connections with."""

    def __init__(self, compute: LambdaCompute, *, patience_s: float = PATIENCE_S) -> None:
        self._compute, self._wire = compute, compute.wire
        self._sqs = Service("sqs", compute.service.who, compute.service.region)
        self._out: dict[str, _Out] = {}
        self._ready: list[tuple[bytes, str]] = []  # events to send, and the ids of their calls
        self._listening = self._closed = False
        self._patience_s = compute.there.timeout_s + patience_s
        name = f"{compute.function}-answers-{os.urandom(6).hex()}"
        try:
            made = self._sqs.call(
                "AmazonSQS.CreateQueue", QueueName=name, Attributes={"MessageRetentionPeriod": "86400"}
            )
        except Refused as error:
            raise DeployError(
                f"no queue for the reports of detached calls can be made ({error}): `fnmap deploy --policy` prints what"
                ' you need; mode="direct" needs none'
            ) from error
        self.queue: str = made["QueueUrl"]

    def send(self, call: Call, future: Future[Report]) -> None:
        """Hand a call to Lambda."""
        event = self._compute.message(replace(call, inline_bytes=INLINE_BYTES), self.queue, EVENT_BYTES)
        self._out[call.id] = _Out(call, future, time.monotonic() + self._patience_s)
        future.add_done_callback(lambda _: self._out.pop(call.id, None))
        self._wire.soon(self._leave(event, call.id))

    def close(self) -> None:
        """Listen no more. What was sent goes on."""
        self._closed = True
        try:
            self._sqs.call("AmazonSQS.DeleteQueue", QueueUrl=self.queue)
        except Refused:
            log.warning("the queue %s could not be deleted", self.queue, exc_info=True)

    async def _leave(self, event: bytes, call_id: str) -> None:
        """Send the events that have gathered: each by itself, or, when they are many, by way of invokers."""
        self._listen()
        self._ready.append((event, call_id))
        if len(self._ready) > 1:
            return  # the first of them sends all
        await asyncio.sleep(0)  # whatever else is about to be sent joins
        while self._ready:
            ready, self._ready = self._ready, []
            groups = [[one] for one in ready] if len(ready) <= FAN_MOST else list(_groups(ready))
            await asyncio.gather(*map(self._post, groups))

    async def _post(self, group: list[tuple[bytes, str]]) -> None:
        body = group[0][0] if len(group) == 1 else b'{"fan":[%b]}' % b",".join(event for event, _ in group)
        headers = {"x-amz-invocation-type": "Event", "content-type": "application/json"}
        path = function_path(self._compute.function, "/invocations")
        status, said, answer = await self._wire.post(path, body, headers, 60.0)
        if status != 202:
            error = self._compute.refused(status, said, answer)
            for _, call_id in group:
                if (out := self._out.get(call_id)) is not None:
                    settle(out.future, error)

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            for receiver in range(RECEIVERS):
                self._wire.soon(self._receive(receiver))
            self._wire.soon(self._watch())

    async def _receive(self, receiver: int) -> None:
        """Take reports from the queue. The first receiver always listens, the others while there is much to hear."""
        while not self._closed:
            if receiver and len(self._out) < 10 * receiver:
                await asyncio.sleep(LOOK_S)
                continue
            heard = await self._ask("ReceiveMessage", MaxNumberOfMessages=10, WaitTimeSeconds=POLL_S)
            messages = heard.get("Messages", [])
            if messages:
                entries = [{"Id": str(at), "ReceiptHandle": m["ReceiptHandle"]} for at, m in enumerate(messages)]
                await self._ask("DeleteMessageBatch", Entries=entries)
            for message in messages:
                await self._hear(message["Body"])

    async def _ask(self, action: str, **parameters: Any) -> dict[str, Any]:
        body = json.dumps({"QueueUrl": self.queue, **parameters}).encode()
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"AmazonSQS.{action}"}
        status, _, answer = await self._wire.post("/", body, headers, POLL_S + 10.0, self._sqs)
        if status == 200:
            found: dict[str, Any] = json.loads(answer or b"{}")
            return found
        if not self._closed:
            log.warning("SQS %s: %s %s", action, status, answer[:200])
            await asyncio.sleep(LOOK_S)
        return {}

    async def _hear(self, text: str) -> None:
        """One report: of a call that waits, or a duplicate, or a forgery."""
        out: _Out | None = None
        try:
            said = json.loads(text)
            out = self._out.get(said["id"])
            if out is None:
                return
            body = envelope.opened(self._compute.there.secret, envelope.answers(out.call.id), said)
            answer = pickle.loads(body)
            if answer[0] == "kept":
                kept = await asyncio.get_running_loop().run_in_executor(None, self._compute.home.get, answer[1])
                answer = pickle.loads(kept)
            settle(out.future, self._compute.reported(answer))
        except (WorkerLost, StoreError) as error:
            log.debug("a report", exc_info=True)
            if out is not None and not isinstance(error, StoreError):
                settle(out.future, error)
        except Exception as error:
            log.warning("a report that cannot be read: %s", error)
            if out is not None:
                settle(out.future, error)

    async def _watch(self) -> None:
        """Find out what was lost on the way."""
        while not self._closed:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            for out in [out for out in self._out.values() if out.overdue_at < now]:
                seconds = self._patience_s
                lost = f"nothing was heard of the call for {seconds:.0f} s: Lambda may have lost the event"
                settle(out.future, WorkerLost(lost, at=range(0)))


def _groups(ready: list[tuple[bytes, str]]) -> Any:
    """What one invoker may send on: so many events, and no more bytes than an event of its own may have."""
    group, size = list[tuple[bytes, str]](), 0
    for one in ready:
        if group and (len(group) == FAN or size + len(one[0]) > EVENT_BYTES - 1000):
            yield group
            group, size = [], 0
        group.append(one)
        size += len(one[0]) + 1
    if group:
        yield group
