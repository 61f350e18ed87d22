"""Named runs: what is kept of them in a store, and how a driver takes hold of one."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import platform
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fnmap import clock
from fnmap.build import check_store, part_digits
from fnmap.errors import Damaged, MissingKey, RunBusy, RunError, RunNotFound, RunTakenOver, StoreError, UsageError
from fnmap.format import keys
from fnmap.format.call import Job, Place, Report
from fnmap.format.payload import Frame, Ref, Values, pack, unpack
from fnmap.format.travel import dump_function, dumps
from fnmap.lease import BEAT_S, begin_again, claim, committed, is_last, read_head, read_plan, say_alive
from fnmap.options import DEFAULTS, MapOptions
from fnmap.planning.schedule import Chunk, Schedule, State
from fnmap.run import Run, Status
from fnmap.source import Items
from fnmap.stage import Part
from fnmap.storage.base import Store, create_parts, open_object
from fnmap.storage.many import for_each
from fnmap.storage.owner import me

if TYPE_CHECKING:
    from fnmap.driver import Driver
    from fnmap.ledger import Ledger
    from fnmap.plan_run import PlanRun
    from fnmap.session import Session

log = logging.getLogger(__name__)
PYTHON = platform.python_version()
_live: weakref.WeakValueDictionary[tuple[Any, str], Run | PlanRun] = weakref.WeakValueDictionary()
live_lock = threading.Lock()


class Durable:
    """The store's side of a live run. `number`: its driver's, which is part of every key it commits, as is the
    stage's. `digits`: over which these keys are spread. `framed`: its parts need not be Parquet
    (see `format.framed`)."""

    def __init__(
        self, store: Store, name: str, number: int, stage: int = 0, *, digits: int = 1, framed: bool = False
    ) -> None:
        self.store, self.name, self.number, self.stage = store, name, number, stage
        self.digits, self.framed = digits, framed
        self.live: Any = None  # the run, so that `live_here` finds it, though its holder has let go of it
        self.on_beat: Callable[[Ledger], None] | None = None
        self._beats, self._begun = 0, clock.now()

    def place(self, chunk: Chunk) -> Place:
        """Where the chunk's one result is committed."""
        key = keys.part(self.name, self.number, chunk.id, self.stage, self.digits, framed=self.framed)
        return self.store, key

    def seal(self, chunk: Chunk) -> Report | None:
        """Keep late attempts of the chunk from committing; the report that stands if one has already."""
        from fnmap.format.parts import close_off, is_gone, read_report

        if close_off(*self.place(chunk)) or is_gone(*self.place(chunk), seal=True):
            return None  # one that is damaged is as good as a seal
        found = read_report(*self.place(chunk))
        return None if found is None else found[1]

    def standing(self, chunk: Chunk, report: Report) -> Report:
        """The report as it counts: of the attempt that committed, with values that are read when needed."""
        from fnmap.format.parts import Stored, read_report

        if report.committed == "won":
            values: Any = report.values or Stored(*self.place(chunk), report.ran)
            report.values = values
            return report
        try:
            found = read_report(*self.place(chunk))
        except (Damaged, MissingKey):
            return self.seal(chunk) or Report(0, values=Values.of_plain([]))  # it is lost: nothing of it was tried
        if found is None:
            raise RunError(f"run {self.name}: chunk {chunk.id} was closed off while it ran; attach to the run anew")
        return found[1]

    def say_alive(self) -> None:
        """Tell those who cannot ask this host. Raises RunTakenOver if another driver has taken up the run."""
        if clock.now() - self._begun < BEAT_S:
            return  # nobody has had the time to think it dead
        self._check_mine()
        self._beats += 1
        say_alive(self.store, self.name, self.number, self._beats)
        if self.on_beat is not None and (run := self.live) is not None:
            self.on_beat(run.ledger)

    def reopen(self, run: Run | PlanRun, session: Session) -> None:
        """The run had ended and is driven again. Raises RunTakenOver if another has taken it up, or deletes it: this
        one says that it lives and looks then, and that one takes its number and listens then."""
        live(run, self, session)
        try:
            self._beats += 1
            say_alive(self.store, self.name, self.number, self._beats)
            self._check_mine()
        except BaseException:
            self.rest(session)
            raise

    def rest(self, driver: Driver) -> Any:
        """Nobody drives the run any more: it, if anybody did."""
        with driver.lock:
            run, self.live = self.live, None
            driver.durables.discard(self)
        return run

    def _check_mine(self) -> None:
        if not is_last(self.store, self.name, self.number):
            raise RunTakenOver(
                f"run {self.name!r}: another process has taken it up, since this one was not heard of;"
                f" attach({self.name!r}) shows what came of it"
            )

    def end(self, status: Status) -> None:
        """Say in the store what became of the run. Raises RunTakenOver if that is another's to say."""
        if clock.now() - self._begun >= BEAT_S:
            self._check_mine()
        end = {
            "state": status.state, "total": status.total, "done": status.done, "failed": status.failed,
            "at": time.time(),
        }  # fmt: skip
        self.store.put(keys.end(self.name, self.number), json.dumps(end).encode())


def begin(
    session: Session, run: Run, fn: Callable[..., Any], options: MapOptions, job: Job, source: Items | None
) -> None:
    """Claim the run's name for it. Raises RunBusy if another driver may be alive, UsageError if the name
    belongs to another call."""
    name, store = keys.check_name(run.id), session.store
    check_store(session, store)
    if job.arrow:
        from fnmap.format.parts import refuse_pickles

        refuse_pickles(store, name)
    with live_lock:
        check_not_live_here(store, name)
        total = None if source is None else len(source)
        digits = part_digits(session, store, [(options, total)])
        head = _new_plan(run.function, total, job, options)
        rest = _kept(fn, options.kwargs or {}, job, source)
        if create_parts(store, keys.plan(name), pack([with_digits(head, digits), *rest])):
            number = 0
        elif (plan := read_plan(store, name)) is None:
            number, before = begin_again(store, name), read_head(store, name)
            store.put(keys.plan(name), b"".join(pack([with_digits(head, digits, before), *rest])))
        else:
            digits = keys.digits_of(plan)[-1]
            _check_same(plan, name, run.function, total, job.form)
            _check_same_call(store, name, options.kwargs or {}, source)
            number = claim(store, name, plan)
        hold(run, store, number, digits)


def hold(run: Run, store: Store, number: int, digits: int) -> None:
    """The run is driven from here, as its driver of that number."""
    durable = Durable(store, run.id, number, digits=digits)
    run.ledger.keep(durable)
    live(run, durable, run.ledger.session)


def live(run: Run | PlanRun, durable: Durable, session: Session) -> None:
    """The run is live in this process."""
    durable.live = run
    with session.lock:  # it looks through them from other threads
        session.durables.add(durable)
    _live[durable.store, run.id] = run


def live_here(store: Store, name: str) -> Run | PlanRun | None:
    """The run of this name that this process drives, if it does."""
    run = _live.get((store, name))
    if run is None or run.status.state == "running":
        return run
    run.finish()  # its end may still be on its way into the store
    return None


def check_not_live_here(store: Store, name: str) -> None:
    if live_here(store, name) is not None:
        raise RunBusy(
            f"name={name!r}: a live run of this process has that name; wait for it, cancel it, or attach({name!r})"
        )


def read_kept(store: Store, name: str) -> tuple[Sequence[Frame], list[Any] | None]:
    """The pickled function of a named run, and its items; None if they came from an iterator."""
    _, *rest = unpack(open_object(store, keys.plan(name)))
    if not rest:
        raise RunNotFound(f"no run named {name!r}: it was deleted")
    count, *frames = rest
    functions = int.from_bytes(_body(count), "little")
    sent = frames[functions:]
    items = list(Values.from_frames(sent, lambda key: open_object(store, key))) if sent else None
    return frames[:functions], items


def read_function(frames: Sequence[Frame]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function of `read_kept`, and its keywords."""
    fn, kwargs = pickle.loads(_body(frames[0]), buffers=frames[1:])
    return fn, kwargs or {}


def _body(frame: Frame) -> Any:
    return frame


def kept_options(options: Mapping[str, Any]) -> str:
    """Options of a run as they are kept for those who attach to it; those that are as ever are left out."""
    said = {name: value for name, value in options.items() if value != getattr(DEFAULTS, name)}
    return base64.b64encode(dumps(said)).decode() if said else ""


def read_options(head: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse."""
    said: dict[str, Any] = pickle.loads(base64.b64decode(head["options"])) if head["options"] else {}
    return said


KEPT = ("errors", "retries", "timeout", "chunksize", "ordered", "limit", "idempotent", "priority", "results")


def with_digits(head: Mapping[str, Any], digits: int, before: Mapping[str, Any] | None = None) -> bytes:
    """The head of a plan as it is kept. `before`: that of a run of the name which was deleted."""
    earlier = keys.digits_of(before) if before is not None else ()
    return json.dumps({**head, "digits": [*(n for n in earlier if n != digits), digits]}).encode()


def _new_plan(function: str, total: int | None, job: Job, options: MapOptions) -> dict[str, Any]:
    return {
        "format": 1, "python": PYTHON, "function": function, "total": total, "form": job.form,
        "options": kept_options({name: getattr(options, name) for name in KEPT}), "started": time.time(),
        "owner": me(), "results": options.results,
    }  # fmt: skip


def _kept(fn: Callable[..., Any], kwargs: Mapping[str, Any], job: Job, source: Items | None) -> list[Frame]:
    """The function and the items, whole, so that another process can finish the run."""
    function = job.frames  # pickled already, but for large buffers that lie elsewhere and go with this process
    if job.live is not None or any(isinstance(frame, Ref) for frame in function):
        _, function = dump_function(fn, kwargs, None)
    items = [] if source is None else source.whole().frames()
    return [len(function).to_bytes(8, "little"), *function, *items]


def _check_same(plan: Mapping[str, Any], name: str, function: str, total: int | None, form: str) -> None:
    if plan["total"] is None or total is None:
        raise UsageError(f"name={name!r} is taken, and a run over an iterator cannot be taken up again; choose another")
    if (plan["function"], plan["total"]) != (function, total):
        raise UsageError(
            f"name={name!r} belongs to a run of {plan['function']} over {plan['total']} items, and this is one of"
            f" {function} over {total}; choose another name"
        )
    if plan["form"] != form:
        raise UsageError(
            f"name={name!r} belongs to a run that passes its items in another way ({plan['form']!r}, and this is"
            f" {form!r}); choose another name"
        )


def _check_same_call(store: Store, name: str, kwargs: Mapping[str, Any], source: Items | None) -> None:
    """Raise UsageError unless the items and the keywords are those of the run. The function may have changed."""
    from fnmap.same import same_items, same_kwargs  # only a name that is there already pays for the import

    function, kept = read_kept(store, name)
    what = f"name={name!r} belongs to a run over"
    if kept is not None and source is not None:
        same_items(kept, source.items, what)
    try:
        before = read_function(function)[1]
    except Exception as error:  # whatever unpickling raises, as of a module that was renamed
        raise UsageError(
            f"name={name!r} belongs to a run whose function and keywords cannot be read any more ({error!r}); choose"
            " another name"
        ) from error
    same_kwargs(before, kwargs, f"name={name!r} belongs to a run with")


def stored_parts(
    store: Store, name: str, digits: int, seen: Collection[str] = ()
) -> Iterator[tuple[str, Sequence[int], Report]]:
    """The committed parts of a run, but for those already seen: key, tasks and report; in the order in which they
    were carved."""
    from fnmap.format.parts import read_report

    def read(key: str) -> tuple[Sequence[int], Report] | None:
        try:
            return read_report(store, key)
        except StoreError as damaged:  # as a loss of power leaves it: it was never whole, so it was never committed
            log.warning("run %s: %s is left out and done again: %s", name, key, damaged)
            return None

    new = [key for key in committed(store, name, digits) if key not in seen]
    for key, report in zip(new, for_each(store, read, new), strict=True):
        if report is not None:
            yield key, *report


def take_over(run: Run, schedule: Schedule, store: Store) -> None:
    """Put what is committed already, or was found in the cache, into the run and its schedule. Failures are not taken
    over: they are tried again."""
    from fnmap.caching import found_before

    assert run.ledger.durable is not None
    done: list[int] = []
    for key, tasks, report in stored_parts(store, run.id, run.ledger.durable.digits):
        assert report.values is not None
        run.ledger.put_stored(Part(tasks, report.values, report.failures, key))
        done += [t for at, t in enumerate(tasks) if at not in report.failures]
    for _, _, parts in found_before(store, run.id):
        done += run.ledger.put_hits(parts)
    schedule.skip(set(done), State.DONE)  # some may be in two parts
