"""Tables on disk: columns named as in Open Results Data, checked, and written in suitable encodings.

Losses are float32 (accumulate in float64), ids int32. ORD Period counts from 1. The file metadata may say
what the columns cannot: units, currency, seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.errors import ModelError
from model.losses import Elt, Yelt

Kind = Literal["elt", "yelt", "ylt", "ept", "alt", "deals"]

I4, I2, F4, F8 = pa.int32(), pa.int16(), pa.float32(), pa.float64()
_RESULTS = (
    *("Limit", "Attachment", "Share", "EL", "SD", "SE", "AttachProb", "ExhaustProb"),
    *("TVaR100", "PML250", "ReinstFactor", "Premium", "RoL"),
)

SCHEMAS: Mapping[Kind, pa.Schema] = {
    "elt": pa.schema({"EventId": I4, "SummaryId": I4, "EventRate": F8, "MeanLoss": F4, "SDLoss": F4, "MaxLoss": F4}),
    "yelt": pa.schema({"Period": I4, "EventId": I4, "Day": I2, "SummaryId": I4, "Loss": F4}),
    "ylt": pa.schema({"SummaryId": I4, "Period": I4, "Loss": F4, "ReinstPremium": F4}),
    "ept": pa.schema({"SummaryId": I4, "EPCalc": I4, "EPType": I4, "ReturnPeriod": F4, "Loss": F4}),
    "alt": pa.schema({"SummaryId": I4, "SampleType": I4, "MeanLoss": F4, "SDLoss": F4}),
    "deals": pa.schema({"DealId": I4, "LayerId": I4, "Currency": pa.string(), **dict.fromkeys(_RESULTS, F8)}),
}
"""Per kind: elt (MaxLoss is the exposure), yelt (an SPLT without samples; Day 0..364), ylt (sparse: an
absent row is 0), ept, alt, deals (a row per layer; amounts in Currency)."""

_SORTED_BY: Mapping[Kind, tuple[str, ...]] = {
    "elt": ("SummaryId", "EventId"),
    "yelt": ("SummaryId", "Period", "Day"),
    "ylt": ("SummaryId", "Period"),
    "deals": ("DealId", "LayerId"),
}
_UNIQUE: frozenset[Kind] = frozenset({"elt", "ylt", "deals"})


def validate(table: pa.Table, kind: Kind) -> pa.Table:
    """`table` with the columns of `kind`, in order and type; extra columns are dropped.

    Raises ModelError for an unknown kind, a missing column or one of another type, a null, an amount that
    is negative or not finite, or rows out of order or (where the order is a key) repeated; it names column
    and row.
    """
    table = _columns(table, kind)
    if kind in _SORTED_BY:
        _check_order(table, _SORTED_BY[kind], kind)
    return table


def _columns(table: pa.Table, kind: Kind) -> pa.Table:
    """The columns of `kind`, checked one by one."""
    if kind not in SCHEMAS:
        raise ModelError(f"unknown kind of table {kind!r}; choose from {', '.join(SCHEMAS)}")
    schema = SCHEMAS[kind]
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise ModelError(f"a table of kind {kind!r} lacks the columns {missing}; it has {table.column_names}")
    try:
        table = table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as e:
        raise ModelError(f"a table of kind {kind!r} has columns of the wrong type: {e}") from e
    for field in schema:
        _check_column(table[field.name], field, kind)
    return table


def _check_column(column: pa.ChunkedArray, field: pa.Field, kind: Kind) -> None:
    if column.null_count:
        row = column.is_null().to_numpy().argmax()
        raise ModelError(f"{kind} row {row}: {field.name} is missing; fill it or drop the row")
    if pa.types.is_floating(field.type) and len(column):
        values = column.to_numpy()
        unlimited = kind == "deals" and field.name == "Limit"  # an aggregate cover has no limit for an event
        if not (values.min() >= 0 and (values.max() < np.inf or unlimited)):
            row = int(np.argmin(np.isfinite(values) & (values >= 0)))
            raise ModelError(f"{kind} row {row}: {field.name} must be finite and >= 0; got {values[row]}")


def _check_order(table: pa.Table, keys: tuple[str, ...], kind: Kind) -> None:
    before = np.zeros(max(table.num_rows - 1, 0), dtype=np.bool_)
    equal = ~before
    for name in keys:
        column = table[name].to_numpy()
        before |= equal & (column[1:] < column[:-1])
        equal &= column[1:] == column[:-1]
    bad = before | equal if kind in _UNIQUE else before
    if bad.any():
        row = int(np.argmax(bad)) + 1
        what = "repeats" if equal[row - 1] else "comes before"
        raise ModelError(f"{kind} row {row} {what} its predecessor: sort by {', '.join(keys)} and merge repeated rows")


def write(table: pa.Table, path: str | Path, kind: Kind, metadata: Mapping[str, str] | None = None) -> None:
    """Validate and write as Parquet (zstd) in encodings that suit simulated losses; `metadata` goes along.

    Ids ascend, so their differences are small; float bytes compress better column by column; a dictionary of
    losses that are nearly all different would only cost time.
    """
    table = validate(table, kind)
    encodings = {
        f.name: "BYTE_STREAM_SPLIT" if pa.types.is_floating(f.type) else "DELTA_BINARY_PACKED"
        for f in table.schema
        if not pa.types.is_string(f.type)
    }
    strings = [f.name for f in table.schema if pa.types.is_string(f.type)]
    table = table.replace_schema_metadata(dict(metadata or {}))
    pq.write_table(table, path, compression="zstd", use_dictionary=strings or False, column_encoding=encodings)


def read(path: str | Path, kind: Kind) -> pa.Table:
    """Read what `write` wrote (or any Parquet file with those columns), validated."""
    return validate(pq.read_table(path), kind)


def elt_table(elt: Elt, summary_id: int = 1) -> pa.Table:
    """`elt` as a table of kind "elt"."""
    ids = np.full(elt.event_id.size, summary_id, dtype=np.int32)
    columns = [elt.event_id, ids, elt.rate, *(c.astype(np.float32) for c in (elt.mean, elt.sd, elt.exposure))]
    return pa.table(columns, schema=SCHEMAS["elt"])


def elt_from_table(table: pa.Table) -> Elt:
    """The `Elt` of a table of kind "elt" holding one SummaryId."""
    table = validate(table, "elt")
    moments = (table[c].to_numpy().astype(np.float64) for c in ("EventRate", "MeanLoss", "SDLoss", "MaxLoss"))
    return Elt(table["EventId"].to_numpy(), *moments)


def yelt_table(yelt: Yelt, summary_id: int = 1) -> pa.Table:
    """`yelt` as a table of kind "yelt"; an event that occurs twice on one day is one row with both losses."""
    year, keep, loss = yelt.year(), np.ones(yelt.loss.size, dtype=np.bool_), yelt.loss.astype(np.float32)
    order = np.lexsort((yelt.event_id, yelt.day, year))
    twice = np.ones(max(order.size - 1, 0), dtype=np.bool_)
    for column in (yelt.event_id, yelt.day, year):
        twice &= np.diff(column[order]) == 0
    for at in np.flatnonzero(twice)[::-1]:  # from the last, so that of three the first has all
        loss[order[at]] += loss[order[at + 1]]
        keep[order[at + 1]] = False
    ids = np.full(int(keep.sum()), summary_id, dtype=np.int32)
    columns = [(year + np.int32(1))[keep], yelt.event_id[keep], yelt.day[keep], ids, loss[keep]]
    return pa.table(columns, schema=SCHEMAS["yelt"])


def yelt_from_table(table: pa.Table, *, years: int) -> Yelt:
    """The `Yelt` over `years` periods of a table of kind "yelt" holding one SummaryId."""
    table = _columns(table, "yelt")  # rows of one summary are put into order, or refused, below
    if table.num_rows and (ids := pc.min_max(table["SummaryId"]).as_py())["min"] != ids["max"]:
        raise ModelError(
            f"a table of one loss set is needed; this has SummaryId {ids['min']} to {ids['max']}: filter it"
        )
    period, event, day, loss = (table[c].to_numpy() for c in ("Period", "EventId", "Day", "Loss"))
    return Yelt.from_rows(period, event, day, loss, years=years)


def read_yelt(path: str | Path, *, years: int) -> Yelt:
    """The `Yelt` over `years` periods that a Parquet file of kind "yelt" holds for one SummaryId, checked once."""
    with pq.ParquetFile(path) as file:  # not as a dataset, which cuts columns into pieces that are joined again
        return yelt_from_table(file.read(), years=years)


def elt_from_events(table: pa.Table) -> Elt:
    """The `Elt` of a table of event_id, rate, mean, sd and exposure, as a hazard model gives it, in any order of rows.

    Raises ModelError naming a missing column, or the event that is wrong or stands twice.
    """
    names = ("event_id", "rate", "mean", "sd", "exposure")
    if missing := [name for name in names if name not in table.column_names]:
        raise ModelError(f"a table of event losses lacks the columns {missing}; it has {table.column_names}")
    event, *amounts = (table[name].to_numpy() for name in names)
    order = np.argsort(event, kind="stable")
    return Elt(event[order].astype(np.int32), *(amount[order].astype(np.float64) for amount in amounts))
