"""A plan as it runs: a Run for each stage, bound together."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from fnmap import build
from fnmap.durable import Durable
from fnmap.errors import PlanError, RunTakenOver, StoreError, TaskError
from fnmap.last_stage import LastStage
from fnmap.ledger import Ledger, Status
from fnmap.links import PlanLinks
from fnmap.observe.events import RunEnded, RunProgressed, RunStarted
from fnmap.planning.flow import Flow
from fnmap.planning.graph import Graph
from fnmap.run import Awaited, Run
from fnmap.stage import Stage

if TYPE_CHECKING:
    from fnmap.caching import Cached
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
            self.begin(stages)
            return self
        self.bind(self.links)
        with self._session.lock:
            self.links.resume()
        self._session.drive(*self.links.stages, priority=self.priority)
        return self

    def begin(self, stages: Sequence[Stage]) -> None:
        """Bind the stages, release what is ready, and go."""
        flow = Flow(self.graph, [stage.schedule for stage in stages])
        links = PlanLinks(flow, stages, [run.ledger for run in self.runs.values()])
        self.bind(links)
        with self._session.lock:
            links.start()
        self._session.drive(*stages, priority=self.priority)

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
