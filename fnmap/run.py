"""A Run: what the user holds of a map. It reads results as they arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fnmap.errors import ResultsReleased, RunCancelled, RunError, TaskError
from fnmap.format.call import Failure, Report
from fnmap.observe.events import Event, Listener, RunEnded, RunProgressed
from fnmap.planning.policy import Tolerate, stream_limit
from fnmap.planning.schedule import State
from fnmap.results import Results
from fnmap.stage import Part, Stage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as pads

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


class Run:
    """The results of one map, as they arrive: iterate, index, await it, or ask for a table.

    Iterating raises, returns or skips failures as `errors=` of the map says.
    """

    def __init__(self, session: Session, run_id: str, function: str, errors: Errors, *, ordered: bool = True) -> None:
        self.id, self.function, self.started_at = run_id, function, time.time()
        self._session, self._errors, self._ordered = session, errors, ordered
        self._results = Results(function)
        self._changed = threading.Condition(session.lock)
        self._waiters: list[Callable[[], None]] = []
        self._stage: Stage | None = None
        self._stream: Stream | None = None
        self._stream_error: BaseException | None = None
        self._buffer: int | None = None
        self._keep_all = False  # of a stream: all results are wanted at once
        self._telling_end = self._told_end = False
        self._listeners: tuple[Listener, ...] = ()
        self._taken = 0  # tasks that iteration has passed, for the stream's sake
        self._cancelled = False
        self._ended = False
        self._error: BaseException | None = None
        self._reports: list[Report] = []
        self.durable: Durable | None = None
        self._store: Store | None = None  # of a named run
        self._attached: str | None = None  # the state that the store tells, of a run that is not driven here
        self._take_up: Callable[[], Stage] | None = None

    # -- the results ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """The results in the order of the items, or as they arrive if the map said ordered=False."""
        if not self._ordered:
            return (value for _, value in self.as_completed())
        return self._iterate()

    def __len__(self) -> int:
        """The number of items; of an iterator, once all are drawn."""
        if self._stream is not None:
            self._unbound()
            self._wait(lambda: self._schedule.closed)
        return len(self._schedule.state)

    def __getitem__(self, index: int) -> Any:
        """The result of one item, waiting for it. Raises, or returns a TaskError, as `errors=` says."""
        if not isinstance(index, int):
            raise TypeError(f"a run is indexed by an int; got {index!r}")
        task = index
        if index < 0 or self._stream is None:
            task = index + len(self) if index < 0 else index
            if not 0 <= task < len(self):
                raise IndexError(f"run index {index} out of range for {len(self)} items")
        self._unbound()
        if not self._wait_for(task):
            raise IndexError(f"run index {index} out of range for {len(self)} items")
        return self._give(task)

    def as_completed(self) -> Iterator[tuple[int, Any]]:
        """Pairs (index, result) as they arrive, failures as `errors=` says."""
        seen = 0
        self._unbound()
        while True:
            self._wait(lambda at=seen: len(self._results.order) > at or self._ended)  # type: ignore[misc]
            if seen >= len(self._results.order):
                self._check_end()
                return
            part, _ = self._results.order[seen]
            seen += 1
            for position, task in enumerate(part.tasks):
                if position not in part.failures and task not in self._results.failures:
                    yield task, self._load(part, position, task)
                elif task in self._results.failures and self._errors != "skip":
                    yield task, self._give(task)

    def result(self, timeout: float | None = None) -> list[Any]:
        """All results in the order of the items, as list(run). TimeoutError after `timeout` seconds."""
        if not self.wait(timeout) and not self._failed_early():
            raise TimeoutError(f"run {self.id} has not ended after {timeout:g} s: {self.status}")
        return list(self._iterate())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, at most `timeout` seconds. Did it?"""
        self._unbound()
        return self._wait(lambda: self._ended, timeout)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._await().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        task = 0
        while True:
            await self._async_until(lambda at=task: self._ready(at))  # type: ignore[misc]
            if not self._wait_for(task):
                return
            if self._errors != "skip" or task not in self._results.failures:
                yield self._give(task)
            task += 1
            self._take(task)

    # -- tables --------------------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """The results as one Arrow table, with the column `task` and real columns where results are
        scalars, rows (dict, dataclass, named tuple) or tables. Failures raise as `errors=` says."""
        from fnmap.tables import live_table, stored_table

        self._complete()
        failures, skip = self._results.failures, self._errors == "skip"
        parts = [part for part, _ in self._results.order]
        if self._store is not None:
            return stored_table(self._store, self._keys(), failures, skip=skip)
        return live_table(parts, len(self), failures, skip=skip)

    def dataset(self) -> pads.Dataset:
        """The committed results of a named run as a pyarrow dataset that is not read yet; else `table()` as one."""
        import pyarrow.dataset as pads

        from fnmap.storage.base import Url
        from fnmap.tables import stored_dataset

        self._complete()
        if not isinstance(self._store, Url) or not self._keys():
            return pads.dataset(self.table())
        return stored_dataset(self._store, self._keys(), self._results.failures, skip=self._errors == "skip")

    def _keys(self) -> list[str]:
        return [part.key for part, _ in self._results.order if part.key is not None]

    def to_pandas(self) -> pd.DataFrame:
        """`table()` as a pandas DataFrame."""
        return self.table().to_pandas()

    # -- state ---------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """Where the run stands now."""
        with self._session.lock:
            count = self._schedule.count
            waiting = count(State.WAITING)
            total = len(self._schedule.state)
            return Status(self._state(), total, count(State.DONE), count(State.FAILED), count(State.RUNNING), waiting)

    @property
    def errors(self) -> dict[int, TaskError]:
        """What became of the tasks that have failed so far, by index."""
        with self._session.lock:
            return {task: self._results.task_error(task) for task in sorted(self._results.failures)}

    def cancel(self) -> None:
        """Start nothing more and kill what runs. Results that are there stay."""
        with self._session.lock:
            if self._ended or self._stage is None:
                return
            self._cancelled = True
        if self._stream is not None:
            self._stream.stop()
        self._session.stop(self._stage)

    def retry(self) -> Run:
        """Try again what failed, and what was never tried because of that. Waits for the run to end first."""
        self._unbound()
        self._wait(lambda: self._ended)
        if self._stream is not None:
            raise ResultsReleased("the items of an iterator are not kept; map a list to be able to retry")
        if self._take_up is not None:
            self._stage, self._take_up, self._attached = self._take_up(), None, None
        stage = self.stage
        with self._session.lock:
            self._results.failures.clear()
            self._ended, self._error, self._cancelled = False, None, False
            self._telling_end = self._told_end = False
            stage.error, stage.over, stage.stopped, stage.told = None, False, False, False
            stage.schedule.resume()
        self._session.drive(stage)
        return self

    def report(self) -> dict[str, Any]:
        """A summary: tasks, calls, seconds in the function and around it, workers."""
        from fnmap.observe.report import summary

        return summary(self.status, self._reports)

    def __repr__(self) -> str:
        s = self.status
        failed = f", {s.failed} failed" if s.failed else ""
        return f"<Run {self.id} of {self.function}: {s.state}, {s.done} of {s.total} done{failed}>"

    def _repr_html_(self) -> str:
        from fnmap.observe.report import as_html

        return as_html(self.id, self.function, self.status)

    # -- what starts it --------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """The stage that gives the results."""
        assert self._stage is not None
        return self._stage

    def hold(self, stage: Stage, stream: Stream | None = None, buffer: int | None = None) -> None:
        """Take on the stage, and the stream of its items if they are drawn one by one."""
        self._stage, self._stream, self._buffer = stage, stream, buffer

    def attached(self, stage: Stage, state: str, store: Store, take_up: Callable[[], Stage]) -> None:
        """Show what the store has. `take_up` makes this process the run's driver, when asked to retry."""
        self._store = store
        self._stage, self._attached, self._take_up = stage, state, take_up
        self._ended, self._cancelled = True, state == "cancelled"

    def put_stored(self, part: Part) -> None:
        """Results that were committed before."""
        self._results.put(part)
        self._results.order.append((part, len(part.tasks)))

    def grow(self, count: int) -> None:
        """So many more tasks will give results."""
        self._results.grow(count)

    def show_progress(self, progress: bool | None) -> None:
        """Show a bar: True, False, or None for where somebody looks."""
        from fnmap.observe.progress import Bar, somebody_looks

        if somebody_looks() if progress is None else progress:
            self._listeners = (*self._listeners, Bar())

    def keep(self, durable: Durable) -> None:
        """Results are committed there."""
        self.durable, self._store = durable, durable.store

    def stream_room(self) -> int:
        """How many items may be drawn now: as many as keep the workers busy, and no more than are taken."""
        with self._session.lock:
            schedule = self._schedule
            known = len(schedule.state)
            ahead = schedule.count(State.WAITING) if self._keep_all else known - self._taken
            return stream_limit(self._buffer, schedule.slots, schedule.task_s, self._task_bytes()) - ahead

    def stream_add(self, count: int) -> None:
        """So many items were drawn."""
        with self._session.lock:
            self._results.grow(count)
            self._schedule.add(count)
        self._session.pump()

    def stream_end(self, error: BaseException | None) -> None:
        """No more items will come; `error` is what the iterator raised."""
        with self._session.lock:
            self._stream_error = error
            self._schedule.close()
            self.stage.check_over()
            self._changed.notify_all()
        self.tell()

    # -- what the session tells (Sink) -----------------------------------------------------------------

    def arrived(self, part: Part, report: Report) -> None:
        self._results.put(part)
        self._results.order.append((part, report.ran))
        report.values = None
        self._reports.append(report)
        self._changed.notify_all()

    def failed(self, task: int, failure: Failure) -> None:
        self._results.failures[task] = failure
        if failure.kind in ("timeout", "poisoned"):  # no part brings these
            self._results.order.append((Part([task], _NOTHING, {0: failure}), 1))
        self._changed.notify_all()

    def ended(self, error: BaseException | None) -> None:
        self._ended, self._error = True, error
        self._changed.notify_all()

    def gives_up(self) -> bool:
        return self._too_many()

    def finish(self) -> None:
        if self._stream is not None and not self._keep_all and not self._schedule.closed:
            self.cancel()
        self._wait(lambda: self._told_end)

    def tell(self) -> None:
        for waiter in list(self._waiters):
            waiter()
        if self._stream is not None:
            self._stream.poke()
        status = self.status
        self.emit(RunProgressed(self.id, status.done, status.failed, status.running, status.total))
        with self._session.lock:
            ends, self._telling_end = self._ended and not self._telling_end, self._ended
        if ends:
            self._tell_end(status)

    def _tell_end(self, status: Status) -> None:
        """Whoever waits for results has them by now; the store hears of the end before this process may leave."""
        try:
            if self.durable is not None:
                self.durable.end(status)
            self.emit(RunEnded(self.id, status.state, status.done, status.failed))
        finally:
            with self._changed:
                self._told_end = True
                self._changed.notify_all()

    def emit(self, event: Event) -> None:
        """Tell whoever listens to this run."""
        for listener in (*self._listeners, *self._session.listeners):
            listener(event)

    def _task_bytes(self) -> float:
        """What a task's result has cost on the average, so far."""
        parts = [p for p, _ in self._results.order[-8:]]
        tasks = sum(len(p.tasks) for p in parts)
        return sum(p.values.nbytes for p in parts) / tasks if tasks else 0.0

    # -- inside --------------------------------------------------------------------------------------

    @property
    def _schedule(self) -> Any:
        assert self._stage is not None
        return self._stage.schedule

    def _state(self) -> str:
        if self._attached is not None:
            return self._attached
        if not self._ended:
            return "running"
        if self._cancelled:
            return "cancelled"
        return "failed" if self._error or self._stream_error or self._too_many() else "done"

    def _too_many(self) -> bool:
        failed = len(self._results.failures)
        if isinstance(self._errors, Tolerate):
            return failed > 0 and not self._errors.allows(failed, len(self._schedule.state))
        return self._errors == "raise" and failed > 0

    def _failed_early(self) -> bool:
        """A failure ends the wait of whoever waits for results; of a named run once its calls have committed."""
        return self._ended or (self._too_many() and self.durable is None)

    def _ready(self, task: int) -> bool:
        known = task < len(self._schedule.state)
        if known and (task < self._results.released or self._results.has(task)):
            return True
        return self._failed_early() or (not known and self._schedule.closed)

    def _wait_for(self, task: int) -> bool:
        """Wait for one task's result. False if there is no such task."""
        self._wait(lambda: self._ready(task))
        with self._session.lock:
            if task < self._results.released:
                return True
            if task < len(self._schedule.state) and self._results.has(task):
                return True
        self._check_end()
        return False

    def _check_end(self) -> None:
        """Raise what kept the run from giving a result for each item."""
        if self._listeners and self._ended:
            self._wait(lambda: self._told_end)  # let the bar be done before the caller prints
        if self._error is not None:
            raise self._error
        if self._too_many():
            raise self._results.error(min(self._results.failures))
        if self._cancelled:
            raise RunCancelled(f"run {self.id} was cancelled: {self.status}")
        if self._stream_error is not None:
            raise self._stream_error
        if self._attached not in (None, "done"):
            left = self.status.waiting
            raise RunError(f"run {self.id} is {self._attached}, with {left} tasks not done; retry() finishes it")

    def _iterate(self) -> Iterator[Any]:
        task = 0
        while self._wait_for(task):
            with self._session.lock:
                found = self._results.part_of(task)
                broken = self._too_many()
            if found is None:
                if self._errors != "skip":
                    yield self._give(task)
                task += 1
            elif isinstance(found[0].tasks, range) and not found[0].failures and not broken:
                part, start = found
                yield from self._guarded(part, start, task)
                task = part.tasks[-1] + 1
            else:
                yield self._load(*found, task)
                task += 1
            self._take(task)
        self._take(task)

    def _guarded(self, part: Part, start: int, task: int) -> Iterator[Any]:
        """The values of a part; one that cannot be read is that task's failure."""
        if not part.values.each:
            return iter(part.values.plain()[start:])
        return (self._load(part, position, task + position - start) for position in range(start, len(part.tasks)))

    def _load(self, part: Part, position: int, task: int) -> Any:
        try:
            return part.values[position]
        except Exception as error:  # whatever unpickling a user's class raises
            lost = self._results.unreadable(task, error)
            if self._errors == "raise":
                raise lost from error
            return lost

    def _give(self, task: int) -> Any:
        """The result of a task that is settled, or its error."""
        with self._session.lock:
            found = self._results.part_of(task)
        if found is not None:
            return self._load(*found, task)
        if self._errors == "raise" or self._too_many():
            raise self._results.error(task)
        return self._results.task_error(task)

    def _take(self, task: int) -> None:
        """Iteration has come so far."""
        self._taken = task
        if self._stream is None:
            return
        with self._session.lock:
            if not self._keep_all and task > self._results.released:
                self._results.release(min(task, len(self._schedule.state)))
                self._results.order.clear()
                self._reports.clear()
        self._stream.poke()

    def _unbound(self) -> None:
        """All results are wanted at once: an iterator of items is drawn to its end, and nothing is released."""
        if self._stream is not None and not self._keep_all:
            with self._session.lock:
                self._keep_all = True
            self._stream.poke()

    def _complete(self) -> None:
        """Wait for the end, and raise unless there is a result, or a failure that may stand, for each item."""
        self.wait()
        if self._results.released:
            raise ResultsReleased("results of this streamed run were handed out already; give it a name= to keep them")
        self._check_end()

    def _wait(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        try:
            with self._changed:
                return self._changed.wait_for(until, timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise

    async def _await(self) -> list[Any]:
        self._unbound()
        await self._async_until(self._failed_early)
        return list(self._iterate())

    async def _async_until(self, condition: Callable[[], bool]) -> None:
        import asyncio  # 30 ms, and only asked for where a loop runs already

        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def waiter() -> None:
            loop.call_soon_threadsafe(event.set)

        self._waiters.append(waiter)
        try:
            while not condition():
                await event.wait()
                event.clear()
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._waiters.remove(waiter)


class _Nothing:
    """Stands for the values of a task that has none."""

    each = True

    def __getitem__(self, at: int) -> Any:
        raise RunError("a failed task has no value")


_NOTHING: Any = _Nothing()
