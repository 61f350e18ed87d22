"""The driver of a named run is killed at half: how much is run again, and how soon does another process go on?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.peers import System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check, timed


class Resumed(System):
    """A named run, driven by one process and finished by another."""

    module = "fnmap"

    def begin(self, session: Any, fn: Callable[[int], int], tasks: int, chunk: int) -> Any:
        """Start the run of so many tasks."""
        raise NotImplementedError

    def results(self, run: Any) -> list[Any]:
        """What the tasks gave, in their order."""
        return list(run)


class ResumedMap(Resumed):
    name = "map"

    def begin(self, session: Any, fn: Callable[[int], int], tasks: int, chunk: int) -> Any:
        return session.map(fn, range(tasks), name="n", chunksize=chunk)


class ResumedPlan(Resumed):
    """A map, and a map of its results."""

    name = "plan"

    def begin(self, session: Any, fn: Callable[[int], int], tasks: int, chunk: int) -> Any:
        import fnmap

        half = tasks // 2
        with fnmap.plan() as p:
            first = p.map(fn, range(half), chunksize=chunk, name="first")
            p.map(partial(after, fn, half), first, chunksize=chunk, name="second")
        return session.run_plan(p, name="n")

    def results(self, run: Any) -> list[Any]:
        return [*run["first"], *run["second"]]


def work(log: str, task_s: float, item: int) -> int:
    """So much work on an item, of which the log tells."""
    with open(log, "ab", buffering=0) as file:  # noqa: PTH123 - it costs every task
        file.write(b"%d\n" % item)
    end = time.thread_time() + task_s
    while time.thread_time() < end:
        pass
    return -item


def after(fn: Callable[[int], int], half: int, result: int) -> int:
    """Work on the result of the task so many before."""
    return fn(half - result)


def drive(name: str, workers: int, folder: str, tasks: int, chunk: int, task_s: float) -> None:
    """Drive the run, in a process of its own, until half of it is done; then die."""
    import fnmap
    from fnmap.observe.events import RunProgressed

    system = next(system for system in QUESTION.own if system.name == name)(workers)
    done: Counter[str] = Counter()

    def die_at_half(event: Any) -> None:
        if isinstance(event, RunProgressed):
            done[event.run_id] = event.done
            if done.total() >= tasks // 2:
                os.kill(os.getpid(), signal.SIGKILL)

    with fnmap.Session(workers=workers, store=f"{folder}/store", listeners=[die_at_half]) as session:
        system.begin(session, partial(work, f"{folder}/log", task_s), tasks, chunk)


def measure(system: Resumed, tasks: int, chunk: int, task_s: float) -> Iterator[Metrics]:
    """Chunks and tasks that were run a second time; seconds until the results that are there can be read elsewhere;
    seconds for the rest, and the share of them in which all workers did what was left."""
    import fnmap

    with (
        tempfile.TemporaryDirectory() as folder,
        fnmap.Session(workers=system.workers, store=f"{folder}/store") as here,
    ):
        here.map(abs, range(2 * system.workers)).wait()
        order = (system.name, system.workers, folder, tasks, chunk, task_s)
        code = f"from benchmarks.resume import drive; drive(*{order!r})"
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
        check(ended.returncode == -signal.SIGKILL, "the driver was not killed")
        attach_s, run = timed(here.attach, "n")
        left = tasks - run.status.done
        finish_s, _ = timed(lambda: run.retry().wait())
        check(system.results(run) == [-item for item in range(tasks)], "a result is not that of its item")
        begun = Counter(map(int, Path(folder, "log").read_text().split()))
        check(len(begun) == tasks, "a task has a result, and was never run")
        again = [task for task, times in begun.items() if times > 1]
        in_flight = len({task // chunk for task in again})
        yield {"chunks": in_flight / system.workers, "again": float(len(again)), "left": float(left)}
        yield {"attach_s": attach_s, "finish_s": finish_s, "share": left * task_s / system.workers / finish_s}


QUESTION = Question(
    name="resume",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("chunks", "again", "left", "attach_s", "finish_s", "share")),),
    columns=(
        Column("chunks", "chunks run again, of each worker", "x"),
        Column("again", "tasks run again", "count"),
        Column("left", "tasks without result", "count"),
        Column("attach_s", "attach"),
        Column("finish_s", "the rest"),
        Column("share", "share in tasks", "share"),
    ),
    systems=("map", "plan"),
    toy_systems=("map", "plan"),
    full={"tasks": 10_000, "chunk": 50, "task_s": 1e-3},
    toy={"tasks": 200, "chunk": 5, "task_s": 1e-3},
    goals=(
        Goal("of a map, at most the chunks in flight are run again", "map", "chunks", 1.0),
        Goal("of a plan, at most the chunks in flight are run again", "plan", "chunks", 1.0),
        Goal("seconds to attach to a map", "map", "attach_s", 0.5),
    ),
    own=(ResumedMap, ResumedPlan),
    reference="map",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
