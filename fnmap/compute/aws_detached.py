"""Calls that AWS Lambda takes into its own queue: they run whether their caller lives or not.

Their results are committed; their reports come through a queue of this process. An event that Lambda has lost, or whose
report was, is found out by its age: then the store says whether the call has committed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fnmap.aws.requests import Refused, Service, function_path
from fnmap.aws.wire import WITHDRAWN, Wire
from fnmap.compute.aws_lambda import aside, settle
from fnmap.compute.aws_queues import BEAT_S, heard_now, make_queue
from fnmap.errors import FnmapError, NotAuthentic, StoreError, WorkerLost
from fnmap.format.call import Call, Report

if TYPE_CHECKING:
    from fnmap.compute.aws_lambda import LambdaCompute

EVENT_BYTES = 1_000_000  # Lambda takes 1 MiB
INLINE_BYTES = 64 << 10  # of results that come in a report; the others are read where they were committed
FAN = 100  # events that one invoker sends on
FAN_MOST = 20  # fewer go out from here
POLL_S = 20  # the longest that SQS lets a request wait
RECEIVERS = 8
LOOK_S = 1.0

log = logging.getLogger(__name__)


class Ready(NamedTuple):
    """An event to send: the tag of its call, and the function that it is for."""

    event: bytes
    tag: str
    function: str


class Detached:
    """The asynchronous way of a LambdaCompute, which it shares the connections with.

    Events are taken out of Lambda's queue in the order of their coming, more or less: as long as reports come, those
    that are still out wait for their turn. They count as lost when nothing was heard for `patience_s` and the
    function's time-out.
    """

    def __init__(self, compute: LambdaCompute, wire: Wire, *, patience_s: float) -> None:
        self._compute, self._wire = compute, wire
        self._sqs = Service("sqs", compute.service.who, compute.service.region)
        self._out: dict[str, tuple[Call, Future[Report], float]] = {}  # by tag, with the time of its sending
        self._heard_at = 0.0
        self._tags: dict[Future[Report], str] = {}
        self._ready: list[Ready] = []
        self._listening = self._closed = False
        self._patience_s = compute.there.timeout_s + patience_s
        compute.check_concurrency(compute.function)
        self.queue, self._said_at = make_queue(self._sqs, compute.function), time.time()

    def send(self, call: Call, future: Future[Report]) -> None:
        """Hand a call to Lambda."""
        call = replace(call, inline_bytes=INLINE_BYTES)
        tag, event = self._compute.messages.event(call, self.queue, EVENT_BYTES)
        self._out[tag], self._tags[future] = (call, future, time.monotonic()), tag
        future.add_done_callback(self._forget)
        self._wire.soon(self._leave(Ready(event, tag, self._compute.there.size(call.memory).function)))
        if self._closed:
            settle(future, WorkerLost(WITHDRAWN))

    def withdraw(self, future: Future[Report]) -> bool:
        """Wait for this call no more. False if it was not sent from here, or is done."""
        if future not in self._tags:
            return False
        settle(future, WorkerLost(WITHDRAWN))
        return True

    def close(self) -> None:
        """Listen no more. What was sent goes on."""
        self._closed = True
        for _, future, _ in list(self._out.values()):
            settle(future, WorkerLost(WITHDRAWN))
        try:
            self._sqs.call("AmazonSQS.DeleteQueue", QueueUrl=self.queue)
        except Refused:
            log.warning("the queue %s could not be deleted", self.queue, exc_info=True)
        self._sqs.close()

    def _forget(self, future: Future[Report]) -> None:
        if (tag := self._tags.pop(future, None)) is not None:
            self._out.pop(tag, None)

    async def _leave(self, one: Ready) -> None:
        """Send the events that have gathered: each by itself, or, when they are many, by way of invokers."""
        self._listen()
        self._ready.append(one)
        if len(self._ready) > 1:
            return  # the first of them sends all
        await asyncio.sleep(0)  # whatever else is about to be sent joins
        while self._ready:
            ready, self._ready = self._ready, []
            groups = [[one] for one in ready] if len(ready) <= FAN_MOST else list(_groups(ready))
            await asyncio.gather(*map(self._post, groups))

    async def _post(self, group: list[Ready]) -> None:
        function = group[0].function
        body = group[0].event if len(group) == 1 else b'{"fan":[%b]}' % b",".join(one.event for one in group)
        headers = {"x-amz-invocation-type": "Event", "content-type": "application/json"}
        path = function_path(function, "/invocations")
        try:
            status, said, answer = await self._wire.post(path, body, headers, 60.0)
            error = None if status == 202 else self._compute.refused(status, said, answer, function)
        except Exception as wrong:  # no credentials any more, for one
            error = wrong
        for one in group:
            if error is not None and (out := self._out.get(one.tag)) is not None:
                settle(out[1], error)

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
            try:
                await self._receive_some()
            except Exception:  # somebody must go on listening
                log.warning("the queue %s", self.queue, exc_info=True)
                await asyncio.sleep(LOOK_S)

    async def _receive_some(self) -> None:
        heard = await self._ask("ReceiveMessage", MaxNumberOfMessages=10, WaitTimeSeconds=POLL_S)
        if messages := heard.get("Messages", []):
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
        try:
            said = json.loads(text)
            call, future, _ = self._out[said["id"]]
        except (ValueError, TypeError, KeyError):  # it was heard before
            return
        messages = self._compute.messages
        try:
            head, body = messages.opened(said["id"], said)
        except NotAuthentic as error:  # whoever may write to the queue must not end the call
            log.warning("a report of %s is left out: %s", call.id, error)
            return
        self._heard_at = time.monotonic()
        try:
            if head[0] == "kept":
                head, body = await aside(messages.fetched, head)
            settle(future, messages.report(head, body, call))
        except Exception as error:  # what the report says, or that it cannot be read: the scheduler judges
            known = isinstance(error, FnmapError) and not isinstance(error, StoreError)
            log.log(logging.DEBUG if known else logging.WARNING, "the report of %s: %s", call.id, error)
            settle(future, error)

    async def _say(self) -> None:
        """That this client is there, where it was not said for long."""
        if time.time() - self._said_at >= BEAT_S:  # the wall clock goes on while a laptop sleeps
            self._said_at = time.time()
            try:
                await self._ask("TagQueue", Tags=heard_now())
            except Exception:  # the next time will do
                log.warning("the queue %s", self.queue, exc_info=True)

    async def _watch(self) -> None:
        """Find out what was lost on the way."""
        while not self._closed:
            await asyncio.sleep(min(LOOK_S, self._patience_s / 4))
            await self._say()
            silent_since = time.monotonic() - self._patience_s
            lost = f"nothing was heard of the call for {self._patience_s:.0f} s: Lambda may have lost the event"
            for _, future, sent_at in list(self._out.values()) if self._heard_at < silent_since else ():
                if sent_at < silent_since:
                    settle(future, WorkerLost(lost))


def _groups(ready: list[Ready]) -> Iterator[list[Ready]]:
    """What one invoker may send on, to itself: so many events, and no more bytes than an event of its own may have."""
    group, size = list[Ready](), 0
    for one in sorted(ready, key=lambda one: one.function):
        full = len(group) == FAN or size + len(one.event) > EVENT_BYTES - 1000
        if group and (full or one.function != group[0].function):
            yield group
            group, size = [], 0
        group.append(one)
        size += len(one.event) + 1
    if group:
        yield group
