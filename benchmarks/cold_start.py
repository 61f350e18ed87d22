"""How long from a cold interpreter to the first result, and how much CPU does it take?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import ROOT
from benchmarks.peers import System
from benchmarks.processes import tree_cpu_s
from benchmarks.question import Column, Goal, Metrics, Part, Question, check

FIRST = """
import os, sys
sys.path[:] = {path!r}
from {module} import {system}
system = {system}({workers})
system.start()
os.write({fd}, repr(system.call(abs, -42)).encode())
sys.stdin.read()
system.close()
"""
IMPORTS = 5


def measure(system: System, imports: int = IMPORTS) -> Iterator[Metrics]:
    """Seconds and CPU seconds (client and workers) to the first result, and the seconds of the import alone."""
    wall_s, cpu_s = first_result(system)
    yield {"first_s": wall_s, "cpu_s": cpu_s}
    bare, loaded = [], []
    for _ in range(imports):
        bare.append(python_s("pass"))
        loaded.append(python_s(f"import {system.module}"))
    yield {"import_s": max(0.0, min(loaded) - min(bare))}


def first_result(system: System) -> tuple[float, float]:
    """Wall and CPU seconds until a new interpreter has it."""
    read, write = os.pipe()
    kind = type(system)
    script = FIRST.format(
        path=[str(ROOT), *sys.path], module=kind.__module__, system=kind.__name__, workers=system.workers, fd=write
    )
    begin = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, pass_fds=[write]) as client:
        os.close(write)
        said = os.read(read, 100)
        wall_s, cpu_s = time.perf_counter() - begin, tree_cpu_s(client.pid)
        check(said == b"42", f"the first result is {said!r}, not 42")
    os.close(read)
    return wall_s, cpu_s


def python_s(script: str) -> float:
    """The seconds that an interpreter takes for the script."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True)
    return time.perf_counter() - begin


QUESTION = Question(
    name="cold_start",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("first_s", "cpu_s", "import_s")),),
    columns=(
        Column("first_s", "first result"),
        Column("cpu_s", "CPU of all processes"),
        Column("import_s", "import alone"),
    ),
    systems=("fnmap", "mp", "cf", "loky", "joblib", "mpire", "dask", "ray", "lithops"),
    toy_systems=("fnmap", "mp", "cf"),
    toy={"imports": 1},
    goals=(
        Goal("CPU to the first result", "fnmap", "cpu_s", 0.3),
        Goal("import fnmap", "fnmap", "import_s", 0.1),
    ),
    repeat=5,
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
