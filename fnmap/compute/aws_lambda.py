"""Calls run by AWS Lambda.

Two ways. **Direct**: a synchronous invocation, whose answer comes back over the same connection: no store on the way,
thousands in flight. **Detached**: an asynchronous one, for calls that commit their results: what was accepted runs
whether this process lives or not, and the report comes through a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from fnmap.aws import configuration
from fnmap.aws.package import code_hash
from fnmap.aws.requests import Refused, Service, code_of, function_path
from fnmap.aws.wire import OVERDUE, WITHDRAWN, Wire
from fnmap.compute.aws_messages import Messages
from fnmap.compute.aws_reach import Reach
from fnmap.compute.aws_window import Window
from fnmap.compute.base import Limits
from fnmap.errors import CallTimeout, ComputeError, DeployError, NotAuthentic, UsageError, WorkerLost
from fnmap.format.call import Call, Job, Report
from fnmap.storage.base import Store

if TYPE_CHECKING:
    from fnmap.compute.aws_detached import Detached

SLOTS = 1000  # what a new account may run at once
DIRECT_MOST = 2000  # connections that one process keeps open at a time
PAYLOAD_BYTES = 3 << 20  # of items or results: with the rest and in base64 less than the 6 MB that Lambda takes
CHUNK_S = 10.0  # how long a call should take
SLACK_S = 10.0  # that an answer may take besides the function's time-out
PATIENCE_S = 120.0  # that an event may wait in Lambda's queue, besides its time-out, before it counts as lost
CLOSED = "this compute is closed; make a new Session"
Mode = Literal["auto", "direct", "detached"]

_NO_START = ("Runtime.Import", "Runtime.Handler", "Runtime.UserCode", "Runtime.Init")

log = logging.getLogger(__name__)


class LambdaCompute:
    """`on="lambda"`: the function that `fnmap deploy` has made, in the account and region of the AWS environment.

    `workers`: calls at once. `mode`: "direct"; "detached", for runs that commit; or "auto": detached for those where
    over 2000 calls are out already, else direct. `patience_s`: when nothing at all was heard for so long, besides the
    function's time-out, the events of calls that are still out count as lost. Raises DeployError, which ends with what
    mends it, if the function is not there or does not fit the Python and fnmap of this process.
    """

    def __init__(
        self,
        function: str = "fnmap",
        *,
        workers: int = SLOTS,
        mode: Mode = "auto",
        patience_s: float = PATIENCE_S,
    ) -> None:
        if mode not in ("auto", "direct", "detached"):
            raise UsageError(f'mode must be "auto", "direct" or "detached"; got {mode!r}')
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise UsageError(f"workers must be an int >= 1; got {workers!r}")
        if not isinstance(patience_s, (int, float)) or not patience_s >= 0:
            raise UsageError(f"patience_s must be seconds >= 0; got {patience_s!r}")
        self.service = Service("lambda")
        self.there: configuration.Configuration = configuration.read_configuration(self.service, function)
        configuration.check_alike(self.there, code_hash())
        self.mode, self.function, self._workers = mode, function, workers
        self._reach = Reach(self.service, self.there)
        self.messages = Messages(self.there, self.check_store)
        self.window, self._patience_s = Window(workers), patience_s
        self._limits = Limits(
            slots=0, payload_bytes=PAYLOAD_BYTES, chunk_s=CHUNK_S, backups=True, task_s=self.there.timeout_s
        )
        self._lock, self._making, self._closed = threading.Lock(), threading.Lock(), False
        self._wire: Wire | None = None
        self._detached: Detached | None = None

    # -- what a session asks ---------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """As many calls at once as were asked for; fewer for a while after Lambda has refused some."""
        slots = max(1, int(self.window.size))
        if slots != self._limits.slots:
            self._limits = replace(self._limits, slots=slots)
        return self._limits

    def scratch(self) -> Store:
        """Where the large payloads of one session lie: under tmp/ of the deployment's bucket, which empties itself."""
        from fnmap.storage.cached import Shipped
        from fnmap.storage.open import open_store

        store: Any = open_store(f"{self.there.store}/tmp/{os.urandom(8).hex()}")
        return Shipped(store.sealed_with(self.there.secret))

    def store_for(self, given: Store | None) -> Store:
        """The store of named runs as both ends reach it: the deployment's bucket unless another is given."""
        store: Any = configuration.sealed_store(self.there, given)
        if store.url("x").split("/")[2] != self.there.store.split("/")[2]:
            log.info("%r is not the bucket of the deployment: the function's role must allow it", store)
        checked: Store = store
        return checked

    def submit(self, call: Call) -> Future[Report]:
        """Invoke the function."""
        wire = self.wire
        future: Future[Report] = Future()
        future.set_running_or_notify_cancel()
        if len(call.tasks) > 1:
            call = replace(call, budget_s=min(call.budget_s or self.there.timeout_s, 0.8 * self.there.timeout_s))
        if call.items_key is not None and call.job.scratch is not None:
            self.check_store(call.job.scratch)
        if self._goes_detached(call):
            self.detached.send(call, future)
        else:
            wire.start(self._direct(call, *self.messages.event(call), future), future)
        return future

    def check(self, job: Job) -> None:
        """Raise DeployError if the function lacks a package that the job needs."""
        from fnmap.format.modules import modules_of_frames

        configuration.check_packages(self.there, modules_of_frames(job.frames) | job.imports, "what is mapped")

    def check_store(self, store: Store) -> None:
        """Raise DeployError if the function may not use the store. It is asked once for each bucket."""
        self._reach.check(store)

    def check_size(self, size: int) -> None:
        """Raise NotPicklable for an object that no environment of the function could hold, or S3 take."""
        configuration.check_size(self.there, size)

    def collect(self, older_s: float, *, dry_run: bool) -> list[str]:
        """Delete the queues of clients that were not heard of for so long; their names."""
        from fnmap.compute.aws_queues import collect_queues

        return collect_queues(self.function, older_s, dry_run=dry_run)

    def kill(self, future: Future[Report]) -> None:
        """Wait for this call no more. What runs in Lambda cannot be stopped; it commits nothing that counts."""
        if self._detached is not None and self._detached.withdraw(future):
            return
        if self._wire is not None:
            self._wire.cancel(future)

    def close(self) -> None:
        """Stop waiting, and close the connections. Detached calls go on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._detached is not None:
            self._detached.close()
        if self._wire is not None:
            self._wire.close()
        self.service.close()

    # -- ways ------------------------------------------------------------------------------------------

    @property
    def wire(self) -> Wire:
        """Where requests wait."""
        with self._lock:
            if self._closed:
                raise ComputeError(CLOSED)
            if self._wire is None:
                self._wire = Wire(self.service)
            return self._wire

    def _goes_detached(self, call: Call) -> bool:
        if call.commit is None or self.mode == "direct":
            return False
        return self.mode == "detached" or self.wire.busy >= DIRECT_MOST

    @property
    def detached(self) -> Detached:
        """The asynchronous way."""
        from fnmap.compute.aws_detached import Detached

        wire = self.wire
        with self._making:
            if self._detached is None:
                self._detached = Detached(self, wire, patience_s=self._patience_s)
            return self._detached

    # -- direct ----------------------------------------------------------------------------------------

    async def _direct(self, call: Call, tag: str, event: bytes, future: Future[Report]) -> None:
        function = self.there.size(call.memory).function
        path = function_path(function, "/invocations")
        headers = {"x-amz-log-type": "Tail", "content-type": "application/json"}
        try:
            assert self._wire is not None
            status, said, body = await self._wire.post(path, event, headers, self.there.timeout_s + SLACK_S)
            if status == 429 and b"Reserved" in body:
                await aside(self.check_concurrency, function)
            report = await self._outcome(call, tag, status, said, body)
        except asyncio.CancelledError:
            settle(future, WorkerLost(WITHDRAWN))
        except Exception as error:  # whatever it is, it is the scheduler's to judge
            settle(future, error)
        else:
            self.window.well()
            settle(future, report)

    def refused(self, status: int, said: Mapping[str, str], body: bytes, function: str) -> Exception:
        """What a status other than success of this function means."""
        code = code_of(said, body)
        text = body[:300].decode(errors="replace")
        if status == 429:
            busy = self._wire.busy if self._wire is not None else 1
            return self.window.refused(busy, text, said.get("retry-after", ""))
        if status == 413 or code == "RequestTooLargeException":
            return ComputeError(
                f"Lambda takes no message so large: {text}; send fewer items with each call: chunksize="
            )
        if status == 404:
            return DeployError(f"the function {function!r} is gone: run `{self.there.deploy}`")
        if status in (401, 403):
            return DeployError(
                f"Lambda: {code}: {text}; `fnmap doctor` says what is wrong, `fnmap deploy --policy` what you need"
            )
        if status == OVERDUE:
            return WorkerLost(f"Lambda: {text}")
        return self.window.ill(f"Lambda: {status or 'it cannot be reached'} {code}: {text}")

    def check_concurrency(self, function: str) -> None:
        """Raise DeployError if the function is switched off: then no call of it will ever run."""
        path = f"/2019-09-30/functions/{quote(function, safe='')}/concurrency"
        try:
            reserved = json.loads(self.service.ask("GET", path) or b"{}").get("ReservedConcurrentExecutions")
        except Refused:  # it may not be asked: then waiting is all that can be done
            return
        if reserved == 0:
            raise DeployError(
                f"the function {function!r} is switched off: 0 calls at once are reserved for it;"
                f" `aws lambda delete-function-concurrency --function-name {function}` switches it on"
            )

    async def _outcome(self, call: Call, tag: str, status: int, said: Mapping[str, str], body: bytes) -> Report:
        if status != 200:
            raise self.refused(status, said, body, self.there.size(call.memory).function)
        if "x-amz-function-error" in said:
            raise self._broken(call, body, said.get("x-amz-log-result", ""))
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise WorkerLost(f"the function's answer cannot be read: {error}") from error
        head, report = self.messages.opened(tag, answer)
        if head[0] == "kept":
            head, report = await aside(self.messages.fetched, head)
        return self.messages.report(head, report, call)

    def _broken(self, call: Call, body: bytes, tail: str) -> Exception:
        """What became of a call whose environment failed."""
        try:
            said = json.loads(body)
        except ValueError:
            said = {}
        kind, message = str(said.get("errorType", "")), str(said.get("errorMessage", body[:300]))
        text = b64decode(tail).decode(errors="replace") if tail else ""
        if kind == "NotAuthentic":
            return NotAuthentic(f"the function refuses this client: {message}; run `fnmap deploy`")
        if kind.startswith(_NO_START) or "INIT_REPORT" in text:
            mend = "run `fnmap deploy`, then `fnmap doctor`"
            return DeployError(f"the function does not start: {kind}: {message}; {mend}\n{text}")
        if kind == "Runtime.OutOfMemory" or "signal: killed" in message:
            size = self.there.size(call.memory)
            what = f"{kind}: {message}; probably out of memory ({size.memory_mb:,} MB)"
            return self.messages.out_of_memory(what, call, log=text)
        if ("Timedout" in kind or "timed out" in message) and len(call.tasks) == 1:
            return CallTimeout(message, at=0, log=text)
        return WorkerLost(f"{kind or 'the function failed'}: {message}", log=text)


async def aside(work: Callable[..., Any], *arguments: Any) -> Any:
    """What this returns, which may take a while, from a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def settle(future: Future[Report], outcome: Report | Exception) -> None:
    """Answer a future, once."""
    with contextlib.suppress(InvalidStateError):  # it was withdrawn meanwhile
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
