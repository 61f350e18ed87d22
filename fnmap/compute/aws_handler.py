"""What runs in AWS Lambda: the deployed function's handler.

A worker process of the environment's own runs the call, so that a crash, an endless loop and a task over its limit
come back as what they are, with what was printed. It stays warm between calls, as the environment does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import resource
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fnmap.aws import envelope
from fnmap.aws.requests import Refused, Service, function_path
from fnmap.compute.aws_reach import REACH, answer
from fnmap.compute.local import LocalCompute, line_of, say
from fnmap.errors import CallTimeout, NotAuthentic, StoreBusy, StoreError, WorkerLost
from fnmap.format.call import Call, Job, Report
from fnmap.format.payload import unpack
from fnmap.storage.cached import KEEP
from fnmap.worker import MISSING, Worker

MARGIN_S = 1.5  # before the environment is stopped: time enough to say so
JOBS = 32  # that an environment keeps
SAID_BYTES = 64 << 10  # of what tasks print, that goes back to the caller: the rest is in the log
TOLD_BYTES = 160 << 10  # of an answer that goes through the queue, in base64; a larger one waits in the store
ANSWER_BYTES = 4_600_000  # of one that comes back at once: in base64 less than the 6 MB that Lambda takes
FAN_THREADS = 16
MEND = "`fnmap deploy --add PACKAGE` puts a package there; modules of your own come along if imported outside functions"
MEMORY_SHARE = 0.8  # of the function's: a worker that dies with so much was out of memory, or near it

logging.getLogger("fnmap.compute.local").setLevel(logging.ERROR)  # that a worker died is said in the answer


class Environment:
    """What lasts between the calls of one environment. `in_process`: run them here, without a worker process."""

    def __init__(self, variables: Mapping[str, str] = os.environ, *, in_process: bool = False) -> None:
        self.secret = bytes.fromhex(variables.get("FNMAP_SECRET", ""))
        self.address = variables.get("FNMAP_STORE", "")
        self.metrics = variables.get("FNMAP_METRICS") == "1"
        self.calls = 0
        self._jobs: dict[str, Job] = {}
        self._local: LocalCompute | None = None
        self._worker = Worker() if in_process else None
        self._services: dict[str, Service] = {}
        self._heard = Heard()
        if not in_process:
            os.environ.setdefault(MISSING, MEND)
            os.environ.setdefault(KEEP, tempfile.mkdtemp(prefix="fnmap-kept-"))  # of all workers, one after another
            self._start()

    def _start(self) -> LocalCompute:
        self._local = LocalCompute(workers=1, hear=self._heard)
        self._local.start()  # its interpreter starts while this one does
        return self._local

    def handle(self, event: Any, context: Any) -> Any:
        """One invocation."""
        if "ping" in event:
            return {"pong": {"python": platform.python_version(), "calls": self.calls, "pid": os.getpid()}}
        if "fan" in event:
            return self._fan_out(event["fan"], context.function_name)
        if REACH in event:
            return answer(self.secret, *self._opened(event[REACH], envelope.REACH))
        begun = time.time()
        (tag, job_at, queue, kept), message = self._opened(event)
        left_s = context.get_remaining_time_in_millis() / 1000
        self._heard.take()  # what came after the answer to a call before
        head, body = self._answer(message, job_at, kept, left_s, context)
        self.calls += 1
        if self.metrics:
            emit(head, body, context, cold=self.calls == 1, begun=begun)
        head = (*head, self._heard.take())
        if queue is not None:
            self._tell(queue, tag, head, body)
            return None
        return json.loads(self._sealed(tag, head, body, ANSWER_BYTES))

    def _opened(self, event: Any, purpose: bytes = envelope.CALL) -> Any:
        """What an event holds. Raises NotAuthentic."""
        if not self.secret:
            raise NotAuthentic("the function has no FNMAP_SECRET: run `fnmap deploy`")
        return envelope.unpacked(envelope.opened(self.secret, purpose, event))

    def _sealed(self, tag: str, head: Any, body: bytes, most_bytes: int) -> bytes:
        """An answer; one that is too large waits in the store."""
        whole = envelope.packed(head, body)
        if len(whole) > most_bytes:
            key = f"tmp/answer/{os.urandom(8).hex()}"
            self._store().put(key, whole)
            whole = envelope.packed(("kept", key, ()))
        return envelope.sealed(self.secret, envelope.answers(tag), whole)

    def _tell(self, queue: str, tag: str, head: Any, body: bytes) -> None:
        """Send an answer to where the caller listens."""
        told = json.dumps({"id": tag} | json.loads(self._sealed(tag, head, body, TOLD_BYTES)))
        try:
            self._service("sqs").call("AmazonSQS.SendMessage", QueueUrl=queue, MessageBody=told)
        except Refused as error:  # nobody listens any more; the result is committed
            sys.stderr.write(f"{error}\n")

    def _answer(self, message: Any, job_at: Any, kept: str | None, left_s: float, context: Any) -> tuple[Any, bytes]:
        """("report", nothing) and its message, or what happened: "lost", "out of memory", "timeout", "fault" of the
        store, "broken"."""
        try:
            call = self._call(message, job_at, kept)
            limit_mb = float(context.memory_limit_in_mb)
            report = self._run(call, max(0.1, left_s - min(MARGIN_S, 0.2 * left_s)), limit_mb)
        except StoreBusy as error:
            return ("lost", (f"the function could not read its call: {error}", None, "")), b""
        except StoreError as error:
            return ("fault", (type(error).__name__, f"in the function: {error}")), b""
        except WorkerLost as error:
            at = None if error.at is None else (error.at.start, error.at.stop)
            return ("out of memory" if error.out_of_memory else "lost", (str(error), at, error.log)), b""
        except CallTimeout as error:
            return ("timeout", (str(error), error.at, error.log)), b""
        except Exception as error:  # a class that is missing here, a worker that does not start
            text = "".join(traceback.format_exception(error))
            return ("broken", (f"the function could not run the call: {error!r}\n{text}",)), b""
        peak_mb = _peak_mb([] if self._local is None else self._local.pids())
        report.stats |= {"cold": self.calls == 0, "peak_mb": peak_mb, "attempt": call.attempt}
        return ("report", None), b"".join(report.to_message())

    def _call(self, message: Any, job_at: Any, kept: str | None) -> Call:
        if kept is not None:
            message = bytearray(self._store().get(kept))
        if job_at is not None and job_at[0] not in self._jobs:
            self._jobs[job_at[0]] = Job.from_wire(unpack(self._store().get(job_at[1])))
        call = Call.from_message(message, self._jobs)
        self._forget_jobs(call.job)
        return call

    def _run(self, call: Call, left_s: float, limit_mb: float) -> Report:
        if self._worker is not None:
            return self._worker.run(call)
        local = self._local or self._start()
        future = local.submit(call)
        _offer(local.pids())
        try:
            return future.result(left_s)
        except TimeoutError:
            if future.done():  # the function's own TimeoutError cannot be here: it is a failure in the report
                raise
        except WorkerLost as lost:
            raise _judged(lost, limit_mb) from None
        return self._stop(local, future, left_s)

    def _stop(self, local: LocalCompute, future: Future[Report], left_s: float) -> Report:
        """The environment's time is nearly up."""
        at = local.running(future)
        local.kill(future)
        try:
            return future.result()  # it has just been done
        except WorkerLost as lost:
            if at is not None and at.start == 0:
                message = f"ran for over {left_s:.0f} s, which is all that the function's time-out leaves it"
                raise CallTimeout(message, at=0, log=lost.log) from None
            message = f"the function's time was up after {left_s:.0f} s; the task that ran is tried again by itself"
            raise WorkerLost(message, at=at, log=lost.log) from None

    def _forget_jobs(self, last: Job) -> None:
        self._jobs.pop(last.key, None)
        self._jobs[last.key] = last
        for old in list(self._jobs)[:-JOBS]:
            del self._jobs[old]

    def _store(self) -> Any:
        from fnmap.storage.open import open_store

        store: Any = open_store(self.address)
        return store.sealed_with(self.secret)

    def _service(self, name: str) -> Service:
        if name not in self._services:
            self._services[name] = Service(name)
        return self._services[name]

    def _fan_out(self, events: list[Any], function: str) -> dict[str, int]:
        """Invoke this very function for each event: a burst that leaves one client leaves many invokers instead."""
        service = self._service("lambda")
        path = function_path(function, "/invocations")
        headers = {"x-amz-invocation-type": "Event", "content-type": "application/json"}

        def send(event: Any) -> bool:
            try:
                service.ask("POST", path, json.dumps(event).encode(), headers)
            except Refused as error:
                (tag, _, queue, _), _ = self._opened(event)
                kind = "throttled" if error.status == 429 else "lost"
                self._tell(queue, tag, (kind, (str(error), None, ""), ()), b"")
                return False
            return True

        with ThreadPoolExecutor(FAN_THREADS) as pool:
            return {"sent": sum(pool.map(send, events))}


class Heard:
    """What tasks print and log: it goes to the function's log, and the last of it to the caller."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, list[Any]]] = deque()
        self._size, self._lock = 0, threading.Lock()

    def __call__(self, kind: str, what: Sequence[Any]) -> None:
        if kind == "said":
            say(*what)
        else:
            sys.stderr.write(f"[task {what[0]}] {line_of(*what)}")
        with self._lock:
            self._lines.append((kind, list(what)))
            self._size += len(what[-1])
            while self._size > SAID_BYTES and len(self._lines) > 1:
                self._size -= len(self._lines.popleft()[1][-1])

    def take(self) -> list[tuple[str, list[Any]]]:
        """What was heard since; of one thing that is very long, the end."""
        with self._lock:
            lines, self._lines, self._size = list(self._lines), deque(), 0
        return [(kind, [*what[:-1], what[-1][-SAID_BYTES:]]) for kind, what in lines]


def _offer(pids: list[int]) -> None:
    """Should memory run out, the kernel is to kill a worker, of whose death this process tells, and not this one."""
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def _judged(lost: WorkerLost, limit_mb: float) -> WorkerLost:
    """The death of a worker, with what it was probably of."""
    had_mb = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    if had_mb < MEMORY_SHARE * limit_mb:
        return lost
    said = f"{lost}; with {had_mb:.0f} of the function's {limit_mb:.0f} MB, so it was probably out of memory"
    return WorkerLost(said, at=lost.at, log=lost.log, out_of_memory=True)


def _peak_mb(pids: list[int]) -> float:
    """The most memory that one of these processes, or this one, has had at a time."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123
            most = max(most, *(int(line.split()[1]) for line in status if line.startswith("VmHWM:")))
    return most / 1024


def emit(head: Any, body: bytes, context: Any, *, cold: bool, begun: float) -> None:
    """One line in CloudWatch's embedded metric format: it costs a line of the log, and nothing else."""
    kind = head[0]
    figures: dict[str, float] = {"Calls": 1, "ColdStarts": int(cold), "CallSeconds": time.time() - begun}
    units = dict.fromkeys(("Calls", "ColdStarts", "Tasks", "Failures", "Lost", "Timeouts", "Retries"), "Count")
    if kind == "report":
        report = Report.from_message(bytearray(body))
        stats = dict.fromkeys(("fetch_s", "run_s", "commit_s"), 0.0) | report.stats
        figures |= {
            "Tasks": report.ran, "Failures": len(report.failures), "FetchSeconds": stats["fetch_s"],
            "RunSeconds": stats["run_s"], "CommitSeconds": stats["commit_s"], "AnswerBytes": len(body),
            "PeakMemory": stats["peak_mb"], "Retries": int(stats["attempt"] > 1),
        }  # fmt: skip
    else:
        figures |= {"Lost": int(kind == "lost"), "Timeouts": int(kind == "timeout")}
    units |= {name: "Seconds" for name in figures if name.endswith("Seconds")}
    units |= {"AnswerBytes": "Bytes", "PeakMemory": "Megabytes"}
    metrics = [{"Name": name, "Unit": units[name]} for name in figures]
    about = {"Namespace": "fnmap", "Dimensions": [["Function"]], "Metrics": metrics}
    line = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [about]}}
    sys.stdout.write(json.dumps(line | {"Function": context.function_name} | figures) + "\n")
    sys.stdout.flush()


_here: Environment | None = None


def handle(event: Any, context: Any) -> Any:
    """The handler of the deployed function."""
    global _here
    if _here is None:
        _here = Environment()
    return _here.handle(event, context)


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    _here = Environment()  # in the time that an environment has for its start
