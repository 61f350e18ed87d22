"""A session binds one compute, one store and defaults: the verbs, and the end of it all."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from fnmap.awaited import Later
from fnmap.compute.base import Collect, Compute, Far
from fnmap.compute.open import open_compute
from fnmap.driver import Driver
from fnmap.errors import NotPicklable, RunError, UsageError
from fnmap.format.call import Job
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
    check_results,
    check_spread,
    resolve,
    shows,
)
from fnmap.planning.board import Board
from fnmap.run import Run
from fnmap.storage.base import Store, Sweep

if TYPE_CHECKING:
    from datetime import timedelta

    from fnmap.attached import RunInfo
    from fnmap.collect import Collected
    from fnmap.plan_run import PlanRun
    from fnmap.plans import Plan

log = logging.getLogger(__name__)


class Session(Driver):
    """One compute, one store, and the runs on them. A context manager; `close` stops everything.

    `on`: "local" (default), "inline", "lambda", "lithops", a plugin's name, or a Compute. `store`: where named
    runs are kept: a path, an address such as "file:///data/fnmap", or a Store. `workers`: calls at once,
    for computes that can choose. `listeners` are called with each event of each run. `results`: of its maps and
    calls, as of `map`. `spread`: over how many hex digits the keys of a run's parts are spread, 1 to 3, since S3
    limits the requests to each prefix; chosen by the run's size unless said. A run that is there keeps its own.
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
        super().__init__(open_compute(on, **({} if workers is None else {"workers": workers})))
        self.results = check_results(options.get("results"))
        self.spread = check_spread(options.get("spread"))
        self.progress, self.listeners = options.get("progress"), options.get("listeners", ())
        self._store = None if store is None else open_store(store)
        if isinstance(self.compute, Far):
            self._store = self.compute.store_for(self._store)
        self._swept = False
        self._forget_scratch: Callable[[], object] | None = None
        _sessions.add(self)
        self._scratch: Store | None = None
        self.jobs: weakref.WeakKeyDictionary[Any, tuple[tuple[Any, ...], dict[Any, Job]]] = weakref.WeakKeyDictionary()
        self.later = set[Later]()  # calls that wait for what they take

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
        from fnmap.plan_start import start_plan

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
        from fnmap.collect import age_s, collect

        self.chores.do()  # what became of runs of its own may not be written down yet
        found = collect(self.store, older_than, dry_run=dry_run)
        if isinstance(self.compute, Collect):
            found = replace(found, queues=tuple(self.compute.collect(age_s(older_than), dry_run=dry_run)))
        return found

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

                self._scratch = self.compute.scratch() if isinstance(self.compute, Far) else new_scratch()
                self._forget_scratch = weakref.finalize(self, remove_scratch, self._scratch)
            return self._scratch

    # -- its end ---------------------------------------------------------------------------------------

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
        self.chores.do()


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
