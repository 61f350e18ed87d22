"""Price a synthetic book of reinsurance deals: ``python -m model.price_book --deals 300 --out prices``.

Makes deals on PiWind's published event losses, prices each with `model.pricing.price_deal` through
`fnmap.map`, prints a summary and writes two Parquet files: `deals.parquet` (a row per layer) and
`ep_curves.parquet` (the exceedance curves of each layer, SummaryId = 16 deal + layer). One of the few modules here
that know fnmap.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import fnmap
from model import report, tables
from model.command_line import Parser, at_least
from model.errors import ModelError
from model.metrics import STANDARD_RETURN_PERIODS
from model.pricing import DealResult, price_deal
from model.synth import Portfolio, portfolio


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="price_book", description="Price a synthetic book of reinsurance deals.")
    longest = int(max(STANDARD_RETURN_PERIODS))
    parser.add_argument("--deals", type=at_least(1), default=300, help="number of deals (%(default)s)")
    parser.add_argument("--years", type=at_least(longest), default=10_000, help="simulated years (%(default)s)")
    parser.add_argument("--views", type=at_least(1), default=5, help="loss samples of each year (%(default)s)")
    parser.add_argument("--seed", type=at_least(0), default=1, help="of deals and simulation (%(default)s)")
    parser.add_argument("--on", choices=("local", "inline"), default="local", help="where to run (%(default)s)")
    parser.add_argument("--top", type=at_least(1), default=10, help="layers in the summary (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two Parquet files")
    return parser.parse_args(argv)


def price(book: Portfolio, *, years: int, views: int, seed: int, on: str = "local") -> list[DealResult]:
    """Price every deal of `book`, in order, on the compute named `on`; fnmap shows the progress."""
    options = {"loss_sets": book.loss_sets, "fx": book.fx, "years": years, "views": views, "seed": seed}
    return list(fnmap.map(price_deal, book.deals, kwargs=options, on=on))


def write(results: Sequence[DealResult], out: Path, metadata: Mapping[str, str]) -> None:
    """Write `deals.parquet` and `ep_curves.parquet` into `out`, with `metadata` in their footers."""
    tables.write(report.deals_table(results), out / "deals.parquet", "deals", metadata)
    tables.write(report.ep_table(results), out / "ep_curves.parquet", "ept", metadata)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, or 1 after saying in one line what went wrong."""
    args = _arguments(argv)
    run = {"years": args.years, "views": args.views, "seed": args.seed}
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        book = portfolio(args.deals, args.seed)
        start = time.perf_counter()
        results = price(book, **run, on=args.on)
        seconds = time.perf_counter() - start
        write(results, args.out, {name: str(value) for name, value in run.items()})
    except (ModelError, OSError) as e:
        sys.stderr.write(f"price_book: {e}\n")
        return 1
    sys.stdout.write(report.summary(results, book.fx, args.top))
    events = sum(r.events for r in results)
    sys.stdout.write(
        f"\n{len(results)} deals, {args.years:,} years x {args.views} views, {events:,} event losses"
        f" in {seconds:.1f} s; tables in {args.out}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
