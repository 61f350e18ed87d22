"""How long does it take to price a deal of 100 000 years from its stored losses, against reading and sorting alone?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers import System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check

if TYPE_CHECKING:
    from model.losses import Elt, Yelt
    from model.pricing import Deal, DealResult

EVENTS = 10_000  # of the event loss table
RATE = 5.0  # of all of them, a year
PLACES = (0.8, 0.9, 0.95, 0.98, 0.995)  # quantiles of the largest loss of a year: where layers begin and end


class Model(System):
    """Read the stored years, check them, run them through the layers, take curves and moments of each."""

    name = "model"

    def asked(self, path: Path, deal: Deal, yelt: Yelt) -> Callable[[], Any]:
        """What is timed."""
        from model.pricing import price_years
        from model.tables import read_yelt

        return lambda: price_years(deal, read_yelt(path, years=yelt.years))

    def right(self, answer: Any, here: DealResult) -> bool:
        """Is that the price?"""
        return bool(abs(answer.el / here.el - 1) < 1e-6 and abs(answer.tvar100 / here.tvar100 - 1) < 1e-6)


class Floor(System):
    """Read the same file, and sort as many years' losses for each layer."""

    name = "floor"

    def asked(self, path: Path, deal: Deal, yelt: Yelt) -> Callable[[], Any]:
        """What is timed."""
        import pyarrow.parquet as pq

        columns = self.sorted_columns(deal, yelt)
        return lambda: (pq.read_table(path), [np.sort(column) for column in columns])

    def right(self, answer: Any, here: DealResult) -> bool:
        """Was all of it read?"""
        return bool(answer[0].num_rows == here.events)

    def sorted_columns(self, deal: Deal, yelt: Yelt) -> list[Any]:
        """Annual losses: a column a layer."""
        return [yelt.annual()[1].copy() for _ in deal.layers]


class FloorPaid(Floor):
    """The same, of what the layers pay: nothing in most years, which is sorted in less time."""

    name = "floor-paid"

    def sorted_columns(self, deal: Deal, yelt: Yelt) -> list[Any]:
        """Annual recoveries: a column a layer."""
        from model.recoveries import apply
        from model.terms import Programme

        return list(apply(Programme((deal.layers,)), yelt).layer_loss)


def events() -> Elt:
    """An event loss table with losses of many sizes."""
    from model.losses import Elt

    rng = np.random.default_rng(1)
    mean, rate = rng.lognormal(13, 1.5, EVENTS), rng.lognormal(0, 1, EVENTS)
    return Elt(np.arange(EVENTS, dtype=np.int32), rate * RATE / rate.sum(), mean, 0.6 * mean, 8 * mean)


def four_layers(yelt: Yelt) -> Deal:
    """A programme of four layers, two reinstatements each."""
    from model.pricing import Deal
    from model.terms import Layer

    at = np.quantile(yelt.annual()[0], PLACES).tolist()
    cuts = pairwise(at)
    return Deal(1, "GBP", ((1, 1.0),), tuple(Layer(limit=b - a, attachment=a, reinst=(1.0, 0.5)) for a, b in cuts))


def measure(system: Model | Floor, years: int, repeat: int) -> Iterator[Metrics]:
    """The least CPU milliseconds of one thread, of so many tries."""
    import pyarrow as pa

    from model.pricing import price_years
    from model.simulate import simulate
    from model.tables import write, yelt_from_table, yelt_table

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    table = yelt_table(simulate(events(), years, seed=1))
    yelt = yelt_from_table(table, years=years)
    deal = four_layers(yelt)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "yelt.parquet"
        write(table, path, "yelt")
        ask = system.asked(path, deal, yelt)
        taken = []
        for _ in range(repeat):
            begin = time.process_time()
            answer = ask()
            taken.append(time.process_time() - begin)
    check(system.right(answer, price_years(deal, yelt)), "the stored years have another price")
    yield {"cpu_ms": 1000 * min(taken), "events": yelt.loss.size}


QUESTION = Question(
    name="model_pricing",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("cpu_ms", "events")),),
    columns=(Column("cpu_ms", "CPU of one price", "ms"), Column("events", "event losses", "count")),
    systems=("model", "floor", "floor-paid"),
    toy_systems=("model", "floor"),
    full={"years": 100_000, "repeat": 15},
    toy={"years": 500, "repeat": 2},
    goals=(Goal("a price against reading the file and one sort a layer", "model", "cpu_ms", 1.5, against="floor"),),
    own=(Model, Floor, FloorPaid),
    reference="floor",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
