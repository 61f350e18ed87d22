"""Drives the stages of a session: takes them in turn, submits the chunks they choose, feeds what comes back to them.

There is no loop of its own: whoever brings a fact (the caller with new items, the compute's thread with
a report) feeds it to the scheduler under the session's lock, and then submits the calls that it decides on.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fnmap import clock
from fnmap.alarm import Alarm
from fnmap.chores import Chores
from fnmap.compute.base import Compute, Kill, PutOff
from fnmap.errors import RunError, RunTakenOver, Throttled
from fnmap.format.call import Report
from fnmap.lease import BEAT_S
from fnmap.planning.board import Board
from fnmap.planning.schedule import Chunk
from fnmap.stage import Stage

if TYPE_CHECKING:
    from fnmap.durable import Durable

log = logging.getLogger(__name__)
BUDGET_CHUNKS = 4  # a call that takes so many times what was aimed at hands back what it has not begun
AHEAD_S = 0.25  # calls of longer tasks are not put in line: what is urgent would have to wait for them


class Driver:
    """The live stages on one compute."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self.lock = threading.RLock()
        self.closed = False
        self._pid = os.getpid()
        self._board = Board()
        self._lone: set[Future[Any]] = set()  # of calls that went to the compute at once
        self._driven = 0  # runs so far
        self._busy = 0
        self._held_until = 0.0  # the compute takes no calls before
        self._pumping = threading.local()
        self.durables: set[Durable] = set()  # of live named runs
        self._alarm = Alarm()
        self._wakes_at: float | None = None
        later = compute if isinstance(compute, PutOff) else None
        self.chores = Chores() if later is None else later.chores
        self._put_off: Callable[[Callable[[], object]], bool] | None = None if later is None else later.put_off

    @property
    def usable(self) -> bool:
        """Not closed, and not of the process that this one was forked from."""
        return not self.closed and not self.forked

    @property
    def forked(self) -> bool:
        """Is it of the process that this one was forked from? Then nobody here tells of what happens in it."""
        return self._pid != os.getpid()

    def drive(self, *stages: Stage, priority: int = 0) -> None:
        """Take up the stages of a run, each after those that it depends on; its first calls leave before this
        returns."""
        if any(stage.schedule.retry.retries or stage.schedule.backups for stage in stages):
            self._alarm.start()  # a retry may have to wait when the program has come to its end
        with self.lock:
            if not self.usable:
                why = "closed" if self.closed else "of the process that this one was forked from"
                raise RunError(f"this session is {why}; make a new one")
            party = self._board.add(list(stages), priority)
            self._driven += 1
            for stage in stages:
                stage.party = party
                stage.check_over()
            self._set_timer(math.inf)
        for stage in stages:
            if stage.over:  # there was nothing to do
                self.tell(stage)
        self.pump()

    def pump(self) -> None:
        """Submit whatever can be submitted now."""
        if not self._board.parties:
            return
        if getattr(self._pumping, "on", False):
            return  # further up in this very thread
        self._pumping.on = True
        try:
            while (picked := self._pick()) is not None:
                self._launch(*picked)
        finally:
            self._pumping.on = False

    def enter(self, future: Future[Any]) -> bool:
        """May a lone call go to the compute at once? Then it is out until it does `leave`."""
        with self.lock:
            if self._board.parties or self._busy >= self.compute.limits.slots or not self.usable:
                return False
            if self._held_until and clock.now() < self._held_until:
                return False
            self._busy += 1
            self._lone.add(future)
            return True

    def leave(self, future: Future[Any]) -> None:
        """A lone call has come back."""
        with self.lock:
            self._busy -= 1
            self._lone.discard(future)

    def put_off(self, chore: Callable[[], object]) -> bool:
        """Have it done when somebody waits, or there is nothing else to do. False if it is to be done at once."""
        return self._put_off is not None and self._put_off(chore)

    def hold(self, error: Throttled) -> None:
        """The compute takes no calls for now."""
        with self.lock:
            self._held_until = max(self._held_until, clock.now() + error.retry_after_s)

    def has_room(self) -> bool:
        """Could another call start now? A glance, without the lock."""
        return self._busy < self.compute.limits.slots

    def stop(self, stage: Stage) -> None:
        """Start nothing more of this stage, and kill what runs of it."""
        with self.lock:
            stages = self._bound(stage)
            stage.halt()
            for bound in stages:
                bound.stopped = True
            futures = [future for bound in stages for _, future in bound.running.values()]
            stage.check_over()
        for future in futures:
            self._kill(future)
        self.tell(stage)

    def abort(self, stage: Stage, error: BaseException) -> None:
        """The run cannot go on, for this reason."""
        with self.lock:
            stage.abort(error)
        self.stop(stage)

    def tell(self, stage: Stage) -> None:
        """Hand on what has changed; a run that is over is let go."""
        with self.lock:
            party = stage.party
            over = party is not None and not stage.brief and party.is_over()  # if not yet: who ends it tells, too
            sinks = [bound.sink for bound in self._bound(stage)]  # held until all are told
        for sink in sinks:
            sink.tell()
        if over and party is not None:
            with self.lock:
                self._board.remove(party)
                for bound in party.stages:
                    if bound.party is party:  # it has not been taken up again meanwhile
                        bound.party = None

    @staticmethod
    def _bound(stage: Stage) -> list[Stage]:
        """The stages of a plan change together."""
        return [stage] if (party := stage.party) is None else party.stages

    def _kill(self, future: Future[Report]) -> None:
        if isinstance(self.compute, Kill):
            self.compute.kill(future)

    def _pick(self) -> tuple[Stage, Chunk] | None:
        """The next chunk, taking the stages in turn."""
        with self.lock:
            limits, floor = self.compute.limits, getattr(self._pumping, "floor", 0)
            full = self._busy >= limits.slots and not limits.in_process
            if self.closed or (full and self._busy >= limits.slots + limits.ahead):
                self._set_timer(math.inf)
                return None
            now = clock.now()
            if now < self._held_until:
                self._set_timer(self._held_until)
                return None
            picked = self._board.next(now, since=floor, within_s=AHEAD_S if full else None)
            if picked is None:
                self._set_timer(math.inf if full else None)  # the next answer asks again
                return None
            self._busy += 1
            return picked[1:]

    def _launch(self, stage: Stage, chunk: Chunk) -> None:
        limits = self.compute.limits
        budget_s = limits.chunk_s * BUDGET_CHUNKS if stage.schedule.chunks.fixed is None else None
        try:
            call = stage.call(chunk, payload_bytes=limits.payload_bytes, budget_s=budget_s or None)
            if limits.in_process:
                with self._nesting():
                    future = self.compute.submit(call)
            else:
                future = self.compute.submit(call)
        except BaseException as error:
            # A pickling, store or compute error, or Ctrl-C while a call runs in this thread: the run ends
            # with it, and so its owner is told. What is no mere error goes on up.
            with self.lock:
                self._came_back(stage)
                stage.refuse(chunk, error)
                stage.check_over()
            self.tell(stage)
            if not isinstance(error, Exception):
                raise
            return
        with self.lock:
            stage.running[chunk.id, chunk.attempt] = (call, future)
            stopped = stage.stopped
        if stopped:
            self._kill(future)  # it was cancelled between its choice and its start
        future.add_done_callback(partial(self._done, stage, chunk))

    @contextmanager
    def _nesting(self) -> Iterator[None]:
        """A task that runs in this very thread may map in its turn: stages from here on are pumped inside it."""
        local, before = self._pumping, getattr(self._pumping, "floor", 0)
        local.on, local.floor = False, self._driven
        try:
            yield
        finally:
            local.on, local.floor = True, before

    def _done(self, stage: Stage, chunk: Chunk, future: Future[Report]) -> None:
        if isinstance(error := future.exception(), Throttled):
            self.hold(error)
        with self.lock:
            self._came_back(stage)
            try:
                stage.done(chunk, future)
            except Exception as error:  # the store cannot be read, or a user's class: the run ends, it never hangs
                log.debug("the answer of chunk %d", chunk.id, exc_info=True)
                stage.doubt(chunk, error)
            twins = stage.twins(chunk)
            if stage.over and stage.brief and stage.party is not None:
                self._board.remove(stage.party)
        for twin in twins:
            self._kill(twin)
        self.tell(stage)
        self.pump()

    def _came_back(self, stage: Stage) -> None:
        self._busy -= 1
        if stage.party is not None:
            stage.party.out -= 1

    def _set_timer(self, wake_at: float | None = None) -> None:
        """Wake at that time (default: when a stage wants to be asked again), or earlier to say that a run lives."""
        wake_at = self._board.wake_at() if wake_at is None else wake_at
        wake_at = math.inf if wake_at is None else wake_at
        if self.durables:
            wake_at = min(wake_at, clock.now() + BEAT_S)
        if wake_at < (math.inf if self._wakes_at is None else self._wakes_at):
            self._wakes_at = wake_at
            self._alarm.set(wake_at, self._wake)

    def _wake(self) -> None:
        with self.lock:
            self._wakes_at = None
            lively = list(self.durables)
        for durable in lively:
            self._beat(durable)
        with self.lock:
            if self._busy and self.compute.limits.in_process:  # the thread that runs the call goes on after it
                self._set_timer(math.inf)
                return
        self.pump()

    def _beat(self, durable: Durable) -> None:
        try:
            durable.say_alive()
        except RunTakenOver as error:
            if (run := durable.rest(self)) is not None:
                run.give_up(error)
        except Exception:  # a store that is ill for a moment must not end the run
            log.warning("run %s cannot say that it is alive", durable.name, exc_info=True)
