"""Calls run by Lithops: on its localhost backend unless a Lithops configuration is given. A local worker in each
activation runs its one call, so that a crash or a task over its limit comes back as what it is."""

from __future__ import annotations

import io
import pickle
import queue
import sys
import threading
from concurrent.futures import Future
from contextlib import closing, redirect_stderr, redirect_stdout
from typing import Any

from fnmap.compute.base import Limits, cores
from fnmap.compute.local import LocalCompute, show_lines
from fnmap.errors import CallTimeout, ComputeError, UsageError, WorkerLost
from fnmap.format.call import Call, Report

INLINE_BYTES = 4 << 10  # what an argument may have; more lies in the scratch store
LOCALHOST = {
    "lithops": {"backend": "localhost", "storage": "localhost", "data_limit": 0, "data_cleaner": False},
    "localhost": {"version": 1, "runtime": sys.executable, "worker_processes": 1},
}


class LithopsCompute:
    """`on="lithops"`. Each slot has an executor of its own: the localhost backend runs one job of each at a time."""

    def __init__(self, workers: int | None = None, config: dict[str, Any] | None = None) -> None:
        try:
            import lithops  # noqa: F401 - an extra; its absence is told here, not in a thread
        except ImportError as error:
            raise UsageError('on="lithops" needs Lithops: pip install "fnmap[lithops]"') from error
        self.limits = Limits(slots=workers or cores(), payload_bytes=INLINE_BYTES // 2, chunk_s=5.0)
        self._config, self._closed, self._threads = config or LOCALHOST, False, list[threading.Thread]()
        self._queue: queue.SimpleQueue[tuple[Call, Future[Report]] | None] = queue.SimpleQueue()

    def submit(self, call: Call) -> Future[Report]:
        """Queue the call for the next executor that is free."""
        if self._closed:
            raise ComputeError("this compute is closed; make a new Session")
        future: Future[Report] = Future()
        future.set_running_or_notify_cancel()
        self._queue.put((call, future))
        if len(self._threads) < self.limits.slots:
            self._threads.append(threading.Thread(target=self._serve, name="fnmap-lithops", daemon=True))
            self._threads[-1].start()
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
            try:
                future.set_result(self._run(executor, call))
            except Exception as error:  # whatever went wrong is the scheduler's to judge
                future.set_exception(error)

    def _run(self, executor: Any, call: Call) -> Report:
        sent, scratch, key = b"".join(call.to_message()), call.job.scratch, f"tmp/call/{call.id}"
        if len(sent) > INLINE_BYTES and scratch is not None:
            scratch.put(key, sent)
        argument = pickle.dumps(sent if len(sent) <= INLINE_BYTES else (scratch, key))
        activation = executor.map(far_side, [(argument,)], include_modules=None)
        executor.wait(activation, download_results=True, throw_except=False, show_progressbar=False, clean_jobs=False)
        answer = activation[0].result(throw_except=False)
        executor.futures.clear()  # it would keep them all
        if scratch is not None:
            scratch.delete([key])
        if not isinstance(answer, bytes):
            raise WorkerLost(f"the Lithops activation ended without an answer: {activation[0]}")
        body, out, err = pickle.loads(answer)
        show_lines(out, sys.stdout)
        show_lines(err, sys.stderr)
        if isinstance(body, Exception):
            raise body
        return Report.from_message(bytearray(body), arrow=call.job.arrow)


def far_side(argument: bytes) -> bytes:
    """Run in the activation: the call in a worker process of its own; the answer and what was printed."""
    sent = pickle.loads(argument)
    message, local = sent if isinstance(sent, bytes) else sent[0].get(sent[1]), LocalCompute(workers=1)
    with closing(local), redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            report = local.submit(Call.from_message(bytearray(message), {})).result()
            body: Any = b"".join(report.to_message())
        except (WorkerLost, CallTimeout) as error:
            body = error
    return pickle.dumps((body, out.getvalue(), err.getvalue()))
