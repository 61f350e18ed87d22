"""Price a book of reinsurance deals: ``python -m model.price_book --deals 300 --out prices``, or ``--book DIR``.

Makes deals on PiWind's published event losses, or reads your own (`model.book_files`), prices each through `fnmap.map`,
prints a summary and writes two Parquet files: `deals.parquet` (a row per layer) and `ep_curves.parquet` (the exceedance
curves of each layer, SummaryId = 16 deal + layer). One of the few modules here that know fnmap.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import fnmap
from model import report, tables
from model.book import Book
from model.book_files import read_book
from model.book_pricing import price_of
from model.command_line import Parser, at_least
from model.errors import ModelError
from model.metrics import STANDARD_RETURN_PERIODS
from model.pricing import DealResult, price_deal
from model.synth import Portfolio, portfolio

YEARS, VIEWS = 10_000, 5

Errors = Literal["raise", "return"]

Priced = tuple[list[DealResult], dict[int, str]]
"""Prices, and what is wrong with deals that have none, by id."""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="price_book", description="Price a book of reinsurance deals.")
    longest = int(max(STANDARD_RETURN_PERIODS))
    parser.add_argument(
        "--book", type=Path, metavar="DIR", help="your deals and losses (docs/model.md), not synthetic ones"
    )
    parser.add_argument("--errors", choices=("raise", "return"), default="raise", help="return: price the rest")
    parser.add_argument("--deals", type=at_least(1), default=300, help="number of deals (%(default)s)")
    parser.add_argument("--years", type=at_least(longest), help=f"simulated years ({YEARS:,}, or those of the book)")
    parser.add_argument("--views", type=at_least(1), help=f"loss samples of each year ({VIEWS}, or those of the book)")
    parser.add_argument("--seed", type=at_least(0), default=1, help="of deals and simulation (%(default)s)")
    parser.add_argument("--on", choices=("local", "inline"), default="local", help="where to run (%(default)s)")
    parser.add_argument("--top", type=at_least(1), default=10, help="layers in the summary (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two Parquet files")
    return parser.parse_args(argv)


def price(book: Portfolio, *, years: int, views: int, seed: int, on: str = "local") -> list[DealResult]:
    """Price every deal of `book`, in order, on the compute named `on`; fnmap shows the progress."""
    options = {"loss_sets": book.loss_sets, "fx": book.fx, "years": years, "views": views, "seed": seed}
    return list(fnmap.map(price_deal, book.deals, kwargs=options, on=on))


def price_files(
    folder: Path, *, years: int | None, views: int | None, seed: int, on: str, errors: Errors
) -> tuple[Book, Priced, dict[str, int]]:
    """The book in a folder and the prices of its inward deals, with what was simulated.

    `errors`: "raise" what is wrong, or "return" it with the prices of the rest.
    """
    book = read_book(folder, years=years, errors=errors)
    run = {"years": book.years or years or YEARS, "views": views or book.views or VIEWS, "seed": seed}
    inward, failed = [], dict(book.refused)
    for deal in book.deals:
        try:
            book.check(deal)
            report.summary_id(deal.deal_id, len(deal.layers))
        except ModelError as error:
            if errors == "raise":
                raise
            failed[deal.deal_id] = str(error)
            continue
        if deal.covers:
            failed[deal.deal_id] = f"deal {deal.deal_id} covers other deals: python -m model.rollup prices it with them"
        else:
            inward.append(deal)
    without = replace(book, deals=(), refused={}, faults={})
    found = fnmap.map(price_of, inward, kwargs={"book": without, **run}, on=on, errors=errors)
    prices = []
    for deal, price in zip(inward, found, strict=True):
        if isinstance(price, DealResult):
            prices.append(price)
        else:
            failed[deal.deal_id] = str(price)
    prices.sort(key=lambda price: price.deal_id)
    if not prices:
        raise ModelError("; ".join(["there is no inward deal to price", *failed.values()]))
    return book, (prices, failed), run


def write(results: Sequence[DealResult], out: Path, metadata: Mapping[str, str]) -> None:
    """Write `deals.parquet` and `ep_curves.parquet` into `out`, with `metadata` in their footers."""
    tables.write(report.deals_table(results), out / "deals.parquet", "deals", metadata)
    tables.write(report.ep_table(results), out / "ep_curves.parquet", "ept", metadata)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, or 1 after saying in one line what went wrong."""
    args = _arguments(argv)
    run = {"years": args.years or YEARS, "views": args.views or VIEWS, "seed": args.seed}
    failed: dict[int, str] = {}
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        if args.book is None:
            synthetic = portfolio(args.deals, args.seed)
            results, fx, currency = price(synthetic, **run, on=args.on), synthetic.fx, "GBP"
        else:
            given = {"years": args.years, "views": args.views, "seed": args.seed, "on": args.on}
            book, (results, failed), run = price_files(args.book, **given, errors=args.errors)
            fx, currency = book.fx, book.currency
        seconds = time.perf_counter() - start
        write(results, args.out, {name: str(value) for name, value in run.items()})
    except (ModelError, OSError, fnmap.FnmapError) as e:
        sys.stderr.write(f"price_book: {e}\n")
        return 1
    sys.stdout.write(report.summary(results, fx, args.top, currency))
    sys.stdout.writelines(f"left out: {why}\n" for _, why in sorted(failed.items()))
    events = sum(r.events for r in results)
    sys.stdout.write(
        f"\n{len(results)} deals, {run['years']:,} years x {run['views']} views, {events:,} event losses"
        f" in {seconds:.1f} s; tables in {args.out}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
