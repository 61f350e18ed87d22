"""What reinsurance pays: layers, quota shares, stop losses, and programmes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from model.arrays import F8, I8, Mask
from model.errors import ModelError
from model.losses import DAYS, Yelt

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


@dataclass(frozen=True, eq=False)
class YltResult:
    """What K terms (stage by stage) pay in each of Y years; all f8[K, Y], for the placed share.

    layer_loss the year's recovery, reinst_premium what the cedent pays for reinstatements, occ_max the
    largest recovery of one occurrence (annual terms used up in order of events); net what is left
    event by event, or None if not asked for.
    """

    layer_loss: F8
    reinst_premium: F8
    occ_max: F8
    net: Yelt | None


def apply(programme: Programme, yelt: Yelt, *, net: bool = False) -> YltResult:
    """Run the years of `yelt` through `programme`; with `net`, also what is left, event by event.

    Annual terms are used up in order of events, so what a later stage sees depends on the days.
    Raises ModelError if a stage cedes more of an event than there is (overlapping terms).
    """
    shape = (sum(len(stage) for stage in programme.stages), yelt.years)
    result = YltResult(np.zeros(shape), np.zeros(shape), np.zeros(shape), None)
    k, last = 0, len(programme.stages) - 1
    for i, stage in enumerate(programme.stages):
        layers = [term.as_layer() for term in stage]
        hits = _Hits.above(yelt, min(layer.attachment for layer in layers))
        keep = net or i < last
        ceded = np.zeros(hits.loss.size)
        for layer in layers:
            paid = _recover(layer, hits, by_event=keep)
            result.layer_loss[k, hits.year] = layer.share * paid.total
            result.reinst_premium[k, hits.year] = layer.share * layer.premium * paid.charge
            result.occ_max[k, hits.year] = layer.share * paid.largest
            if keep:
                ceded += layer.share * paid.event
            k += 1
        if keep:
            yelt = _less(yelt, hits, ceded, stage=i + 1)
    return replace(result, net=yelt) if net else result


@dataclass(frozen=True, eq=False)
class _Hits:
    """The m losses above an attachment in year order: where each of A years starts, and which it is."""

    row: I8
    loss: F8
    elapsed: F8
    start: I8
    year: I8

    @classmethod
    def above(cls, yelt: Yelt, attachment: float) -> _Hits:
        row = np.flatnonzero(yelt.loss > attachment)
        year = yelt.year()[row].astype(np.int64)
        start = np.flatnonzero(np.diff(year, prepend=-1))
        return cls(row, yelt.loss[row].astype(np.float64), yelt.day[row] / DAYS, start, year[start])


@dataclass(frozen=True, eq=False)
class _Paid:
    """A layer's recoveries for 100 %: by year f8[A] (charge per unit of premium), by event f8[m]."""

    total: F8
    charge: F8
    largest: F8
    event: F8


def _recover(layer: Layer, hits: _Hits, *, by_event: bool) -> _Paid:
    x = np.clip(hits.loss - layer.attachment, 0.0, layer.limit)
    if x.size == 0:
        return _Paid(x, x, x, x)
    total, largest = np.add.reduceat(x, hits.start), np.maximum.reduceat(x, hits.start)
    if layer.aad == 0 and layer.annual_limit == INF:
        return _Paid(total, np.zeros_like(total), largest, x)
    paid = layer.annual(total)
    if by_event or layer.pro_rata_time:
        run = layer.annual(_running_sum(x, hits.start))
        used = _steps(layer.reinstated(run), hits.start) * (1.0 - layer.pro_rata_time * hits.elapsed)
        event = _steps(run, hits.start)
        return _Paid(paid, np.add.reduceat(used, hits.start), np.maximum.reduceat(event, hits.start), event)
    bound = paid < total  # only where an annual term bites does the order of events matter
    if bound.any():
        largest[bound] = _largest_in_order(layer, x, hits.start, bound)
    return _Paid(paid, layer.reinstated(paid), largest, x)


def _largest_in_order(layer: Layer, x: F8, start: I8, years: Mask) -> F8:
    """The largest recovery of each of some years, its annual terms used up event by event."""
    count = np.diff(start, append=x.size)[years]
    first = np.cumsum(count) - count
    some = x[np.repeat(start[years] - first, count) + np.arange(count.sum())]
    return np.maximum.reduceat(_steps(layer.annual(_running_sum(some, first)), first), first)


def _running_sum(x: F8, start: I8) -> F8:
    """Cumulative sum of `x` within each year, event by event: no cancellation, unlike one long cumsum."""
    out, count = x.copy(), np.diff(start, append=x.size)
    rank = 1
    while (more := count > rank).any():
        start, count = start[more], count[more]
        out[start + rank] += out[start + rank - 1]
        rank += 1
    return out


def _steps(running: F8, start: I8) -> F8:
    """What each event adds to a running amount of its year."""
    step = np.diff(running, prepend=0.0)
    step[start] = running[start]
    return step


def _less(yelt: Yelt, hits: _Hits, ceded: F8, *, stage: int) -> Yelt:
    left = hits.loss - ceded
    over = left < -1e-9 * hits.loss
    if over.any():
        row = int(hits.row[int(np.argmax(over))])
        raise ModelError(
            f"stage {stage} cedes more of event {yelt.event_id[row]} (row {row}) than its loss: "
            "move overlapping terms to a later stage or lower their shares"
        )
    loss = yelt.loss.astype(np.float64)
    loss[hits.row] = np.maximum(left, 0.0)
    return replace(yelt, loss=loss)
