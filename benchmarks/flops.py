"""How many floating point operations a second do workers reach, and is that what numpy gives without fnmap?

After Jonas et al. (2017), "Occupy the Cloud", section 3.1, and the benchmark that came with PyWren.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import ClassVar, NamedTuple
from unittest.mock import patch

from benchmarks import lambda_map
from benchmarks.aws import Aws
from benchmarks.histogram import by_worker
from benchmarks.peers import Fnmap, Pool, System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Done(NamedTuple):
    """What a task did. `begin`, `end`: seconds of the machine's clock."""

    worker: int
    begin: float
    end: float
    element: float


def multiply(size: int, products: int, task: int) -> Done:
    """Matrix products of so many rows and columns; each element is the number of the task."""
    import numpy as np

    mean, mine = np.full((size, size), 1.0 / size), np.full((size, size), float(task))
    begin = time.monotonic()
    for _ in range(products):
        mine = mean @ mine
    return Done(os.getpid(), begin, time.monotonic(), float(mine[0, -1]))


class FnmapLambda(lambda_map.Fnmap):
    """In the processes of a local Lambda service."""

    name: ClassVar[str] = "fnmap-lambda"

    def start(self) -> None:
        self.environments, self.stack = self.workers, ExitStack()
        self.aws = self.stack.enter_context(Aws(env=ONE_THREAD))
        self.connect()


class Raw(Pool):
    """Processes that multiply by themselves."""

    name, module = "raw", "numpy"
    chunksize = 1


def measure(system: System, size: int, products: int, tasks: int) -> Iterator[Metrics]:
    """GFLOPS of all workers together while any of them worked; of the slowest, the median and the fastest; and of each
    with each task."""
    with patch.dict(os.environ, ONE_THREAD), system:
        _right(system.map(partial(multiply, 256, 1), range(8 * system.workers)))  # numpy is there
        done = _right(system.map(partial(multiply, size, products), range(tasks)))
    operations = 2e-9 * size**3 * products
    whole_s = max(each.end for each in done) - min(each.begin for each in done)
    yield {"gflops": tasks * operations / whole_s, **_of_workers(done, operations)}


def _right(done: Sequence[Done]) -> Sequence[Done]:
    check(all(abs(each.element - task) < 1e-6 * (task + 1) for task, each in enumerate(done)), "wrong products")
    return done


def _of_workers(done: Sequence[Done], operations: float) -> Metrics:
    busy = defaultdict[int, list[float]](list)
    for each in done:
        busy[each.worker].append(each.end - each.begin)
    own = [len(seconds) * operations / sum(seconds) for seconds in busy.values()]
    tasks = by_worker((one.worker, operations / (one.end - one.begin)) for one in done)
    shares = {"low_gflops": min(own), "mid_gflops": statistics.median(own), "high_gflops": max(own)}
    return {**shares, "each_gflops": tasks}


QUESTION = Question(
    name="flops",
    asks=(__doc__ or "").partition("\n\n")[0],
    measure=measure,
    parts=(Part(("gflops", "low_gflops", "mid_gflops", "high_gflops")),),
    columns=(
        Column("gflops", "all workers", "GFLOPS"),
        Column("low_gflops", "slowest worker", "GFLOPS"),
        Column("mid_gflops", "median", "GFLOPS"),
        Column("high_gflops", "fastest", "GFLOPS"),
    ),
    histograms=(Column("each_gflops", "GFLOPS of a worker's tasks", "GFLOPS"),),
    systems=("fnmap", "fnmap-lambda", "raw"),
    toy_systems=("fnmap", "fnmap-lambda", "raw"),
    full={"size": 1024, "products": 8, "tasks": 32},
    toy={"size": 128, "products": 2, "tasks": 8},
    goals=(
        Goal("local workers against raw numpy", "fnmap", "gflops", 0.95, against="raw", at_least=True),
        Goal("Lambda's processes against raw numpy", "fnmap-lambda", "gflops", 0.95, against="raw", at_least=True),
    ),
    own=(Fnmap, FnmapLambda, Raw),
    reference="raw",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
