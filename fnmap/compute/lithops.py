"""Calls run by Lithops: on its localhost backend unless a Lithops configuration is given.

One call is one Lithops activation, with one opaque argument; Lithops' own retries, monitoring and
results are not relied upon. In the activation a local worker runs the call, so that a crash or a task
over its time limit comes back as what it is, not as an activation that is never heard of again.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import queue
import sys
import threading
from concurrent.futures import Future
from typing import Any

from fnmap.compute.base import Limits
from fnmap.compute.local import LocalCompute, cores, show_lines
from fnmap.errors import CallTimeout, ComputeError, UsageError, WorkerLost
from fnmap.format.call import Call, Report

INLINE_BYTES = 4 << 10  # what an argument may have; more lies in the scratch store
LOCALHOST = {
    "lithops": {"backend": "localhost", "storage": "localhost", "data_limit": 0, "data_cleaner": False},
    "localhost": {"version": 1, "runtime": sys.executable, "worker_processes": 1},
}


class LithopsCompute:
    """`on="lithops"`. `config`: as of lithops.FunctionExecutor. Each slot has an executor of its own, since
    the localhost backend runs the jobs of one executor one after another."""

    def __init__(self, workers: int | None = None, config: dict[str, Any] | None = None) -> None:
        try:
            import lithops  # noqa: F401 - an extra; its absence is told here, not in a thread
        except ImportError as error:
            raise UsageError('on="lithops" needs Lithops: pip install "fnmap[lithops]"') from error
        self.limits = Limits(slots=workers or cores(), payload_bytes=INLINE_BYTES // 2, chunk_s=5.0)
        self._config, self._closed = config or LOCALHOST, False
        self._queue: queue.SimpleQueue[tuple[Call, Future[Report]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Call) -> Future[Report]:
        """Queue the call for the next executor that is free."""
        if self._closed:
            raise ComputeError("this compute is closed; make a new Session")
        future: Future[Report] = Future()
        future.set_running_or_notify_cancel()
        self._queue.put((call, future))
        if len(self._threads) < self.limits.slots:
            thread = threading.Thread(target=self._serve, name="fnmap-lithops", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """Stop once what runs has ended: Lithops has no way to cancel."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)

    def _serve(self) -> None:
        from lithops import FunctionExecutor

        executor = FunctionExecutor(config=self._config, log_level=None)
        while (taken := self._queue.get()) is not None:
            call, future = taken
            if self._closed:
                future.set_exception(WorkerLost("the session was closed before the call started"))
                continue
            try:
                future.set_result(self._run(executor, call))
            except Exception as error:  # whatever went wrong is the scheduler's to judge
                future.set_exception(error)

    def _run(self, executor: Any, call: Call) -> Report:
        activation = executor.map(far_side, [(_argument(call),)], include_modules=None)
        executor.wait(activation, download_results=True, throw_except=False, show_progressbar=False, clean_jobs=False)
        answer = activation[0].result(throw_except=False)
        executor.futures.clear()
        if call.job.scratch is not None:
            call.job.scratch.delete([_sent_key(call)])
        if not isinstance(answer, bytes):
            raise WorkerLost(f"the Lithops activation ended without an answer: {activation[0]}")
        body, out, err = pickle.loads(answer)
        show_lines(out, sys.stdout)
        show_lines(err, sys.stderr)
        if isinstance(body, Exception):
            raise body
        return Report.from_message(bytearray(body))


def _argument(call: Call) -> bytes:
    message = b"".join(call.to_message())
    if len(message) <= INLINE_BYTES:
        return pickle.dumps(message)
    assert call.job.scratch is not None, "a call that is too large for an argument needs a scratch store"
    call.job.scratch.put(_sent_key(call), message)
    return pickle.dumps((call.job.scratch, _sent_key(call)))


def _sent_key(call: Call) -> str:
    return f"tmp/call/{call.id}"


def far_side(argument: bytes) -> bytes:
    """Run in the activation: the call in a worker process of its own; the answer and what was printed."""
    sent = pickle.loads(argument)
    message = sent if isinstance(sent, bytes) else sent[0].get(sent[1])
    out, err = io.StringIO(), io.StringIO()
    local = LocalCompute(workers=1)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            report = local.submit(Call.from_message(bytearray(message), {})).result()
        body: Any = b"".join(report.to_message())
    except (WorkerLost, CallTimeout) as error:
        body = error
    finally:
        local.close()
    return pickle.dumps((body, out.getvalue(), err.getvalue()))
