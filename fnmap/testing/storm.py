"""A world in virtual time, in which whatever can go wrong does, as a seed says: the very driver, workers and formats
of fnmap run in it, in one thread, on a compute and a store that fail.

with Storm(seed) as storm:
    session = storm.driver("one", storm.store("s3"))
    run = session.map(fn, items, name="n")
    storm.play()                         # until nothing happens any more
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Self
from unittest.mock import patch

from fnmap import clock
from fnmap.compute.base import Limits
from fnmap.errors import CallTimeout, StoreBusy, StoreFull, Throttled, WorkerLost
from fnmap.format.call import Call, Report
from fnmap.format.footer import MARK
from fnmap.session import Session
from fnmap.storage.base import Buffer, Store
from fnmap.storage.checks import flat
from fnmap.storage.memory import MemoryStore
from fnmap.storage.retrying import Retrying
from fnmap.testing.stores import FaultyStore
from fnmap.worker import Worker


class WorkerDies(BaseException):
    """Raised by a function that kills its worker."""


class TaskHangs(BaseException):
    """Raised by a function that runs over its time."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How often what goes wrong, each as a chance of a call, or of a request to the store."""

    dies_before: float = 0.0  # the worker, with nothing done
    dies_after: float = 0.0  # the worker, after it has committed
    zombie: float = 0.0  # it is taken for dead, and works on later
    twice: float = 0.0  # the call is carried out two times, as queues deliver
    answer_lost: float = 0.0  # it is done, and nobody hears of it before a time-out
    throttled: float = 0.0
    slow: float = 0.0  # it takes a hundred times as long
    tells_where: float = 0.5  # of a death, that the compute knows which task it was at
    store: float = 0.0  # a request fails, half of the times after it took effect
    gone: float = 0.0  # a committed part is deleted some time later
    flipped: float = 0.0  # a bit of one changes
    torn: float = 0.0  # the end of one never reached the disk, since the machine died
    full: float = 0.0  # there is no room in any store for a while, as a chance of each thing that happens
    clock_jumps: float = 0.0  # the machine was asleep for an hour


class Storm:
    """The world: its time, what will happen, and what has."""

    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.dice, self.weather = random.Random(seed), weather or Weather()
        self.seed, self.now = seed, 0.0
        self.owner = "storm.0.0"  # who drives just now
        self.believed_alive: set[str] = set()
        self.happened: Counter[str] = Counter()
        self.losses: Counter[Any] = Counter()  # of innocent items: not so many that they are taken for poison
        self.spoilt: set[str] = set()  # parts that were lost or damaged
        self.full_until = 0.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._patches: list[Any] = []
        self._sessions: list[Session] = []

    def __enter__(self) -> Self:
        _worlds[self.seed] = self
        for where in ("fnmap.lease", "fnmap.durable", "fnmap.durable_plan"):
            self._patches.append(patch(f"{where}.me", lambda: self.owner))
        for where in ("fnmap.lease", "fnmap.attached"):
            self._patches.append(patch(f"{where}.may_live", lambda owner: owner in self.believed_alive))
            self._patches.append(patch(f"{where}.is_here", lambda _: True))
        self._patches.append(patch.object(clock, "source", lambda: self.now))
        for each in self._patches:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()
        for each in self._patches:
            each.stop()
        del _worlds[self.seed]

    def store(self, name: str) -> Store:
        """A store that all of this world see, with faults that are tried again, as the remote ones do."""
        return Weathered(self.seed, name, self.dice.getrandbits(32), self.weather.store)

    def driver(
        self, name: str, store: Store, *, slots: int = 3, payload_bytes: int = 1 << 20, spread: int | None = None
    ) -> Session:
        """A process that drives runs. It is asked from outside whether it lives: `believed_alive`."""
        self.owner = f"storm.{name}.0"
        self.believed_alive.add(self.owner)
        session = Session(on=StormCompute(self, slots, payload_bytes), store=store, progress=False, spread=spread)
        self._sessions.append(session)
        session._alarm = StormAlarm(self)  # type: ignore[assignment]
        session._scratch = StormStore(self.seed, f"scratch of {name}")
        return session

    def chance(self, share: float, what: str) -> bool:
        """Does it happen? It is counted."""
        if share <= 0.0 or self.dice.random() >= share:
            return False
        self.happened[what] += 1
        return True

    def at(self, delay_s: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))

    def committed(self, memory: MemoryStore, key: str, body: bytes) -> bytes:
        """A part is about to be committed: what reaches the disk of it. Something may become of it later."""
        if b'"split": true' in body or key in self.spoilt or len(self.spoilt) >= MOST_SPOILT:
            return body
        if self.chance(self.weather.gone, "a part is deleted"):
            self._spoil(key, lambda: memory.delete([key]))
        elif self.chance(self.weather.flipped, "a bit of a part flips"):
            self._spoil(key, lambda: memory.put(key, self._flip(body)))
        elif self.chance(self.weather.torn, "a part is torn"):
            self.spoilt.add(key)
            return body[: self.dice.randrange(len(body))]
        return body

    def _spoil(self, key: str, how: Callable[[], object]) -> None:
        self.spoilt.add(key)
        self.at(self.dice.expovariate(0.3), how)

    def _flip(self, body: bytes) -> bytes:
        """A bit of what readers look at: not of the magic at the front, nor of what says that there is a checksum."""
        at = mark = body.rindex(MARK)
        while mark <= at < mark + len(MARK):
            at = self.dice.randrange(4, len(body))
        return body[:at] + bytes([body[at] ^ 1 << self.dice.randrange(8)]) + body[at + 1 :]

    def play(self, steps: int = 1_000_000) -> bool:
        """Let happen what does, at most so many events. Is there more to come?"""
        for _ in range(steps):
            if not self._events:
                return False
            when, _, event = heapq.heappop(self._events)
            self.now = max(self.now, when)
            if self.chance(self.weather.clock_jumps, "the clock jumps"):
                self.now += 3600
            if self.chance(self.weather.full, "no room in the stores"):
                self.full_until = self.now + self.dice.expovariate(0.1)
            event()
        return bool(self._events)


class StormCompute:
    """Calls are carried out here and now, in the time of the world, or not at all."""

    def __init__(self, storm: Storm, slots: int, payload_bytes: int) -> None:
        self.limits = Limits(slots=slots, payload_bytes=payload_bytes, backups=True)
        self.storm, self.dead = storm, False
        self._worker = Worker(fatal=(WorkerDies, TaskHangs))

    def submit(self, call: Call) -> Future[Report]:
        storm, weather, future = self.storm, self.storm.weather, Future[Report]()
        future.set_running_or_notify_cancel()
        message = b"".join(call.to_message(with_job=call.job.key not in self._worker.jobs))
        takes_s = storm.dice.expovariate(1.0) * (100 if storm.chance(weather.slow, "a call is slow") else 1)
        if storm.chance(weather.throttled, "throttled"):
            storm.at(0.01, lambda: self._end(future, Throttled("storm", retry_after_s=takes_s)))
        elif self._loses(call, weather.dies_before, "a worker dies before"):
            storm.at(takes_s, lambda: self._lose(future, call))
        elif self._loses(call, weather.zombie, "a zombie"):
            storm.at(takes_s, lambda: self._lose(future, call))
            storm.at(takes_s + storm.dice.expovariate(0.2), lambda: self._carry_out(message))
        else:
            storm.at(takes_s, lambda: self._work(message, call, future))
        return future

    def _work(self, message: bytes, call: Call, future: Future[Report]) -> None:
        storm, weather = self.storm, self.storm.weather
        if self.dead and storm.dice.random() < 0.5:
            return  # killed with its driver; else it works on for nobody
        answer = self._carry_out(message)
        if storm.chance(weather.twice, "a call is carried out twice"):
            storm.at(storm.dice.expovariate(0.5), lambda: self._carry_out(message))
        if isinstance(answer, BaseException):
            self._end(future, answer)
        elif self._loses(call, weather.dies_after, "a worker dies after"):
            self._lose(future, call)
        elif self._loses(call, weather.answer_lost, "an answer is lost"):
            storm.at(900.0, lambda: self._lose(future, call))
        else:
            self._end(future, answer)

    def _carry_out(self, message: bytes) -> Report | BaseException:
        call = Call.from_message(message, self._worker.jobs)
        try:
            return Report.from_message(b"".join(self._worker.run(call).to_message()))
        except (WorkerDies, TaskHangs) as fate:
            at = self._worker.position()
            known = self.storm.dice.random() < self.storm.weather.tells_where
            if isinstance(fate, TaskHangs):
                return CallTimeout("storm: over its time", at=at)
            return WorkerLost("storm: killed by its task", at=range(at, at + 1) if known and at is not None else None)

    def _loses(self, call: Call, share: float, what: str) -> bool:
        """Is the call lost in this way? No task is so often that it would be taken for poison."""
        keys = [(call.id.partition("/")[0].rpartition(".")[2], task) for task in call.tasks]
        if any(self.storm.losses[key] >= MOST_LOSSES for key in keys) or not self.storm.chance(share, what):
            return False
        self.storm.losses.update(keys)
        return True

    def _lose(self, future: Future[Report], call: Call) -> None:
        at = None
        if self.storm.dice.random() < self.storm.weather.tells_where:
            first = self.storm.dice.randrange(len(call.tasks))
            at = range(first, self.storm.dice.randint(first + 1, len(call.tasks)))
        self._end(future, WorkerLost("storm", at=at))

    def _end(self, future: Future[Report], answer: Report | BaseException) -> None:
        if self.dead or future.done():
            return
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def kill(self, future: Future[Report]) -> None:
        self.storm.at(0.0, lambda: self._end(future, WorkerLost("storm: withdrawn")))

    def close(self) -> None:
        self.dead = True


class StormStore:
    """A handle on a store in the memory of a world, which can be pickled. Nothing under part/ is ever written twice
    or deleted by who runs there, which would be told at once; the weather may spoil it."""

    by_name = True  # a plain pickle does

    def __init__(self, seed: int, name: str) -> None:
        self.seed, self.name = seed, name

    @property
    def _memory(self) -> MemoryStore:
        if (place := (self.seed, self.name)) not in _memories:
            _memories[place] = MemoryStore()
        return _memories[place]

    def get(self, key: str) -> bytes:
        return self._memory.get(key)

    def put(self, key: str, body: Buffer) -> None:
        assert not key.startswith("part/"), f"{key} is put, not created"
        self._room()
        self._memory.put(key, body)

    def create(self, key: str, body: Buffer) -> bool:
        self._room()
        world = _worlds.get(self.seed)
        if world is None or not key.startswith("part/") or key in self._memory.list(key):
            return self._memory.create(key, body)
        return self._memory.create(key, world.committed(self._memory, key, bytes(flat(body))))

    def _room(self) -> None:
        world = _worlds.get(self.seed)
        if world is not None and world.now < world.full_until:
            raise StoreFull("storm: no space left")

    def list(self, prefix: str) -> Iterator[str]:
        return self._memory.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        assert self.name.startswith("scratch") or not any(key.startswith("part/") for key in gone)
        self._memory.delete(gone)

    def __repr__(self) -> str:
        return f"StormStore({self.seed}, {self.name!r})"


class Weathered(Retrying):
    """A store of a world, with its faults."""

    by_name = True  # a plain pickle does

    def __init__(self, seed: int, name: str, faults_seed: int, rate: float) -> None:
        faulty = FaultyStore(StormStore(seed, name), faults_seed, rate, errors=(StoreBusy,))
        super().__init__(faulty, tries=60, sleep=no_wait)
        self._made_of = seed, name, faults_seed, rate

    def __reduce__(self) -> tuple[Any, ...]:
        return Weathered, self._made_of


class StormAlarm:
    """As fnmap.alarm.Alarm, in the time of the world."""

    def __init__(self, storm: Storm) -> None:
        self._storm, self._set = storm, 0

    def start(self) -> None:
        """There is no thread."""

    def set(self, at: float, ring: Callable[[], object]) -> None:
        self._set += 1  # what was set before is void
        self._storm.at(max(0.0, at - self._storm.now), partial(self._ring, self._set, ring))

    def _ring(self, number: int, ring: Callable[[], object]) -> None:
        if number == self._set:
            ring()

    def close(self) -> None:
        """What was set rings into the void."""


def no_wait(_: float) -> None:
    """In place of time.sleep."""


def world(seed: int) -> Storm:
    """The world of that seed, for functions that run in it."""
    return _worlds[seed]


def forget(seed: int) -> None:
    """Let go of the stores of a world."""
    for place in [place for place in _memories if place[0] == seed]:
        del _memories[place]


MOST_LOSSES = 3
MOST_SPOILT = 3  # parts of a world: not so many that a run gives its store up
_worlds: dict[int, Storm] = {}
_memories: dict[tuple[int, str], MemoryStore] = {}
