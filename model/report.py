"""A priced book as tables and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from model.errors import ModelError
from model.metrics import STANDARD_RETURN_PERIODS
from model.pricing import DealResult, LayerResult
from model.tables import SCHEMAS

_MAX_LAYERS = 16
_INT32 = 2**31

_COLUMNS: Mapping[str, str] = {
    "Limit": "limit",
    "Attachment": "attachment",
    "Share": "share",
    "EL": "el",
    "SD": "sd",
    "SE": "se",
    "AttachProb": "attach_prob",
    "ExhaustProb": "exhaust_prob",
    "TVaR100": "tvar100",
    "PML250": "pml250",
    "ReinstFactor": "reinst_factor",
    "Premium": "premium",
    "RoL": "rol",
}
"""Column of the "deals" table -> attribute of a layer's result."""

Priced = tuple[DealResult, int, LayerResult]


def priced_layers(results: Iterable[DealResult]) -> list[Priced]:
    """(deal, layer number from 1, layer) of every layer, deal by deal."""
    return [(deal, k, layer) for deal in results for k, layer in enumerate(deal.layers, 1)]


def summary_id(deal_id: int, layer: int) -> int:
    """What a layer (from 1) is called in a table of curves: 16 deal + layer.

    Raises ModelError naming the deal if that is no id, or that of a layer of another deal.
    """
    number = _MAX_LAYERS * deal_id + layer
    if layer > _MAX_LAYERS or number >= _INT32:
        raise ModelError(
            f"deal {deal_id}, layer {layer}: in the table of curves a layer is called {_MAX_LAYERS} DealId + layer, so"
            f" a deal has at most {_MAX_LAYERS} layers, and an id below {_INT32 // _MAX_LAYERS - 1:,}"
        )
    return number


def deals_table(results: Iterable[DealResult]) -> pa.Table:
    """One row per layer, as kind "deals" of `model.tables`; amounts in the row's Currency."""
    rows = priced_layers(results)
    ids = {
        "DealId": [deal.deal_id for deal, _, _ in rows],
        "LayerId": [k for _, k, _ in rows],
        "Currency": [deal.currency for deal, _, _ in rows],
    }
    values = {name: [getattr(layer, key) for _, _, layer in rows] for name, key in _COLUMNS.items()}
    return pa.table(ids | values, schema=SCHEMAS["deals"])


def ep_table(results: Iterable[DealResult]) -> pa.Table:
    """The curves of every layer as kind "ept", EPCalc 2 (full uncertainty), SummaryId = 16 deal + layer.

    Return periods longer than the simulation are left out.
    """
    rows = priced_layers(results)
    summary = np.array([summary_id(deal.deal_id, k) for deal, k, _ in rows], dtype=np.int32)
    years = np.array(STANDARD_RETURN_PERIODS[::-1], dtype=np.float32)
    curves = np.array([(x.oep, x.oep_tail, x.aep, x.aep_tail) for _, _, x in rows], dtype=np.float32)
    loss = curves.reshape(len(rows), 4, years.size)[:, :, ::-1].ravel()
    per_layer = 4 * years.size
    table = pa.table(
        {
            "SummaryId": np.repeat(summary, per_layer),
            "EPCalc": np.full(loss.size, 2, dtype=np.int32),
            "EPType": np.tile(np.repeat(np.arange(1, 5, dtype=np.int32), years.size), len(rows)),
            "ReturnPeriod": np.tile(years, 4 * len(rows)),
            "Loss": loss,
        },
        schema=SCHEMAS["ept"],
    )
    return table.filter(pa.array(~np.isnan(loss)))


def summary(results: Sequence[DealResult], fx: Mapping[str, float], top: int = 10, currency: str = "GBP") -> str:
    """The `top` layers by premium and the totals by currency, as aligned text; amounts in thousands.

    `fx` is the worth of one unit of `currency` in each: layers are ranked in it. Only what adds up is totalled:
    expected losses, premiums and limits, never points of exceedance curves.
    """
    layers = priced_layers(results)
    ranked = sorted(layers, key=lambda row: -row[2].premium / fx[row[0].currency])[:top]
    parts = [
        f"Top {len(ranked)} of {len(layers)} layers by premium (placed share, thousands)",
        _aligned(_TOP, [_top_row(*row) for row in ranked]),
        "",
        "Totals by currency (placed share, thousands)",
        _aligned((*_TOTALS, f"premium {currency}"), _total_rows(layers, fx)),
    ]
    return "\n".join(parts) + "\n"


_TOP = (
    "deal",
    "layer",
    "ccy",
    "limit",
    "xs",
    "share",
    "EL",
    "+-SE",
    "SD",
    "attach",
    "TVaR100",
    "PML250",
    "premium",
    "RoL",
)
_TOTALS = ("ccy", "deals", "layers", "limit", "EL", "premium", "EL/premium")


def _top_row(deal: DealResult, number: int, layer: LayerResult) -> tuple[str, ...]:
    return (
        str(deal.deal_id),
        str(number),
        deal.currency,
        *map(_thousands, (layer.limit, layer.attachment)),
        f"{layer.share:.0%}",
        *map(_thousands, (layer.el, layer.se, layer.sd)),
        f"{layer.attach_prob:.1%}",
        *map(_thousands, (layer.tvar100, layer.pml250, layer.premium)),
        f"{layer.rol:.1%}",
    )


def _total_rows(layers: Sequence[Priced], fx: Mapping[str, float]) -> list[tuple[str, ...]]:
    rows, total = [], 0.0
    for currency in sorted({deal.currency for deal, _, _ in layers}):
        ours = [(deal.deal_id, layer) for deal, _, layer in layers if deal.currency == currency]
        el, premium = sum(x.el for _, x in ours), sum(x.premium for _, x in ours)
        limit = sum(x.share * x.limit for _, x in ours)
        total += premium / fx[currency]
        counts = (str(len({deal_id for deal_id, _ in ours})), str(len(ours)))
        ratio = f"{el / premium:.1%}" if premium else "-"
        rows.append(
            (
                currency,
                *counts,
                *map(_thousands, (limit, el, premium)),
                ratio,
                _thousands(premium / fx[currency]),
            )
        )
    deals = {deal.deal_id for deal, _, _ in layers}
    return [*rows, ("all", str(len(deals)), str(len(layers)), "", "", "", "", _thousands(total))]


def _thousands(amount: float) -> str:
    return f"{amount / 1000:,.0f}"


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns right-aligned to their widest cell, two spaces apart."""
    lines = [header, *rows]
    widths = [max(len(line[c]) for line in lines) for c in range(len(header))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)
