"""The verbs over a default session: `fnmap.map` and its kin."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from fnmap.compute.base import Compute
from fnmap.compute.open import open_compute
from fnmap.options import Optioned, Options, ReduceOptions, SessionOptions, StarOptions, check_names, shows
from fnmap.run import Run
from fnmap.session import Session
from fnmap.storage.base import Store

if TYPE_CHECKING:
    from datetime import timedelta

    from fnmap.collect import Collected
    from fnmap.plan_run import PlanRun
    from fnmap.plans import Plan

_used: ContextVar[Session | None] = ContextVar("fnmap_session", default=None)
_kept: dict[tuple[Any, Any], Session] = {}
_lock = threading.Lock()


def session_for(on: str | Compute | None = None, store: str | Path | Store | None = None) -> Session:
    """The session that a verb runs in: one for each pair of compute and store, kept for the next time."""
    used = _used.get()
    if on is None and store is None and used is not None and used.usable:
        return used
    if used is not None:
        on, store = (used.on if on is None else on), (used.given_store if store is None else store)
    on = on or ("inline" if os.environ.get("FNMAP_WORKER") else "local")  # in a worker, all cores are taken
    if not isinstance(on, str) and not isinstance(on, Compute):
        open_compute(on)  # says what is wrong with it
    key = (on if isinstance(on, str) else id(on), str(store) if isinstance(store, (str, Path)) else id(store))
    with _lock:
        session = _kept.get(key)
        if session is None or not session.usable:
            session = _kept[key] = Session(on=on, store=store)
        return session


def _session_of(fn: object, on: str | Compute | None, store: str | Path | Store | None) -> Session:
    """The session that the call names, or else the options of a task."""
    if isinstance(fn, Optioned):
        on = fn.options.get("on") if on is None else on
        store = fn.options.get("store") if store is None else store
    return session_for(on, store)


@shows(SessionOptions)
def use(
    *, on: str | Compute = "local", store: str | Path | Store | None = None, **options: Unpack[SessionOptions]
) -> AbstractContextManager[Session]:
    """Run the verbs of this block, and of all that it calls, on this compute and store. `options` as of Session."""
    check_names(SessionOptions, "use", options, "on", "store")
    return _use(on, store, options)


@contextmanager
def _use(on: str | Compute, store: str | Path | Store | None, options: SessionOptions) -> Iterator[Session]:
    with Session(on=on, store=store, **options) as session:
        token = _used.set(session)
        try:
            yield session
        finally:
            _used.reset(token)


def plan(name: str = "plan") -> Plan:
    """A plan: stages and tasks that depend on each other. Add to it, then `run` it; see Plan."""
    from fnmap.plans import Plan

    return Plan(name)


@shows(Options)
def map(  # noqa: A001 - it is the builtin's name because it is the builtin's meaning
    fn: Callable[..., Any],
    *iterables: Iterable[Any],
    on: str | Compute | None = None,
    store: str | Path | Store | None = None,
    **options: Unpack[Options],
) -> Run:
    """Apply `fn` to each item of the iterables, in parallel. Starts at once and returns a Run.

    As the builtin: several iterables give several arguments, and an item is never unpacked. An iterable may be a
    run, and items and values of `kwargs` may be futures and runs: these are waited for in the background, and what
    fails of them ends the run; with `name` or `cost`, and in this process, they are waited for before it starts.

    - `kwargs`: the same keywords for every call.
    - `ordered`: iterating the run gives results in the order of the items, else as they arrive.
    - `errors`: "raise" stops the run at the first task that fails and raises its own exception; "return"
      puts a TaskError in its place; "skip" leaves it out; Tolerate(share) is "return" up to that share
      of the tasks, and "raise" beyond.
    - `retries`: how often a task that raised is tried again, or a Retry. A worker that dies is replaced
      and costs the task nothing, three times; a task that kills its worker more often has failed. One that was out
      of memory has more of it the next time, where the compute has any: see Retry.
    - `timeout`: seconds for one task; then its worker is killed, with its children.
    - `chunksize`: tasks that travel together; "auto" adapts it to how long they take.
    - `buffersize`: of iterators without a length, how many items may be drawn ahead of the results taken.
    - `strict`: iterables of unequal length are an error.
    - `cost`: expected cost of each item, in any unit, or a function of the item that gives it: the
      longest start first.
    - `limit`: calls at once, at most; say, to spare a database.
    - `idempotent`: may a call that straggles be tried a second time beside the first? By default where the
      compute is of many machines.
    - `priority`: of two runs of a session, the one of higher priority gets free workers first.
    - `cache`: take results of earlier runs from the store where function and item are the same, and compute the
      rest. What makes a function the same is all that it is made of; a text is its version, and its code is not looked
      at.
    - `name`: keep results in the store under this name: they outlast this process (`attach`), and the
      same call continues where it was.
    - `results`: "arrow" for results that are Arrow columns and nothing else: no result or exception is unpickled in
      this process. A result that only a pickle can hold fails its task; one that raised gives a TaskError with the
      text.
    - `on`, `store`: as of Session. `progress`: a bar; by default where a terminal or notebook shows it.

    Raises UsageError for an argument that is wrong, before anything starts.
    """
    check_names(Options, "map", options, "on", "store")
    return _session_of(fn, on, store).map(fn, *iterables, **options)


@shows(StarOptions)
def starmap(
    fn: Callable[..., Any],
    iterable: Iterable[Iterable[Any]],
    *,
    on: str | Compute | None = None,
    store: str | Path | Store | None = None,
    **options: Unpack[StarOptions],
) -> Run:
    """As `map`, of items each of which is the tuple of the function's arguments. Options as of `map`."""
    check_names(StarOptions, "starmap", options, "on", "store")
    return _session_of(fn, on, store).starmap(fn, iterable, **options)


def submit(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """One call of the function, in the default session; a concurrent.futures.Future.

    All arguments are the function's. In the place of one that is a future or a run, it gets the results: the call
    starts when they are there, and fails if one fails. For a call that is tried again, or has a limit of time, make a
    task of it: `fnmap.task(retries=2, timeout=60)(fn).submit(...)`.
    """
    return _session_of(fn, None, None).submit(fn, *args, **kwargs)


@shows(ReduceOptions)
def map_reduce(
    fn: Callable[..., Any],
    items: Iterable[Any],
    reduce_fn: Callable[[list[Any]], Any],
    *,
    by: Callable[[Any], Any] | None = None,
    fan_in: int = 32,
    on: str | Compute | None = None,
    store: str | Path | Store | None = None,
    **options: Unpack[ReduceOptions],
) -> Future[Any]:
    """Apply `fn` to the items and combine the results, on the workers, in a tree.

    `reduce_fn` takes a list of at most `fan_in` results, or of what it returned before, and returns one.
    They come in the order of the items, whatever the order in which they were computed. With `by`, a
    function of the item that gives a key, each group is reduced by itself, and the future's result is a
    dict of the keys in order of first appearance. Options as of `map`, but for `ordered` and `name`.
    """
    check_names(ReduceOptions, "map_reduce", options, "by", "fan_in", "on", "store")
    return _session_of(fn, on, store).map_reduce(fn, items, reduce_fn, by=by, fan_in=fan_in, **options)


def attach(run_id: str, *, on: str | Compute | None = None, store: str | Path | Store | None = None) -> Run | PlanRun:
    """The named run, also of another process. Raises RunNotFound."""
    return session_for(on, store).attach(run_id)


def runs(*, on: str | Compute | None = None, store: str | Path | Store | None = None) -> list[Any]:
    """What is in the store: a RunInfo for each named run, newest first. With `on="lambda"`, that of the deployment."""
    return session_for(on, store).runs()


def gc(
    older_than: str | float | timedelta,
    *,
    on: str | Compute | None = None,
    store: str | Path | Store | None = None,
    dry_run: bool = False,
) -> Collected:
    """Delete named runs that have ended before that time, or whose driver is dead and was last heard of before it:
    "7d", "12h", "30m", seconds, or a timedelta. Live runs stay, and parts in which cached results are. Returns what was
    deleted; with `dry_run`, what would be."""
    return session_for(on, store).gc(older_than, dry_run=dry_run)


def close() -> None:
    """Stop all sessions that the verbs have opened, with their runs and workers."""
    with _lock:
        sessions = list(_kept.values())
        _kept.clear()
    for session in sessions:
        session.close()


def _in_child() -> None:
    """A forked child shares neither the workers nor the locks of its parent."""
    global _lock
    _lock = threading.Lock()
    _kept.clear()


os.register_at_fork(after_in_child=_in_child)
