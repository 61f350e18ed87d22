"""Reinsurance as Open Exposure Data (OED) tells it: contracts by row, applied in order of `InuringPriority`.

Contracts of one priority see the same losses, those of the next what they left. Types: FAC (facultative), QS
(quota share), SS (surplus share), PR (per risk), CXL (catastrophe excess of loss), AXL (aggregate excess of
loss). Percentages are fractions, and 0 as a limit is no limit, as in OED. Formulas: ktools calculation rules 23 to
25 as `oasislmf.preparation.reinsurance_layer` sets them up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from model.arrays import F8, Mask
from model.errors import ModelError
from model.terms import INF, Layer, Programme

TYPES = ("FAC", "QS", "SS", "PR", "CXL", "AXL")
_BY_RISK = {"ACC": ("AccNumber",), "POL": ("AccNumber", "PolNumber"), "LOC": ("AccNumber", "LocNumber")}

Risk = Mapping[str, Any]
"""What a loss belongs to: AccNumber, PolNumber, LocNumber."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A row of an OED reinsinfo table, by its column names. Raises ModelError naming the contract and the column."""

    ReinsNumber: int
    ReinsType: str
    ReinsLayerNumber: int = 1
    InuringPriority: int = 1
    RiskLevel: str = ""
    ReinsCurrency: str = ""
    CededPercent: float = 1.0
    RiskLimit: float = 0.0
    RiskAttachment: float = 0.0
    OccLimit: float = 0.0
    OccAttachment: float = 0.0
    AggLimit: float = 0.0
    AggAttachment: float = 0.0
    PlacedPercent: float = 1.0
    Reinstatements: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.ReinsType not in TYPES:
            self._refuse("ReinsType", f"be one of {', '.join(TYPES)}")
        if self.RiskLevel not in ("", "SEL", *_BY_RISK):
            self._refuse("RiskLevel", f"be empty, SEL or one of {', '.join(_BY_RISK)}")
        for name in ("CededPercent", "PlacedPercent"):
            if not 0 < getattr(self, name) <= 1:
                self._refuse(name, "be a fraction in (0, 1]")
        for name in (f"{part}{what}" for part in ("Risk", "Occ", "Agg") for what in ("Limit", "Attachment")):
            if not 0 <= getattr(self, name) < INF:
                self._refuse(name, "be finite and >= 0 (a limit of 0 is none)")

    def _refuse(self, column: str, rule: str) -> None:
        raise ModelError(f"ReinsNumber {self.ReinsNumber}: {column} must {rule}; got {getattr(self, column)}")

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Contract:
        """From a row of a reinsinfo table; other columns are left alone, empty ones have their defaults."""
        if missing := {"ReinsNumber", "ReinsType"} - row.keys():
            raise ModelError(f"a reinsinfo row lacks {', '.join(sorted(missing))}; it has {', '.join(row)}")
        given = {f.name: row[f.name] for f in fields(cls) if row.get(f.name) not in (None, "")}
        whole = {"ReinsNumber", "ReinsLayerNumber", "InuringPriority"}
        numbers = whole | {n for n in given if n.endswith(("Percent", "Limit", "Attachment"))}
        try:
            given |= {n: (int if n in whole else float)(given[n]) for n in numbers & given.keys()}
        except ValueError as e:
            raise ModelError(f"ReinsNumber {row['ReinsNumber']}: {e}") from e
        return cls(**given)

    def as_layer(self) -> Layer:
        """The cover on all losses together, for a contract without risks: QS, CXL and AXL.

        OED's limit and attachment are those of the ceded share c: min(max(c X - A, 0), L) p is the share c p
        of L / c excess of A / c.
        """
        if self.ReinsType not in ("QS", "CXL", "AXL") or self.RiskLimit or self.RiskAttachment:
            raise ModelError(f"ReinsNumber {self.ReinsNumber}: a {self.ReinsType} by risk is no layer; use `inure`")
        c = self.CededPercent
        return Layer(
            limit=(self.OccLimit or INF) / c,
            attachment=self.OccAttachment / c,
            aad=self.AggAttachment / c,
            aal=(self.AggLimit or INF) / c,
            share=c * self.PlacedPercent,
            reinst=self.Reinstatements,
        )

    @classmethod
    def from_layer(cls, layer: Layer, number: int, layer_number: int = 1, currency: str = "") -> Contract:
        """The row that says what `layer` does; its share is placed."""
        aggregate = layer.limit == INF and layer.attachment == 0
        return cls(
            ReinsNumber=number,
            ReinsLayerNumber=layer_number,
            ReinsType="AXL" if aggregate else "CXL",
            ReinsCurrency=currency,
            OccLimit=0.0 if layer.limit == INF else layer.limit,
            OccAttachment=layer.attachment,
            AggLimit=0.0 if layer.aal == INF else layer.aal,
            AggAttachment=layer.aad,
            PlacedPercent=layer.share,
            Reinstatements=layer.reinst,
        )


def programme(contracts: Sequence[Contract]) -> Programme:
    """Contracts on all losses together as stages in order of InuringPriority."""
    return Programme(tuple(tuple(c.as_layer() for c in stage) for stage in _stages(contracts)))


@dataclass(frozen=True)
class Scope:
    """What a contract covers: risks that have all of these, and of a surplus share the percentage ceded."""

    ReinsNumber: int
    risk: Mapping[str, Any] = field(default_factory=dict)
    CededPercent: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Scope:
        """From a row of a reinsscope table."""
        risk = {n: row[n] for n in ("AccNumber", "PolNumber", "LocNumber") if row.get(n) not in (None, "")}
        percent = row.get("CededPercent")
        return cls(int(row["ReinsNumber"]), risk, None if percent in (None, "") else float(percent))

    def covers(self, risk: Risk) -> bool:
        """Is this risk meant?"""
        return all(risk.get(name) == value for name, value in self.risk.items())


def surplus(sum_insured: float, line: float, lines: float) -> float:
    """The fraction of a risk that a surplus treaty takes: what exceeds the retained line, up to so many lines.

    min(max(SI - line, 0), lines line) / SI (Strain, Reinsurance, 1980, ch. 4). Raises ModelError for a sum
    insured or a line that is not > 0.
    """
    if not (sum_insured > 0 and line > 0 and lines >= 0):
        raise ModelError(f"sum insured and line must be > 0, lines >= 0; got {sum_insured}, {line} and {lines}")
    return min(max(sum_insured - line, 0.0), lines * line) / sum_insured


def inure(
    contracts: Sequence[Contract], scopes: Iterable[Scope], risks: Sequence[Risk], losses: F8
) -> tuple[F8, dict[int, F8]]:
    """(what is left f8[R, n], what each contract takes f8[n]) of the losses f8[R, n] of R risks in n events.

    Recoveries are shared among risks as their losses are. Aggregate covers (AXL) need years: see `programme`.
    Raises ModelError naming a contract that covers no risk, or that with its like takes more than there is.
    """
    scopes, net, taken = list(scopes), losses.astype(np.float64), dict[int, F8]()
    if net.shape[0] != len(risks) or bool((net < 0).any() or not np.isfinite(net).all()):
        raise ModelError(f"losses must be finite, >= 0 and have a row for each of {len(risks)} risks; got {net.shape}")
    for stage in _stages(contracts):
        left = net.copy()
        for contract in stage:
            ceded = _cede(contract, *_covered(contract, scopes, risks), risks, net)
            taken[contract.ReinsNumber] = taken.get(contract.ReinsNumber, np.zeros(net.shape[1])) + ceded.sum(axis=0)
            left -= ceded
        if bool((left < -1e-9 * net).any()):
            numbers = ", ".join(str(c.ReinsNumber) for c in stage)
            raise ModelError(
                f"ReinsNumber {numbers} of one InuringPriority take more than the loss: lower their shares"
            )
        net = np.maximum(left, 0.0)
    return net, taken


def _stages(contracts: Sequence[Contract]) -> list[list[Contract]]:
    priorities = sorted({c.InuringPriority for c in contracts})
    return [[c for c in contracts if c.InuringPriority == p] for p in priorities]


def _covered(contract: Contract, scopes: Sequence[Scope], risks: Sequence[Risk]) -> tuple[Mask, F8]:
    """Which risks the contract covers, and the percentage that it takes of each."""
    percent = np.full(len(risks), np.nan)
    for scope in scopes:
        if scope.ReinsNumber == contract.ReinsNumber:
            own = contract.CededPercent if scope.CededPercent is None else scope.CededPercent
            percent[[scope.covers(risk) for risk in risks]] = own
    if np.isnan(percent).all():
        raise ModelError(f"ReinsNumber {contract.ReinsNumber} covers no risk; look at its rows of the reinsscope table")
    return ~np.isnan(percent), np.nan_to_num(percent)


def _cede(contract: Contract, covered: Mask, percent: F8, risks: Sequence[Risk], losses: F8) -> F8:
    """What the contract takes of each risk in each event, f8[R, n]."""
    if contract.ReinsType == "AXL":
        raise ModelError(f"ReinsNumber {contract.ReinsNumber}: an aggregate cover needs years; use `programme`")
    x = losses * covered[:, None]
    share = percent[:, None] * x
    if contract.ReinsType != "CXL":
        share = _by_risk(contract, risks, share)
    total = share.sum(axis=0)
    paid = np.clip(total - contract.OccAttachment, 0.0, contract.OccLimit or INF) * contract.PlacedPercent
    return np.asarray(share * np.divide(paid, total, out=np.zeros_like(paid), where=total > 0))


def _by_risk(contract: Contract, risks: Sequence[Risk], share: F8) -> F8:
    """Attachment and limit of each risk, on the ceded share (calculation rule 24)."""
    if not (contract.RiskLimit or contract.RiskAttachment):
        return share
    names = _BY_RISK.get(contract.RiskLevel, ("AccNumber", "PolNumber", "LocNumber"))
    keys: dict[Any, list[int]] = {}
    for row, risk in enumerate(risks):
        keys.setdefault(tuple(risk.get(n) for n in names), []).append(row)
    out = np.zeros_like(share)
    for rows in keys.values():
        total = share[rows].sum(axis=0)
        paid = np.clip(total - contract.RiskAttachment, 0.0, contract.RiskLimit or INF)
        out[rows] = share[rows] * np.divide(paid, total, out=np.zeros_like(paid), where=total > 0)
    return out
