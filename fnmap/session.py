"""A session binds one compute, one store and defaults, and drives its stages.

There is no loop of its own: whoever brings a fact (the caller with new items, the compute's thread with
a report) feeds it to the scheduler under the session's lock, and then submits the calls that it decides on.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from fnmap import clock
from fnmap.alarm import Alarm
from fnmap.awaited import Later
from fnmap.compute.base import Compute, Kill
from fnmap.compute.open import open_compute
from fnmap.errors import NotPicklable, RunError, RunTakenOver, Throttled, UsageError
from fnmap.format.call import Job, Report
from fnmap.lease import BEAT_S
from fnmap.lone import start_call
from fnmap.mapping import start_map
from fnmap.options import (
    CallOptions,
    MapOptions,
    Optioned,
    Options,
    ReduceOptions,
    SessionOptions,
    StarOptions,
    check_names,
    resolve,
    shows,
)
from fnmap.planning.board import Board
from fnmap.planning.schedule import Chunk
from fnmap.run import Run
from fnmap.stage import Stage
from fnmap.storage.base import Store, Sweep

if TYPE_CHECKING:
    from datetime import timedelta

    from fnmap.attached import RunInfo
    from fnmap.collect import Collected
    from fnmap.durable import Durable
    from fnmap.plan_run import PlanRun
    from fnmap.plans import Plan

log = logging.getLogger(__name__)
BUDGET_CHUNKS = 4  # a call that takes so many times what was aimed at hands back what it has not begun
AHEAD_S = 0.25  # calls of longer tasks are not put in line: what is urgent would have to wait for them


class Session:
    """One compute, one store, and the runs on them. A context manager; `close` stops everything.

    `on`: "local" (default), "inline", "lithops", a plugin's name, or a Compute. `store`: where named
    runs are kept: a path, an address such as "file:///data/fnmap", or a Store. `workers`: calls at once,
    for computes that can choose. `listeners` are called with each event of each run.
    """

    @shows(SessionOptions)
    def __init__(
        self,
        *,
        on: str | Compute = "local",
        store: str | Path | Store | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        from fnmap.storage.open import open_store

        check_names(SessionOptions, "Session", options, "on", "store")
        workers = options.get("workers")
        self.on, self.given_store = on, store
        self.compute = open_compute(on, **({} if workers is None else {"workers": workers}))
        self.progress, self.listeners = options.get("progress"), options.get("listeners", ())
        self.lock = threading.RLock()
        self.closed = False
        self._pid = os.getpid()
        self._store = None if store is None else open_store(store)
        self._swept = False
        self._forget_scratch: Callable[[], object] | None = None
        _sessions.add(self)
        self._scratch: Store | None = None
        self.jobs: weakref.WeakKeyDictionary[Any, tuple[tuple[Any, ...], dict[Any, Job]]] = weakref.WeakKeyDictionary()
        self._board = Board()
        self._lone: set[Future[Any]] = set()  # of calls that went to the compute at once
        self._driven = 0  # runs so far
        self._busy = 0
        self._held_until = 0.0  # the compute takes no calls before
        self._pumping = threading.local()
        self.later = set[Later]()  # calls that wait for what they take
        self.durables: weakref.WeakSet[Durable] = weakref.WeakSet()  # of live named runs
        self._alarm = Alarm()
        self._wakes_at: float | None = None

    # -- what it does ----------------------------------------------------------------------------------

    @shows(Options)
    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Unpack[Options]) -> Run:
        """As `fnmap.map`, in this session."""
        fn, said = resolve(Options, "map", fn, options)
        if not iterables:
            raise UsageError("map needs at least one iterable of items")
        return start_map(self, fn, iterables, "item" if len(iterables) == 1 else "args", MapOptions.check(said))

    @shows(StarOptions)
    def starmap(self, fn: Callable[..., Any], iterable: Iterable[Iterable[Any]], **options: Unpack[StarOptions]) -> Run:
        """As `map`, of items that are the tuple of the function's arguments each."""
        fn, said = resolve(StarOptions, "starmap", fn, options)
        return start_map(self, fn, (iterable,), "args", MapOptions.check(said))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As `fnmap.submit`, in this session."""
        own = fn.options.get("kwargs") if isinstance(fn, Optioned) else None
        fn, said = resolve(CallOptions, "submit", fn, {})
        return start_call(self, fn, args, {**own, **kwargs} if own else kwargs, MapOptions.check(said))

    @shows(ReduceOptions)
    def map_reduce(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        reduce_fn: Callable[[list[Any]], Any],
        *,
        by: Callable[[Any], Any] | None = None,
        fan_in: int = 32,
        **options: Unpack[ReduceOptions],
    ) -> Future[Any]:
        """As `fnmap.map_reduce`, in this session."""
        from fnmap.reduction import start_reduction

        return start_reduction(self, fn, items, reduce_fn, by=by, fan_in=fan_in, options=options)

    def run_plan(
        self, plan: Plan, *, name: str | None = None, errors: Any = "raise", priority: int = 0,
        progress: bool | None = None,
        cache: bool | str = False,
    ) -> PlanRun:  # fmt: skip
        """As `plan.run`, in this session."""
        from fnmap.plan_run import start_plan

        return start_plan(self, plan, name=name, errors=errors, priority=priority, progress=progress, cache=cache)

    def attach(self, name: str) -> Run | PlanRun:
        """As `fnmap.attach`, in this session's store."""
        from fnmap.attached import attach

        return attach(self, name)

    def runs(self) -> list[RunInfo]:
        """As `fnmap.runs`, of this session's store."""
        from fnmap.attached import list_runs

        return list_runs(self.store)

    def gc(self, older_than: str | float | timedelta, *, dry_run: bool = False) -> Collected:
        """As `fnmap.gc`, of this session's store."""
        from fnmap.collect import collect

        return collect(self.store, older_than, dry_run=dry_run)

    # -- what is bound ---------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """Where named runs are kept: FNMAP_STORE, or .fnmap in the home directory, unless given."""
        if self._store is None:
            from fnmap.storage.open import default_store

            self._store = default_store()
        if not self._swept and isinstance(self._store, Sweep):
            self._store.sweep()  # what writers left that died in the middle
        self._swept = True
        return self._store

    @property
    def scratch(self) -> Store:
        """Where large payloads of live runs lie; emptied when the session closes."""
        with self.lock:
            if self._scratch is None:
                from fnmap.storage.scratch import new_scratch, remove_scratch

                self._scratch = new_scratch()
                self._forget_scratch = weakref.finalize(self, remove_scratch, self._scratch)
            return self._scratch

    @property
    def usable(self) -> bool:
        """Not closed, and not of the process that this one was forked from."""
        return not self.closed and self._pid == os.getpid()

    # -- driving ---------------------------------------------------------------------------------------

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

    def close(self) -> None:
        """Stop all runs, workers and threads, and remove the scratch objects."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            stages = list(self._board.stages())
            self._board = Board()
        for stage in stages:
            with self.lock:
                stage.abort(RunError("the session was closed while the run was live"))
                stage.check_over()
            self.tell(stage)
        for later in list(self.later):
            later.fail(RunError("the session was closed before what this call takes was there"))
        self.compute.close()
        self._alarm.close()
        if self._forget_scratch is not None and self._pid == os.getpid():
            self._forget_scratch()

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("a Session cannot be sent to or from a worker: make one inside the function")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """As of the standard executors: what was started ends first, unless an exception came through."""
        try:
            if kind is None:
                self.wait()
        finally:
            self.close()

    def wait(self) -> None:
        """Wait for all live runs to end. A run over an iterator that nobody takes from is cancelled."""
        while self.later:
            wait([later.future for later in list(self.later)])
        while self._lone:
            wait(list(self._lone))
        for stage in list(self._board.stages()):
            stage.sink.finish()

    def tell(self, stage: Stage) -> None:
        """Hand on what has changed; a run that is over is let go."""
        for bound in self._bound(stage):
            bound.sink.tell()
        if stage.over and not stage.sink.brief and (party := stage.party) is not None and party.is_over():
            with self.lock:
                self._board.remove(party)

    @staticmethod
    def _bound(stage: Stage) -> list[Stage]:
        """The stages of a plan change together."""
        return [stage] if stage.links is None or stage.party is None else stage.party.stages

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
            with self._nesting():
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
        if not self.compute.limits.in_process:
            yield
            return
        local, before = self._pumping, getattr(self._pumping, "floor", 0)
        local.on, local.floor = False, self._driven
        try:
            yield
        finally:
            local.on, local.floor = True, before

    def _done(self, stage: Stage, chunk: Chunk, future: Future[Report]) -> None:
        with self.lock:
            self._came_back(stage)
            if isinstance(error := future.exception(), Throttled):
                self._held_until = max(self._held_until, clock.now() + error.retry_after_s)
            try:
                stage.done(chunk, future)
            except Exception as error:  # the store cannot be read, or a user's class: the run ends, it never hangs
                log.debug("the answer of chunk %d", chunk.id, exc_info=True)
                stage.abort(error)
                stage.end()
            twins = stage.twins(chunk)
            if stage.over and stage.sink.brief and stage.party is not None:
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
        if any(durable.live is not None for durable in self.durables):
            wake_at = min(wake_at, clock.now() + BEAT_S)
        if wake_at < (math.inf if self._wakes_at is None else self._wakes_at):
            self._wakes_at = wake_at
            self._alarm.set(wake_at, self._wake)

    def _wake(self) -> None:
        with self.lock:
            self._wakes_at = None
            lively = [durable for durable in self.durables if durable.live is not None]
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
            run, durable.live = durable.live, None
            run.give_up(error)
        except Exception:  # a store that is ill for a moment must not end the run
            log.warning("run %s cannot say that it is alive", durable.name, exc_info=True)


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _at_exit() -> None:
    """Let live runs end, as threads of a pool would be waited for; then stop the workers. A program that
    dies of an exception, Ctrl-C among them, or that people type at, waits for nothing."""
    mine = [session for session in _sessions if session.usable]
    try:
        if not hasattr(sys, "last_value") and not hasattr(sys, "ps1"):
            for session in mine:
                session.wait()
    finally:
        for session in mine:
            session.close()


atexit.register(_at_exit)
