"""Calls run in this process and thread, one after another, so that a debugger works."""

from __future__ import annotations

import time
from concurrent.futures import Future

from fnmap.compute.base import Limits
from fnmap.compute.overhear import overheard
from fnmap.errors import CallTimeout, ComputeError
from fnmap.format.call import Call, Report
from fnmap.worker import Worker


class InlineCompute:
    """`on="inline"`: no other process. A task cannot be interrupted here: one that runs over its
    `timeout=` is found out when it returns. A KeyboardInterrupt goes through to the caller."""

    limits = Limits(slots=1, chunk_s=0.0, in_process=True)

    def __init__(self) -> None:
        self._closed = False

    def submit(self, call: Call) -> Future[Report]:
        if self._closed:
            raise ComputeError("this compute is closed; make a new Session")
        future: Future[Report] = Future()
        future.set_running_or_notify_cancel()
        worker = Worker(fatal=(KeyboardInterrupt, GeneratorExit))  # one a call, for a task may map in its turn
        begun = time.monotonic()
        with overheard(worker):
            report = worker.run(call)
        limit = call.job.timeout_s
        slow = next((at for at, (_, s) in enumerate(report.laps) if limit is not None and s > limit), None)
        if slow is None:
            future.set_result(report)
        else:
            seconds = time.monotonic() - begun
            message = f"ran for {seconds:.3g} s, over its limit of {limit:g} s"
            future.set_exception(CallTimeout(message, at=slow, log=worker.last_words(call.tasks[slow])))
        return future

    def close(self) -> None:
        self._closed = True
