"""One deal, now: ``python -m model.analytics --calls 100``.

Loads the years of the loss sets that a deal covers once, keeps them where the workers of a warm session see them, and
asks for its price again and again with other terms, as an underwriter does; prints the price and what calls took.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fnmap
from model import report
from model.book_files import read_book
from model.book_pricing import subject_years
from model.command_line import Parser, at_least
from model.errors import ModelError
from model.losses import Yelt
from model.pricing import Deal, DealResult, price_years, simulated
from model.synth import portfolio

YEARS = 100_000


@dataclass(frozen=True)
class Latency:
    """Seconds of calls, one after the other."""

    taken: tuple[float, ...]

    @property
    def p50_s(self) -> float:
        """The median."""
        return statistics.median(self.taken)

    @property
    def p99_s(self) -> float:
        """What one call in a hundred exceeds."""
        return statistics.quantiles(self.taken, n=100, method="inclusive")[98] if len(self.taken) > 1 else self.p50_s


def renegotiated(deal: Deal, n: int) -> Deal:
    """The deal with every attachment and limit changed by a little: the n-th counter-offer."""
    factor = 1.0 + 0.001 * n
    layers = tuple(replace(x, attachment=x.attachment * factor, limit=x.limit * factor) for x in deal.layers)
    return replace(deal, layers=layers)


def ask(session: fnmap.Session, deal: Deal, years: Yelt, calls: int) -> tuple[DealResult, Latency]:
    """The price of the deal, and how long it took to be told those of its counter-offers.

    `years` are shared by all calls: a worker maps them, and nothing of them travels.
    """
    shared = fnmap.share(years)
    price = session.submit(price_years, deal, shared).result()
    taken = []
    for n in range(calls):
        offer = renegotiated(deal, n)
        start = time.perf_counter()
        session.submit(price_years, offer, shared).result()
        taken.append(time.perf_counter() - start)
    return price, Latency(tuple(taken))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="analytics", description="Price one deal again and again, with other terms.")
    parser.add_argument("--deal", type=at_least(1), default=1, help="which, by its id (%(default)s)")
    parser.add_argument(
        "--book", type=Path, metavar="DIR", help="your deals and losses (docs/model.md), not synthetic ones"
    )
    parser.add_argument("--years", type=at_least(1000), help=f"simulated years ({YEARS:,}, or those of the book)")
    parser.add_argument("--calls", type=at_least(1), default=100, help="counter-offers (%(default)s)")
    parser.add_argument("--seed", type=at_least(0), default=1, help="of book and simulation (%(default)s)")
    parser.add_argument("--on", choices=("local", "inline"), default="local", help="where to run (%(default)s)")
    return parser.parse_args(argv)


def asked(args: argparse.Namespace) -> tuple[Deal, Yelt, Mapping[str, float], str]:
    """The deal that the arguments ask for, the years of what it covers, rates of exchange and their currency."""
    if args.book is None:
        book = portfolio(args.deal, args.seed)
        deal, n = book.deals[-1], args.years or YEARS
        years = simulated(deal, loss_sets=book.loss_sets, fx=book.fx, years=n, views=1, seed=args.seed)
        return deal, years, book.fx, "GBP"
    own = read_book(args.book, years=args.years, errors="return")
    found = {deal.deal_id: deal for deal in own.deals}
    if args.deal not in found:
        raise ModelError(own.refused.get(args.deal) or f"{args.book} has no deal {args.deal}; it has {sorted(found)}")
    deal = found[args.deal]
    years = subject_years(deal, own, years=own.years or args.years or YEARS, seed=args.seed)
    return deal, years, own.fx, own.currency


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, or 1 after saying in one line what went wrong."""
    args = _arguments(argv)
    try:
        deal, years, fx, currency = asked(args)
        with fnmap.Session(on=args.on, progress=False) as session:
            price, latency = ask(session, deal, years, args.calls)
    except (ModelError, fnmap.FnmapError) as error:
        sys.stderr.write(f"analytics: {error}\n")
        return 1
    sys.stdout.write(report.summary([price], fx, currency=currency))
    sys.stdout.write(
        f"\ndeal {deal.deal_id}: {years.years:,} years, {years.loss.size:,} event losses, {len(deal.layers)} layers; "
        f"{args.calls} prices, each in p50 {1e3 * latency.p50_s:.1f} ms, p99 {1e3 * latency.p99_s:.1f} ms\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
