"""What is sent to a worker for one attempt of one chunk, and what it answers."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fnmap.errors import StoreError, store_error
from fnmap.format.inputs import Inputs, Resolved
from fnmap.format.levels import DEFAULT, Levels
from fnmap.format.payload import Buffer, Frame, Ref, Values, is_pickle, pack, unpack
from fnmap.format.plain import Columns, head_text, read_head
from fnmap.format.travel import dumps
from fnmap.storage.base import Store, open_object

Place = tuple[Store, str]  # a store and a key in it
FEW_LAPS = 8
Form = Literal["item", "args", "call"]  # an item is the argument, the tuple of them, or (args, kwargs)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Job:
    """What all calls of one stage share; a warm worker keeps it.

    `frames`: the pickled (function, keywords). `live`: the same two as objects, for a compute that runs
    in this very process. `imports`: modules that each call needs and the frames do not name; they do not travel.
    """

    key: str
    frames: Sequence[Frame]
    form: Form = "item"
    retry_on: bytes = b""  # pickled exception types that may be retried
    timeout_s: float | None = None
    log_levels: Levels = DEFAULT
    scratch: Store | None = None  # where large results go, and refs are found
    live: Any = None
    arrow: bool = False  # results come back without pickles
    imports: frozenset[str] = frozenset()

    def wire(self) -> list[Frame]:
        head = (self.key, self.form, self.retry_on, self.timeout_s, self.log_levels, self.scratch, self.arrow)
        return [pickle.dumps(head, 5), *self.frames]

    @classmethod
    def from_wire(cls, frames: Sequence[Frame]) -> Job:
        key, form, retry_on, timeout_s, log_levels, scratch, arrow = pickle.loads(frames[0])  # type: ignore[arg-type]
        return cls(key, frames[1:], form, retry_on, timeout_s, log_levels, scratch, arrow=arrow)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One attempt of one chunk: apply the job's function to the items.

    `spill`: where a result of over `inline_bytes` may be left instead of in the answer. `commit`: where
    a durable run keeps the result for good.
    """

    id: str
    job: Job
    tasks: Sequence[int]
    items: Values
    attempt: int = 1
    budget_s: float | None = None  # stop between tasks after so long; the rest is tried elsewhere
    inline_bytes: int = 1 << 62
    spill: str | None = None  # key in the job's scratch store
    commit: Place | None = None
    items_key: str | None = None  # the items lie in the scratch store: too large for the message
    inputs: Inputs | None = None  # results of other tasks that are arguments of these
    memory: float = 1.0  # times the usual, where the compute can choose

    @property
    def run(self) -> str:
        """The run that the call is of."""
        return self.id.rpartition("/")[0]

    def to_message(self, *, with_job: bool = True, forget: Sequence[str] = ()) -> list[Buffer]:
        """The call as parts of one message: a single pickle where that will do, else frames."""
        tasks = (self.tasks.start, self.tasks.stop) if isinstance(self.tasks, range) else list(self.tasks)
        commit = self.commit and _dumped(self.commit, self.commit[0])
        inputs = self.inputs and _dumped(self.inputs, self.inputs.store)
        head = (
            self.id, self.job.key, tasks, self.attempt, self.budget_s, self.inline_bytes, self.spill, commit, inputs,
            tuple(forget),
        )  # fmt: skip
        compact = None if with_job or self.items_key is not None else self.items.compact()
        if compact is not None:
            return [pickle.dumps((head, 0, compact), 5)]
        job = self.job.wire() if with_job else []
        items = self.items.frames() if self.items_key is None else [Ref(self.items_key)]
        return pack([pickle.dumps((head, len(job), None), 5), *job, *items])

    @classmethod
    def from_message(cls, message: Buffer, jobs: dict[str, Job]) -> Call:
        """The call, with its job out of the message or out of `jobs`, which is kept up to date."""
        frames = [message] if is_pickle(message) else unpack(message)
        head, n_job, compact = pickle.loads(frames[0])  # type: ignore[arg-type]
        id_, key, tasks, attempt, budget, inline, spill, commit, inputs, forget = head
        for old in forget:
            jobs.pop(old, None)
        if n_job:
            jobs[key] = Job.from_wire(frames[1 : 1 + n_job])
        items = Values(*compact) if compact else _sent_items(frames[1 + n_job :], jobs[key].scratch)
        numbers = range(*tasks) if isinstance(tasks, tuple) else tasks
        place, taken = commit and pickle.loads(commit), inputs and pickle.loads(inputs)
        return cls(id_, jobs[key], numbers, items, attempt, budget, inline, spill, place, None, taken)

    def arguments(self) -> Values | Resolved:
        """The items as the function is applied to them."""
        return self.items if self.inputs is None else Resolved(self.inputs, self.items, len(self.tasks))


def _dumped(what: Any, store: Store) -> bytes:
    """The pickle of what has a store in it. Its class may be the user's own, and then it travels as user code does,
    which takes ten times as long."""
    return pickle.dumps(what, 5) if vars(type(store)).get("by_name") else dumps(what)


def _sent_items(sent: Sequence[Frame], scratch: Store | None) -> Values:
    if isinstance(sent[0], Ref):
        sent = unpack(open_object(scratch, sent[0].key))
    return Values.from_frames(sent, lambda ref: open_object(scratch, ref))


TEXT_ONLY = b""  # in the place of an exception that came without pickles


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task has no result. `kind`: "raised", "lost" (the result cannot travel), "timeout", "poisoned", "upstream",
    or "input": a part that has an argument of it cannot be read, and its key is the message.

    `exception` is pickled, or the object itself when it never left the process, or None.
    """

    kind: str
    message: str
    exception: Any = None
    traceback: str = ""
    log: str = ""
    retryable: bool = False
    item: str = ""
    attempts: int = 1

    def text_only(self) -> Failure:
        """Without what would have to be unpickled."""
        return replace(self, exception=TEXT_ONLY if self.kind == "raised" else None)


@dataclass(slots=True, eq=False)
class Report:
    """The answer to a call: the first `ran` of its tasks were tried.

    `values` has `ran` entries, None where `failures` (by position) says why. `laps`: pairs of (tasks,
    seconds) in order, so that slow tasks are timed one by one and fast ones together.
    """

    ran: int
    failures: dict[int, Failure] = field(default_factory=dict)
    laps: list[tuple[int, float]] = field(default_factory=list)
    values: Values | Columns | None = None
    spilled: str | None = None
    committed: str | None = None  # "won", "lost" (someone else's result stands), or None
    stats: dict[str, Any] = field(default_factory=dict)
    fault: StoreError | None = None  # why the results could not be committed: nothing of the call counts
    arrow: bool = False  # nothing of it is a pickle

    @property
    def seconds(self) -> float:
        """Seconds spent in the function."""
        return sum(s for _, s in self.laps)

    def to_message(self) -> list[Buffer]:
        """The report as parts of one message: a single pickle where that will do, else frames."""
        if self.arrow:
            return self._without_pickles()
        failures = {at: _plain(f) for at, f in self.failures.items()}
        head = (self.ran, failures, _columns(self.laps), self.spilled, self.committed, self.stats, self.fault)
        compact = self.values.compact() if self.values is not None else None
        if self.values is None or compact is not None:
            return [pickle.dumps((head, compact), 5)]
        return pack([pickle.dumps((head, None), 5), *self.values.frames()])

    def _without_pickles(self) -> list[Buffer]:
        fault = None if self.fault is None else (type(self.fault).__name__, str(self.fault))
        failures = [(at, _plain(replace(f, exception=None))) for at, f in self.failures.items()]
        head = (self.ran, failures, self.laps, self.spilled, self.committed, self.stats, fault)
        names = ("ran", "failures", "laps", "spilled", "committed", "stats", "fault")
        frames = [] if self.values is None else self.values.frames()
        return pack([head_text(dict(zip(names, head, strict=True))), *frames])

    @classmethod
    def _of_head(cls, head: dict[str, Any], frames: Sequence[Frame]) -> Report:
        failures = {int(at): Failure(*fields).text_only() for at, fields in head.pop("failures")}
        laps, fault = [(int(n), float(seconds)) for n, seconds in head.pop("laps")], head.pop("fault")
        values = Columns.from_frames(frames) if frames else None
        error = None if fault is None else store_error(*fault)
        return cls(failures=failures, laps=laps, values=values, fault=error, arrow=True, **head)

    @classmethod
    def from_message(cls, message: Buffer, *, arrow: bool = False) -> Report:
        """The report; its values are loaded only when they are asked for. `arrow`: one that holds a pickle is
        refused with a ComputeError, unread."""
        frames = [message] if is_pickle(message) else unpack(message)
        if (told := read_head(frames[0], only=arrow)) is not None:
            return cls._of_head(told, frames[1:])
        head, compact = pickle.loads(frames[0])  # type: ignore[arg-type]
        ran, failures, laps, spilled, committed, stats, fault = head
        values = Values(*compact) if compact else None
        if len(frames) > 1:
            values = Values.from_frames(frames[1:], _no_ref)
        if type(laps) is tuple:
            laps = list(zip(*laps, strict=True))
        kept = {at: Failure(*fields) for at, fields in failures.items()} if failures else {}
        return cls(ran, kept, laps, values, spilled, committed, stats, fault)


def _columns(laps: list[tuple[int, float]]) -> Any:
    """Laps as they are pickled: as two arrays, whose bytes are a quarter; of a few, an array would cost more."""
    if len(laps) < FEW_LAPS:
        return laps
    return array("q", [n for n, _ in laps]), array("d", [s for _, s in laps])


def _no_ref(key: str) -> memoryview:
    raise AssertionError(f"an answer carries its own buffers, not {key}")


def _plain(f: Failure) -> tuple[Any, ...]:
    return (f.kind, f.message, f.exception, f.traceback, f.log, f.retryable, f.item, f.attempts)
