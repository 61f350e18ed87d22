"""How much CPU does the wind field of Irma at 0.01 degrees take, by numpy and by the compiled program?"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.peers import Fn, System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check
from model.wind_fortran import compiler

if TYPE_CHECKING:
    from model.arrays import F4, F8
    from model.wind_grid import Grid

STORMS = ("AL112017", "AL041992")  # Irma and Andrew
AGREE_MS = 1e-3


class Numpy(System):
    """In this process."""

    name = "wind-numpy"

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return [fn(item) for item in items]


class Fortran(System):
    """The Fortran program, a process a storm: its CPU is all of that process'."""

    name = "wind-fortran"

    def start(self) -> None:
        from model.wind_fortran import build

        self.program = build()

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        from model.wind_fortran import sustained
        from model.wind_tracks import storm

        assert self.program is not None, "there is no Fortran compiler here"
        assert isinstance(fn, partial)
        results: list[tuple[F4, float]] = []
        for name in items:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            field = sustained(self.program, storm(name), fn.keywords["grid"])
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            results.append((field, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
        return results


def by_numpy(name: str, *, grid: Grid) -> tuple[F8, float]:
    """A storm's field, and the CPU seconds that it took."""
    from model.wind_field import sustained
    from model.wind_tracks import storm

    track, begin = storm(name), time.process_time()
    return sustained(track, grid), time.process_time() - begin


def measure(system: System, step: float) -> Iterator[Metrics]:
    """CPU seconds of a grid of 8 x 8 degrees over Florida, in steps of a quarter of an hour."""
    import numpy as np

    from model.wind_grid import Grid

    grid = Grid(23.0, -84.0, step, round(8 / step), round(8 / step))
    with system:
        system.map(
            partial(by_numpy, grid=Grid(23.0, -84.0, 1.0, 8, 8)), STORMS
        )  # the tracks are read, the program is compiled
        results = system.map(partial(by_numpy, grid=grid), STORMS)
    for name, (field, _) in zip(STORMS, results, strict=True):
        expected, _ = by_numpy(name, grid=grid)
        check(bool(np.abs(field - expected).max() < AGREE_MS), f"{name} has another wind here")
    yield {"irma_s": results[0][1], "andrew_s": results[1][1]}


QUESTION = Question(
    name="model_wind",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("irma_s", "andrew_s")),),
    columns=(Column("irma_s", "Irma, CPU"), Column("andrew_s", "Andrew, CPU")),
    systems=("wind-numpy", "wind-fortran"),
    toy_systems=("wind-numpy", "wind-fortran") if compiler() else ("wind-numpy",),
    full={"step": 0.01},
    toy={"step": 0.2},
    goals=(
        Goal("Irma by numpy, CPU seconds", "wind-numpy", "irma_s", 3.0),
        Goal("Irma by the compiled program, CPU seconds", "wind-fortran", "irma_s", 0.6),
    ),
    own=(Numpy, Fortran),
    reference="wind-fortran",
    repeat=5,
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
