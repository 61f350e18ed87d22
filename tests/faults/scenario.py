"""One seeded scenario: a random plan in random weather, and the promise checked on what comes of it."""

from __future__ import annotations

import gc
import logging
import random
import sys
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import fnmap
from fnmap.errors import Damaged, MissingKey, ResultLost, RunError, StoreFull, TaskError
from fnmap.format import keys, parts
from fnmap.format.table import Decoded, decode, from_parquet
from fnmap.lease import committed
from fnmap.planning.schedule import State
from fnmap.plans import Plan
from fnmap.testing import storm
from fnmap.testing.storm import Storm, Weather


def work(label: str, *inputs: Any, seed: int) -> int:
    """The function of all tasks: counts that it ran, and does what the scenario has for this label."""
    from fnmap.testing import storm as storms  # of the process, not a copy that travels with this function

    world = storms.world(seed)
    world.happened["ran", label] += 1
    fate = world.fates.get(label)  # type: ignore[attr-defined]
    if fate == "dies":
        raise storms.WorkerDies
    if fate == "hangs":
        raise storms.TaskHangs
    if fate == "raises" or (fate == "raises once" and world.happened["ran", label] == 1):
        raise OSError(label)
    return digest(label, inputs)


def digest(label: str, inputs: Any) -> int:
    return zlib.crc32(repr((label, plain(inputs))).encode())


def plain(value: Any) -> Any:
    if isinstance(value, TaskError):
        return "error"
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@dataclass
class Scenario:
    """What is drawn from the seed."""

    seed: int
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.weather = self._weather()
        self.weather = replace(self.weather, **self._store_weather())
        self.fates: dict[str, str] = {}
        self.plan, self.expected = self._plan()
        self.named = self.dice.random() < 0.8
        self.deaths = self.dice.choice([0, 0, 1, 1, 2, 3]) if self.named else 0
        self.cancels = self.dice.random() < 0.2

    def _weather(self) -> Weather:
        dice = self.dice

        def some(most: float) -> float:
            return dice.choice([0.0, 0.0, dice.random() * most, most])

        return Weather(
            dies_before=some(0.3),
            dies_after=some(0.3),
            zombie=some(0.3),
            twice=some(0.5),
            answer_lost=some(0.2),
            throttled=some(0.5),
            slow=some(0.2),
            tells_where=dice.random(),
            store=some(dice.choice([0.01, 0.2, 0.7])),
            clock_jumps=some(0.05),
        )

    def _store_weather(self) -> dict[str, float]:
        """What becomes of what was stored. Drawn apart, so that the rest of a scenario is as it was without."""
        dice = random.Random(f"the store of {self.seed}")
        most = {"gone": 0.2, "flipped": 0.2, "torn": 0.2, "full": 0.02}
        return {what: dice.choice([0.0, 0.0, dice.random() * share]) for what, share in most.items()}

    def _plan(self) -> tuple[Plan, list[list[Any]]]:
        """A random plan, and what should become of each task: its value, or State.FAILED or State.SKIPPED."""
        dice, p = self.dice, fnmap.plan("storm")
        expected: list[list[Any]] = []
        for number in range(dice.randint(1, 4)):
            options: dict[str, Any] = {
                "chunksize": dice.choice(["auto", 1, 2, 5]),
                "retries": dice.choice([0, 2]),
                "on_upstream_error": dice.choice(["fail", "skip", "pass"]),
                "limit": dice.choice([None, None, 1]),
            }
            kind = dice.choice(["items"] if number == 0 else ["items", "each", "each", "gather", "reduce"])
            source = dice.choice([p.stages[i].name for i in range(number)]) if number else ""
            expected.append(self._stage(p, kind, number, source, options, expected))
        return p, expected

    def _stage(
        self, p: Plan, kind: str, number: int, source: str, options: dict[str, Any], before: list[list[Any]]
    ) -> list[Any]:
        from fnmap.plan_parts import StageRef

        dice, name, upstream = self.dice, f"s{number}", options["on_upstream_error"]
        kwargs = {"seed": self.seed}
        at = next((i for i, stage in enumerate(p.stages) if stage.name == source), 0)
        if kind in ("items", "each"):
            count = dice.randint(0, 7) if kind == "items" else p.stages[at].count
            labels = [f"{name}:{task}" for task in range(count)]
            self._draw_fates(labels)
            if dice.random() < 0.3:
                options["cost"] = [dice.random() for _ in labels]
            if kind == "items":
                p.map(work, labels, kwargs=kwargs, name=name, **options)
                return [self._outcome(label, (), options) for label in labels]
            p.map(work, labels, StageRef(p, at), kwargs=kwargs, name=name, **options)
            return [
                self._one(label, result, upstream, options) for label, result in zip(labels, before[at], strict=True)
            ]
        keys = [0] * p.stages[at].count if kind == "gather" else [dice.randint(0, 2) for _ in range(p.stages[at].count)]
        groups: dict[int, list[Any]] = {} if kind == "reduce" else {0: []}
        for key, result in zip(keys, before[at], strict=True):
            groups.setdefault(key, []).append(result)
        labels = [f"{name}:{key}" for key in groups]
        fold = _Fold(name)
        if kind == "gather":
            p.gather(fold, StageRef(p, at), kwargs=kwargs, name=name, **options)
        else:
            p.reduce(_Bound(fold, self.seed), StageRef(p, at), by=keys, fan_in=64, name=name, **options)
        return [self._many(label, results, upstream) for label, results in zip(labels, groups.values(), strict=True)]

    def _draw_fates(self, labels: list[str]) -> None:
        for label in labels:
            if self.dice.random() < 0.12:
                self.fates[label] = self.dice.choice(["dies", "hangs", "raises", "raises once"])

    def _outcome(self, label: str, inputs: Any, options: dict[str, Any]) -> Any:
        fate = self.fates.get(label)
        if fate in ("dies", "hangs", "raises"):
            return State.FAILED
        if fate == "raises once" and not options["retries"]:
            return State.FAILED, digest(label, inputs)  # either: another attempt may have been the first
        return digest(label, inputs)

    def _one(self, label: str, result: Any, upstream: str, options: dict[str, Any]) -> Any:
        if isinstance(result, tuple):
            return ANY
        if result is ANY:
            return ANY
        if isinstance(result, State):
            if upstream != "pass":
                return State.FAILED if upstream == "fail" else State.SKIPPED
            result = "error"
        return self._outcome(label, (result,), options)

    def _many(self, label: str, results: list[Any], upstream: str) -> Any:
        if any(result is ANY or isinstance(result, tuple) for result in results):
            return ANY
        bad = [isinstance(result, State) for result in results]
        if any(bad) and upstream == "fail":
            return State.FAILED
        if any(bad) and upstream == "skip":
            if all(bad):
                return State.SKIPPED
            results = [result for result in results if not isinstance(result, State)]
        values = ["error" if isinstance(result, State) else result for result in results]
        return digest(label.partition(":")[0], (values,))


ANY = object()


class _Fold:
    """Combines a list of results."""

    __qualname__ = "fold"

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, values: list[Any], *, seed: int) -> int:
        return work(self.name, values, seed=seed)


class _Bound:
    """`reduce` takes a function of one argument."""

    def __init__(self, fold: _Fold, seed: int) -> None:
        self.fold, self.seed = fold, seed

    def __call__(self, values: list[Any]) -> int:
        return self.fold(values, seed=self.seed)


def play(seed: int) -> Storm:
    """Play the scenario of a seed, and check the promise. Raises AssertionError if it is broken."""
    scenario = Scenario(seed)
    try:
        with Storm(seed, scenario.weather) as world:
            world.fates = scenario.fates  # type: ignore[attr-defined]
            _play(scenario, world)
        return world
    finally:
        storm.forget(seed)


WIDE = 50  # of so many scenarios one has parts that are spread over 256 prefixes, each of which is listed by itself


def _play(scenario: Scenario, world: Storm) -> None:
    name = "n" if scenario.named else None
    limits = {"slots": scenario.dice.randint(1, 5), "payload_bytes": scenario.dice.choice([1 << 20, 600])}
    spread = 2 if scenario.seed % WIDE == 0 else None
    session = world.driver("0", world.store("s3"), spread=spread, **limits)
    run: Any = with_room(world, partial(session.run_plan, scenario.plan, name=name, errors="return"))
    reader = Reader(world)
    for death in range(1, scenario.deaths + 1):
        world.play(scenario.dice.randint(1, 40))
        reader.look()
        if scenario.dice.random() < 0.6:
            session.compute.dead = True  # type: ignore[attr-defined]  # else it is a zombie, and goes on
        world.believed_alive.clear()
        session = world.driver(str(death), world.store("s3"), **limits)
        if scenario.dice.random() < 0.5:
            run = with_room(world, partial(session.run_plan, scenario.plan, name="n", errors="return"))
        else:
            run = session.attach("n")
            for each in run.runs.values():
                each.ledger.errors = "return"
            with_room(world, run.retry)
    if scenario.cancels:
        world.play(scenario.dice.randint(1, 30))
        run.cancel()
        world.play()
        assert run.status.running == 0, "something runs after a cancel"
        with_room(world, run.retry)
    _finish(world, run)
    _check(scenario, world, run)
    if scenario.named:
        _check_stored(scenario, reader.look(), run)


MOST_EVENTS = 10_000  # of a scenario that comes to its end: the longest of two thousand has 1571


def with_room(world: Storm, do: Callable[[], Any]) -> Any:
    """Do it; again, once there is room, if the store was full."""
    try:
        return do()
    except StoreFull:
        world.full_until = world.now
        return do()


def _finish(world: Storm, run: Any) -> None:
    """Play on to the end, and take the run up again if it ended for want of room, or if results were lost since."""
    assert not world.play(MOST_EVENTS), "it never comes to its end"
    while (error := _fault(run)) is not None or _lost(world, run):
        if error is not None:
            assert isinstance(error, StoreFull), f"it ended with {error!r}"
        assert run.status.state == ("interrupted" if error is None else "failed"), run.status
        world.weather = replace(world.weather, full=world.weather.full / 2)  # it gets better at last
        with_room(world, run.retry)
        assert not world.play(MOST_EVENTS), "it never comes to its end"


def _fault(run: Any) -> BaseException | None:
    return next((part.ledger.error for part in run.runs.values() if part.ledger.error is not None), None)


def _lost(world: Storm, run: Any) -> bool:
    """Read all results. Was one of them lost?"""
    parts._recent.clear()  # what was read before would do else
    found = False
    for part in run.runs.values():
        for task in [t for t, state in enumerate(part.ledger.schedule.state) if state == State.DONE]:
            try:
                found |= isinstance(with_room(world, partial(part.__getitem__, task)), ResultLost)
            except RunError:  # a mate of it that was lost is known to be so already
                found = True
    return found


class Reader:
    """What somebody sees who reads the store now and then: a result that was there once is there for good, the same,
    unless the part that it was in was lost."""

    def __init__(self, world: Storm) -> None:
        self.world, self.store = world, world.store("s3")
        self._doubtful: set[tuple[int, int]] = set()
        self.seen: dict[tuple[int, int], Any] = {}
        self._parts: dict[str, tuple[bytes, Decoded]] = {}

    def look(self) -> dict[tuple[int, int], Any]:
        """The results that are committed, by stage and task. Each is in one part that counts."""
        now: dict[tuple[int, int], Any] = {}
        for key in committed(self.store, "n"):
            try:
                decoded = self._decoded(key)
            except (MissingKey, Damaged):
                assert key in self.world.spoilt, f"{key} cannot be read"
                continue
            stage = keys.place_of_part(key)[0]
            for at, task in enumerate(decoded.tasks):
                if at not in decoded.failures:
                    assert (stage, task) not in now, f"task {task} of stage {stage} was committed twice"
                    now[stage, task] = decoded.values[at]
                    if key in self.world.spoilt:
                        self._doubtful.add((stage, task))
        for place, value in self.seen.items():
            assert place in self._doubtful or now.get(place) == value, (
                f"the result of {place} was {value}, and is {now.get(place)}"
            )
        self.seen = now
        return now

    def _decoded(self, key: str) -> Decoded:
        body = bytes(self.store.get(key))
        before, decoded = self._parts.get(key, (b"", None))
        if decoded is None or body != before:
            assert decoded is None or key in self.world.spoilt, f"{key} has changed"
            decoded = decode(from_parquet(body))  # as any reader of Parquet, whoever wrote it
            self._parts[key] = body, decoded
        return decoded


def _check(scenario: Scenario, world: Storm, run: Any) -> None:
    """The run has ended, and says what became of every task; and that is what should have."""
    status = run.status
    assert status.state == "done", status
    assert (status.running, status.waiting) == (0, 0), status
    assert status.done + status.failed + status.skipped == status.total == len(scenario.plan), status
    for stage, wanted in zip(scenario.plan.stages, scenario.expected, strict=True):
        part = run[stage.name]
        states = part.ledger.schedule.state
        for task, want in enumerate(wanted):
            got: Any = State(states[task])
            if got == State.DONE:
                got = part[task]
            options = want if isinstance(want, tuple) else (want,)
            assert want is ANY or got in options, (
                f"{stage.name}[{task}] is {got}, and should be {want}: {part.errors.get(task)}"
            )
            if State(states[task]) == State.DONE and stage.items is not None:
                assert world.happened["ran", f"{stage.name}:{task}"] >= 1, f"{stage.name}[{task}] never ran"


def _check_stored(scenario: Scenario, stored: dict[tuple[int, int], Any], run: Any) -> None:
    """What is in the store is what the run says."""
    for number, stage in enumerate(scenario.plan.stages):
        states = run[stage.name].ledger.schedule.state
        done = {task for task, state in enumerate(states) if state == State.DONE}
        assert {task for at, task in stored if at == number} == done, f"{stage.name}: stored is not what is done"
        for task in done:
            assert stored[number, task] == run[stage.name][task]


def main(first: int, last: int) -> int:
    """Play these seeds; tell of each that breaks the promise, with the line that plays it again."""
    logging.disable()  # what is damaged, or full, is told of each time
    gc.freeze()  # a fifth of the time would go into looking at what stays
    gc.set_threshold(20_000)
    broken = 0
    for seed in range(first, last):
        try:
            play(seed)
        except Exception as error:
            broken += 1
            print(f"seed {seed}: {type(error).__name__}: {error}\n  again: python tests/faults/scenario.py {seed}")
            if last - first == 1:
                traceback.print_exc()
    print(f"{last - first} seeds, {broken} broken")
    return broken


if __name__ == "__main__":
    begin = int(sys.argv[1])
    sys.exit(bool(main(begin, int(sys.argv[2]) if len(sys.argv) > 2 else begin + 1)))
