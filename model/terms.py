"""The terms of reinsurance: layers, quota shares, stop losses, programmes of them. `recoveries` has what they pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from model.arrays import F8
from model.errors import ModelError

INF = float("inf")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """`limit` xs `attachment` on each occurrence, then annual terms, of which `share` is placed.

    With occurrence losses X_i of a year: x_i = min(max(X_i - attachment, 0), limit) and the year's recovery
    is share * S, S = min(max(sum x_i - aad, 0), annual limit). `aad` and `aal` are the annual aggregate
    deductible and limit, for 100 %.

    `reinst` gives the price of each reinstatement of the limit, as a fraction of `premium`: K of them
    cap the annual limit at (K + 1) limit, () is one limit and no more, None does not cap. The premium
    `premium` is for 100 %. Reinstatement premium is pro rata as to amount,
    premium / limit * sum_k c_k min(max(S - (k - 1) limit, 0), limit), and with `pro_rata_time` also as
    to time: what an event on day t uses up is charged (1 - t / 365). Amounts in the deal's currency.

    Raises ModelError naming the layer and the term out of range.
    """

    limit: float
    attachment: float
    share: float = 1.0
    aad: float = 0.0
    aal: float = INF
    reinst: tuple[float, ...] | None = None
    premium: float = 0.0
    pro_rata_time: bool = False

    def __post_init__(self) -> None:
        where = f"layer {self.limit:g} xs {self.attachment:g}"
        _check(where, "limit", self.limit, self.limit > 0, "be > 0")
        _check(where, "attachment", self.attachment, 0 <= self.attachment < INF, "be finite and >= 0")
        _check(where, "share", self.share, 0 < self.share <= 1, "lie in (0, 1]")
        _check(where, "aad", self.aad, 0 <= self.aad < INF, "be finite and >= 0")
        _check(where, "aal", self.aal, self.aal > 0, "be > 0 (inf for no annual limit)")
        _check(where, "premium", self.premium, 0 <= self.premium < INF, "be finite and >= 0")
        _check(
            where,
            "reinst",
            self.reinst,
            all(0 <= c < INF for c in self.reinst or ()),
            "hold rates >= 0 (1.0 is 100 %)",
        )
        _check(where, "limit", self.limit, not self.reinst or self.limit < INF, "be finite to be reinstated")

    def as_layer(self) -> Layer:
        """Itself: every term can be told as a layer."""
        return self

    @property
    def by_event(self) -> bool:
        """Does it pay for each event whatever the others of the year are?"""
        return self.aad == 0 and self.annual_limit == INF

    @property
    def annual_limit(self) -> float:
        """The most the layer pays in a year, for 100 %."""
        return self.aal if self.reinst is None else min(self.aal, (len(self.reinst) + 1) * self.limit)

    def annual(self, total: F8) -> F8:
        """S (for 100 %) from the annual sums of occurrence recoveries: aggregate deductible, then limit."""
        return np.minimum(np.maximum(total - self.aad, 0.0), self.annual_limit)

    def reinstated(self, paid: F8) -> F8:
        """Reinstatement premium per unit of `premium` for annual recoveries S (100 %), same shape."""
        charge = np.zeros_like(paid)
        for k, rate in enumerate(self.reinst or ()):
            charge += (rate / self.limit) * np.clip(paid - k * self.limit, 0.0, self.limit)
        return charge


@dataclass(frozen=True, kw_only=True)
class QuotaShare:
    """The share `ceded` of every loss, at most `event_limit` an occurrence (OED QS with OccLimit)."""

    ceded: float
    event_limit: float = INF

    def __post_init__(self) -> None:
        _check("quota share", "ceded", self.ceded, 0 < self.ceded <= 1, "lie in (0, 1]")
        _check("quota share", "event_limit", self.event_limit, self.event_limit > 0, "be > 0 (inf for none)")

    def as_layer(self) -> Layer:
        """The same cover as a layer: ceded * min(X, event_limit / ceded) = min(ceded X, event_limit)."""
        return Layer(limit=self.event_limit / self.ceded, attachment=0.0, share=self.ceded)


@dataclass(frozen=True, kw_only=True)
class StopLoss:
    """`limit` xs `attachment` on the sum of the year's losses, of which `share` is placed."""

    limit: float
    attachment: float
    share: float = 1.0

    def __post_init__(self) -> None:
        _check("stop loss", "limit", self.limit, self.limit > 0, "be > 0")
        _check("stop loss", "attachment", self.attachment, 0 <= self.attachment < INF, "be finite and >= 0")
        _check("stop loss", "share", self.share, 0 < self.share <= 1, "lie in (0, 1]")

    def as_layer(self) -> Layer:
        """The same cover as a layer from the ground whose annual deductible and limit do all the work."""
        return Layer(limit=INF, attachment=0.0, share=self.share, aad=self.attachment, aal=self.limit)


Term: TypeAlias = Layer | QuotaShare | StopLoss


def _check(where: str, name: str, value: object, ok: bool, rule: str) -> None:
    if not ok:
        raise ModelError(f"{where}: {name} must {rule}; got {value}")


@dataclass(frozen=True)
class Programme:
    """Terms in inuring order: those of one stage see the same losses, the next stage what they left.

    This is OED's InuringPriority. Raises ModelError for an empty programme or stage.
    """

    stages: tuple[tuple[Term, ...], ...]

    def __post_init__(self) -> None:
        if not self.stages or not all(self.stages):
            raise ModelError("a programme needs at least one stage, and every stage at least one term")
