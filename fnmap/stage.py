"""One stage as it runs: its schedule, its items, its job, and who is told of the results."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from fnmap import clock
from fnmap.errors import CallTimeout, TaskTimeout, Throttled, WorkerLost
from fnmap.format import keys
from fnmap.format.call import Call, Failure, Job, Place, Report
from fnmap.format.inputs import Inputs
from fnmap.format.payload import Values, pack, unpack
from fnmap.format.plain import Columns
from fnmap.planning.board import Party
from fnmap.planning.schedule import BACKUP, Chunk, Schedule, State
from fnmap.source import Source
from fnmap.storage.base import Store, create_parts, open_object
from fnmap.worker import short_repr

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Part:
    """The results of one chunk. `values` has an entry a task, None where `failures` (by position) says why."""

    tasks: Sequence[int]
    values: Values | Columns
    failures: dict[int, Failure]
    key: str | None = None  # where it is committed
    rows: Sequence[int] | None = None  # positions there, if not those of `tasks`: some results of another run
    lost: bool = False  # it is gone from the store: its results are made anew
    again: Collection[int] = ()  # tasks whose results were there before, and were lost
    given: bool = False  # to whoever reads the run
    _places: dict[int, int] | None = None

    @property
    def is_parquet(self) -> bool:
        """Is it an object of a store, all of it, that others can read?"""
        return self.key is not None and self.rows is None and not keys.is_framed(self.key)

    def position(self, task: int) -> int:
        """Where in the part a task is."""
        if isinstance(self.tasks, range):
            return task - self.tasks.start
        if self._places is None:
            self._places = {t: at for at, t in enumerate(self.tasks)}
        return self._places[task]


class Sink(Protocol):
    """Who holds the results. All calls but `tell` come with the session's lock held. `brief`: to tell it of the
    end takes no time, so nobody needs to wait for that."""

    brief: bool

    def arrived(self, part: Part, report: Report) -> None: ...
    def failed(self, task: int, failure: Failure) -> None: ...
    def skipped(self, task: int) -> None:
        """The task will not run, for what it depends on has failed."""
        ...

    def end(self, error: BaseException | None) -> None:
        """Nothing more will arrive. `error`: why the run as a whole could not go on."""
        ...

    def tell(self) -> None:
        """Called after each change, without the lock: hand on what others wait for."""
        ...

    def finish(self) -> None:
        """Wait for the end; the session is about to close."""
        ...

    def gives_up(self) -> bool:
        """Asked after a failure: start no more tasks?"""
        ...


class Keeper(Protocol):
    """Where the results of a durable run are kept. `number`: its driver's. `digits`: over which keys are spread."""

    number: int
    digits: int

    def place(self, chunk: Chunk) -> Place:
        """Where the chunk's one result is committed."""
        ...

    def seal(self, chunk: Chunk) -> Report | None:
        """The chunk will be carved anew: make sure that no attempt of it can commit from now on. Returns
        the report that stands if one has."""
        ...

    def standing(self, chunk: Chunk, report: Report) -> Report:
        """The report as it counts: what was committed, be it by another attempt."""
        ...


class Feed(Protocol):
    """Gives the tasks of a stage the results that they take."""

    def inputs(self, tasks: Sequence[int]) -> Inputs: ...


class Links(Protocol):
    """What binds a stage to the others of its plan. Called with the session's lock held."""

    def settled(self, stage: Stage, tasks: Sequence[int]) -> None: ...
    def failed(self, stage: Stage, task: int) -> None: ...
    def unread(self, stage: Stage, keys: Mapping[int, str]) -> None:
        """These tasks could not read an input each, in the part at that key."""
        ...

    def lose(self, stage: Stage, key: str) -> bool:
        """A part of the stage cannot be read. Is it gone? Then it will be made anew."""
        ...

    def halt(self) -> None:
        """Start nothing more of any stage."""
        ...

    def check_over(self) -> None: ...


class Stage:
    """A stage that a session drives. Its methods are called with the session's lock held, but for `call`."""

    def __init__(
        self,
        run_id: str,
        schedule: Schedule,
        source: Source,
        job: Job,
        sink: Sink,
        keeper: Keeper | None = None,
        feed: Feed | None = None,
    ) -> None:
        self.run_id, self.schedule, self.source, self.job = run_id, schedule, source, job
        self.hold(sink)
        self.error: BaseException | None = None
        self.over = self.stopped = False
        self.running: dict[tuple[int, int], tuple[Call, Future[Report]]] = {}  # by chunk and attempt
        self._keeper, self._feed = keeper, feed
        self._doubtful: list[Chunk] = []  # the store failed, so it is not known if they are committed
        self.links: Links | None = None
        self.party: Party | None = None  # of its session's board

    @property
    def sink(self) -> Sink:
        """Who holds the results."""
        return self._sink() or NOBODY

    def hold(self, sink: Sink) -> None:
        """Results go there, and it lives as long as this stage."""
        self._held: Sink | None = sink
        self.brief = sink.brief
        self._sink = weakref.ref(sink)

    def rest(self) -> None:
        """It is over, and all is told. Its sink, which may take it up again, holds it; were it to hold its sink in its
        turn, all results of the run would wait for the garbage collector."""
        self._held = None

    def call(self, chunk: Chunk, *, payload_bytes: int, budget_s: float | None) -> Call:
        """What to send for this chunk."""
        items, items_key = self.source.encode(chunk.tasks), None
        if items.nbytes > payload_bytes:
            items_key = keys.sent(self.run_id, chunk.id, chunk.attempt)
            create_parts(self._scratch(), items_key, pack(items.frames()))
        return Call(
            id=f"{self.run_id}/{chunk.id}.{chunk.attempt}",
            job=self.job,
            tasks=chunk.tasks,
            items=items,
            attempt=chunk.attempt,
            budget_s=budget_s,
            inline_bytes=payload_bytes if self._feed is None else 0,  # results of a plan stay where they are
            spill=keys.spill(self.run_id, chunk.id, chunk.attempt),
            commit=self._keeper.place(chunk) if self._keeper else None,
            items_key=items_key,
            inputs=self._feed.inputs(chunk.tasks) if self._feed else None,
            memory=chunk.memory,
        )

    def _scratch(self) -> Store:
        assert self.job.scratch is not None, "a compute with a limit on payloads needs a scratch store"
        return self.job.scratch

    def done(self, chunk: Chunk, future: Future[Report]) -> None:
        """A call has ended, in whatever way."""
        call, _ = self.running.pop((chunk.id, chunk.attempt))
        if call.items_key is not None:
            self._scratch().delete([call.items_key])
        error = future.exception()
        if not self.schedule.is_live(chunk):
            return  # its backup has answered, or what it backs
        if isinstance(error, (WorkerLost, CallTimeout)) and (standing := self._settle_lost(chunk)):
            self._accept(chunk, standing)  # it had committed before it died
        elif error is None:
            report = future.result()
            if report.fault is not None:
                raise report.fault
            self._accept(chunk, self._keeper.standing(chunk, report) if self._keeper else report)
        else:
            self._fault(chunk, error)
        self.check_over()

    def twins(self, chunk: Chunk) -> list[Future[Report]]:
        """Other attempts of a chunk that has been answered."""
        if not self.schedule.backups or self.schedule.is_live(chunk):
            return []
        others = [(chunk.id, chunk.attempt + by) for by in (BACKUP, -BACKUP)]
        return [self.running[other][1] for other in others if other in self.running]

    def renumber(self, driver: int, digits: int) -> None:
        """Its driver's number, and over how many digits its parts are spread, once that is known; nothing has been sent
        yet."""
        if self._keeper is not None:
            self._keeper.number, self._keeper.digits = driver, digits

    def settle(self, report: Report) -> None:
        """Take the report of a call of the whole stage that was not made by a session."""
        chunk = self.schedule.next(0.0)
        assert chunk is not None
        self._accept(chunk, report)
        self.check_over()

    def check_over(self) -> None:
        """Tell the sink once everything has ended."""
        if self.links is not None:
            self.links.check_over()
        elif self.schedule.finished:
            self.end()

    def end(self) -> None:
        """Nothing more will come of this stage."""
        if not self.over:
            self.over = True
            self.sink.end(self.error)

    def refuse(self, chunk: Chunk, error: BaseException) -> None:
        """The call cannot be made; the run cannot go on."""
        self.schedule.refused(chunk)
        self.abort(error)

    def doubt(self, chunk: Chunk, error: BaseException) -> None:
        """What has become of a call cannot be found out, or kept; the run cannot go on."""
        if self.schedule.is_live(chunk):
            self.schedule.refused(chunk)
            self._doubtful.append(chunk)
        self.abort(error)
        self.check_over()
        self.end()

    def reopen(self) -> None:
        """The run is about to be taken up again. Raises what the store does."""
        while self._doubtful and self._keeper is not None:
            chunk = self._doubtful[-1]
            standing = self._keeper.seal(chunk)
            self._doubtful.pop()
            if standing is None:
                continue
            part = Part(chunk.tasks[: standing.ran], self._values(standing), standing.failures, self._key(chunk))
            self.sink.arrived(part, standing)
            for at, task in enumerate(part.tasks):
                if at not in part.failures:
                    self.schedule.fell(task, State.DONE)

    def abort(self, error: BaseException) -> None:
        """Start nothing more, for this reason."""
        self.error = self.error or error
        self.halt()

    def halt(self) -> None:
        """Start nothing more."""
        if self.links is None:
            self.schedule.halt()
        else:
            self.links.halt()

    def _settle_lost(self, chunk: Chunk) -> Report | None:
        if self._keeper is None or self.schedule.has_twin(chunk):
            return None  # nothing can be committed late, or its twin may commit yet
        return self._keeper.seal(chunk)

    def _accept(self, chunk: Chunk, report: Report) -> None:
        now = clock.now()
        unread = {chunk.tasks[at]: f.message for at, f in report.failures.items() if f.kind == "input"}
        failed = {at: f.retryable for at, f in report.failures.items() if f.kind != "input"}
        call_s = report.stats.get("fetch_s", 0.0) + report.stats.get("commit_s", 0.0)
        back = [at for at, f in report.failures.items() if f.kind == "input"] if unread else ()
        final = self.schedule.reported(chunk, report.ran, report.seconds, failed, now, call_s=call_s, unread=back)
        part = Part(chunk.tasks[: report.ran], self._values(report), report.failures, self._key(chunk))
        self.sink.arrived(part, report)
        positions = dict(zip(chunk.tasks, range(report.ran), strict=False)) if final else {}
        for task in final:
            failure = report.failures[positions[task]]
            self._fail(task, replace(failure, attempts=self.schedule.tries(task)))
        state = self.schedule.state
        whole = not report.failures
        self.source.settled(part.tasks if whole else [t for t in part.tasks if state[t] >= State.DONE])
        if self.links is not None:
            self.links.settled(self, part.tasks if whole else [t for t in part.tasks if state[t] == State.DONE])
            if unread:
                self.links.unread(self, unread)

    def _key(self, chunk: Chunk) -> str | None:
        return self._keeper.place(chunk)[1] if self._keeper else None

    def _values(self, report: Report) -> Values | Columns:
        if report.values is not None:
            return report.values
        assert report.spilled is not None
        scratch, key = self._scratch(), report.spilled
        view = open_object(scratch, key)
        scratch.delete([key])  # what is mapped stays; nothing else will ask for it
        if self.job.arrow:
            return Columns.from_frames(unpack(view))
        return Values.from_frames(unpack(view), lambda ref: open_object(scratch, ref))

    def _fault(self, chunk: Chunk, error: BaseException) -> None:
        now = clock.now()
        if isinstance(error, WorkerLost):
            verdict, kind = self.schedule.lost(chunk, error.at, out_of_memory=error.out_of_memory), "poisoned"
        elif isinstance(error, CallTimeout):
            retryable = issubclass(TaskTimeout, self.schedule.retry.on)
            verdict, kind = self.schedule.timed_out(chunk, error.at, retryable, now), "timeout"
        elif isinstance(error, Throttled):
            self.schedule.returned(chunk, now + error.retry_after_s)
            return
        else:
            self.refuse(chunk, error)
            return
        for task in verdict.exhausted:
            failure = Failure(kind, str(error), log=error.log, attempts=verdict.attempts)
            self._fail(task, failure)

    def _fail(self, task: int, failure: Failure) -> None:
        if not failure.item:
            failure = replace(failure, item=short_repr(self.source.item(task)))
        self.sink.failed(task, failure)
        if self.sink.gives_up():
            self.halt()
        if self.links is not None:
            self.links.failed(self, task)

    @property
    def counts(self) -> dict[State, int]:
        """How many tasks are in each state."""
        return {state: self.schedule.count(state) for state in State}


class _Nobody:
    """The sink of a stage whose run is gone: a call that comes back late is of no use to anybody."""

    brief = True

    def arrived(self, part: Part, report: Report) -> None: ...
    def failed(self, task: int, failure: Failure) -> None: ...
    def skipped(self, task: int) -> None: ...
    def end(self, error: BaseException | None) -> None: ...
    def tell(self) -> None: ...
    def finish(self) -> None: ...
    def gives_up(self) -> bool:
        return True


NOBODY = _Nobody()
