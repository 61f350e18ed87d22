"""A book of deals as a folder of files, of a user or written by `write_book`; `docs/model.md` says what is in it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from model import deal_files, ord_losses, sheets
from model.book import Book, Group, LossSet
from model.errors import ModelError
from model.given_events import Occurrences, assembled
from model.losses import Elt
from model.oed_files import contracts_of
from model.ord_losses import Losses
from model.sheets import Sheet
from model.simulate import EventSet

_ALL = "all"  # of a peril, region or line that is not given


@dataclass(frozen=True)
class _Kind:
    """What `loss_sets.csv` says of a loss set."""

    event_set: int = 1
    group: Group = (_ALL, _ALL, _ALL)
    currency: str = ""
    dispersion: float = 0.0


def read_book(folder: str | Path, *, years: int | None = None, errors: str = "raise") -> Book:
    """The book in a folder. `years`: how many periods there are, where its losses or occurrences are by period.

    `errors`: "raise" what is wrong, or "return" it: loss sets and deals that cannot be read are told by the book
    (`Book.faults`, `Book.refused`) and the others are there. Raises ModelError naming file and row, in either case for
    files that are missing or lack columns.
    """
    found = _Folder(Path(folder))
    book = found.book(years)
    if errors == "raise" and (wrong := [*book.faults.values(), *book.refused.values()]):
        raise ModelError("; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""))
    return book


class _Folder:
    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a directory: a book is a folder of deals.csv, fx.csv and losses/")
        self.folder = folder
        self.faults: dict[int, str] = {}

    def book(self, years: int | None) -> Book:
        base, fx = self._fx()
        kinds = self._kinds()
        losses, given, last = self._losses()
        if losses and kinds:
            self.faults |= {
                n: f"loss set {n}: losses has it as a SummaryId, and loss_sets none of that LossSet"
                for n in losses.keys() - kinds.keys()
            }
            self.faults |= {
                n: f"loss set {n} is empty: no row of losses has that SummaryId"
                for n in kinds.keys() - losses.keys() - self.faults.keys()
            }
        losses = {n: x for n, x in sorted(losses.items()) if n not in self.faults}
        losses = {n: self._in(base, fx, n, x, kinds.get(n, _Kind())) for n, x in losses.items() if n not in self.faults}
        occurrences = self._occurrences()
        if occurrences is not None and occurrences.period.size:
            last = max(last or 0, int(occurrences.period.max()))
        periods = None if last is None else years or given or last
        if last is not None and periods is not None and periods < last:
            raise ModelError(f"{self.folder} has losses in period {last}; there are only {periods} years")
        events, sets = self._event_sets(losses, kinds, occurrences, periods)
        deals, refused = self._deals()
        samples = [len(x.elt.samples) for x in sets.values() if x.elt.samples is not None]
        return Book(
            events, sets, tuple(deals), fx, base, refused, self.faults, periods, max(samples) if samples else None
        )

    def _sheet(self, stem: str, *, text: bool = False) -> Sheet | None:
        path = sheets.find(self.folder, stem)
        return None if path is None else sheets.read(path, text=text)

    def _fx(self) -> tuple[str, dict[str, float]]:
        """The currency of the book, and what one unit of it is worth in each."""
        sheet = self._sheet("fx", text=True)
        if sheet is None:
            raise ModelError(f"{self.folder} has no fx.csv: what one unit of the book's currency is worth in others")
        sheet.require(["cur_from", "cur_to", "roe"])
        rates, bases = dict[str, float](), dict[str, str]()
        for where, row in sheet.rows():
            bases.setdefault(row["cur_from"], where)
            rate = sheets.number(row["roe"])
            if not 0 < rate < float("inf"):
                raise ModelError(f"{where}: roe must be a finite number > 0; got {row['roe'] or 'nothing'}")
            same = 1.0 if row["cur_to"] == row["cur_from"] else rates.get(row["cur_to"], rate)
            if rate != same:
                raise ModelError(f"{where}: {row['cur_from']} to {row['cur_to']} is {rate:g}, and {same:g} besides")
            rates[row["cur_to"]] = rate
        if len(bases) != 1:
            raise ModelError(f"{sheet.name} must have one cur_from, the currency of the book; got {', '.join(bases)}")
        base = next(iter(bases))
        return base, {base: 1.0} | rates

    def _kinds(self) -> dict[int, _Kind]:
        sheet, kinds = self._sheet("loss_sets", text=True), dict[int, _Kind]()
        if sheet is None:
            return kinds
        sheet.require(["LossSet"])
        for number, (where, row) in zip(sheet.ids("LossSet").tolist(), sheet.rows(), strict=True):
            if number in kinds:
                raise ModelError(f"{where}: loss set {number} stands there a second time")
            event_set, dispersion = row.get("EventSet", "") or "1", sheets.number(row.get("Dispersion", "") or "0")
            if not event_set.isdecimal():
                raise ModelError(f"{where}: EventSet must be a whole number >= 0; got {event_set}")
            if not 0 <= dispersion < float("inf"):
                raise ModelError(f"{where}: Dispersion must be finite and >= 0; got {row['Dispersion']}")
            group = (row.get("Peril") or _ALL, row.get("Region") or _ALL, row.get("LOB") or _ALL)
            kinds[number] = _Kind(int(event_set), group, row.get("Currency", ""), dispersion)
        return kinds

    def _losses(self) -> tuple[dict[int, Losses], int | None, int | None]:
        """Loss sets by id, the number of periods that their weights tell, and the last period with a loss."""
        paths = sorted(p for p in (self.folder / "losses").glob("*") if p.suffix in (".csv", ".parquet"))
        if not paths:
            raise ModelError(f"{self.folder} has no losses/*.csv or losses/*.parquet: loss tables in ORD")
        losses, source, years = dict[int, Losses](), dict[int, str](), set[int]()
        for path in paths:
            sheet = sheets.read(path)
            found, faults = ord_losses.losses_of(sheet)
            for number in found.keys() | faults.keys():
                if number in source:
                    faults[number] = f"loss set {number} is in {source[number]} and in {path.name}"
                source[number] = path.name
            losses |= found
            self.faults |= faults
            if (told := ord_losses.years_of(sheet)) is not None:
                years.add(told)
        if len(years) > 1:
            raise ModelError(
                f"PeriodWeight must be one in all loss tables: 1 over the periods, which are {sorted(years)}"
            )
        last = [int(x.period.max()) for x in losses.values() if x.period is not None]
        return losses, next(iter(years), None), max(last) if last else None

    def _in(self, base: str, fx: Mapping[str, float], number: int, x: Losses, kind: _Kind) -> Losses:
        """The losses in the currency of the book."""
        if kind.currency in ("", base):
            return x
        if kind.currency not in fx:
            self.faults[number] = f"loss set {number}: no rate for {kind.currency}; fx has {', '.join(sorted(fx))}"
            return x
        return x.scaled(1 / fx[kind.currency])

    def _occurrences(self) -> Occurrences | None:
        sheet = self._sheet("occurrence")
        return None if sheet is None else Occurrences.of(sheet)

    def _rates(self) -> dict[int, float]:
        sheet = self._sheet("events")
        if sheet is None:
            return {}
        events = sheet.ids("EventId")
        rate = sheet.amounts("EventRate", np.arange(events.size), sheet.numbers("EventRate"), "EventId")
        _, first = np.unique(events, return_index=True)
        if first.size < events.size:
            again = int(np.setdiff1d(np.arange(events.size), first)[0])
            raise ModelError(f"{sheet.where(again)}: event {events[again]} stands there a second time")
        return dict(zip(events.tolist(), rate.tolist(), strict=True))

    def _event_sets(
        self,
        losses: Mapping[int, Losses],
        kinds: Mapping[int, _Kind],
        occurrences: Occurrences | None,
        years: int | None,
    ) -> tuple[dict[int, EventSet], dict[int, LossSet]]:
        rates = self._rates()
        members: dict[int, dict[int, Losses]] = {}
        for number, x in losses.items():
            if number not in self.faults:
                members.setdefault(kinds.get(number, _Kind()).event_set, {})[number] = x
        events, sets = {}, {}
        for place, parts in members.items():
            spread = {kinds.get(n, _Kind()).dispersion for n in parts}
            try:
                if len(spread) > 1:
                    raise ModelError(f"event set {place} has several Dispersions: {sorted(spread)}")
                events[place], elts, faults = assembled(
                    place, parts, dispersion=spread.pop(), rates=rates, occurrences=occurrences, years=years
                )
            except ModelError as e:
                elts, faults = {}, {n: str(e) if str(e).startswith("loss set") else f"loss set {n}: {e}" for n in parts}
            self.faults |= faults
            for number, elt in elts.items():
                sets[number] = LossSet(elt, place, kinds.get(number, _Kind()).group)
        return events, sets

    def _deals(self) -> deal_files.Read:
        deals = self._sheet("deals", text=True)
        info, scope = self._sheet("ri_info", text=True), self._sheet("ri_scope", text=True)
        if deals is not None and (info or scope):
            raise ModelError(f"{self.folder} has {deals.name} and OED's ri_info or ri_scope: keep one kind")
        if deals is not None:
            return deal_files.deals_of(deals)
        if info is None or scope is None:
            raise ModelError(f"{self.folder} has no deals.csv, nor OED's ri_info.csv and ri_scope.csv")
        return contracts_of(info, scope)


def write_book(book: Book, folder: str | Path) -> None:
    """Write a book as `read_book` reads it; numbers come back to the last bit.

    For books whose events have rates: those on given time lines came from files.
    """
    out = Path(folder)
    if any(events.line is not None for events in book.event_sets.values()):
        raise ModelError("a book on given time lines is not written: its files are there")
    (out / "losses").mkdir(parents=True, exist_ok=True)
    _csv(out / "fx.csv", ("cur_from", "cur_to", "roe"), [(book.currency, to, repr(x)) for to, x in book.fx.items()])
    _csv(
        out / "loss_sets.csv",
        ("LossSet", "EventSet", "Peril", "Region", "LOB", "Currency", "Dispersion"),
        [
            (n, x.event_set, *x.group, book.currency, repr(book.event_sets[x.event_set].dispersion))
            for n, x in book.loss_sets.items()
        ],
    )
    rows = [row for deal in book.deals for row in deal_files.rows_of(deal)]
    _csv(out / "deals.csv", deal_files.COLUMNS, [[row.get(c, "") for c in deal_files.COLUMNS] for row in rows])
    table = pa.concat_tables([_melt(n, x.elt) for n, x in book.loss_sets.items()])
    pyarrow.csv.write_csv(table, out / "losses" / "melt.csv")


def _csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _melt(number: int, elt: Elt) -> pa.Table:
    """An ORD MELT, in double precision."""
    n = elt.event_id.size
    return pa.table(
        {
            "EventId": elt.event_id,
            "SummaryId": np.full(n, number, np.int32),
            "SampleType": np.full(n, 1, np.int32),
            "EventRate": elt.rate,
            "MeanLoss": elt.mean,
            "SDLoss": elt.sd,
            "MaxLoss": elt.exposure,
            "FootprintExposure": elt.exposure,
        }
    )
