"""Deals out of OED's reinsurance files, ri_info and ri_scope, on loss sets in the place of single risks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from model import sheets
from model.deal_files import Read, each, reinstatements, whole
from model.errors import ModelError
from model.oed import Contract
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
    wrong: dict[int, str] = {}
    for number, (where, row) in zip(scope.ids("ReinsNumber").tolist(), scope.rows(), strict=True):
        covered, loss_set = scopes.setdefault(number, {}), whole(where, "PortNumber", row["PortNumber"])
        share = sheets.number(row.get("CededPercent") or 1.0)
        if not 0 < share <= 1 or covered.setdefault(loss_set, share) != share:
            given = row.get("CededPercent") or "nothing"
            wrong[number] = f"{where}: CededPercent must be a fraction in (0, 1], one for a PortNumber; got {given}"
    grouped: dict[int, list[tuple[str, dict[str, str]]]] = {}
    for number, row_at in zip(info.ids("ReinsNumber").tolist(), info.rows(), strict=True):
        grouped.setdefault(number, []).append(row_at)
    contracts = list[Contract]()
    for number, rows in grouped.items():
        try:
            contracts += [_contract(*row) for row in rows]
        except ModelError as e:
            wrong[number] = str(e)
    files = _Files(scopes, contracts, wrong)
    return each(grouped, lambda number, _: files.deal(number))


def _contract(where: str, row: Mapping[str, str]) -> Contract:
    try:
        contract = Contract.of({name: cell for name, cell in row.items() if name != "Reinstatements"})
        return replace(contract, Reinstatements=reinstatements(row.get("Reinstatements", "")))
    except ModelError as e:
        raise ModelError(f"{where}: {e}") from e


@dataclass(frozen=True)
class _Files:
    scopes: Mapping[int, Shares]
    contracts: Sequence[Contract]
    wrong: Mapping[int, str]

    def deal(self, number: int) -> Deal:
        """That of one ReinsNumber."""
        if number in self.wrong:
            raise ModelError(self.wrong[number])
        own = [c for c in self.contracts if c.ReinsNumber == number]
        one = {(c.InuringPriority, c.ReinsCurrency) for c in own}
        if len(one) > 1 or not own[0].ReinsCurrency:
            raise ModelError(f"ReinsNumber {number}: all its rows need one InuringPriority and one ReinsCurrency")
        if not self.scopes.get(number):
            raise ModelError(f"ReinsNumber {number} covers no loss set; give ri_scope a row with its PortNumber")
        for other in self.wrong:
            if self.scopes[number].keys() & self.scopes.get(other, {}):
                raise ModelError(f"ReinsNumber {other} may inure to {number}, and cannot be read")
        shares, inuring = self._inured(number, own[0])
        layers = tuple(c.as_layer() for c in own)
        subject = tuple(sorted(shares.items()))
        return Deal(number, own[0].ReinsCurrency, subject, layers, tuple(c.as_layer() for c in inuring))

    def _inured(self, number: int, deal: Contract) -> tuple[dict[int, float], list[Contract]]:
        """What contracts of lower priorities leave: shares of loss sets, and those that come off event by event.

        Quota shares without limits lower the shares, whatever else they cover; others must cover the same loss sets,
        in one priority and in the currency of the deal, and nothing may come between them and it.
        """
        own, inuring = self.scopes[number], list[Contract]()
        shares = dict(own)
        before = [c for c in self.contracts if c.InuringPriority < deal.InuringPriority]
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
                if other := {c.ReinsCurrency for c in stage} - {deal.ReinsCurrency}:
                    raise ModelError(
                        f"ReinsNumber {stage[0].ReinsNumber} of InuringPriority {level} inures to {number}: its"
                        f" ReinsCurrency is {other.pop() or 'empty'}, and must be {deal.ReinsCurrency} as well"
                    )
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
