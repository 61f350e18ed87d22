"""Workers and drivers are killed again and again, at any instant: what comes out is what a serial run gives."""

from __future__ import annotations

import os
import pickle
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread

import driver as victim
import pytest
from gates import Gate, gone

import fnmap
from fnmap.format.parts import read_report
from fnmap.lease import committed
from fnmap.observe.events import RunProgressed
from fnmap.storage import owner

PATIENCE_S = 60  # storms take four seconds, and more where others use the cores
TASKS, TASK_S = 100_000, 50e-6  # two seconds and a half on two workers at the least


def value(x):
    return x, x / 7, f"deal {x}"


def slow(x, task_s=TASK_S):
    end = time.thread_time() + task_s
    while time.thread_time() < end:
        pass
    return value(x)


class Storm(Thread):
    """Kills a random worker of a session at each stroke of its clock, until the block ends. It waits for progress since
    the last stroke: where others use the cores, workers would be killed before they have begun."""

    def __init__(self, folder: Path, *, seed: int, every_s: float = 1.0) -> None:
        super().__init__(daemon=True)
        self._random, self._every_s = random.Random(seed), every_s
        self._over, self._progress = Event(), Event()
        self.session = fnmap.Session(workers=2, store=folder, listeners=[self._heard])
        self._done = 0
        self.seen: set[int] = set()  # all workers that there were
        self.killed = 0

    def _heard(self, event: object) -> None:
        if isinstance(event, RunProgressed) and event.done > self._done:
            self._done = event.done
            self._progress.set()

    def run(self) -> None:
        while not self._over.wait(self._every_s) and self._progress.wait() and not self._over.is_set():
            self._progress.clear()
            pids = self.session.compute.pids()
            self.seen.update(pids)
            if pids:
                os.kill(self._random.choice(pids), signal.SIGKILL)
                self.killed += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._progress.set()
        self.join()
        self.seen.update(self.session.compute.pids())
        self.session.close()


def counted(store, name):
    """How often each task of each stage is committed in a part that counts."""
    parts = [(key, read_report(store, key)) for key in committed(store, name)]
    stages = [(int(key.rpartition("/")[2].split(".")[0]), read[0]) for key, read in parts if read is not None]
    return Counter((stage, task) for stage, tasks in stages for task in tasks)


def once(*stages):
    """Each task of stages of so many tasks, once."""
    return Counter((stage, task) for stage, count in enumerate(stages) for task in range(count))


# -- workers -------------------------------------------------------------------------------------------


NAMES = pytest.mark.parametrize("name", [None, "n"], ids=["unnamed", "named"])


@NAMES
def test_a_worker_is_killed_every_second_of_a_map_of_100_000_tasks(tmp_path, name):
    with Storm(tmp_path, seed=1) as storm:
        results = list(storm.session.map(slow, range(TASKS), name=name))
        assert results == [value(x) for x in range(TASKS)]
        assert name is None or counted(storm.session.store, name) == once(TASKS)
    assert storm.killed >= 2
    assert len(storm.seen) > 2
    assert all(gone(pid) for pid in storm.seen)


@NAMES
def test_workers_are_killed_while_a_plan_runs(tmp_path, name):
    with fnmap.plan("p") as p:
        values = p.map(slow, range(4000), kwargs={"task_s": 5e-4})
        doubles = p.map(lambda v: 2 * v[0], values, name="doubles")
        totals = p.reduce(sum, doubles, by=lambda x: x % 5, fan_in=8, name="total")
    with Storm(tmp_path, seed=2, every_s=0.5) as storm:
        run = storm.session.run_plan(p, name=name)
        assert run.result() == {key: sum(2 * x for x in range(4000) if x % 5 == key) for key in totals.keys}
        assert list(run["slow"]) == [value(x) for x in range(4000)]
        assert list(run["doubles"]) == [2 * x for x in range(4000)]
        assert name is None or counted(storm.session.store, name) == once(*(stage.count for stage in p.stages))
    assert storm.killed >= 1
    assert all(gone(pid) for pid in storm.seen)


# -- drivers -------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """Where drivers are killed (see driver.py)."""

    start: Callable[..., Popen[str]]
    folder: Path
    gate: Gate
    begun: Gate
    told: Gate

    def driver(self, kind: str, *more: object) -> Popen[str]:
        paths = (self.folder / "store", self.gate.path, self.begun.path, self.folder / "ran", self.told.path)
        return self.start(Path(victim.__file__).read_text(), kind, *paths, *more)

    def ran(self) -> Counter[int]:
        """How often each task of the first stage was begun."""
        return Counter(map(int, (self.folder / "ran").read_text().split()))


@pytest.fixture
def scene(start, tmp_path, gate, begun):
    return Scene(start, tmp_path, gate, begun, Gate(tmp_path / "told"))


@pytest.fixture
def kept(tmp_path):
    with fnmap.Session(workers=2, store=tmp_path / "store") as session:
        yield session


def check_as_serial(run, kind):
    """Byte for byte what a serial run gives."""
    with fnmap.Session(on="inline") as serial:
        expected = serial.map(victim.value, range(victim.TASKS)) if kind == "map" else None
        if kind == "plan":
            whole = serial.run_plan(victim.make_plan(victim.value))
            assert pickle.dumps(run.result()) == pickle.dumps(whole.result())
            assert pickle.dumps(list(run["thirds"])) == pickle.dumps(list(whole["thirds"]))
            run, expected = run["values"], whole["values"]
        assert pickle.dumps(list(run)) == pickle.dumps(list(expected))
        assert run.table().sort_by("task").equals(expected.table().sort_by("task"))


STAGES = {"map": [victim.TASKS], "plan": [s.count for s in victim.make_plan(victim.value).stages]}
KINDS = pytest.mark.parametrize("kind", STAGES)


@KINDS
def test_of_a_killed_driver_only_the_chunks_in_flight_are_run_again(scene, kept, kind):
    driver = scene.driver(kind)
    workers = set(map(int, scene.begun.heard(2)))
    driver.kill()
    driver.wait()
    assert all(gone(pid) for pid in workers)
    run = kept.attach("n")
    assert run.status.state == "interrupted"
    before = committed(kept.store, "n")
    assert run.retry().result(40)
    again = {task for task, times in scene.ran().items() if times > 1}
    in_flight = sorted({task // victim.CHUNK for task in again})
    assert again == {c * victim.CHUNK + at for c in in_flight for at in range(3)}  # each was at its third task
    assert len(in_flight) == 2
    assert set(before) <= set(committed(kept.store, "n"))
    assert counted(kept.store, "n") == once(*STAGES[kind])
    check_as_serial(kept.attach("n"), kind)


@KINDS
def test_drivers_are_killed_one_after_another_at_any_instant(scene, kept, kind):
    pick, killed = random.Random(3), 3
    scene.gate.open(40)
    for _ in range(killed):
        driver = scene.driver(kind)
        scene.told.heard(pick.randint(1, 5))  # parts were committed
        driver.kill()
        driver.wait()
    assert kept.attach("n").retry().wait(40)
    assert sum(times - 1 for times in scene.ran().values()) <= killed * 2 * victim.CHUNK
    assert counted(kept.store, "n") == once(*STAGES[kind])
    check_as_serial(kept.attach("n"), kind)


@pytest.fixture
def elsewhere(monkeypatch):
    """This process is one of another host, which believes soon that a silent driver is dead."""
    monkeypatch.setattr(owner, "_host", lambda: "elsewhere")
    monkeypatch.setattr("fnmap.attached.DEAD_S", 0.1)
    owner._owner.cache_clear()
    yield
    owner._owner.cache_clear()


@KINDS
def test_what_a_driver_commits_after_it_was_thought_dead_does_not_count(scene, elsewhere, kept, kind):
    zombie = scene.driver(kind, 0.05)
    scene.begun.heard(2)
    zombie.send_signal(signal.SIGSTOP)
    alive = committed(kept.store, "n")
    run = kept.attach("n")
    assert run.status.state == "running"
    assert run.wait(40)
    assert run.status.state == "interrupted"
    assert run.retry().wait(40)
    before = {key: bytes(kept.store.get(key)) for key in committed(kept.store, "n")}
    assert sorted(scene.told.heard(len(alive))) == sorted(alive)
    scene.gate.open(2)
    late = scene.told.heard(2)  # its workers never stopped
    zombie.send_signal(signal.SIGCONT)
    assert zombie.communicate(timeout=40)[0] == "RunTakenOver\n"
    assert all(kept.store.get(key) for key in late)
    assert not before.keys() & set(late)
    assert {key: bytes(kept.store.get(key)) for key in committed(kept.store, "n")} == before
    assert counted(kept.store, "n") == once(*STAGES[kind])
    check_as_serial(kept.attach("n"), kind)
