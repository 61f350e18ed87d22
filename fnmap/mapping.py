"""Start a map in a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fnmap import build
from fnmap.awaited import all_arrived
from fnmap.errors import UsageError
from fnmap.format import keys
from fnmap.format.call import Form, Job
from fnmap.observe.events import RunStarted
from fnmap.options import MapOptions
from fnmap.planning.schedule import Schedule
from fnmap.run import Run
from fnmap.shared import Shared
from fnmap.source import Items, Stream
from fnmap.stage import Stage

if TYPE_CHECKING:
    from fnmap.caching import Cached
    from fnmap.ledger import Ledger
    from fnmap.session import Session


def start_map(
    session: Session, fn: Callable[..., Any], iterables: Sequence[Iterable[Any]], form: Form, options: MapOptions
) -> Run:
    """A run that has started. Everything that can be wrong with the function and the items is raised here."""
    build.check_function(fn)
    limits, name = session.compute.limits, options.name
    if session.results is not None and options.results is None:
        options = replace(options, results=session.results)
    if options.cache and options.results == "arrow":
        raise UsageError('cache= takes results of other runs, which may be pickles: leave it out with results="arrow"')
    taken, options = build.take_items(iterables, form, options, in_process=limits.in_process)
    costs = None if taken.items is None else build.check_costs(options.cost, taken.items, form)
    live_id = build.new_run_id()
    if options.cache and taken.items is None:
        raise UsageError("cache= needs items that are all there: pass a list, not an iterator")
    if options.cache and name is None:
        from fnmap.caching import new_name

        name = new_name()
    run_id = live_id if name is None else name
    run = Run(session, run_id, build.label(fn), options.errors, ordered=options.ordered)
    shared = build.new_shared(session, live_id)
    source = None if taken.items is None else Items(taken.items, shared, plain=taken.plain)
    make_job = partial(_make_job, session, fn, form=form, shared=shared, ledger=run.ledger)
    job = _NO_JOB if taken.late else make_job(options)
    schedule = options.schedule(limits, costs)
    if source is not None:
        schedule.add(len(source))
        run.ledger.results.grow(len(source))
    if name is not None:
        cached = None
        if options.cache and taken.items is not None:
            cached = _cache(session, fn, taken.items, form, options, run_id)
        _make_durable(session, run, fn, options, job, source, schedule, cached)
    run.ledger.show_progress(session.progress if options.progress is None else options.progress)
    run.ledger.emit(RunStarted(run_id, run.function, None if taken.items is None else len(taken.items)))
    stage = Stage(live_id, schedule, _NO_ITEMS if source is None else source, job, run.ledger, run.ledger.durable)
    if taken.drawn is not None:
        drawn = _after_keywords(stage, taken.drawn, make_job, options) if taken.late else taken.drawn
        _start_stream(session, stage, run.ledger, drawn, options, keep=taken.keep)
    else:
        schedule.close()
        run.ledger.hold(stage)
        session.drive(stage, priority=options.priority)
    return run


def _cache(
    session: Session, fn: Callable[..., Any], items: Sequence[Any], form: Form, options: MapOptions, run_id: str
) -> Cached:
    from fnmap.caching import Cached

    return Cached.of_items(session.store, fn, items, form, options, run_id)


def _make_job(
    session: Session,
    fn: Callable[..., Any],
    options: MapOptions,
    *,
    form: Form,
    shared: Shared | None,
    ledger: Ledger,
) -> Job:
    job = build.make_job(session, fn, options, form=form, shared=shared)
    if shared is not None:
        shared.clear_with(ledger)
    return job


def _make_durable(
    session: Session,
    run: Run,
    fn: Callable[..., Any],
    options: MapOptions,
    job: Job,
    source: Items | None,
    schedule: Schedule,
    cached: Cached | None,
) -> None:
    from fnmap.durable import begin, take_over  # only named runs pay for the import

    begin(session, run, fn, options, job, source)
    try:
        if _number(run) > 0:
            take_over(run, schedule, session.store)
        if cached is not None:
            cached.fill(run.ledger, schedule, None if options.name is None else keys.hits(run.id, _number(run)))
            run.ledger.on_end = cached.write
            if run.ledger.durable is not None:
                run.ledger.durable.on_beat = cached.write_some
    except BaseException:
        if run.ledger.durable is not None:
            run.ledger.durable.rest(session)  # the name is free again
        raise


def _number(run: Run) -> int:
    return 0 if run.ledger.durable is None else run.ledger.durable.number


_NO_JOB: Any = None  # before the function's keywords are there
_NO_ITEMS: Any = None


def _after_keywords(
    stage: Stage, items: Iterator[Any], make_job: Callable[[MapOptions], Job], options: MapOptions
) -> Iterator[Any]:
    """The items of a stage whose function has to wait for its keywords."""
    stage.job = make_job(replace(options, kwargs=all_arrived(options.kwargs or {})))
    yield from items


def _start_stream(
    session: Session, stage: Stage, ledger: Ledger, items: Iterator[Any], options: MapOptions, *, keep: bool
) -> None:
    """Items come as they are drawn: a thread draws, unless calls run in the caller's own."""
    stream = stage.source = Stream(
        items, room=ledger.stream_room, hungry=session.has_room, add=ledger.stream_add, end=ledger.stream_end, keep=keep
    )
    ledger.keep_all = keep
    ledger.hold(stage, stream, options.buffersize)
    session.drive(stage, priority=options.priority)
    stream.start(threaded=not session.compute.limits.in_process)
