"""What happens in a run, as frozen records. A listener is any callable that takes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in the run `run_id`."""

    run_id: str
    """The id of the run; its name if it has one."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A run was taken up."""

    function: str
    """The name of the function that is mapped."""
    total: int | None
    """How many tasks there are; None if that shows only as they come."""


@dataclass(frozen=True, slots=True)
class RunProgressed(Event):
    """Results or failures have arrived."""

    done: int
    """Tasks with a result."""
    failed: int
    """Tasks that have failed for good."""
    running: int
    """Tasks in calls that are out."""
    total: int
    """Tasks known so far."""


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """Nothing more will happen."""

    state: str
    """"done", "failed" or "cancelled"."""
    done: int
    """Tasks with a result."""
    failed: int
    """Tasks that have failed for good."""


Listener = Callable[[Event], None]
