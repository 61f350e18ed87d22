"""A Run: what the user holds of a map. It reads results as they arrive."""

from __future__ import annotations

import operator
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from fnmap.ahead import Ahead
from fnmap.errors import Damaged, MissingKey, NotPicklable, ResultsReleased, TaskError
from fnmap.ledger import NOTHING, Errors, Ledger, Status
from fnmap.stage import Part, Stage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as pads

    from fnmap.plan_run import PlanRun
    from fnmap.session import Session

__all__ = ["Errors", "Run", "Status"]


class Awaited:
    """What stands for results that are on their way; as an argument of a call, for these."""

    def result(self, timeout: float | None = None) -> Any:
        """The results, once they are there."""
        raise NotImplementedError

    @property
    def is_kept(self) -> bool:
        """Will all results be there in the end? Those of a stream are given away."""
        return True


class Run(Awaited):
    """The results of one map, as they arrive: iterate, index, await it, or ask for a table.

    Iterating raises, returns or skips failures as `errors=` of the map says.
    """

    def __init__(self, session: Session, run_id: str, function: str, errors: Errors, *, ordered: bool = True) -> None:
        self.id, self.function, self.started_at = run_id, function, time.time()
        self.ledger = Ledger(session, run_id, function, errors)
        self.owner: PlanRun | None = None  # the run of a plan of which this is a stage
        self.take_up: Callable[[], Stage] | None = None  # of an attached run: become its driver
        self._session, self._results, self._ordered = session, self.ledger.results, ordered

    # -- the results ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """The results in the order of the items, or as they arrive if the map said ordered=False."""
        if not self._ordered:
            return (value for _, value in self.as_completed())
        return self._iterate()

    def __len__(self) -> int:
        """The number of items. TypeError, as of a generator, while there is an iterator that may give more."""
        if not self.ledger.all_known:
            raise TypeError("a run over an iterator has no length before all items are drawn; list(run) waits for them")
        self.ledger.want_all()  # list(run) asks this first
        return self.ledger.total

    def __length_hint__(self) -> Any:
        """Asked by list(run) and its like: they want all results at once, so those of a stream are kept."""
        self.ledger.want_all()
        return NotImplemented

    def __bool__(self) -> bool:
        """True: a run is there, whatever becomes of it."""
        return True

    def __getitem__(self, index: SupportsIndex) -> Any:
        """The result of one item, waiting for it. Raises, or returns a TaskError, as `errors=` says."""
        try:
            at = operator.index(index)
        except TypeError:
            raise TypeError(f"a run is indexed by an int; got {index!r}") from None
        self.ledger.want_all()
        task = at + self._count() if at < 0 else at
        if task < 0 or not self._wait_for(task):
            raise IndexError(f"run index {at} out of range for {self._count()} items")
        return self._give(task)

    def as_completed(self) -> Iterator[tuple[int, Any]]:
        """Pairs (index, result) as they arrive, failures as `errors=` says."""
        seen, ledger, order = 0, self.ledger, self._results.order
        while True:
            ledger.wait(lambda at=seen: len(order) > at or ledger.failed_early())  # type: ignore[misc]
            if seen >= len(order):
                ledger.check_end()
                return
            part = order[seen]
            yield from self._pairs(part)
            if not part.given:
                ledger.take(len(part.tasks))
            with self._session.lock:
                seen += self._results.give(part, keep=ledger.stream is None or ledger.keep_all)

    def _pairs(self, part: Part) -> Iterator[tuple[int, Any]]:
        for position, task in enumerate(part.tasks):
            if task in part.again:
                continue  # it was given when the part that was lost had its turn
            if position not in part.failures:
                yield task, self._load(part, position, task)
            elif part.values is NOTHING and self.ledger.errors != "skip":
                yield task, self._give(task)

    def result(self, timeout: float | None = None) -> list[Any]:
        """All results in the order of the items, as list(run). TimeoutError after `timeout` seconds."""
        self.ledger.want_all()
        if not self.ledger.wait(self.ledger.failed_early, timeout):
            raise TimeoutError(f"run {self.id} has not ended after {timeout:g} s: {self.status}")
        return list(self._iterate())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, at most `timeout` seconds. Did it?"""
        self.ledger.want_all()
        return self.ledger.wait(lambda: self.ledger.over, timeout) and self.ledger.attached != "running"

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._await().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        task = 0
        while True:
            await self._async_until(lambda at=task: self.ledger.ready(at))  # type: ignore[misc]
            if not self._wait_for(task):
                return
            if self.ledger.errors != "skip" or task not in self._results.failures:
                yield self._give(task)
            task += 1
            self._took(task)

    # -- tables --------------------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """The results as one Arrow table, with the column `task` and real columns where results are
        scalars, rows (dict, dataclass, named tuple) or tables. Failures raise as `errors=` says."""
        from fnmap.tables import live_table, stored_table

        self._complete()
        ledger, failures, skip = self.ledger, self._results.failures, self.ledger.errors == "skip"
        if ledger.store is not None:
            return stored_table(ledger.store, self._stored(), failures, skip=skip)
        return live_table(self._results.order, ledger.total, failures, skip=skip)

    def dataset(self) -> pads.Dataset:
        """The committed results of a named run as a pyarrow dataset that is not read yet; else `table()` as one."""
        import pyarrow.dataset as pads

        from fnmap.storage.base import Url
        from fnmap.tables import stored_dataset

        self._complete()
        store, skip = self.ledger.store, self.ledger.errors == "skip"
        stored = self._stored()
        passing = self.owner is not None and self.owner.durable is None and self.ledger.attached is None
        if passing or not isinstance(store, Url) or not stored or not all(part.is_parquet for part in stored):
            return pads.dataset(self.table())
        return stored_dataset(store, stored, self._results.failures, skip=skip)

    def to_pandas(self) -> pd.DataFrame:
        """`table()` as a pandas DataFrame."""
        return self.table().to_pandas()

    def _stored(self) -> list[Part]:
        return [part for part in self._results.order if part.key is not None and not part.lost]

    def _complete(self) -> None:
        """Wait for the end, and raise unless there is a result, or a failure that may stand, for each item."""
        self.wait()
        if self._results.released or self._results.dropped:
            raise ResultsReleased("results of this streamed run were handed out already; give it a name= to keep them")
        self.ledger.check_end()

    # -- state ---------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """Where the run stands now."""
        return self.ledger.status()

    @property
    def errors(self) -> dict[int, TaskError]:
        """What became of the tasks that have failed so far, by index."""
        with self._session.lock:
            return {task: self._results.task_error(task) for task in sorted(self._results.failures)}

    @property
    def is_kept(self) -> bool:
        """As of Awaited."""
        return self.ledger.stream is None or self.ledger.keep_all

    def cancel(self) -> None:
        """Start nothing more and kill what runs, of the whole plan if this is a stage of one. Results that are there
        stay. Raises RunBusy if another process drives the run."""
        self.ledger.check_mine()
        self.ledger.cancel()

    def retry(self) -> Run:
        """Try again what failed, and what was never tried because of that. Waits for the run to end first."""
        if self.owner is not None:
            self.owner.retry()
            return self
        if self.ledger.attached != "running":  # elsewhere: whoever claims it is told if its driver is alive
            self.wait()
        if self.ledger.stream is not None and not self.ledger.stream.has_all:
            raise ResultsReleased("the items of an iterator are not kept; map a list to be able to retry")
        take_up = self.take_up
        self.ledger.finish_telling()
        if take_up is None and self.ledger.durable is not None:
            self.ledger.durable.reopen(self, self._session)
        try:
            self.ledger.reopen(self.ledger.stage if take_up is None else take_up())
        except BaseException:
            if self.ledger.durable is not None:
                self.ledger.durable.rest(self._session)
            raise
        self.take_up = None  # only now: another may have been the driver
        self._session.drive(self.ledger.stage)
        return self

    def give_up(self, error: BaseException) -> None:
        """End the run with this error."""
        self._session.abort(self.ledger.stage, error)

    def finish(self) -> None:
        """Wait until a run that has ended was told to all, its store among them."""
        self.ledger.finish()

    def report(self) -> dict[str, Any]:
        """A summary: tasks, calls, seconds in the function and around it, workers."""
        return {**self.ledger.tally.summary(self.status), "cached": self.ledger.hits}

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("a Run cannot be sent to or from a worker: send list(run), or map over the run")

    def __repr__(self) -> str:
        s = self.status
        failed = f", {s.failed} failed" if s.failed else ""
        return f"<Run {self.id} of {self.function}: {s.state}, {s.done} of {s.total} done{failed}>"

    def _repr_html_(self) -> str:
        from fnmap.observe.report import as_html

        return as_html(self.id, self.function, self.status)

    def held_with(self, owner: PlanRun) -> Run:
        """This run as a plan gives it away: who holds it holds all of the plan's run, which does not hold it.
        What changes is in the ledger, which both have."""
        shown = Run.__new__(Run)
        shown.__dict__ |= {**self.__dict__, "owner": owner}
        return shown

    # -- inside --------------------------------------------------------------------------------------

    def _wait_for(self, task: int) -> bool:
        """Wait for one task's result. False if there is no such task."""
        ledger = self.ledger
        with self._session.lock:
            if ledger.settled(task):
                return True
        ledger.wait(lambda: ledger.ready(task))
        with self._session.lock:
            if ledger.settled(task):
                return True
        ledger.check_end()
        return False

    def _count(self) -> int:
        """The number of items, once it is known."""
        self.ledger.wait(lambda: self.ledger.all_known)
        return self.ledger.total

    def _iterate(self) -> Iterator[Any]:
        return chain.from_iterable(self._blocks())  # item by item at C speed

    def _blocks(self) -> Iterator[Iterable[Any]]:
        """The results in order, as many at a time as lie together."""
        ahead = Ahead(self._results, self.ledger.store)
        try:
            yield from self._blocks_with(ahead)
        finally:
            ahead.close()

    def _blocks_with(self, ahead: Ahead) -> Iterator[Iterable[Any]]:
        task = read = 0
        while True:
            read = self._read_on(task, read)
            if not self._wait_for(task):
                return
            with self._session.lock:
                found = self._results.part_of(task)
            if found is not None:
                ahead.reached(found[0])
            if found is None:
                if self.ledger.errors != "skip" and task not in self._results.skipped:
                    yield (self._give(task),)
                task += 1
            elif isinstance(found[0].tasks, range) and not found[0].failures:
                part, start = found
                yield self._values(part, start)
                task = part.tasks[-1] + 1
            else:
                yield (self._load(*found, task),)
                task += 1
            self._took(task)

    def _read_on(self, task: int, read: int) -> int:
        """Wait for a task, and unpickle meanwhile what arrives out of turn: of the parts, in the order in which they
        come, `read` are."""
        order, ledger = self._results.order, self.ledger
        while ledger.stream is None and not ledger.ready(task):
            ledger.wait(lambda at=read: ledger.ready(task) or len(order) > at)  # type: ignore[misc]
            if read < len(order):
                with suppress(Exception):  # what cannot be read is met in its turn
                    if not (values := order[read].values).each:
                        values.plain()
                read += 1
        return read

    def _values(self, part: Part, start: int) -> Iterable[Any]:
        """The values of a part from a position on, at C speed where they are plain."""
        if not part.values.each:
            return part.values.plain()[start:] if start else part.values.plain()
        return (self._load(part, position, part.tasks[position]) for position in range(start, len(part.tasks)))

    def _load(self, part: Part, position: int, task: int) -> Any:
        try:
            return part.values[position]
        except Exception as error:  # whatever unpickling a user's class raises
            gone = isinstance(error, (MissingKey, Damaged))
            if gone and self.ledger.makes_anew(part, task) and self._wait_for(task):
                return self._give(task)
            lost = self._results.unreadable(task, error)
            if self.ledger.errors == "raise":
                raise lost from error
            return lost

    def _give(self, task: int) -> Any:
        """The result of a task that is settled, or its error."""
        with self._session.lock:
            found = self._results.part_of(task)
        if found is not None:
            return self._load(*found, task)
        if self.ledger.errors == "raise" or self.ledger.too_many():
            raise self.ledger.exception(task)
        return self._results.task_error(task)

    def _took(self, task: int) -> None:
        """Iteration in order has come so far. A stream gives each result once."""
        ledger = self.ledger
        if ledger.stream is None:
            return
        with self._session.lock:
            if not ledger.keep_all:
                self._results.release(task)
        ledger.take(max(0, task - ledger.taken))

    async def until_ended(self) -> None:
        """Wait, in a running loop, until the run has ended."""
        await self._async_until(lambda: self.ledger.ended)

    async def _await(self) -> list[Any]:
        self.ledger.want_all()
        await self._async_until(self.ledger.failed_early)
        return list(self._iterate())

    async def _async_until(self, condition: Callable[[], bool]) -> None:
        import asyncio  # 30 ms, and only asked for where a loop runs already

        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def waiter() -> None:
            loop.call_soon_threadsafe(event.set)

        self.ledger.waiters.append(waiter)
        try:
            while not condition():
                await event.wait()
                event.clear()
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self.ledger.waiters.remove(waiter)
