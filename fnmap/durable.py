"""Named runs: what is kept of them in a store, and how a driver takes hold of one."""

from __future__ import annotations

import json
import logging
import pickle
import platform
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fnmap.errors import MissingKey, RunBusy, RunError, StoreError, UsageError
from fnmap.format import keys
from fnmap.format.call import Job, Place, Report
from fnmap.format.payload import Frame, Ref, Values, pack, unpack
from fnmap.format.travel import dump_function, to_worker
from fnmap.planning.schedule import Chunk, Schedule, State
from fnmap.run import Run, Status
from fnmap.source import Items
from fnmap.stage import Part
from fnmap.storage.base import Store, create_parts, open_object
from fnmap.storage.owner import may_live, me
from fnmap.worker import short_repr

if TYPE_CHECKING:
    from fnmap.session import Session

log = logging.getLogger(__name__)
_live: weakref.WeakValueDictionary[tuple[Any, str], Run] = weakref.WeakValueDictionary()
_live_lock = threading.Lock()


class Durable:
    """The store's side of a live run. `number`: its driver's, which is part of every key it commits, as is the
    stage's."""

    def __init__(self, store: Store, name: str, number: int, stage: int = 0) -> None:
        self.store, self.name, self.number, self.stage = store, name, number, stage
        self.live: Run | None = None  # so that `live_here` finds it, though its holder has let go of it

    def place(self, chunk: Chunk) -> Place:
        """Where the chunk's one result is committed."""
        return self.store, keys.part(self.name, self.number, chunk.id, self.stage)

    def seal(self, chunk: Chunk) -> Report | None:
        """Keep late attempts of the chunk from committing; the report that stands if one has already."""
        from fnmap.format.parts import close_off, read_report

        if close_off(*self.place(chunk)):
            return None
        found = read_report(*self.place(chunk))
        return None if found is None else found[1]

    def standing(self, chunk: Chunk, report: Report) -> Report:
        """The report as it counts: of the attempt that committed, with values that are read when needed."""
        from fnmap.format.parts import Stored, read_report

        if report.committed == "won":
            values: Any = report.values or Stored(*self.place(chunk), report.ran)
            report.values = values
            return report
        found = read_report(*self.place(chunk))
        if found is None:
            raise RunError(f"run {self.name}: chunk {chunk.id} was closed off while it ran; attach to the run anew")
        return found[1]

    def end(self, status: Status) -> None:
        """Say in the store what became of the run."""
        end = {
            "driver": self.number, "state": status.state, "total": status.total, "done": status.done,
            "failed": status.failed, "at": time.time(),
        }  # fmt: skip
        self.store.put(keys.end(self.name), json.dumps(end).encode())


def begin(
    session: Session, run: Run, fn: Callable[..., Any], kwargs: Mapping[str, Any], job: Job, source: Items | None
) -> None:
    """Claim the run's name for it. Raises RunBusy if another driver may be alive, UsageError if the name
    belongs to another call."""
    name, store = keys.check_name(run.id), session.store
    with _live_lock:
        _check_not_live_here(store, name)
        total = None if source is None else len(source)
        number = 0
        head = _new_plan(run.function, total, job)
        if not create_parts(store, keys.plan(name), pack([head, *_kept(fn, kwargs, job, source)])):
            plan = read_plan(store, name)
            if plan is None:
                raise RunBusy(f"name={name!r}: somebody has just deleted the run of that name; try again")
            _check_same(plan, name, run.function, total)
            _check_same_items(store, name, source)
            number = claim(store, name, plan)
        hold(run, store, number)


def hold(run: Run, store: Store, number: int) -> None:
    """The run is driven from here, as its driver of that number."""
    durable = Durable(store, run.id, number)
    durable.live = run
    run.ledger.keep(durable)
    _live[store, run.id] = run


def live_here(store: Store, name: str) -> Run | None:
    """The run of this name that this process drives, if it does."""
    run = _live.get((store, name))
    if run is None or run.status.state == "running":
        return run
    run.ledger.finish()  # its end may still be on its way into the store
    return None


def _check_not_live_here(store: Store, name: str) -> None:
    if live_here(store, name) is not None:
        raise RunBusy(
            f"name={name!r}: a live run of this process has that name; wait for it, cancel it, or attach({name!r})"
        )


def claim(store: Store, name: str, plan: Mapping[str, Any]) -> int:
    """Become the next driver of a run, and get its number. Raises RunBusy if the last one may be alive."""
    last, owner = last_driver(store, name, plan)
    ended = read_end(store, name)
    if (ended is None or ended["driver"] != last) and owner != me() and may_live(owner):
        raise RunBusy(
            f"name={name!r}: the process {owner} drives that run, or did so on a host that cannot be asked from here."
            f" Wait for it; if it is dead, delete {keys.driver(name, last)!r} and {keys.end(name)!r} in {store!r}"
        )
    if not store.create(keys.driver(name, last + 1), me().encode()):
        raise RunBusy(f"name={name!r}: another process has just taken up that run")
    return last + 1


def last_driver(store: Store, name: str, plan: Mapping[str, Any]) -> tuple[int, str]:
    """The number of a run's latest driver, and who that was. The first is named in the plan."""
    drivers = sorted(store.list(keys.drivers(name)))
    if not drivers:
        return 0, str(plan["owner"])
    return int(drivers[-1].rpartition(".")[2]), store.get(drivers[-1]).decode()


def read_end(store: Store, name: str) -> dict[str, Any] | None:
    """What became of the run the last time that it ended."""
    try:
        end: dict[str, Any] = json.loads(store.get(keys.end(name)))
    except MissingKey:
        return None
    return end


def read_plan(store: Store, name: str) -> dict[str, Any] | None:
    """What was asked for under this name, if anything."""
    try:
        frames = unpack(open_object(store, keys.plan(name)))
    except MissingKey:
        return None
    plan: dict[str, Any] = json.loads(bytes(_body(frames[0])))
    return plan


def read_kept(store: Store, name: str) -> tuple[Sequence[Frame], list[Any] | None]:
    """The pickled function of a named run, and its items; None if they came from an iterator."""
    _, count, *frames = unpack(open_object(store, keys.plan(name)))
    functions = int.from_bytes(_body(count), "little")
    sent = frames[functions:]
    items = list(Values.from_frames(sent, lambda key: open_object(store, key))) if sent else None
    return frames[:functions], items


def _body(frame: Frame) -> Any:
    return frame


def _new_plan(function: str, total: int | None, job: Job) -> bytes:
    plan = {
        "format": 1, "python": platform.python_version(), "function": function, "total": total, "form": job.form,
        "timeout_s": job.timeout_s, "started": time.time(), "owner": me(),
    }  # fmt: skip
    return json.dumps(plan).encode()


def _kept(fn: Callable[..., Any], kwargs: Mapping[str, Any], job: Job, source: Items | None) -> list[Frame]:
    """The function and the items, whole, so that another process can finish the run."""
    function = job.frames  # pickled already, but for large buffers that lie elsewhere and go with this process
    if job.live is not None or any(isinstance(frame, Ref) for frame in function):
        _, function = dump_function(fn, kwargs, None)
    items = [] if source is None else Values.of(source.items, to_worker).frames()
    return [len(function).to_bytes(8, "little"), *function, *items]


def _check_same(plan: Mapping[str, Any], name: str, function: str, total: int | None) -> None:
    if plan["total"] is None or total is None:
        raise UsageError(f"name={name!r} is taken, and a run over an iterator cannot be taken up again; choose another")
    if (plan["function"], plan["total"]) != (function, total):
        raise UsageError(
            f"name={name!r} belongs to a run of {plan['function']} over {plan['total']} items, and this is one of"
            f" {function} over {total}; choose another name"
        )


def _check_same_items(store: Store, name: str, source: Items | None) -> None:
    kept = read_kept(store, name)[1]
    if kept is None or source is None or _equal(kept, list(source.items)):
        return
    for at, (before, now) in enumerate(zip(kept, source.items, strict=True)):
        if not _equal(before, now) and repr(before) != repr(now):
            raise UsageError(
                f"name={name!r} belongs to a run over other items: item {at} was {short_repr(before)}, and is"
                f" {short_repr(now)} now; choose another name"
            )


def _equal(one: Any, other: Any) -> bool:
    """Are they surely equal? Arrays and tables cannot say so in a word: their pickles are compared."""
    try:
        if bool(one == other):
            return True
    except Exception:  # whatever a user's __eq__ raises, or an array that has no one truth
        log.debug("items that cannot be compared", exc_info=True)
    return pickle.dumps(one) == pickle.dumps(other) if type(one) is type(other) and type(one) is not list else False


def stored_parts(store: Store, name: str) -> Iterator[tuple[str, Sequence[int], Report]]:
    """The committed parts of a run: key, tasks and report; in the order in which they were carved."""
    from fnmap.format.parts import read_report

    found = [key for prefix in keys.part_prefixes(name) for key in store.list(prefix)]
    for key in sorted(found, key=lambda k: k.rpartition("/")[2]):
        try:
            report = read_report(store, key)
        except StoreError as damaged:  # as a loss of power leaves it: it was never whole, so it was never committed
            log.warning("run %s: %s is left out and done again: %s", name, key, damaged)
            continue
        if report is not None:
            yield key, *report


def take_over(run: Run, schedule: Schedule, store: Store) -> None:
    """Put what is committed already into the run and its schedule. Failures are not taken over: they are
    tried again."""
    done: list[int] = []
    for key, tasks, report in stored_parts(store, run.id):
        assert report.values is not None
        run.ledger.put_stored(Part(tasks, report.values, report.failures, key))
        done += [t for at, t in enumerate(tasks) if at not in report.failures]
    schedule.skip(done, State.DONE)
