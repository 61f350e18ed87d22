"""Look at, and finish, named runs of other processes."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fnmap import build
from fnmap.durable import claim, hold, last_driver, live_here, read_end, read_kept, read_plan, stored_parts
from fnmap.errors import RunNotFound
from fnmap.format import keys
from fnmap.format.call import Failure
from fnmap.options import MapOptions
from fnmap.planning.policy import ChunkPolicy, Retry
from fnmap.planning.schedule import Schedule, State
from fnmap.run import Run
from fnmap.source import Items
from fnmap.stage import Part, Stage
from fnmap.storage.base import Store
from fnmap.storage.owner import may_live

if TYPE_CHECKING:
    from fnmap.session import Session


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What the store says of a named run. `state` as of Status; `total`, `done` and `failed` count tasks,
    None where that is not known before it has ended; `started`: seconds since 1970."""

    name: str
    state: str
    function: str
    total: int | None
    done: int | None
    failed: int | None
    started: float


def list_runs(store: Store) -> list[RunInfo]:
    """The named runs of a store, newest first."""
    names = {keys.run_of(key) for key in store.list("run/")}
    for name in names:
        live_here(store, name)  # the end of a run of ours may be on its way
    infos = [_info(store, name, plan) for name in names if (plan := read_plan(store, name)) is not None]
    return sorted(infos, key=lambda info: info.started, reverse=True)


def _info(store: Store, name: str, plan: Mapping[str, Any]) -> RunInfo:
    state, end = _state(store, name, plan)
    return RunInfo(name, state, plan["function"], plan["total"], end.get("done"), end.get("failed"), plan["started"])


def _state(store: Store, name: str, plan: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    number, owner = last_driver(store, name, plan)
    end = read_end(store, name)
    if end is not None and end["driver"] == number:
        return end["state"], end
    return ("running" if may_live(owner) else "interrupted"), {}


def attach(session: Session, name: str) -> Run:
    """The named run: the live one if this process drives it, else what is committed of it, as of now.
    `retry` finishes it."""
    keys.check_name(name)
    store = session.store
    live = live_here(store, name)
    if live is not None:
        return live
    plan = read_plan(store, name)
    if plan is None:
        known = ", ".join(sorted({keys.run_of(k) for k in store.list("run/")})[:20]) or "none"
        raise RunNotFound(f"no run named {name!r} in {store!r}; there: {known}")
    return _Attached(session, name, plan).run


class _Attached:
    """Rebuilds a run from what the store has."""

    def __init__(self, session: Session, name: str, plan: Mapping[str, Any]) -> None:
        self.session, self.store, self.plan = session, session.store, plan
        self.run = Run(session, name, plan["function"], "raise")
        state, _ = _state(self.store, name, plan)
        parts = list(stored_parts(self.store, name))
        total = plan["total"]
        if total is None:
            total = 1 + max((t for _, tasks, _ in parts for t in tasks), default=-1)
        done = {t for _, tasks, report in parts for at, t in enumerate(tasks) if at not in report.failures}
        if len(done) == total:
            state = "done"  # whether or not its driver had the time to say so
        schedule = self._schedule(total)
        self.run.ledger.show(Stage(name, schedule, _Unread(), _NO_JOB, self.run.ledger), state, self.store)
        self.run.take_up = self._take_up
        self.run.ledger.results.grow(total)
        self._fill(schedule, parts, done)

    def _schedule(self, total: int) -> Schedule:
        limits = self.session.compute.limits
        schedule = Schedule(slots=limits.slots, chunks=ChunkPolicy(target_s=limits.chunk_s or 1.0), retry=Retry(0))
        schedule.add(total)
        schedule.close()
        return schedule

    def _fill(self, schedule: Schedule, parts: list[Any], done: set[int]) -> None:
        failed = dict[int, Failure]()
        for key, tasks, report in parts:
            self.run.ledger.put_stored(Part(tasks, report.values, report.failures, key))
            failed.update({tasks[at]: failure for at, failure in report.failures.items()})
        schedule.skip(done, State.DONE)
        with self.session.lock:
            for task in failed.keys() - done:
                self.run.ledger.failed(task, failed[task])
        schedule.skip(failed.keys() - done, State.FAILED)

    def _take_up(self) -> Stage:
        """Become the run's driver; the stage that finishes it."""
        name, limits = self.run.id, self.session.compute.limits
        function, items = read_kept(self.store, name)
        if items is None:
            raise RunNotFound(f"run {name!r} drew its items from an iterator, which is gone: it cannot be finished")
        number, live_id = claim(self.store, name, self.plan), build.new_run_id()
        shared = None if limits.in_process else build.Shared(lambda: self.session.scratch, live_id)
        fn, kwargs = pickle.loads(function[0], buffers=function[1:])  # type: ignore[arg-type]
        options = MapOptions(kwargs=kwargs, timeout=self.plan["timeout_s"])
        job = build.make_job(self.session, fn, options, form=self.plan["form"], shared=shared)
        hold(self.run, self.store, number)
        old = self.run.ledger.schedule
        return Stage(live_id, old, Items(items, shared), job, self.run.ledger, self.run.ledger.durable)


class _Unread:
    """The items of a run that nobody here drives."""

    def encode(self, tasks: Any) -> Any:
        raise AssertionError(f"an attached run is not driven before retry(), and these are: {tasks}")

    def item(self, task: int) -> Any:
        raise AssertionError(f"an attached run is not driven before retry(), and this is: {task}")

    def settled(self, tasks: Any) -> None:
        """Nothing is held."""


_NO_JOB: Any = None
