"""Deals out of OED's reinsurance files, ri_info and ri_scope, on loss sets in the place of single risks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from model.deal_files import Read, each, reinstatements, whole
from model.errors import ModelError
from model.oed import Contract, Scope
from model.pricing import Deal
from model.sheets import Sheet

Shares = Mapping[int, float]
"""Of each loss set that a contract covers, the share."""


def contracts_of(info: Sheet, scope: Sheet) -> Read:
    """The deals of the two tables: a ReinsNumber is a deal, its rows are its layers.

    The PortNumber of a row of ri_scope is a loss set, its CededPercent (if any) the share of it. Contracts of a lower
    InuringPriority on the same loss sets inure to it (`_inured`). Raises ModelError for tables without their columns.
    """
    info.require(["ReinsNumber", "ReinsType", "InuringPriority", "ReinsCurrency"])
    scope.require(["ReinsNumber", "PortNumber"])
    scopes: dict[int, dict[int, float]] = {}
    for number, (where, row) in zip(scope.ids("ReinsNumber").tolist(), scope.rows(), strict=True):
        share = Scope.of({"ReinsNumber": number, "CededPercent": row.get("CededPercent", "")}).CededPercent
        covered = scopes.setdefault(number, {})
        covered[whole(where, "PortNumber", row["PortNumber"])] = 1.0 if share is None else share
    grouped: dict[int, list[tuple[str, dict[str, str]]]] = {}
    for number, row_at in zip(info.ids("ReinsNumber").tolist(), info.rows(), strict=True):
        grouped.setdefault(number, []).append(row_at)
    files = _Files(scopes, [c for rows in grouped.values() for c in _readable(rows)])
    return each(grouped, lambda number, rows: files.deal(number, [_contract(*row) for row in rows]))


def _contract(where: str, row: Mapping[str, str]) -> Contract:
    try:
        contract = Contract.of({name: cell for name, cell in row.items() if name != "Reinstatements"})
        return replace(contract, Reinstatements=reinstatements(row.get("Reinstatements", "")))
    except ModelError as e:
        raise ModelError(f"{where}: {e}") from e


def _readable(rows: Sequence[tuple[str, dict[str, str]]]) -> list[Contract]:
    try:
        return [_contract(*row) for row in rows]
    except ModelError:
        return []  # said where the deal itself is made


@dataclass(frozen=True)
class _Files:
    scopes: Mapping[int, Shares]
    contracts: Sequence[Contract]

    def deal(self, number: int, own: Sequence[Contract]) -> Deal:
        """That of one ReinsNumber."""
        one = {(c.InuringPriority, c.ReinsCurrency) for c in own}
        if len(one) > 1 or not own[0].ReinsCurrency:
            raise ModelError(f"ReinsNumber {number}: all its rows need one InuringPriority and one ReinsCurrency")
        if not self.scopes.get(number):
            raise ModelError(f"ReinsNumber {number} covers no loss set; give ri_scope a row with its PortNumber")
        shares, inuring = self._inured(number, own[0].InuringPriority)
        layers = tuple(c.as_layer() for c in own)
        subject = tuple(sorted(shares.items()))
        return Deal(number, own[0].ReinsCurrency, subject, layers, tuple(c.as_layer() for c in inuring))

    def _inured(self, number: int, priority: int) -> tuple[dict[int, float], list[Contract]]:
        """What contracts of lower priorities leave: shares of loss sets, and those that come off event by event.

        Quota shares without limits lower the shares, whatever else they cover; others must cover the same loss sets,
        in one priority, and nothing may come between them and the deal.
        """
        own, inuring = self.scopes[number], list[Contract]()
        shares = dict(own)
        before = [c for c in self.contracts if c.InuringPriority < priority]
        for level in sorted({c.InuringPriority for c in before}):
            stage = [
                c for c in before if c.InuringPriority == level and own.keys() & self.scopes.get(c.ReinsNumber, {})
            ]
            if not stage:
                continue
            if not inuring and all(_plain_share(c) for c in stage):
                for n in shares:
                    shares[n] *= 1 - sum(
                        self.scopes[c.ReinsNumber].get(n, 0.0) * c.CededPercent * c.PlacedPercent for c in stage
                    )
            elif not inuring and all(self.scopes[c.ReinsNumber] == own for c in stage):
                inuring = stage
            else:
                names = ", ".join(str(c.ReinsNumber) for c in stage)
                raise ModelError(
                    f"ReinsNumber {names} of InuringPriority {level} inures to {number}: only quota shares without"
                    " limits may cover other loss sets than it, and only the last priority before it be anything else"
                )
        return shares, inuring


def _plain_share(contract: Contract) -> bool:
    return contract.ReinsType == "QS" and not (contract.OccLimit or contract.AggLimit or contract.AggAttachment)
