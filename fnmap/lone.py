"""One call of a function, as a future: `submit`.

Where a slot is free and nothing else waits, it goes to the compute at once, and its answer to the future. Whatever
is not that plain (a compute that is busy, a worker that died, a result that was left in the scratch store) is
a stage of one task, as all else.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from fnmap import build
from fnmap.awaited import Later, any_awaited
from fnmap.errors import CallTimeout, NotPicklable, Throttled, WorkerLost
from fnmap.format import keys
from fnmap.format.call import Call, Failure, Job, Report
from fnmap.format.payload import Values
from fnmap.options import DEFAULTS, MapOptions
from fnmap.planning.policy import ChunkPolicy
from fnmap.planning.schedule import Schedule
from fnmap.results import Results
from fnmap.source import Items
from fnmap.stage import Part, Stage

if TYPE_CHECKING:
    from fnmap.session import Session


def start_call(
    session: Session,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: MapOptions = DEFAULTS,
    future: CallFuture | None = None,
) -> Future[Any]:
    """One call of the function, as a future. Of the options, `retries` and `timeout` have a meaning here. It waits
    for arguments that are futures or runs."""
    build.check_function(fn)
    in_process = session.compute.limits.in_process
    if future is None and any_awaited(args, kwargs):
        later = CallFuture()
        start = partial(start_call, session, fn, options=options, future=later)
        Later(session, later, args, kwargs, start, in_place=in_process)
        return later
    run_id, future = build.new_run_id(), future or CallFuture()
    shared = build.new_shared(session, run_id)
    source = Items([(args, kwargs)], shared)
    job = build.make_job(session, fn, options, form="call", shared=shared)
    if shared is not None:
        shared.clear_with(future)
    lone = _Lone(session, fn, run_id, source, job, options, future)
    if in_process or options.retries or options.timeout is not None or not lone.go():
        lone.drive()
    return future


class CallFuture(Future[Any]):
    """The result of `submit`. A waiting Ctrl-C, or cancel() before it has started, withdraws the call."""

    _withdraw: Callable[[], bool] | None = None
    _is_out: Callable[[], bool] | None = None

    def cancel(self) -> bool:
        """Withdraw the call if it has not started yet."""
        if self._withdraw is None or not self._withdraw():
            return False
        return super().cancel() and not self.set_running_or_notify_cancel()  # so that who waits for it hears

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("a Future cannot be sent to or from a worker: send its result()")

    def running(self) -> bool:
        """Is the call with a worker?"""
        return self._is_out is not None and not self.done() and self._is_out()


class _Lone:
    """One call on its way to its future."""

    def __init__(
        self,
        session: Session,
        fn: Callable[..., Any],
        run_id: str,
        source: Items,
        job: Job,
        options: MapOptions,
        future: CallFuture,
    ) -> None:
        self.session, self.fn, self.run_id, self.source = session, fn, run_id, source
        self.job, self.options, self.future = job, options, future

    def go(self) -> bool:
        """Send the call at once. False if it has to take its turn."""
        items, limits = self.source.encode(ONE_TASK), self.session.compute.limits
        if items.nbytes > limits.payload_bytes or not self.session.enter(self.future):
            return False
        spill = keys.spill(self.run_id, 0, 1)
        call = Call(self.run_id, self.job, ONE_TASK, items, inline_bytes=limits.payload_bytes, spill=spill)
        self.future._is_out = _yes
        try:
            answer = self.session.compute.submit(call)
        except BaseException as error:
            self.session.leave(self.future)
            self.future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return True
        answer.add_done_callback(self._answered)
        return True

    def _answered(self, answer: Future[Report]) -> None:
        self.session.leave(self.future)
        error, future = answer.exception(), self.future
        report = None if error is not None else answer.result()
        if report is not None and report.fault is not None:  # it could not be put where large results go
            error, report = report.fault, None
        if report is None or report.values is None or report.failures:
            self._take_up(report, error)
            return
        try:
            value = report.values[0]
        except Exception as unreadable:
            future.set_exception(Results(build.label(self.fn)).unreadable(0, unreadable))
        else:
            future.set_result(value)
        self.session.pump()

    def _take_up(self, report: Report | None, error: BaseException | None) -> None:
        """What is not a plain answer is for a stage to judge."""
        try:
            if isinstance(error, CallTimeout):  # over the limit of the compute: it has none of its own
                report = Report(1, {0: Failure("timeout", str(error), log=error.log)}, values=Values.of_plain([None]))
            elif isinstance(error, Throttled):
                self.session.hold(error)
            elif error is not None and not isinstance(error, WorkerLost):
                raise error
            self.drive(report, lost=isinstance(error, WorkerLost))
        except BaseException as wrong:  # whatever it is, somebody waits for the future
            self.future.set_exception(wrong)

    def drive(self, report: Report | None = None, *, lost: bool = False) -> None:
        """Make it a stage, and settle it with a report that is there, or let it take its turn."""
        limits = self.session.compute.limits
        schedule = Schedule(slots=limits.slots, chunks=ONE, retry=self.options.retry)
        schedule.add(1)
        schedule.close()
        if lost:
            schedule.blame(0)
        sink = _One(self.session, build.label(self.fn), self.future)
        stage = Stage(self.run_id, schedule, self.source, self.job, sink)
        if report is not None:
            stage.settle(report)
            sink.tell()
            return
        sink.hold(stage)
        self.session.drive(stage)


class _One:
    """Takes in the result of one call, for its future."""

    brief = True

    def __init__(self, session: Session, function: str, future: CallFuture) -> None:
        self.future, self.stage = future, _NO_STAGE
        self._session, self._results = session, Results(function)
        self._results.grow(1)
        self._error: BaseException | None = None
        self._over = False

    def hold(self, stage: Stage) -> None:
        """Take on the stage; from now on the future can withdraw it."""
        self.stage = stage
        self.future._withdraw, self.future._is_out = self._withdraw, lambda: bool(stage.running)

    def arrived(self, part: Part, report: Report) -> None:  # noqa: ARG002 - as of Sink
        self._results.put(part)

    def failed(self, task: int, failure: Failure) -> None:
        self._results.failures[task] = failure

    def skipped(self, task: int) -> None:
        """Not of a lone call."""

    def end(self, error: BaseException | None) -> None:
        self._error, self._over = error, True

    def gives_up(self) -> bool:
        return True

    def finish(self) -> None:
        wait([self.future])

    def tell(self) -> None:
        if not self._over or self.future.done():
            return
        self.future._withdraw = self.future._is_out = None  # they refer back to here
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            error = self._error or (self._results.error(0) if self._results.failures else None)
            value = None if error else self._results.value(0)
        except Exception as unreadable:  # a result that does not load here
            error, value = unreadable, None
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)

    def _withdraw(self) -> bool:
        with self._session.lock:
            if self.stage.running or self._over:
                return False
            self.stage.schedule.halt()
            self.stage.over = True
            return True


def _yes() -> bool:
    return True


ONE, ONE_TASK = ChunkPolicy(fixed=1), range(1)
_NO_STAGE: Any = None
