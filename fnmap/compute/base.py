"""What a compute must do: run calls somewhere. The conformance suite is `fnmap.testing.ComputeContract`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

from fnmap.chores import Chores
from fnmap.format.call import Call, Job, Report
from fnmap.storage.base import Store


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a compute can take.

    `slots`: calls at once. `ahead`: short calls more that it may hold, to start each the moment a slot is
    free. `backups`: a second attempt of a call that straggles may be faster. `payload_bytes`: the largest
    message each way; what is larger goes through the scratch store. `chunk_s`: how long a call should take
    for its way not to matter.
    `task_s`: the longest that a task can take.
    `in_process`: calls run inside `submit`, in the caller's thread.
    """

    slots: int
    payload_bytes: int = 1 << 62
    chunk_s: float = 0.1
    in_process: bool = False
    ahead: int = 0
    backups: bool = False
    task_s: float | None = None


@runtime_checkable
class Compute(Protocol):
    """Somewhere that runs calls."""

    @property
    def limits(self) -> Limits: ...

    def submit(self, call: Call) -> Future[Report]:
        """Start one call. The future may end in WorkerLost, CallTimeout or Throttled, which the scheduler
        knows what to do about; any other exception ends the run. It should have `call.memory` times the usual memory,
        where that can be chosen."""
        ...

    def close(self) -> None:
        """Stop everything, now. Calls that run end in WorkerLost."""
        ...


@runtime_checkable
class Kill(Protocol):
    """A compute that can stop a call that runs."""

    def kill(self, future: Future[Report]) -> None:
        """Stop the call behind this future; it ends in WorkerLost, unless it was done already."""
        ...


@runtime_checkable
class Warm(Protocol):
    """A compute whose idle workers can load a job ahead of its first call."""

    def warm(self, job: Job, most: int) -> None:
        """Let up to `most` idle workers do so, and return at once. What goes wrong there is for the calls to tell."""
        ...


@runtime_checkable
class PutOff(Protocol):
    """A compute whose own thread hears the answers, and should not keep others waiting for what is of no hurry.
    `chores`: what was put off; who waits for an answer may do them meanwhile."""

    chores: Chores

    def put_off(self, chore: Callable[[], object]) -> bool:
        """Have it done soon. False if it is to be done at once."""
        ...


@runtime_checkable
class Collect(Protocol):
    """A compute whose clients leave something behind when they are killed."""

    def collect(self, older_s: float, *, dry_run: bool) -> Sequence[str]:
        """Delete what clients have left that were not heard of for so long: the names of it."""
        ...


@runtime_checkable
class Far(Protocol):
    """A compute whose workers share no disk with this process."""

    def scratch(self) -> Store:
        """A place of its own for the large payloads of one session, which both ends reach."""
        ...

    def store_for(self, given: Store | None) -> Store:
        """The store of named runs as both ends reach it: `given`, or the compute's own. Raises UsageError for one that
        the workers do not reach."""
        ...

    def check(self, job: Job) -> None:
        """Raise what is wrong with a job before any call of it is made."""
        ...

    def check_store(self, store: Store) -> None:
        """Raise what keeps workers from using the store, before any call is made that needs it."""
        ...

    def check_size(self, size: int) -> None:
        """Raise NotPicklable, with what mends it, for an object of so many bytes that no worker could hold it."""
        ...


def is_far(compute: Compute) -> TypeGuard[Far]:
    """As isinstance(compute, Far), which takes ten times as long."""
    return hasattr(compute, "store_for")
