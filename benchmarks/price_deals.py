"""How long does it take to price a book of 500 deals, and are the cores busy with it?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.peers import System
from benchmarks.question import Cap, Column, Metrics, Part, Question, check, timed

if TYPE_CHECKING:
    from model.pricing import Deal, DealResult

CHECKED = 3  # deals that are priced here again


def priced(deal: Deal, **book: Any) -> tuple[DealResult, float]:
    """A deal's price, and the CPU seconds that it took."""
    from model.pricing import price_deal

    begin = time.thread_time()
    return price_deal(deal, **book), time.thread_time() - begin


def measure(system: System, deals: int, years: int) -> Iterator[Metrics]:
    """Seconds for the book, and the share of the cores' time that went into pricing."""
    from model.synth import portfolio

    book = portfolio(deals)
    fn = partial(priced, loss_sets=book.loss_sets, fx=book.fx, years=years)
    with system:
        system.map(fn, book.deals[: 2 * system.workers])
        wall_s, results = timed(system.map, fn, book.deals)
    check([price.deal_id for price, _ in results] == [deal.deal_id for deal in book.deals], "deals out of order")
    for k in range(0, deals, -(-deals // CHECKED)):
        there, here = repr(results[k][0]), repr(fn(book.deals[k])[0])  # as some figures are NaN
        check(there == here, f"deal {book.deals[k].deal_id} has another price here")
    yield {"wall_s": wall_s, "share": sum(cpu_s for _, cpu_s in results) / (system.workers * wall_s)}


QUESTION = Question(
    name="price_deals",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("wall_s", "share")),),
    columns=(Column("wall_s", "the book"), Column("share", "share of the cores", "share")),
    systems=("fnmap", "fnmap-durable", "mp", "cf", "loky", "joblib", "mpire", "dask", "ray", "lithops"),
    toy_systems=("fnmap", "mp", "cf"),
    full={"deals": 500, "years": 30_000},
    toy={"deals": 20, "years": 500},
    caps={"lithops": Cap("measured at 100 deals", {"deals": 100})},
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
