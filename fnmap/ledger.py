"""The ledger of a run: what became of each task so far. The session writes it; whoever holds the run reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fnmap.errors import RunBusy, RunCancelled, RunError, StoreError
from fnmap.format.call import Failure, Report
from fnmap.observe.report import Tally
from fnmap.planning.policy import Tolerate, stream_limit
from fnmap.planning.schedule import Schedule, State
from fnmap.results import Results
from fnmap.stage import Part, Stage
from fnmap.telling import Telling

if TYPE_CHECKING:
    from fnmap.durable import Durable
    from fnmap.session import Session
    from fnmap.source import Stream
    from fnmap.storage.base import Store

Errors = Literal["raise", "return", "skip"] | Tolerate


@dataclass(frozen=True, slots=True)
class Status:
    """Where a run stands. `state`: "running", "done", "failed", "cancelled", or "interrupted" when its
    driver is gone. The rest counts tasks; `total` is what is known so far."""

    state: str
    total: int
    done: int
    failed: int
    running: int
    waiting: int
    skipped: int = 0


class Ledger(Telling):
    """What became of each task of one run. It is the sink of the run's stage.

    Its fields change under the session's lock, and whoever waits for a change is woken.
    """

    brief = False

    def __init__(self, session: Session, run_id: str, function: str, errors: Errors) -> None:
        super().__init__(session, run_id)
        self.errors = errors
        self.results = Results(function)
        self.tally = Tally()
        self.cancelled = False
        self.error: BaseException | None = None  # why the run as a whole could not go on
        self.store: Store | None = None  # of a named run
        self.hits = 0  # tasks whose results are of earlier runs
        self.keep_all = False  # of a stream: all results are wanted at once
        self.taken = 0  # of a stream: tasks whose results were handed out
        self._stream_error: BaseException | None = None
        self._buffer: int | None = None
        self.on_cancel: Callable[[], None] | None = None  # of a stage of a plan: cancel the plan
        self.upstream: dict[int, tuple[Ledger, int]] = {}  # tasks that fell with one of another stage of the plan
        self.halted_by: Ledger | None = None  # the stage of the plan whose failure left tasks of this one waiting

    # -- what starts it ------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """The stage that gives the results."""
        assert self._stage is not None
        return self._stage

    @property
    def schedule(self) -> Schedule:
        """The schedule of the stage."""
        return self.stage.schedule

    @property
    def total(self) -> int:
        """Tasks known so far."""
        return len(self.schedule.state)

    @property
    def all_known(self) -> bool:
        """Will there be no more tasks than there are?"""
        return self.stream is None or self.schedule.closed or self.ended

    def hold(self, stage: Stage, stream: Stream | None = None, buffer: int | None = None) -> None:
        """Take on the stage, and the stream of its items if they are drawn one by one."""
        self._stage, self.stream, self._buffer = stage, stream, buffer

    def show(self, stage: Stage, state: str, store: Store) -> None:
        """Of a run that is not driven here: what the store has."""
        self._stage, self.attached, self.store = stage, state, store

    def show_end(self, state: str) -> None:
        """The run that is followed has ended, or its driver is gone."""
        with self.session.lock:
            self.attached, self.ended, self.cancelled = state, True, state == "cancelled"
            self._changed.notify_all()
        for waiter in list(self.waiters):
            waiter()

    def keep(self, durable: Durable) -> None:
        """Results are committed there."""
        self.durable = durable
        self.store = self.results.store = durable.store

    def put_stored(self, part: Part) -> None:
        """Results that were committed before."""
        self.results.put(part)
        self.results.order.append(part)

    def put_hits(self, parts: Iterable[Part]) -> list[int]:
        """Results of other runs; the tasks that have them."""
        tasks = list[int]()
        for part in parts:
            self.put_stored(part)
            tasks += part.tasks
        self.hits += len(tasks)
        return tasks

    def reopen(self, stage: Stage, *, resume: bool = True) -> None:
        """Take up a run that has ended: what failed is tried again. Of a plan, its links `resume` the schedules."""
        with self.session.lock:
            stage.reopen()
            stage.hold(self)
            self._stage, self.attached = stage, None
            self.results.failures.clear()
            self.results.skipped.clear()
            self.upstream.clear()
            self.results.losses.clear()
            self.results.order[:] = [part for part in self.results.order if part.values is not NOTHING]
            self.error, self.cancelled, self.halted_by = None, False, None
            self.go_on()
            stage.error, stage.over, stage.stopped = None, False, False
            if resume:
                stage.schedule.resume()

    def lose(self, key: str) -> list[int]:
        """The tasks whose results were at that key, if it is gone from the store: they have none any more."""
        from fnmap.format.parts import is_gone

        parts = [part for part in self.results.at(key) if not part.lost]
        if not parts or self.store is None:
            return []
        mine = all(part.rows is None for part in parts)  # and not in the cache
        return self.results.lose(key) if is_gone(self.store, key, seal=mine) else []

    def makes_anew(self, part: Part, task: int) -> bool:
        """A reader could not read a part. If it is gone, its tasks are done again: now, if the run goes on, or when it
        is taken up again. Will this one's result be there then, or is it already?"""
        if self.attached is not None or self.stream is not None or self.session.closed or part.key is None:
            return False
        with self.session.lock:
            if not part.lost:
                self._find_lost(part.key)
                if part.lost and self.ended:  # all that are, so that one retry() will do
                    for key in {other.key for other in self.results.order if other.key and not other.lost}:
                        self._find_lost(key)
        self.session.tell(self.stage)
        self.session.pump()
        return part.lost and (not self.ended or self.settled(task))

    def _find_lost(self, key: str) -> None:
        if self.stage.links is not None:
            self.stage.links.lose(self.stage, key)
            return
        tasks = self.lose(key)
        self.schedule.undo(tasks)
        if self.ended:
            return
        self.schedule.release(tasks)
        if worn_out := self.results.worn_out(tasks):
            self.stage.abort(StoreError(f"{worn_out} of {self.store!r}"))
        self.stage.check_over()

    # -- what a stream of items asks and tells ---------------------------------------------------------

    def stream_room(self) -> int:
        """How many items may be drawn now: as many as keep the workers busy, and no more than are taken."""
        with self.session.lock:
            schedule = self.schedule
            ahead = schedule.count(State.WAITING) if self.keep_all else self.total - self.taken
            return stream_limit(self._buffer, schedule.slots, schedule.task_s, self._task_bytes()) - ahead

    def stream_add(self, count: int) -> None:
        """So many items were drawn."""
        with self.session.lock:
            self.results.grow(count)
            self.schedule.add(count)
        self.session.pump()

    def stream_end(self, error: BaseException | None) -> None:
        """No more items will come; `error` is what the iterator raised."""
        with self.session.lock:
            self._stream_error = error
            self.schedule.close()
            self.stage.check_over()
            self._changed.notify_all()
        self.session.tell(self.stage)

    def want_all(self) -> None:
        """All results are wanted at once: a stream is drawn to its end, and nothing is released."""
        if self.stream is not None and not self.keep_all:
            with self.session.lock:
                self.keep_all = True
            self.stream.poke()

    def take(self, count: int) -> None:
        """Results of so many more tasks were handed out; those of a stream may go."""
        self.taken += count
        if self.stream is not None:
            self.stream.poke()

    def _task_bytes(self) -> float:
        """What a task's result has cost on the average, of late."""
        parts = self.results.order[-RECENT:]
        tasks = sum(len(part.tasks) for part in parts)
        return sum(part.values.nbytes for part in parts) / tasks if tasks else 0.0

    # -- what the stage tells (Sink) -------------------------------------------------------------------

    def arrived(self, part: Part, report: Report) -> None:
        self.put_stored(part)
        self.tally.add(report)
        self._changed.notify_all()

    def failed(self, task: int, failure: Failure) -> None:
        self.results.failures[task] = failure
        again = (task,) if task in self.results.lost else ()
        self.results.order.append(Part([task], NOTHING, {0: failure}, again=again))  # here it came to its end
        self._changed.notify_all()

    def skipped(self, task: int) -> None:
        self.results.skipped[task] = Failure("upstream", "what it depends on has no result", attempts=0)
        self._changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        self.ended, self.error = True, error
        if self.stream is not None:
            self.stream.stop()
        self._changed.notify_all()

    def gives_up(self) -> bool:
        return self.too_many()

    def finish(self) -> None:
        if self.stream is not None and not self.keep_all and not self.schedule.closed:
            self.cancel()
        self.finish_telling()

    # -- what a reader asks ----------------------------------------------------------------------------

    def wait(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until that holds. Ctrl-C cancels the run."""
        try:
            if self.session.chores and timeout is None:
                with self._changed:
                    there = until()
                if not there:  # so there is time
                    self.session.chores.do()
            with self._changed:
                return self._changed.wait_for(until, timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Start nothing more and kill what runs, of the whole plan if this is a stage of one. A run that another
        process drives goes on."""
        if self.attached is not None:
            return
        if (on_cancel := self.on_cancel) is not None:
            on_cancel()
            return
        with self.session.lock:
            if self.ended or self._stage is None:
                return
            self.cancelled = True
        if self.stream is not None:
            self.stream.stop()
        self.session.stop(self.stage)

    def check_mine(self) -> None:
        """Raise RunBusy if another process drives the run."""
        if self.attached == "running":
            raise RunBusy(f"run {self.run_id!r} is driven by another process: cancel it there, or stop that process")

    def status(self) -> Status:
        """Where the run stands now."""
        with self.session.lock:
            count = self.schedule.count
            done, failed, running = count(State.DONE), count(State.FAILED), count(State.RUNNING)
            waiting, skipped = count(State.WAITING), count(State.SKIPPED)
            return Status(self._state(), self.total, done, failed, running, waiting, skipped)

    def _state(self) -> str:
        if self.attached is not None:
            return self.attached
        if not self.ended:
            return "running"
        if self.cancelled:
            return "cancelled"
        if self.error or self._stream_error or self.halted_by or self.too_many():
            return "failed"
        return "interrupted" if self._left_waiting() else "done"

    def _left_waiting(self) -> bool:
        return self.ended and self.schedule.count(State.WAITING) > 0

    def too_many(self) -> bool:
        """Have more tasks failed than `errors=` lets stand?"""
        failed = len(self.results.failures)
        if isinstance(self.errors, Tolerate):  # of a stream, the share is known at its end
            return failed > 0 and self.schedule.closed and not self.errors.allows(failed, self.total)
        return self.errors == "raise" and failed > 0

    def failed_early(self) -> bool:
        """A failure ends the wait of whoever waits for results; of a named run once its calls have committed."""
        return self.ended or (self.too_many() and self.durable is None)

    def ready(self, task: int) -> bool:
        """Would waiting for this task be over?"""
        schedule = self.schedule
        total = len(schedule.state)
        if task < total and (task < self.results.released or self.results.has(task)):
            return True
        return self.failed_early() or (task >= total and schedule.closed)

    def settled(self, task: int) -> bool:
        """Is the task's result or failure there, or was it once?"""
        return task < self.total and (task < self.results.released or self.results.has(task))

    def exception(self, task: int) -> BaseException:
        """What is raised for a task that failed. Under "raise", of one that fell with another that is the other's."""
        if self.errors == "raise" and task in self.upstream:
            ledger, at = self.upstream[task]
            return ledger.exception(at)
        return self.results.error(task)

    def check_end(self) -> None:
        """Raise what kept the run from giving a result for each item."""
        if self.ended:
            self.wait(lambda: self.heard)
        if self.error is not None:
            raise self.error
        if self.too_many():
            raise self.exception(min(self.results.failures))
        if self.cancelled:
            raise RunCancelled(f"run {self.run_id} was cancelled: {self.status()}")
        if self.halted_by is not None:
            self.halted_by.check_end()
        if self._stream_error is not None:
            raise self._stream_error
        if self.attached not in (None, "done") or (self.attached is None and self._left_waiting()):
            s = self.status()
            raise RunError(f"run {self.run_id} is {s.state}, with {s.waiting} tasks not done; retry() finishes it")


class _Nothing:
    """Stands for the values of a task that has none."""

    each, nbytes = True, 0

    def __getitem__(self, at: int) -> Any:
        raise RunError("a failed task has no value")


NOTHING: Any = _Nothing()
RECENT = 8  # parts
