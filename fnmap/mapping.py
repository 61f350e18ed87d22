"""Start a map or a single call in a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from fnmap import build
from fnmap.errors import NotPicklable, UsageError
from fnmap.format.call import Failure, Form, Job, Report
from fnmap.observe.events import RunStarted
from fnmap.options import DEFAULTS, MapOptions
from fnmap.planning.policy import ChunkPolicy
from fnmap.planning.schedule import Schedule
from fnmap.results import Results
from fnmap.run import Run
from fnmap.source import Items, Stream, zip_items
from fnmap.stage import Part, Stage

if TYPE_CHECKING:
    from fnmap.caching import Cached
    from fnmap.session import Session


def start_map(
    session: Session, fn: Callable[..., Any], iterables: Sequence[Iterable[Any]], form: Form, options: MapOptions
) -> Run:
    """A run that has started. Everything that can be wrong with the function and the items is raised here."""
    build.check_function(fn)
    limits, name = session.compute.limits, options.name
    items = build.gather_items(iterables, strict=options.strict, form=form)
    if items is None and options.cost is not None:
        raise UsageError("cost= needs items that are all there: pass a list, not an iterator")
    costs = None if items is None else build.check_costs(options.cost, items, form)
    live_id = build.new_run_id()
    if options.cache and items is None:
        raise UsageError("cache= needs items that are all there: pass a list, not an iterator")
    if options.cache and name is None:
        from fnmap.caching import new_name

        name = new_name()
    run_id = live_id if name is None else name
    run = Run(session, run_id, build.label(fn), options.errors, ordered=options.ordered)
    shared = None if limits.in_process else build.Shared(lambda: session.scratch, live_id)
    source = None if items is None else Items(items, shared)
    job = build.make_job(session, fn, options, form=form, shared=shared)
    if shared is not None:
        shared.clear_with(run)
    schedule = options.schedule(limits, costs)
    if source is not None:
        schedule.add(len(source))
        run.ledger.results.grow(len(source))
    if name is not None:
        cached = None if not options.cache or items is None else _cache(session, fn, items, form, options, run_id)
        _make_durable(session, run, fn, options.kwargs or {}, job, source, schedule)
        if cached is not None:
            cached.fill(run.ledger, schedule)
            run.ledger.on_end = partial(cached.write, run.ledger)
    run.ledger.show_progress(session.progress if options.progress is None else options.progress)
    run.ledger.emit(RunStarted(run_id, run.function, None if items is None else len(items)))
    if source is None:
        _start_stream(session, run, live_id, iterables, options, form, schedule, job)
    else:
        schedule.close()
        run.ledger.hold(Stage(live_id, schedule, source, job, run.ledger, run.ledger.durable))
        session.drive(run.ledger.stage, priority=options.priority)
    return run


def _cache(
    session: Session, fn: Callable[..., Any], items: Sequence[Any], form: Form, options: MapOptions, run_id: str
) -> Cached:
    from fnmap.caching import Cached

    return Cached.of_items(session.store, fn, items, form, options, run_id)


def _make_durable(
    session: Session,
    run: Run,
    fn: Callable[..., Any],
    kwargs: Mapping[str, Any],
    job: Job,
    source: Items | None,
    schedule: Schedule,
) -> None:
    from fnmap.durable import begin, take_over  # only named runs pay for the import

    begin(session, run, fn, kwargs, job, source)
    if run.ledger.durable is not None and run.ledger.durable.number > 0:
        take_over(run, schedule, session.store)


def start_call(
    session: Session,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: MapOptions = DEFAULTS,
) -> Future[Any]:
    """One call of the function, as a future. Of the options, `retries` and `timeout` have a meaning here."""
    build.check_function(fn)
    limits = session.compute.limits
    run_id = build.new_run_id()
    shared = None if limits.in_process else build.Shared(lambda: session.scratch, run_id)
    source = Items([(args, kwargs)], shared)
    job = build.make_job(session, fn, options, form="call", shared=shared)
    schedule = Schedule(slots=limits.slots, chunks=ONE, retry=options.retry)
    sink = _One(session, build.label(fn))
    if shared is not None:
        shared.clear_with(sink.future)
    schedule.add(1)
    schedule.close()
    sink.stage = Stage(run_id, schedule, source, job, sink)
    session.drive(sink.stage)
    return sink.future


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


class _One:
    """Takes in the result of one call, for its future."""

    brief = True

    def __init__(self, session: Session, function: str) -> None:
        self.future, self.stage = CallFuture(), _NO_STAGE
        self.future._withdraw, self.future._is_out = self._withdraw, lambda: bool(self.stage.running)
        self._session, self._results = session, Results(function)
        self._results.grow(1)
        self._error: BaseException | None = None
        self._over = False

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


ONE = ChunkPolicy(fixed=1)
_NO_STAGE: Any = None


def _start_stream(
    session: Session,
    run: Run,
    live_id: str,
    iterables: Sequence[Iterable[Any]],
    options: MapOptions,
    form: Form,
    schedule: Schedule,
    job: Job,
) -> None:
    """Items come as they are drawn: a thread draws, unless calls run in the caller's own."""
    ledger, many = run.ledger, form == "args" and len(iterables) > 1
    drawn = zip_items(iterables, strict=options.strict) if many else iterables[0]
    stream = Stream(
        iter(drawn),
        room=ledger.stream_room,
        hungry=session.has_room,
        add=ledger.stream_add,
        end=ledger.stream_end,
    )
    ledger.hold(Stage(live_id, schedule, stream, job, ledger, ledger.durable), stream, options.buffersize)
    session.drive(ledger.stage)
    stream.start(threaded=not session.compute.limits.in_process)
