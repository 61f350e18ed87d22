"""From the arguments of a map to a stage that runs: function and items are made ready."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fnmap.awaited import all_arrived, any_among, any_awaited, items_arrived
from fnmap.compute.base import is_far
from fnmap.errors import NotCallable, NotPicklable, UsageError
from fnmap.format.call import Form, Job
from fnmap.format.levels import Levels, levels
from fnmap.format.needs import needed
from fnmap.format.payload import Plain, Ref, size
from fnmap.format.stable import same, snapshot
from fnmap.format.travel import dump_function, dumps
from fnmap.options import MapOptions
from fnmap.planning.policy import Retry
from fnmap.planning.spread import CALLS_PER_S, digits_for
from fnmap.run import Awaited
from fnmap.shared import Shared
from fnmap.source import zip_items
from fnmap.storage.many import at_once

if TYPE_CHECKING:
    from fnmap.session import Session
    from fnmap.storage.base import Store

_ids = itertools.count()


def new_run_id() -> str:
    """An id for a run without a name; unique on this machine."""
    return f"r{os.getpid():x}-{next(_ids):x}"


def check_function(fn: object) -> None:
    if not callable(fn):
        raise NotCallable(f"fn must be callable; got {fn!r}, a {type(fn).__name__}")


def label(fn: Callable[..., Any]) -> str:
    """The function's name for people."""
    inner = getattr(fn, "func", fn)  # a partial
    return getattr(inner, "__qualname__", None) or type(inner).__qualname__


def make_job(
    session: Session,
    fn: Callable[..., Any],
    options: MapOptions,
    *,
    form: Form,
    shared: Shared | None,
) -> Job:
    """The function ready to travel. That of a function which has not changed is used again."""
    check_timeout(options, session.compute.limits.task_s)
    heard = levels()
    arrow = (options.results or session.results) == "arrow"
    told = (form, options.retries, options.timeout, heard, arrow)
    made_of = None if options.kwargs or session.compute.limits.in_process else snapshot(fn)
    if made_of is not None:
        before = session.jobs.get(fn)
        if before is None or not same(before[0], made_of):
            before = session.jobs[fn] = (made_of, {})
        if told in before[1]:
            return before[1][told]
    job = replace(_new_job(session, fn, options, form, heard, shared), arrow=arrow)
    if made_of is not None and not any(isinstance(f, Ref) for f in job.frames):
        session.jobs[fn][1][told] = job
    return job


def _new_job(
    session: Session,
    fn: Callable[..., Any],
    options: MapOptions,
    form: Form,
    heard: Levels,
    shared: Shared | None,
) -> Job:
    limits, kwargs = session.compute.limits, options.kwargs or {}
    retry_on, timeout_s = _dump_types(options.retry), options.timeout
    if limits.in_process:
        return Job(f"live-{next(_ids)}", (), form, retry_on, timeout_s, heard, None, (fn, dict(kwargs)))
    try:
        digest, frames = dump_function(fn, kwargs, shared)
        if shared is not None:
            shared.check(frames)
    except NotPicklable as error:  # something of ours, which says what to do
        raise NotPicklable(f"fn={label(fn)} refers to what cannot travel: {error}") from error
    except Exception as error:  # whatever a __reduce__ of what the function refers to raises
        raise NotPicklable(
            f"fn={label(fn)} cannot be sent to a worker: {type(error).__name__}: {error}. Something it refers to"
            " (a global, a closure or a keyword) cannot be pickled; create it inside the function"
        ) from error
    if shared is not None and size(frames) > limits.payload_bytes // 2:
        frames = [f if isinstance(f, Ref) or memoryview(f).nbytes < SMALL_BYTES else shared.put(f) for f in frames]
    made_of = digest, form, retry_on, timeout_s, heard, options.results or session.results
    key = hashlib.blake2b(pickle.dumps(made_of), digest_size=16).hexdigest()
    imports = needed(fn) if is_far(session.compute) else frozenset[str]()
    job = Job(key, frames, form, retry_on, timeout_s, heard, session.scratch, imports=imports)
    if is_far(session.compute):
        session.compute.check(job)
    return job


def part_digits(
    session: Session, store: Store, stages: Iterable[tuple[MapOptions, int | None]], *, reads: bool = False
) -> int:
    """Over how many hex digits the parts of a run of these stages, each with its number of tasks, are spread: as the
    session says, else as many as S3 needs. A store on a disk has no partitions, and pays for each folder."""
    if session.spread is not None or at_once(store) == 1:
        return session.spread or 1
    limits, calls, per_slot = session.compute.limits, 0.0, 1.0
    for options, total in stages:
        fixed = options.chunks(limits.chunk_s).fixed
        calls += math.inf if total is None else total / (fixed or 1)
        if fixed is not None or limits.chunk_s < 1:  # else a call comes to last chunk_s, after a few short ones
            per_slot = CALLS_PER_S
    return digits_for(calls, limits.slots, per_slot=per_slot, reads=reads)


def new_shared(session: Session, run_id: str) -> Shared | None:
    """Where large buffers of a run go; None where calls run in the caller's thread."""
    if session.compute.limits.in_process:
        return None
    check = session.compute.check_size if is_far(session.compute) else None

    def scratch() -> Store:
        check_store(session, session.scratch)
        return session.scratch

    return Shared(scratch, run_id, check)


def check_store(session: Session, store: Store) -> None:
    """Raise what keeps workers from using the store of a run."""
    if is_far(session.compute):
        session.compute.check_store(store)


def check_timeout(options: MapOptions, task_s: float | None) -> None:
    """Raise UsageError for tasks that may take longer than the compute lets them."""
    if task_s is not None and options.timeout is not None and options.timeout > task_s:
        more = f'give them more time (on="lambda": `fnmap deploy --timeout {MOST_S}`), ' if task_s < MOST_S else ""
        raise UsageError(
            f"timeout={options.timeout:g}: a task may take {task_s:g} s at most here; split the tasks, {more}or run"
            ' them where there is no limit, as on="local"'
        )


SMALL_BYTES = 4096
MOST_S = 900  # that Lambda gives a call


def _dump_types(retry: Retry) -> bytes:
    """The exception types that may be retried, pickled."""
    if not retry.retries:
        return b""
    if retry.on == (Exception,):
        return _DEFAULT_TYPES
    return dumps(retry.on)


_DEFAULT_TYPES = pickle.dumps((Exception,))


def check_costs(cost: Any, items: Sequence[Any], form: Form) -> Sequence[float] | None:
    """What each task is expected to take, from a function of the item or a sequence."""
    if cost is None or isinstance(cost, (int, float)):
        return None if cost is None else [float(cost)] * len(items)
    costs = list(cost) if not callable(cost) else [cost(*i) if form == "args" else cost(i) for i in items]
    if len(costs) != len(items):
        raise UsageError(f"cost must have one number an item: {len(items)} items, {len(costs)} costs")
    for at, value in enumerate(costs):
        if not hasattr(value, "__float__") or not value >= 0:
            raise UsageError(f"cost must be numbers >= 0; item {at} has {value!r}")
    return costs


def _has_length(at: int, iterable: Iterable[Any]) -> bool:
    """Can it say now how many items it has? An iterator cannot, and an array without an axis has none. A run is
    drawn from as its results arrive."""
    if isinstance(iterable, Awaited):
        return False
    try:
        return isinstance(iterable, Sized) and len(iterable) >= 0
    except TypeError:
        pass
    try:
        iter(iterable)
    except TypeError as error:
        raise UsageError(f"iterable {at} of the map cannot be iterated: {iterable!r}: {error}") from error
    return False


@dataclass(frozen=True, slots=True)
class Taken:
    """The items of a map: all of them, or an iterator from which they are drawn.

    `plain`: they are known to be. `late`: something is waited for, be it for keywords. `keep`: items that are
    drawn are kept, as those of a list are.
    """

    items: Sequence[Any] | None
    plain: Plain | None = None
    drawn: Iterator[Any] | None = None
    late: bool = False
    keep: bool = False


def take_items(
    iterables: Sequence[Iterable[Any]], form: Form, options: MapOptions, *, in_process: bool
) -> tuple[Taken, MapOptions]:
    """The items, and the options as they hold. Futures and runs among them and the keywords are waited for in the
    background; but at once where calls run in the caller's thread, or all items must be there first."""
    at_once = in_process or options.name is not None or options.cost is not None or bool(options.cache)
    late = any_awaited(iterables, options.kwargs or {})
    if late and at_once:
        iterables = [list(one) if isinstance(one, Awaited) and one.is_kept else one for one in iterables]
        options, late = replace(options, kwargs=all_arrived(options.kwargs or {})), False
    items = gather_items(iterables, strict=options.strict, form=form)
    if items is None:
        if options.cost is not None:
            raise UsageError("cost= needs items that are all there: pass a list, not an iterator")
        many = form == "args" and len(iterables) > 1
        drawn = zip_items(iterables, strict=options.strict) if many else iter(iterables[0])
        keep = late and all(_is_kept(one) for one in iterables)
        return Taken(None, drawn=items_arrived(drawn, form) if late else drawn, late=late, keep=keep), options
    plain = Plain.of(items)
    copied = list(items) if plain is None else plain  # the caller's own may change
    waits = plain is None and any_among(items, form)
    if waits and at_once:
        copied, waits = list(items_arrived(copied, form)), False
        plain = Plain.of(copied)
    if late or waits:
        return Taken(None, drawn=items_arrived(copied, form), late=late, keep=True), options
    return Taken(copied, plain), options


def _is_kept(iterable: Iterable[Any]) -> bool:
    """Will it be there in the end? Then items that are drawn from it are kept as well."""
    return iterable.is_kept if isinstance(iterable, Awaited) else isinstance(iterable, Sized)


def gather_items(iterables: Sequence[Iterable[Any]], *, strict: bool, form: Form) -> Sequence[Any] | None:
    """All items if every iterable has a length, else None: they are drawn as they are needed."""
    for at, iterable in enumerate(iterables):
        if not isinstance(iterable, Iterable) and not hasattr(iterable, "__getitem__"):
            raise UsageError(f"iterable {at} of the map cannot be iterated: {iterable!r}, a {type(iterable).__name__}")
    if not all(_has_length(at, i) for at, i in enumerate(iterables)):
        return None
    if form == "args" and len(iterables) > 1:
        lengths = [len(i) for i in iterables if isinstance(i, Sized)]
        if strict and len(set(lengths)) > 1:
            raise UsageError(f"the iterables must have equal lengths (or pass strict=False); got {lengths}")
        return list(zip(*iterables, strict=False))
    (one,) = iterables
    return one if isinstance(one, (range, tuple)) or type(one) is list else list(one)
