"""A plan as it runs: a Run for each stage, bound together."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fnmap import build
from fnmap.compute.base import Warm
from fnmap.durable import Durable, stored_parts
from fnmap.durable_plan import begin_plan
from fnmap.errors import PlanError, RunTakenOver, StoreError, TaskError, UsageError
from fnmap.format import keys
from fnmap.format.travel import together
from fnmap.last_stage import LastStage
from fnmap.ledger import Ledger, Status
from fnmap.links import PartFeed, PlanLinks, SkippingFeed, template
from fnmap.observe.events import RunEnded, RunProgressed, RunStarted
from fnmap.options import check_cache, check_errors, check_priority
from fnmap.planning.flow import Flow
from fnmap.planning.graph import Graph
from fnmap.planning.schedule import State
from fnmap.run import Awaited, Run
from fnmap.shared import Shared
from fnmap.source import Items, NoItems
from fnmap.stage import Part, Stage
from fnmap.storage.base import Store, can_map

if TYPE_CHECKING:
    from fnmap.caching import Cached
    from fnmap.plan_parts import PlannedStage
    from fnmap.plans import Plan
    from fnmap.session import Session


class PlanRun(LastStage, Awaited):
    """One execution of a plan. `run["stage"]` is the Run of a stage; results are read as those of a Run, and are the
    last stage's; the rest is of all stages together."""

    def __init__(self, session: Session, plan: Plan, run_id: str, errors: Any, priority: int, graph: Graph) -> None:
        self.id, self.plan, self.started_at = run_id, plan, time.time()  # a snapshot: more may be added meanwhile
        self.runs: dict[str, Run] = {}
        self.graph, self.priority, self.errors_option = graph, priority, errors
        self.links: PlanLinks | None = None
        self.durable: Durable | None = None
        self.digits = 1  # over which the keys of its parts are spread
        self.take_up: Callable[[], list[Stage]] | None = None  # of an attached run: become its driver
        self.session = self._session = session
        self.cached: dict[int, Cached] = {}  # the cache's side of stages, by number
        self._views: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()
        self._bar: Any = None
        self._told_end = False
        for stage in plan.stages:
            run = Run(session, f"{run_id}/{stage.name}", build.label(stage.fn), errors)
            run.ledger.results.grow(stage.count)
            self.runs[stage.name] = run

    # -- what came of it -----------------------------------------------------------------------------

    def __getitem__(self, stage: str) -> Run:
        """The run of a stage, by its name."""
        if stage not in self.runs:
            raise PlanError(f"the plan has no stage {stage!r}; it has {', '.join(self.runs)}")
        return self._view(stage)

    def __len__(self) -> int:
        return len(self.plan)

    def __bool__(self) -> bool:
        return True

    @property
    def last(self) -> Run:
        """The run of the stage that was planned last."""
        return self._view(self.plan.stages[-1].name)

    def _view(self, stage: str) -> Run:
        """The same for all who hold one."""
        with self._session.lock:
            view = self._views.get(stage)
            if view is None:
                view = self._views[stage] = self.runs[stage].held_with(self)
            return view

    @property
    def _last(self) -> Run:
        return self.runs[self.plan.stages[-1].name]

    def result(self, timeout: float | None = None) -> Any:
        """The results of the last stage: of a gather, a reduce or a lone added task its result, of a grouped one a dict
        by key, else a list. Raises what kept the plan from its end; TimeoutError after `timeout` seconds."""
        if not self.wait(timeout):
            raise TimeoutError(f"plan run {self.id} has not ended after {timeout:g} s: {self.status}")
        for run in self.runs.values():
            run.ledger.check_end()
        stage, there = self.plan.stages[-1], self._last.ledger.results
        if stage.keys is not None:
            skips = self.errors_option == "skip"
            kept = [t for t in range(stage.count) if t not in there.skipped and not (skips and t in there.failures)]
            return {stage.keys[task]: self._last[task] for task in kept}
        values = list(self._last)
        return values[0] if (stage.lone or (stage.holes and stage.count == 1)) and values else values

    def __await__(self) -> Generator[Any, None, Any]:
        return self._await().__await__()

    async def _await(self) -> Any:
        for run in self.runs.values():
            await run.until_ended()
        return self.result()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all stages have ended, at most `timeout` seconds. Have they?"""
        until = None if timeout is None else time.monotonic() + timeout
        for run in self.runs.values():
            if not run.wait(None if until is None else max(0.0, until - time.monotonic())):
                return False
        if all(run.ledger.ended for run in self.runs.values()):
            return True
        return self.wait(None if until is None else max(0.0, until - time.monotonic()))  # some had to go on

    # -- state ---------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """Where the run stands now: tasks of all stages."""
        each = [run.status for run in self.runs.values()]
        order = ("running", "failed", "cancelled", "interrupted", "done")
        state = min((s.state for s in each), key=order.index, default="done")
        sums = (sum(getattr(s, name) for s in each) for name in Status.__dataclass_fields__ if name != "state")
        return Status(state, *sums)

    @property
    def errors(self) -> dict[tuple[str, int], TaskError]:
        """What became of the tasks that have failed so far, by stage and index."""
        return {(name, task): error for name, run in self.runs.items() for task, error in run.errors.items()}

    def cancel(self) -> None:
        """Start nothing more and kill what runs. Results that are there stay. Raises RunBusy if another process drives
        the run."""
        self._last.ledger.check_mine()
        with self._session.lock:
            open_ = [run.ledger for run in self.runs.values() if not run.ledger.ended]
            for ledger in open_:
                ledger.cancelled = True
        if open_ and self.links is not None and self.links.stages:
            self._session.stop(self.links.stages[0])

    def retry(self) -> PlanRun:
        """Try again what failed, and all that fell with it. Waits for the run to end first."""
        if self._last.ledger.attached != "running":  # elsewhere: whoever claims it is told if its driver is alive
            self.wait()
        for run in self.runs.values():
            run.ledger.finish_telling()
        take_up = self.take_up
        if take_up is None and self.durable is not None:
            self.durable.reopen(self, self.session)
        try:
            stages = [run.ledger.stage for run in self.runs.values()] if take_up is None else take_up()
            with self._session.lock:
                for stage in stages:
                    stage.reopen()  # before any of them goes on: the store may refuse
        except BaseException:
            if self.durable is not None:
                self.durable.rest(self._session)
            raise
        self.take_up, self._told_end = None, False  # only now: another may have been the driver
        for run, stage in zip(self.runs.values(), stages, strict=True):
            run.ledger.reopen(stage, resume=False)
        if take_up is not None or self.links is None:
            begin_driving(self, self.session, stages)
            return self
        self.bind(self.links)
        with self._session.lock:
            self.links.resume()
        self._session.drive(*self.links.stages, priority=self.priority)
        return self

    def bind(self, links: PlanLinks) -> None:
        """The stages go on together."""
        self.links = links
        for stage, ledger in zip(links.stages, links.ledgers, strict=True):
            stage.links = links
            ledger.on_end, ledger.on_cancel = self._stage_ended, self.cancel
            ledger.hold(stage)

    def _unbind(self) -> None:
        """All have ended. What holds each other now would wait for the garbage collector, with all results."""
        assert self.links is not None
        for stage, ledger in zip(self.links.stages, self.links.ledgers, strict=True):
            stage.links = ledger.on_end = ledger.on_cancel = None
            stage.rest()

    def give_up(self, error: BaseException) -> None:
        """End the run with this error."""
        self._session.abort(self._last.ledger.stage, error)

    def finish(self) -> None:
        """Wait until a run that has ended was told to all, its store among them."""
        for run in self.runs.values():
            run.ledger.finish()

    def report(self) -> dict[str, Any]:
        """What it took: the report of each stage, by name."""
        return {name: run.report() for name, run in self.runs.items()}

    def __repr__(self) -> str:
        s = self.status
        fates = "".join(f", {n} {what}" for n, what in ((s.failed, "failed"), (s.skipped, "skipped")) if n)
        return f"<PlanRun {self.id}: {s.state}, {s.done} of {s.total} tasks of {len(self.runs)} stages done{fates}>"

    def _repr_html_(self) -> str:
        from fnmap.observe.report import stages_as_html

        return stages_as_html(self.id, {name: run.status for name, run in self.runs.items()})

    # -- inside --------------------------------------------------------------------------------------

    def show_progress(self, progress: bool | None) -> None:
        """Show one bar for all stages: True, False, or None for where somebody looks."""
        from fnmap.observe.progress import Bar, somebody_looks

        if somebody_looks() if progress is None else progress:
            self._bar = Bar()
            self._bar(RunStarted(self.id, self.plan.name, len(self)))
            heard = _Overall(weakref.ref(self))
            for run in self.runs.values():
                run.ledger.listen(heard)

    def _write_cache(self) -> None:
        """Write down what was computed, but for what came of errors: chance results."""
        assert self.links is not None
        states = b"".join(schedule.state for schedule in self.links.flow.schedules)
        tainted, first = self.graph.tainted(states, self._sound()), self.graph.first
        for number, cached in self.cached.items():
            mine = tainted[first[number] : first[number + 1]]
            cached.write(self.runs[self.plan.stages[number].name].ledger, but=frozenset(mine.nonzero()[0].tolist()))

    def _sound(self) -> Any:
        """Which results are of the cache, by task, numbered through."""
        import numpy as np

        sound = np.zeros(self.graph.total, bool)
        for run, first in zip(self.runs.values(), self.graph.first, strict=False):
            for part in run.ledger.results.order:
                if part.rows is not None and not part.lost:
                    sound[np.asarray(part.tasks) + first] = True
        return sound

    def hear(self, event: Any) -> None:
        """Of one stage; the bar is told of all."""
        if self._bar is not None and isinstance(event, RunProgressed):
            s = self.status
            self._bar(RunProgressed(self.id, s.done, s.failed, s.running, s.total))

    def _stage_ended(self, _: Ledger) -> None:
        with self._session.lock:
            over = all(run.ledger.ended for run in self.runs.values())  # one that had may have gone on
            if self._told_end or not over:
                return
            self._told_end = True
        try:
            self._tell_end(self.status)
        finally:
            if self.durable is not None:
                self.durable.rest(self._session)
            with self._session.lock:
                if all(run.ledger.ended for run in self.runs.values()):  # nobody has made them go on meanwhile
                    self._unbind()

    def _tell_end(self, status: Status) -> None:
        if self.cached:
            self._write_cache()
        if self.durable is not None:
            try:
                self.durable.end(status)
            except (RunTakenOver, StoreError) as error:
                self._last.ledger.error = self._last.ledger.error or error
        if self._bar is not None:
            self._bar(RunEnded(self.id, status.state, status.done, status.failed))


class _Overall:
    """Tells a run what is heard of its stages."""

    def __init__(self, run: weakref.ref[PlanRun]) -> None:
        self._run = run

    def __call__(self, event: Any) -> None:
        if (run := self._run()) is not None:
            run.hear(event)


def start_plan(
    session: Session,
    plan: Plan,
    *,
    name: str | None,
    errors: Any,
    priority: int,
    progress: bool | None,
    cache: bool | str = False,
) -> PlanRun:
    """A run of the plan that has started. What can be wrong with the plan is raised here."""
    if not plan.stages:
        raise PlanError(f"the plan {plan.name!r} has no stage: add one with map, add, gather or reduce")
    if session.results == "arrow":
        raise UsageError('results="arrow" is for maps and calls: run the plan in another session')
    plan = plan.snapshot()
    errors, graph = check_errors(errors), plan.graph()
    live_id, caches = build.new_run_id(), check_cache(cache) or any(stage.options.cache for stage in plan.stages)
    made_up = name is None
    if name is None and caches:
        from fnmap.caching import new_name

        name = new_name()
    run = PlanRun(session, plan, name or live_id, errors, check_priority(priority), graph)
    store, number = (session.scratch, 0) if name is None else (session.store, 0)
    run.digits = _digits(session, store, plan, graph)
    stages = make_stages(run, session, store, run.id, live_id, number)
    for stage, stage_run in zip(stages, run.runs.values(), strict=True):
        stage_run.ledger.hold(stage)
    build.check_store(session, store)
    if caches:
        run.cached = _cached(run, store, cache)
    if name is None:
        weakref.finalize(run, _forget, store, live_id)
    else:
        number = begin_plan(run, store)  # whatever can be wrong with the plan was found before
        for stage in stages:
            stage.renumber(number, run.digits)
    try:
        if number > 0:
            _restore(run, stages, store)
        for at, cached in run.cached.items():
            keep_as = None if made_up else keys.hits(run.id, number, at)
            cached.fill(run.runs[plan.stages[at].name].ledger, stages[at].schedule, keep_as)
    except BaseException:
        if run.durable is not None:
            run.durable.rest(session)  # the name is free again
        raise
    run.show_progress(session.progress if progress is None else progress)
    begin_driving(run, session, stages)
    return run


def _digits(session: Session, store: Store, plan: Plan, graph: Graph) -> int:
    """Over how many hex digits the keys of its parts are spread."""
    sizes = [(stage.options, stage.count) for stage in plan.stages]
    return build.part_digits(session, store, sizes, reads=bool(graph.edges))


def _cached(run: PlanRun, store: Store, version: bool | str) -> dict[int, Cached]:
    """The cache's side of the stages."""
    from fnmap.caching import of_plan

    return of_plan(run.plan, run.graph, store, run.id, version)


def _restore(run: PlanRun, stages: Sequence[Stage], store: Store) -> None:
    """Put what is committed already, or was found in the cache, into the run. Failures are not taken over: they are
    tried again."""
    from fnmap.caching import found_before

    runs = list(run.runs.values())
    done: list[list[int]] = [[] for _ in stages]
    for key, tasks, report in stored_parts(store, run.id, run.digits):
        number = keys.place_of_part(key)[0]
        assert report.values is not None
        runs[number].ledger.put_stored(Part(tasks, report.values, report.failures, key))
        done[number] += [t for at, t in enumerate(tasks) if at not in report.failures]
    for _, number, parts in found_before(store, run.id):
        done[number] += runs[number].ledger.put_hits(parts)
    for stage, tasks_done in zip(stages, done, strict=True):
        stage.schedule.skip(set(tasks_done), State.DONE)  # some are in two parts


def begin_driving(run: PlanRun, session: Session, stages: Sequence[Stage]) -> None:
    """Bind the stages, release what is ready, and go."""
    flow = Flow(run.graph, [stage.schedule for stage in stages])
    links = PlanLinks(flow, stages, [r.ledger for r in run.runs.values()])
    run.bind(links)
    with session.lock:
        links.start()
    session.drive(*stages, priority=run.priority)


def make_stages(run: PlanRun, session: Session, store: Store, run_id: str, live_id: str, driver: int) -> list[Stage]:
    """The stages of a plan, ready to be driven; they commit to this store."""
    made = list[Stage]()
    edges = iter(run.plan.edges())
    results = [r.ledger.results for r in run.runs.values()]
    shared = build.new_shared(session, live_id)
    framed = run_id == live_id and can_map(store)  # it has no name: nothing but its own processes reads the parts
    with together():
        for number, planned in enumerate(run.plan.stages):
            own = [(next(edges), wire.columns) for wire in planned.wires]
            kind = SkippingFeed if planned.options.on_upstream_error == "skip" else PartFeed
            shape = template(planned.args, planned.kwargs, holes=planned.holes)
            feed = kind(store, own, results, run.graph.locate, shape)
            ledger = run.runs[planned.name].ledger
            ledger.store = store
            keeper = Durable(store, run_id, driver, number, digits=run.digits, framed=framed)
            made.append(_stage(session, planned, f"{live_id}.{number}", ledger, keeper, feed, shared))
            if number == 0 and isinstance(session.compute, Warm):  # meanwhile
                session.compute.warm(made[0].job, planned.count)
    if shared is not None:
        shared.clear_with(run)
    return made


def _stage(
    session: Session,
    planned: PlannedStage,
    live_id: str,
    ledger: Any,
    keeper: Durable,
    feed: PartFeed,
    shared: Shared | None,
) -> Stage:
    limits = session.compute.limits
    source = NoItems() if planned.items is None else Items(planned.items, shared)
    job = build.make_job(session, planned.fn, planned.options, form="call", shared=shared)
    job = replace(job, scratch=session.scratch)
    limits = replace(limits, chunk_s=limits.chunk_s or IN_PROCESS_S)
    schedule = planned.options.schedule(limits, stage_costs(planned))
    schedule.add(planned.count, ready=False)
    schedule.close()
    return Stage(live_id, schedule, source, job, ledger, keeper, feed)


IN_PROCESS_S = 0.1  # of a chunk where calls run in this thread: it is committed, which is worth some tasks


def stage_costs(planned: PlannedStage) -> Any:
    """What each task is expected to take, or None."""
    cost = planned.options.cost
    if callable(cost) and (planned.items is None or planned.holes):
        raise PlanError(
            f"cost of stage {planned.name!r}: its tasks have no items; pass a sequence with a cost for each"
        )
    items = planned.items if planned.items is not None else range(planned.count)
    return build.check_costs(cost, items, "args" if planned.items is not None else "item")


def _forget(store: Store, run_id: str) -> None:
    """Delete what an unnamed run has left in the scratch store, in which nothing else is than the session's own."""
    store.delete([key for key in store.list(keys.PARTS) if keys.run_of_part(key) == run_id])
