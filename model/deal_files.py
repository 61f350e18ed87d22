"""Deals as people write them in a table of terms, `deals.csv`, a row a term."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model.errors import ModelError
from model.pricing import Deal
from model.sheets import Sheet
from model.terms import INF, Layer, QuotaShare, StopLoss, Term

COLUMNS = (
    *("DealId", "Type", "Inures", "Currency", "LossSets", "Covers", "Share", "Limit", "Attachment"),
    *("AggLimit", "AggAttachment", "Reinstatements", "ProRataTime"),
)
"""Of deals.csv, a row a term; `docs/model.md` says what they mean."""

_NEEDED = ("DealId", "Type", "Currency", "Share")
_TYPES = ("XL", "QS", "SL")
_YES_NO = {"": False, "no": False, "yes": True, "false": False, "true": True}

Read = tuple[list[Deal], dict[int, str]]
"""Sound deals in the order of their first rows, and what is wrong with the others, by id."""


def deals_of(sheet: Sheet) -> Read:
    """The deals of a table of terms. Raises ModelError for a table without its columns, or a row without a DealId."""
    sheet.require(_NEEDED)
    if not any(map(sheet.has, ("LossSets", "Covers"))):
        raise ModelError(f"{sheet.name} lacks the column LossSets: which losses do the deals cover?")
    grouped: dict[int, list[tuple[str, dict[str, str]]]] = {}
    for number, row in zip(sheet.ids("DealId").tolist(), sheet.rows(), strict=True):
        grouped.setdefault(number, []).append(row)
    return each(grouped, _deal)


def each(grouped: Mapping[int, Any], make: Callable[[int, Any], Deal]) -> Read:
    """The deals that `make` makes of grouped rows, and what is wrong with others."""
    deals, faults = [], {}
    for number, rows in grouped.items():
        try:
            deals.append(make(number, rows))
        except ModelError as e:
            text = str(e)
            faults[number] = text if text.startswith(f"deal {number}") else f"deal {number}: {text}"
    return deals, faults


def _deal(number: int, rows: Sequence[tuple[str, dict[str, str]]]) -> Deal:
    inuring, layers = list[Term](), list[Term]()
    for where, row in rows:
        try:
            term = _term(row)
            (inuring if _yes(row, "Inures") else layers).append(term)
        except ModelError as e:
            raise ModelError(f"{where}: {e}") from e
    one = {name: _same(rows, name) for name in ("Currency", "LossSets", "Covers")}
    where = rows[0][0]
    if not one["Currency"]:
        raise ModelError(f"{where}: Currency is empty")
    return Deal(
        number,
        one["Currency"],
        tuple(_loss_set(where, part) for part in _parts(one["LossSets"])),
        tuple(term.as_layer() for term in layers),
        tuple(inuring),
        tuple(whole(where, "Covers", part) for part in _parts(one["Covers"])),
    )


def _same(rows: Sequence[tuple[str, dict[str, str]]], name: str) -> str:
    """What all rows of a deal say, or leave empty."""
    said = {row.get(name, ""): where for where, row in rows if row.get(name, "")}
    if len(said) > 1:
        (one, _), (other, where), *_ = said.items()
        raise ModelError(f"{where}: {name} is {other}, and {one} in a row before: one for all terms of a deal")
    return next(iter(said), "")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _loss_set(where: str, part: str) -> tuple[int, float]:
    name, _, share = part.partition(":")
    return whole(where, "LossSets", name), _amount({"LossSets": share or "1"}, "LossSets")


def whole(where: str, column: str, text: str) -> int:
    """An id in a cell."""
    if not text.strip().isdecimal():
        raise ModelError(f"{where}: {column} must be ids with ; between them (and share behind a colon); got {text}")
    return int(text)


def _yes(row: Mapping[str, str], column: str) -> bool:
    text = row.get(column, "").lower()
    if text not in _YES_NO:
        raise ModelError(f"{column} must be yes, no or empty; got {row[column]}")
    return _YES_NO[text]


def _amount(row: Mapping[str, str], column: str, empty: float | None = None) -> float:
    text = row.get(column, "")
    if not text and empty is not None:
        return empty
    try:
        return float(text)
    except ValueError:
        raise ModelError(f"{column} must be a number; got {text or 'nothing'}") from None


def _term(row: Mapping[str, str]) -> Term:
    kind, share = row["Type"], _amount(row, "Share")
    if kind == "QS":
        return QuotaShare(ceded=share, event_limit=_amount(row, "Limit", INF))
    if kind == "SL":
        return StopLoss(limit=_amount(row, "Limit"), attachment=_amount(row, "Attachment"), share=share)
    if kind != "XL":
        raise ModelError(f"Type must be one of {', '.join(_TYPES)}; got {kind or 'nothing'}")
    return Layer(
        limit=_amount(row, "Limit"),
        attachment=_amount(row, "Attachment"),
        share=share,
        aad=_amount(row, "AggAttachment", 0.0),
        aal=_amount(row, "AggLimit", INF),
        reinst=reinstatements(row.get("Reinstatements", "")),
        pro_rata_time=_yes(row, "ProRataTime"),
    )


def reinstatements(text: str) -> tuple[float, ...] | None:
    """The rates in a cell: empty is no annual limit, "none" no reinstatement."""
    if not text:
        return None
    if text == "none":
        return ()
    return tuple(_amount({"Reinstatements": part}, "Reinstatements") for part in _parts(text))


def rows_of(deal: Deal) -> list[dict[str, object]]:
    """The rows of a deal in a table of terms."""
    shared = {
        "DealId": deal.deal_id,
        "Currency": deal.currency,
        "LossSets": ";".join(f"{n}:{share!r}" for n, share in deal.subject),
        "Covers": ";".join(map(str, deal.covers)),
    }
    terms = [(term, "yes") for term in deal.inuring] + [(term, "no") for term in deal.layers]
    return [shared | {"Inures": inures} | _cells(term) for term, inures in terms]


def _cells(term: Term) -> dict[str, object]:
    if isinstance(term, QuotaShare):
        return {"Type": "QS", "Share": term.ceded, "Limit": "" if term.event_limit == INF else term.event_limit}
    if isinstance(term, StopLoss):
        return {"Type": "SL", "Share": term.share, "Limit": term.limit, "Attachment": term.attachment}
    reinst = "" if term.reinst is None else ";".join(map(repr, term.reinst)) or "none"
    return {
        "Type": "XL",
        "Share": term.share,
        "Limit": term.limit,
        "Attachment": term.attachment,
        "AggLimit": "" if term.aal == INF else term.aal,
        "AggAttachment": term.aad,
        "Reinstatements": reinst,
        "ProRataTime": "yes" if term.pro_rata_time else "no",
    }
