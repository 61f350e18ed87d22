"""A process that drives a named run, a map or a plan, until it ends or is killed: run by test_storms.py.

driver.py map|plan STORE GATE BEGUN RAN TOLD [BEAT_S]
    of the tasks from the half on every fifth says its worker's pid at BEGUN and waits at GATE, but only in workers of
    this process. RAN gets a line for each task that is begun, TOLD the key of each part that is committed. What came
    of the run is on stdout: "done", or the kind of error
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import fnmap
import fnmap.durable
import fnmap.session
from fnmap.storage.files import FileStore

TASKS, CHUNK = 100, 5


def value(x):
    return x, x / 7, f"deal {x}"


def make_plan(work: Callable[[int], Any]) -> fnmap.Plan:
    with fnmap.plan("p") as p:
        values = p.map(work, range(TASKS), chunksize=CHUNK, name="values")
        thirds = p.map(lambda v: v[1] / 3, values, chunksize=CHUNK, name="thirds")
        p.reduce(sum, thirds, by=lambda x: x % 3, fan_in=4, name="total")
    return p


def telling(told: str) -> type[FileStore]:
    class Telling(FileStore):
        def create(self, key, body):
            won = super().create(key, body)
            if key.startswith("part/"):
                say(told, key)
            return won

    return Telling


def say(path: str, what: object) -> None:
    with open(path, "ab", buffering=0) as file:  # noqa: PTH123 - it travels by value, the lighter the better
        file.write(f"{what}\n".encode())


def main(kind: str, root: str, gate: str, begun: str, ran: str, told: str, beat_s: str = "5") -> None:
    driver = os.getpid()
    fnmap.durable.BEAT_S = fnmap.driver.BEAT_S = float(beat_s)

    def work(x):
        say(ran, x)
        if x >= TASKS // 2 and x % CHUNK == 2 and os.getppid() == driver:
            say(begun, os.getpid())
            with open(gate, "rb", buffering=0) as pipe:  # noqa: PTH123
                pipe.read(1)
        return value(x)

    with fnmap.Session(workers=2, store=telling(told)(root)) as session:
        if kind == "map":
            run = session.map(work, range(TASKS), name="n", chunksize=CHUNK)
        else:
            run = session.run_plan(make_plan(work), name="n")
        try:
            run.result()
            print("done")
        except fnmap.FnmapError as error:
            print(type(error).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
