"""Calls run by AWS Lambda.

Two ways. **Direct**: a synchronous invocation, whose answer comes back over the same connection: no store on the way,
thousands in flight. **Detached**: an asynchronous one, for calls that commit their results: what was accepted runs
whether this process lives or not, and the report comes through a queue.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import random
import sys
import threading
from base64 import b64decode
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Literal

from fnmap.aws import envelope
from fnmap.aws.configuration import Configuration, check_alike, check_packages, read_configuration
from fnmap.aws.package import code_hash
from fnmap.aws.requests import Service, code_of, function_path
from fnmap.aws.wire import Wire
from fnmap.compute.base import Limits
from fnmap.compute.local import show_lines
from fnmap.errors import CallTimeout, ComputeError, DeployError, NotAuthentic, Throttled, UsageError, WorkerLost
from fnmap.format.call import Call, Job, Report
from fnmap.format.payload import Ref, nbytes, pack
from fnmap.storage.base import Store

SLOTS = 1000  # what a new account may run at once
DIRECT_MOST = 2000  # connections that one process keeps open at a time
PAYLOAD_BYTES = 3 << 20  # of items or results: with the rest and in base64 less than the 6 MB that Lambda takes
EVENT_BYTES = 6_000_000  # Lambda takes 6 MiB
CHUNK_S = 10.0  # how long a call should take
JOB_BYTES = 32 << 10  # a larger function is put into the store once, instead of into every call
SLACK_S = 10.0  # that an answer may take besides the function's time-out
Mode = Literal["auto", "direct", "detached"]

_NO_START = ("Runtime.Import", "Runtime.Handler", "Runtime.UserCode", "Runtime.Init")

log = logging.getLogger(__name__)


class LambdaCompute:
    """`on="lambda"`: the function that `fnmap deploy` has made, in the account and region of the AWS environment.

    `workers`: calls at once. `mode`: "direct"; "detached", for runs that commit; or "auto": detached for those where
    over 2000 calls are out already, else direct. Raises DeployError, which ends with what mends it, if the function is
    not there or does not fit the Python and fnmap of this process.
    """

    def __init__(self, function: str = "fnmap", *, workers: int = SLOTS, mode: Mode = "auto") -> None:
        if mode not in ("auto", "direct", "detached"):
            raise UsageError(f'mode must be "auto", "direct" or "detached"; got {mode!r}')
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise UsageError(f"workers must be an int >= 1; got {workers!r}")
        self.service = Service("lambda")
        self.there: Configuration = read_configuration(self.service, function)
        check_alike(self.there, code_hash())
        self.mode, self.function, self._workers = mode, function, workers
        self._window = float(workers)
        self._throttles = 0
        self._calls: dict[Future[Report], asyncio.Task[None]] = {}
        self._jobs: dict[str, Any] = {}  # by key: the job to send along, or where it is in the store
        self._home: Store | None = None
        self._lock, self._closed = threading.Lock(), False
        self._wire: Wire | None = None
        self._detached: Any = None

    # -- what a session asks ---------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """As many calls at once as were asked for; fewer for a while after Lambda has refused some."""
        return Limits(
            slots=max(1, int(self._window)),
            payload_bytes=PAYLOAD_BYTES,
            chunk_s=CHUNK_S,
            backups=True,
            task_s=self.there.timeout_s,
        )

    def scratch(self) -> Store:
        """Where the large payloads of one session lie: under tmp/ of the deployment's bucket, which empties itself."""
        from fnmap.storage.cached import Shipped
        from fnmap.storage.open import open_store

        store: Any = open_store(f"{self.there.store}/tmp/{os.urandom(8).hex()}")
        return Shipped(store.sealed_with(self.there.secret))

    def store_for(self, given: Store | None) -> Store:
        """The store of named runs as both ends reach it: the deployment's bucket unless another is given."""
        from fnmap.storage.open import open_store

        store: Any = given if given is not None else open_store(self.there.store)
        if not hasattr(store, "sealed_with"):
            raise UsageError(
                f'store={given!r}: on="lambda" needs one that the function reaches, such as {self.there.store!r}'
            )
        if store.url("x").split("/")[2] != self.there.store.split("/")[2]:
            log.info("%r is not the bucket of the deployment: the function's role must allow it", store)
        sealed: Store = store.sealed_with(self.there.secret)
        return sealed

    def submit(self, call: Call) -> Future[Report]:
        """Invoke the function."""
        if self._closed:
            raise ComputeError("this compute is closed; make a new Session")
        future: Future[Report] = Future()
        future.set_running_or_notify_cancel()
        call = replace(call, budget_s=min(call.budget_s or self.there.timeout_s, 0.8 * self.there.timeout_s))
        if self._goes_detached(call):
            self._detached.send(call, future)
        else:
            self.wire.start(self._direct(call, self.message(call), future), future)
        return future

    def check(self, job: Job) -> None:
        """Raise DeployError if the function lacks a package that the job needs."""
        check_packages(self.there, _modules(job), "what is mapped")

    def kill(self, future: Future[Report]) -> None:
        """Wait for this call no more. What runs in Lambda cannot be stopped; it commits nothing that counts."""
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

    # -- messages --------------------------------------------------------------------------------------

    @property
    def wire(self) -> Wire:
        """Where requests wait."""
        if self._wire is None:
            with self._lock:
                if self._wire is None:
                    self._wire = Wire(self.service)
        return self._wire

    def _goes_detached(self, call: Call) -> bool:
        if call.commit is None or self.mode == "direct":
            return False
        if self.mode == "auto" and self.wire.busy < DIRECT_MOST:
            return False
        if self._detached is None:
            from fnmap.compute.aws_detached import Detached

            self._detached = Detached(self)
        return True

    def _job_of(self, job: Job) -> tuple[str, str] | None:
        """None if the job goes with the call; else its key and where it is in the deployment's store."""
        if job.key not in self._jobs:
            frames = job.wire()
            size = sum(len(f.key) if isinstance(f, Ref) else nbytes(f) for f in frames)
            kept = None if size <= JOB_BYTES else (job.key, f"tmp/job/{os.urandom(8).hex()}")
            if kept is not None:
                self.home.put(kept[1], b"".join(pack(frames)))
            while len(self._jobs) > 100:
                self._jobs.pop(next(iter(self._jobs)))
            self._jobs[job.key] = kept
        found: tuple[str, str] | None = self._jobs[job.key]
        return found

    @property
    def home(self) -> Store:
        """The deployment's bucket, sealed."""
        if self._home is None:
            self._home = self.store_for(None)
        return self._home

    def message(self, call: Call, queue: str | None = None, most_bytes: int = EVENT_BYTES) -> bytes:
        """The event that the function is invoked with. `queue`: where its report goes, if not into the answer."""
        job_at = self._job_of(call.job)
        message: Any = b"".join(call.to_message(with_job=job_at is None))
        if 4 * len(message) // 3 > most_bytes - 1000:
            key = f"tmp/sent/{os.urandom(8).hex()}"
            self.home.put(key, message)
            message = key
        body = pickle.dumps((call.id, message, job_at, queue), 5)
        return envelope.sealed(self.there.secret, envelope.CALL, body)

    def _answered(self, call: Call, said: Any) -> Report:
        """The report that came back; raises what it says instead."""
        body = envelope.opened(self.there.secret, envelope.answers(call.id), said)
        return self.reported(pickle.loads(body))

    def reported(self, answer: tuple[str, Any, tuple[str, str]]) -> Report:
        """The report in an answer; raises what the answer says instead. What was printed is shown."""
        kind, what, (out, err) = answer
        if out:
            show_lines(out, sys.stdout)
        if err:
            show_lines(err, sys.stderr)
        if kind == "report":
            return Report.from_message(bytearray(what))
        message, at, text = what
        if kind == "timeout":
            raise CallTimeout(message, at=at, log=text)
        raise WorkerLost(message, at=None if at is None else range(*at), log=text)

    # -- direct ----------------------------------------------------------------------------------------

    async def _direct(self, call: Call, message: bytes, future: Future[Report]) -> None:
        path = function_path(self.function, "/invocations")
        headers = {"x-amz-log-type": "Tail", "content-type": "application/json"}
        try:
            status, said, body = await self.wire.post(path, message, headers, self.there.timeout_s + SLACK_S)
            report = self._outcome(call, status, said, body)
        except asyncio.CancelledError:
            settle(future, WorkerLost("the call was withdrawn while it ran"))
        except Exception as error:  # whatever it is, it is the scheduler's to judge
            settle(future, error)
        else:
            self._well()
            settle(future, report)

    def _well(self) -> None:
        self._throttles = 0
        if self._window < self._workers:
            self._window = min(self._workers, self._window + max(1.0, self._window / 50))

    def refused(self, status: int, said: Mapping[str, str], body: bytes) -> Exception:
        """What a status other than success means."""
        code = code_of(said, body)
        text = body[:300].decode(errors="replace")
        if status == 429:
            busy = self._wire.busy if self._wire is not None else 1
            self._window = max(1.0, min(self._window, 0.9 * busy))
            self._throttles += 1
            wait_s = min(10.0, 0.5 * 1.5 ** min(self._throttles, 8)) * random.uniform(0.5, 1.0)
            return Throttled(f"Lambda: {text}", retry_after_s=max(wait_s, float(said.get("retry-after", 0) or 0)))
        if status == 413 or code == "RequestTooLargeException":
            return ComputeError(f"Lambda takes no message so large: {text}")
        if status == 404:
            return DeployError(f"the function {self.function!r} is gone: run `fnmap deploy`")
        if status in (401, 403):
            return DeployError(
                f"Lambda: {code}: {text}; `fnmap doctor` says what is wrong, `fnmap deploy --policy` what you need"
            )
        return WorkerLost(f"Lambda: {status or 'no answer'} {code}: {text}")

    def _outcome(self, call: Call, status: int, said: Mapping[str, str], body: bytes) -> Report:
        if status != 200:
            raise self.refused(status, said, body)
        if "x-amz-function-error" in said:
            raise self._broken(call, body, said.get("x-amz-log-result", ""))
        try:
            return self._answered(call, json.loads(body))
        except ValueError as error:
            raise WorkerLost(f"the function's answer cannot be read: {error}") from error

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
            more = min(10240, 2 * self.there.memory_mb)
            mend = f"`fnmap deploy --memory {more}` gives it more"
            message += f"; probably out of memory ({self.there.memory_mb} MB): {mend}"
        if ("Timedout" in kind or "timed out" in message) and len(call.tasks) == 1:
            return CallTimeout(message, at=0, log=text)
        return WorkerLost(f"{kind or 'the function failed'}: {message}", log=text)


def settle(future: Future[Report], outcome: Report | Exception) -> None:
    """Answer a future, once."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _modules(job: Job) -> set[str]:
    from fnmap.format.modules import modules_of

    return set() if not job.frames or isinstance(job.frames[0], Ref) else modules_of(job.frames[0])
