"""The far side: load a function, run it over the items of one call, time it, commit, answer.

The same on every compute, and it knows no session. A compute gives it a `Worker` and calls `handle`.
"""

from __future__ import annotations

import os
import pickle
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, starmap
from typing import Any

from fnmap.errors import StoreError
from fnmap.format.call import Call, Failure, Form, Job, Report
from fnmap.format.inputs import InputLost
from fnmap.format.payload import Values, load, pack
from fnmap.format.plain import Columns
from fnmap.format.travel import dump_exception, to_client
from fnmap.storage.base import create_parts, open_object

FAST_LAP_S, SLOW_LAP_S = 50e-6, 1e-3  # laps are made longer below, shorter above
LAP_TASKS = 4096
LOG_TAIL_LINES = 50
REPR_CHARS = 200
MISSING = "FNMAP_MISSING"  # what mends a ModuleNotFoundError where this runs, if anything is known

Mark = Callable[[int, int], None]


def _no_mark(first: int, count: int) -> None:
    """Nobody watches."""


@dataclass(slots=True)
class Worker:
    """What lasts between calls: the jobs that were loaded, and where the world is told what goes on.

    `mark(first, count)` is called before each lap with the positions that run next, `end_lines()` before
    the log is read. `fatal` are the exceptions that end the worker rather than the task.
    """

    mark: Mark = _no_mark
    end_lines: Callable[[], None] = lambda: None
    fatal: tuple[type[BaseException], ...] = ()
    jobs: dict[str, Job] = field(default_factory=dict)
    log: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=LOG_TAIL_LINES))
    position: Callable[[], int | None] = lambda: None
    tasks: Sequence[int] = ()
    _loaded: dict[str, tuple[Callable[..., Any], tuple[type[BaseException], ...]]] = field(default_factory=dict)

    def task(self) -> int:
        """The task that runs now, or -1."""
        position = self.position()
        return self.tasks[position] if position is not None and position < len(self.tasks) else -1

    def note(self, task: int, lines: str) -> None:
        """A task has printed or logged these whole lines."""
        self.log.extend((task, line) for line in lines.splitlines(keepends=True))

    def last_words(self, task: int) -> str:
        """The tail of what a task of this call printed and logged."""
        self.end_lines()
        return "".join(line for at, line in self.log if at == task)

    def run(self, call: Call) -> Report:
        """Carry out a call."""
        begun = time.perf_counter()
        try:
            function, retry_on = self._load(call.job)
        except Exception as error:  # whatever unpickling the user's function raises
            return self._all_failed(call, error)
        self.log.clear()
        lap = _Laps(self, call, function, retry_on)
        fetched = time.perf_counter()
        lap.run()
        ran = time.perf_counter()
        report = self._answer(call, lap)
        report.stats |= {
            "pid": os.getpid(),
            "fetch_s": fetched - begun,
            "run_s": ran - fetched,
            "commit_s": time.perf_counter() - ran,
        }
        return report

    def _load(self, job: Job) -> tuple[Callable[..., Any], tuple[type[BaseException], ...]]:
        for gone in self._loaded.keys() - self.jobs.keys() - {job.key}:
            del self._loaded[gone]
        kept = self._loaded.get(job.key)
        if kept is None:
            fn, kwargs = job.live or load(job.frames, lambda key: open_object(job.scratch, key))
            kept = _bind(fn, kwargs, job.form), (pickle.loads(job.retry_on) if job.retry_on else ())
            if job.live is None:
                self._loaded[job.key] = kept
        return kept

    def _all_failed(self, call: Call, error: BaseException) -> Report:
        failure = describe(error, kind="lost", prefix="the function could not be loaded by the worker: ")
        n = len(call.tasks)
        report = Report(n, dict.fromkeys(range(n), failure), arrow=call.job.arrow)
        report.values = encode([None] * n, report)
        return report

    def _answer(self, call: Call, laps: _Laps) -> Report:
        report = Report(len(laps.out), laps.failures, laps.laps, arrow=call.job.arrow)
        report.values = encode(laps.out, report)
        try:
            if call.commit is not None:
                from fnmap.format.parts import commit  # pyarrow: only durable runs pay for it

                report.committed = commit(call, laps.out, report)
            if report.values.nbytes > call.inline_bytes:
                self._spill(call, report, report.values.frames())
        except StoreError as error:  # no room, no permission: it is not the tasks' fault, nor this worker's
            ours = type(error).__module__ == StoreError.__module__
            none = Report(0, fault=error if ours else StoreError(repr(error)), arrow=call.job.arrow)
            none.values = encode([], none)
            return none
        return report

    @staticmethod
    def _spill(call: Call, report: Report, frames: list[Any]) -> None:
        report.values = None
        if report.committed == "won":
            return  # it is read back from there
        scratch = call.job.scratch
        if scratch is None or call.spill is None:
            raise RuntimeError("the compute limits the size of an answer but gives no place for larger ones")
        create_parts(scratch, call.spill, pack(frames))
        report.spilled = call.spill


def _bind(fn: Callable[..., Any], kwargs: dict[str, Any], form: Form) -> Callable[..., Any]:
    """The function as it is applied to an item."""
    if form == "call":
        return lambda item: fn(*item[0], **kwargs, **item[1])
    if not kwargs:
        return fn

    def bound(*args: Any) -> Any:
        return fn(*args, **kwargs)

    return bound


class _Laps:
    """The items of one call, run lap by lap: single tasks while they are slow, thousands while they are
    fast, so that the clock is read seldom and yet every slow task is timed alone."""

    def __init__(
        self, worker: Worker, call: Call, fn: Callable[..., Any], retry_on: tuple[type[BaseException], ...]
    ) -> None:
        self.worker, self.call, self.fn, self.retry_on = worker, call, fn, retry_on
        self.items = call.arguments()
        self.out: list[Any] = []
        self.failures: dict[int, Failure] = {}
        self.laps: list[tuple[int, float]] = []

    def run(self) -> None:
        call, clock = self.call, time.perf_counter
        total, items = len(self.items), iter(self.items)
        self.worker.tasks, self.worker.position = call.tasks, self.out.__len__
        deadline = None if call.budget_s is None else clock() + call.budget_s
        lap = 1
        while (begin := len(self.out)) < total:
            lap = min(lap, total - begin)
            self.worker.mark(begin, lap)
            started = clock()
            if deadline is not None and started > deadline and begin:
                break
            self._lap(items, lap)
            seconds = clock() - started
            self.laps.append((len(self.out) - begin, seconds))
            if call.job.timeout_s is not None:
                continue  # who enforces the limit must see each task start
            if seconds < FAST_LAP_S:
                lap = min(lap * 4, LAP_TASKS)
            elif seconds > SLOW_LAP_S:
                lap = max(1, lap // 4)

    def _lap(self, items: Iterator[Any], count: int) -> None:
        """One lap at C speed. list.extend keeps what came before an exception, so the failing task is the
        one after the last result, and its mates are none the worse for it."""
        out, expected = self.out, len(self.out) + count
        apply: Callable[..., Iterable[Any]] = starmap if self.call.job.form == "args" else map
        try:
            out.extend(apply(self.fn, islice(items, count)))
            if len(out) < expected:  # StopIteration out of the function looks like the end of the items
                raise RuntimeError("the function raised StopIteration")
        except self.worker.fatal:
            raise
        except InputLost as lost:  # out of the items, not of the function
            self.failures[len(out)] = Failure("input", lost.key, traceback=lost.why)
            out.append(None)
        except BaseException as error:  # a task may raise anything, SystemExit too; it is the task's own
            self.failures[len(out)] = self._describe(error, len(out))
            out.append(None)

    def _describe(self, error: BaseException, position: int) -> Failure:
        log = self.worker.last_words(self.call.tasks[position])
        try:
            item = short_repr(self.items[position])
        except Exception as unreadable:  # the item's own __setstate__ or a class that is missing here
            item = f"<item that cannot be read: {unreadable!r}>"
        retryable = isinstance(error, self.retry_on)
        return describe(error, item=item, log=log, retryable=retryable, live=self.call.job.live is not None)


def short_repr(obj: object) -> str:
    """The repr of an object, cut to a length that reads well in an error."""
    try:
        text = repr(obj)
    except Exception as error:  # a user's __repr__ may raise anything
        text = f"<{type(obj).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= REPR_CHARS else text[: REPR_CHARS - 1] + "…"


def describe(
    error: BaseException,
    *,
    kind: str = "raised",
    prefix: str = "",
    item: str = "",
    log: str = "",
    retryable: bool = False,
    live: bool = False,
) -> Failure:
    """What the client is told of an exception."""
    if isinstance(error, ModuleNotFoundError) and (mend := os.environ.get(MISSING)):
        error.add_note(mend)
    message = prefix + "".join(traceback.format_exception_only(error)).strip()
    exception = error if live else dump_exception(error)
    return Failure(kind, message, exception, _trace(error), log, retryable, item)


def _trace(error: BaseException) -> str:
    """The traceback without the frames of this module."""
    lines = traceback.TracebackException.from_exception(error)
    lines.stack = traceback.StackSummary.from_list([f for f in lines.stack if f.filename != __file__])
    return "".join(lines.format())


def encode(values: list[Any], report: Report) -> Values | Columns:
    """The results as they travel. One that cannot becomes a failure of its own task."""
    failures = report.failures
    if report.arrow:
        for at, failure in failures.items():
            failures[at] = failure.text_only()
        columns, lost = Columns.of(values)
        for at, why in lost.items():
            failures[at] = Failure("lost", f"the result cannot travel: {why}")
        return columns

    def on_error(at: int, cause: Exception) -> None:
        kind = type(values[at])
        prefix = f"the result, a {kind.__module__}.{kind.__qualname__}, cannot be pickled: "
        failures[at] = describe(cause, kind="lost", prefix=prefix)
        values[at] = None

    return Values.of(values, to_client, on_error=on_error)
