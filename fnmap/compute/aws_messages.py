"""What a LambdaCompute and the function say to each other, at this end: events are made, and answers read.

A function that is large goes into the deployment's bucket once, instead of into each call; so does a call that is
too large for an event. Nothing is read before its seal was checked: see `fnmap.aws.envelope`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cached_property
from itertools import count
from typing import Any

from fnmap.aws import envelope
from fnmap.aws.configuration import Configuration
from fnmap.compute.local import show
from fnmap.errors import CallTimeout, ComputeError, Throttled, WorkerLost, store_error
from fnmap.format.call import Call, Job, Report
from fnmap.format.payload import Ref, nbytes, pack
from fnmap.storage.base import Store

EVENT_BYTES = 6_000_000  # Lambda takes 6 MiB
JOB_BYTES = 32 << 10  # a larger function is put into the store once, instead of into every call
JOBS = 100  # whose place is known

Place = tuple[str, str]


class Messages:
    """Makes events for the function of this configuration, and reads its answers. `check_store` raises if it may not
    use a store."""

    def __init__(self, there: Configuration, check_store: Callable[[Store], None]) -> None:
        self.there, self._check_store = there, check_store
        self._jobs: dict[str, Place | None] = {}  # by key: where the job is in the store; None: it goes with the call
        self._lock = threading.Lock()
        self._mark, self._numbers = os.urandom(8).hex(), count()  # no other call has the tag that they make

    @cached_property
    def home(self) -> Store:
        """The deployment's bucket, sealed."""
        from fnmap.storage.open import open_store

        store: Any = open_store(self.there.store)
        sealed: Store = store.sealed_with(self.there.secret)
        return sealed

    def event(self, call: Call, queue: str | None = None, most_bytes: int = EVENT_BYTES) -> tuple[str, bytes]:
        """The call's tag, and the event that the function is invoked with. `queue`: where its report goes, if not into
        the answer."""
        job_at = self._place(call.job)
        message, kept = b"".join(call.to_message(with_job=job_at is None)), None
        if 4 * len(message) // 3 > most_bytes - 1000:
            kept = f"tmp/sent/{os.urandom(8).hex()}"
            self._put(kept, message)
            message = b""
        tag = f"{call.id}#{self._mark}-{next(self._numbers):x}"
        body = envelope.packed((tag, job_at, queue, kept), message)
        return tag, envelope.sealed(self.there.secret, envelope.CALL, body)

    def opened(self, tag: str, said: Any) -> tuple[Any, bytearray]:
        """The head and the body of an answer to the call with that tag. Raises NotAuthentic. One that lies in the store
        has the kind "kept"; `fetched` gets it."""
        return envelope.unpacked(envelope.opened(self.there.secret, envelope.answers(tag), said))

    def fetched(self, head: Any) -> tuple[Any, bytearray]:
        """An answer that was too large to come by itself."""
        key = head[1]
        whole = self.home.get(key)
        self.home.delete([key])
        return envelope.unpacked(whole)

    def report(self, head: Any, body: bytearray, call: Call) -> Report:
        """The report in an answer to a call; raises what the answer says instead. What was printed and logged is
        shown."""
        kind, what, heard = head
        for line in heard:
            show(*line)
        if kind == "report":
            return Report.from_message(body, arrow=call.job.arrow)
        if kind == "throttled":
            raise Throttled(what[0], retry_after_s=5.0)
        if kind == "fault":
            raise store_error(*what)
        if kind == "broken":
            raise ComputeError(what[0])
        message, at, text = what
        if kind == "timeout":
            raise CallTimeout(message, at=at, log=text)
        where = None if at is None else range(*at)
        if kind == "out of memory":
            raise self.out_of_memory(message, call, at=where, log=text)
        raise WorkerLost(message, at=where, log=text)

    def out_of_memory(self, message: str, call: Call, *, at: range | None = None, log: str = "") -> WorkerLost:
        """What became of a call that needed more memory than there was where it went."""
        mend = self.there.more_memory(self.there.size(call.memory))
        return WorkerLost(f"{message}: {mend}", at=at, log=log, out_of_memory=True)

    def _put(self, key: str, body: bytes) -> None:
        """Leave something for the function."""
        self._check_store(self.home)
        self.home.put(key, body)

    def _place(self, job: Job) -> Place | None:
        """None if the job goes with the call; else its key and where it is in the deployment's store."""
        with self._lock:
            if job.key not in self._jobs:
                frames = job.wire()
                size = sum(len(f.key) if isinstance(f, Ref) else nbytes(f) for f in frames)
                place = None if size <= JOB_BYTES else (job.key, f"tmp/job/{os.urandom(8).hex()}")
                if place is not None:
                    self._put(place[1], b"".join(pack(frames)))
                while len(self._jobs) >= JOBS:
                    del self._jobs[next(iter(self._jobs))]
                self._jobs[job.key] = place
            return self._jobs[job.key]
