"""How long until 1000 results of 1 MB each are one table, and until DuckDB has grouped them as Parquet?"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import Fn, FnmapDurable, System
from benchmarks.question import Cap, Column, Metrics, Part, Question, check, timed

if TYPE_CHECKING:
    import pyarrow as pa

AREAS = 50
KINDS = 7  # of results: the loss is the year times 1 to 7


def result(task: int, rows: int) -> pa.Table:
    """Losses by deal, year and area: 32 bytes a row."""
    import numpy as np
    import pyarrow as pa

    year = np.arange(rows)
    columns = {"deal": np.full(rows, task), "year": year, "area": year % AREAS, "loss": year * float(task % KINDS + 1)}
    # by its buffer, as handing over the array would import pandas where there is one
    return pa.table(
        {
            name: pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), rows, [None, pa.py_buffer(array)])
            for name, array in columns.items()
        }
    )


def losses(tasks: int, rows: int) -> dict[int, float]:
    """The sum of the losses by area. All numbers are whole, so it is exact in any order."""
    times = sum(task % KINDS + 1 for task in range(tasks))
    return {area: float(times * sum(range(area, rows, AREAS))) for area in range(min(AREAS, rows))}


def summed(tasks: int, rows: int) -> tuple[int, float]:
    """The rows of all results, and the sum of their losses."""
    return tasks * rows, sum(losses(tasks, rows).values())


class Floor(System):
    """No system at all: forked processes, each with its share of the items, that write files."""

    name, closures = "floor", True

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        context = multiprocessing.get_context("fork")
        results: list[Any] = [None] * len(items)
        running = []
        for first in range(self.workers):
            mine, theirs = context.Pipe()
            process = context.Process(target=_share, args=(theirs, fn, items[first :: self.workers]))
            process.start()
            running.append((first, mine, process))
        for first, mine, process in running:
            results[first :: self.workers] = mine.recv()
            process.join()
        return results

    def call(self, fn: Fn, item: Any) -> Any:
        return self.map(fn, [item])[0]

    def table(self, fn: Fn, items: Sequence[Any]) -> pa.Table:
        """Through Arrow IPC files that are mapped into memory."""
        import pyarrow as pa

        with tempfile.TemporaryDirectory() as folder:
            paths = self.map(partial(_to_arrow, folder, fn), items)
            return pa.concat_tables(pa.ipc.open_file(pa.memory_map(path)).read_all() for path in paths)


def _share(answer: Any, fn: Fn, items: Sequence[Any]) -> None:
    answer.send([fn(item) for item in items])


def _to_arrow(folder: str, fn: Fn, task: int) -> str:
    import pyarrow as pa

    path, table = str(Path(folder, f"{task}.arrow")), fn(task)
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return path


def _to_parquet(folder: str, fn: Fn, task: int) -> str:
    import pyarrow.parquet as pq

    path = str(Path(folder, f"{task}.parquet"))
    pq.write_table(fn(task), path)
    return path


def measure(system: System, tasks: int, rows: int) -> Iterator[Metrics]:
    """Seconds until the sum of a column is known of one table, then until sums by area are of a Parquet dataset."""
    import duckdb  # noqa: F401 - imported before the clock starts, as pyarrow is by the first, small tables

    answers = {"gather_s": (gathered, summed), "group_s": (grouped, losses)}
    with system:
        for key, (ask, expected) in answers.items():
            ask(system, partial(result, rows=AREAS), 4 * system.workers)
            seconds, answer = timed(ask, system, partial(result, rows=rows), tasks)
            check(answer == expected(tasks, rows), f"wrong sums of {tasks} tables")
            yield {key: seconds}


def gathered(system: System, fn: Fn, tasks: int) -> tuple[int, float]:
    """Rows and the sum of losses of all results as one table."""
    import pyarrow.compute as pc

    table = system.table(fn, range(tasks))
    return table.num_rows, pc.sum(table["loss"]).as_py()


def grouped(system: System, fn: Fn, tasks: int) -> dict[int, float]:
    """Losses by area, from Parquet files that the workers write; a named run's are there anyway."""
    import duckdb

    with contextlib.closing(duckdb.connect()) as connection, tempfile.TemporaryDirectory() as folder:
        if isinstance(system, FnmapDurable):
            results = connection.from_arrow(system.run(fn, range(tasks)).dataset())
        else:
            results = connection.read_parquet(system.map(partial(_to_parquet, folder, fn), range(tasks)))
        return dict(results.aggregate("area, sum(loss)").fetchall())


QUESTION = Question(
    name="gather_tables",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("gather_s", "group_s")),),
    columns=(Column("gather_s", "one table"), Column("group_s", "Parquet, grouped")),
    systems=(
        "floor", "fnmap", "fnmap-durable", "mp", "cf", "cf-chunks", "loky", "joblib", "mpire", "dask", "ray",
        "lithops",
    ),
    toy_systems=("floor", "fnmap", "fnmap-durable"),
    full={"tasks": 1000, "rows": 32_768},
    toy={"tasks": 20, "rows": 2_048},
    caps={"lithops": Cap("measured at 100 tables", {"tasks": 100})},
    own=(Floor,),
    reference="floor",
)  # fmt: skip

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
