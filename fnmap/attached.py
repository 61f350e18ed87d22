"""Look at, and finish, named runs of other processes."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Thread
from typing import TYPE_CHECKING, Any

from fnmap import build, clock
from fnmap.caching import found_before
from fnmap.durable import hold, live_here, read_function, read_kept, read_options, stored_parts
from fnmap.errors import NotAuthentic, RunError, RunNotFound, StoreError
from fnmap.format import keys
from fnmap.lease import DEAD_S, Driver, claim, committed, last_driver, read_end, read_plan
from fnmap.options import DEFAULTS, MapOptions
from fnmap.planning.schedule import Schedule, State
from fnmap.run import Run
from fnmap.source import Items
from fnmap.stage import Part, Stage
from fnmap.storage.base import Store
from fnmap.storage.owner import is_here, may_live

if TYPE_CHECKING:
    from fnmap.plan_run import PlanRun
    from fnmap.session import Session

log = logging.getLogger(__name__)


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
    """The named runs of a store, newest first; without those whose seal is not right."""
    infos = []
    for name in {name for key in store.list("run/") if not keys.is_made_up(name := keys.run_of(key))}:
        live_here(store, name)  # the end of a run of ours may be on its way
        try:
            if (plan := read_plan(store, name)) is not None:
                infos.append(_info(store, name, plan))
        except NotAuthentic as error:  # who may write to the bucket must not hide the others
            log.warning("the run %s is left out: %s", name, error)
    return sorted(infos, key=lambda info: info.started, reverse=True)


def _info(store: Store, name: str, plan: Mapping[str, Any]) -> RunInfo:
    state, end = _state(store, name, plan)
    return RunInfo(name, state, plan["function"], plan["total"], end.get("done"), end.get("failed"), plan["started"])


def _state(store: Store, name: str, plan: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    driver = last_driver(store, name, plan)
    end = read_end(store, name, driver.number)
    if end is not None:
        return end["state"], end
    return ("running" if may_live(driver.owner) and not driver.collects else "interrupted"), {}


def attach(session: Session, name: str) -> Run | PlanRun:
    """The named run: the live one if this process drives it, else what is committed of it. While another process
    drives it, it is followed: results arrive as that one commits them. Once it is dead, `retry` takes over."""
    keys.check_name(name)
    store = session.store
    live = live_here(store, name)
    if live is not None:
        return live
    plan = read_plan(store, name)
    if plan is None:
        known = ", ".join(sorted(info.name for info in list_runs(store))[:20]) or "none"
        raise RunNotFound(f"no run named {name!r} in {store!r}; there: {known}")
    if "arrow" in (plan.get("results"), session.results):
        from fnmap.format.parts import refuse_pickles

        refuse_pickles(store, name)
    kind = _AttachedPlan if plan["form"] == "plan" else _AttachedMap
    return kind(session, name, plan).run


class _Attached:
    """Rebuilds a run from what the store has, and follows it while another process drives it."""

    def __init__(self, session: Session, name: str, plan: Mapping[str, Any]) -> None:
        self.session, self.store, self.name, self.plan = session, session.store, name, plan
        self.options = DEFAULTS
        self._seen, self._seen_hits = set[str](), set[str]()
        self._done, self._looks = 0, 0
        self._digits = keys.digits_of(plan)[-1]
        self._silent: tuple[Driver, float] | None = None  # a driver elsewhere, and since when it says nothing

    def begin(self, runs: Sequence[Run], counts: Sequence[int]) -> str:
        """Fill the runs of the stages with what is there; what the run's state is."""
        self.runs, self.schedules = list(runs), [self._schedule(count) for count in counts]
        for run, schedule, count in zip(runs, self.schedules, counts, strict=True):
            stage = Stage(self.name, schedule, _Unread(), _NO_JOB, run.ledger)
            run.ledger.show(stage, "running", self.store)
            run.ledger.results.grow(count)
        return self.look()

    def follow(self, owner: Any) -> None:
        """Look again from time to time, in a thread that ends with the run, or when nobody holds it."""
        Thread(target=_follow, args=(self, weakref.ref(owner)), name="fnmap-follow", daemon=True).start()

    def look(self) -> str:
        """Take in what is new; what the run's state is by now."""
        state, end = self._state()  # before the parts: a run that has ended has them all
        self._looks += 1
        if state == "running" and (self._looks - 1) % 4 ** (self._digits - 1):
            return state  # lists of many prefixes cost more than it is worth to be told each second
        for key, tasks, report in stored_parts(self.store, self.name, self._digits, self._seen):
            self._seen.add(key)
            with self.session.lock:
                self._absorb(keys.place_of_part(key)[0], Part(tasks, report.values, report.failures, key))  # type: ignore[arg-type]
        for key, stage, parts in found_before(self.store, self.name, self._seen_hits):
            self._seen_hits.add(key)
            with self.session.lock:
                for part in parts:
                    self._absorb(stage, part)
                    self.runs[stage].ledger.hits += len(part.tasks)
        if self.plan["total"] is not None and self._done == self.plan["total"]:
            state = "done"  # whether or not its driver had the time to say so
        elif state == "done" and self._done < end["done"]:
            state = "interrupted"  # a part was damaged since
        if state != "running":
            for run in self.runs:
                run.ledger.show_end(state)
        return state

    def _state(self) -> tuple[str, Mapping[str, Any]]:
        state, end = _state(self.store, self.name, self.plan)
        if state != "running":
            return state, end
        driver, now = last_driver(self.store, self.name, self.plan), clock.now()
        if is_here(driver.owner):
            return state, end
        if self._silent is None or self._silent[0] != driver:
            self._silent = driver, now
        return ("interrupted" if now - self._silent[1] > DEAD_S else state), end

    def _absorb(self, number: int, part: Part) -> None:
        ledger, schedule = self.runs[number].ledger, self.schedules[number]
        if self.plan["total"] is None:  # its items come from an iterator
            more = max(part.tasks, default=-1) + 1 - ledger.total
            schedule.add(max(0, more))
            ledger.results.grow(max(0, more))
        ledger.put_stored(part)
        for at, task in enumerate(part.tasks):
            if at not in part.failures:
                self._done += schedule.state[task] != State.DONE
                schedule.fell(task, State.DONE)
                ledger.results.failures.pop(task, None)
            elif schedule.state[task] != State.DONE:
                schedule.fell(task, State.FAILED)
                ledger.failed(task, part.failures[at])

    def _schedule(self, total: int) -> Schedule:
        schedule = self.options.schedule(self.session.compute.limits, None)
        schedule.add(total)
        schedule.close()
        return schedule

    def claim(self) -> int:
        """Become the run's driver."""
        number = claim(self.store, self.name, self.plan, silent=self._silent and self._silent[0])
        if self._seen.difference(
            committed(self.store, self.name, self._digits)
        ):  # whoever began to delete it died over that
            raise RunError(f"run {self.name!r}: some results were deleted; attach({self.name!r}) anew")
        return number


class _AttachedMap(_Attached):
    """A named map."""

    def __init__(self, session: Session, name: str, plan: Mapping[str, Any]) -> None:
        super().__init__(session, name, plan)
        self.options = MapOptions(**read_options(plan))
        self.run = Run(session, name, plan["function"], self.options.errors, ordered=self.options.ordered)
        self.run.take_up = self._take_up
        if self.begin([self.run], [plan["total"] or 0]) == "running":
            self.follow(self.run)

    def _take_up(self) -> Stage:
        """Become the run's driver; the stage that finishes it."""
        function, items = read_kept(self.store, self.name)
        if items is None:
            raise RunNotFound(
                f"run {self.name!r} drew its items from an iterator, which is gone: it cannot be finished"
            )
        build.check_store(self.session, self.store)
        number, live_id = self.claim(), build.new_run_id()
        shared = build.new_shared(self.session, live_id)
        fn, kwargs = read_function(function)
        options = replace(self.options, kwargs=kwargs)
        job = build.make_job(self.session, fn, options, form=self.plan["form"], shared=shared)
        hold(self.run, self.store, number, self._digits)
        return Stage(live_id, self.schedules[0], Items(items, shared), job, self.run.ledger, self.run.ledger.durable)


class _AttachedPlan(_Attached):
    """A named run of a plan."""

    def __init__(self, session: Session, name: str, head: Mapping[str, Any]) -> None:
        from fnmap.durable_plan import read_planned
        from fnmap.plan_run import PlanRun

        super().__init__(session, name, head)
        plan = read_planned(self.store, name)
        said = {"errors": "raise", "priority": 0, **read_options(head)}
        self.run = PlanRun(session, plan, name, said["errors"], said["priority"], plan.graph())
        self.run.take_up, self.run.digits = self._take_up, self._digits
        if self.begin(list(self.run.runs.values()), [stage.count for stage in plan.stages]) == "running":
            self.follow(self.run)

    def _take_up(self) -> list[Stage]:
        from fnmap.durable_plan import hold_plan
        from fnmap.plan_start import make_stages

        build.check_store(self.session, self.store)
        number = self.claim()
        stages = make_stages(self.run, self.session, self.store, self.name, build.new_run_id(), number)
        for stage, before in zip(stages, self.schedules, strict=True):
            stage.schedule.skip([t for t, state in enumerate(before.state) if state == State.DONE], State.DONE)
        hold_plan(self.run, self.store, number)
        return stages


def _follow(attached: _Attached, owner: weakref.ref[Any]) -> None:
    """The thread. It lets go of the run when nobody else holds it."""
    runs, pause_s = attached.runs, FIRST_LOOK_S
    attached.runs = []
    weak = [weakref.ref(run) for run in runs]
    del runs
    state, clock = "running", threading.Event()
    while state == "running" and not clock.wait(pause_s):  # the store cannot tell us
        pause_s = min(1.5 * pause_s, LAST_LOOK_S)
        attached.runs = [run for ref in weak if (run := ref()) is not None]
        if owner() is None or attached.session.closed or len(attached.runs) < len(weak):
            return
        try:
            state = attached.look()
        except StoreError:
            log.warning("run %s cannot be followed just now", attached.name, exc_info=True)
        attached.runs = []


FIRST_LOOK_S, LAST_LOOK_S = 0.02, 1.0


class _Unread:
    """The items of a run that nobody here drives."""

    def encode(self, tasks: Any) -> Any:
        raise AssertionError(f"an attached run is not driven before retry(), and these are: {tasks}")

    def item(self, task: int) -> Any:
        raise AssertionError(f"an attached run is not driven before retry(), and this is: {task}")

    def settled(self, tasks: Any) -> None:
        """Nothing is held."""


_NO_JOB: Any = None
