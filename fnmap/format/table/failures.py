"""Failures of tasks <-> the columns `error` (the message) and `failure` (all else) of a chunk's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fnmap.format.call import Failure
from fnmap.format.table import arrow
from fnmap.format.travel import dump_exception


def encode(failures: Mapping[int, Failure], length: int) -> dict[str, Any]:
    """The columns for `length` rows, null but in the rows that `failures` names."""
    some = list(failures.values())
    pickles = [_pickled(f.exception) for f in some]
    details = {name: _texts([getattr(f, name) for f in some]) for name in ("kind", "traceback", "log", "item")}
    details["exception"] = arrow.from_bytes(pickles, np.array([p is None for p in pickles], bool))
    details["retryable"] = arrow.booleans(np.array([f.retryable for f in some], bool))
    details["attempts"] = arrow.from_numpy(np.array([f.attempts for f in some], np.int64), pa.int64())
    dense = pa.StructArray.from_arrays(list(details.values()), list(details))
    place, absent = np.zeros(length, np.int64), np.ones(length, bool)
    rows = list(failures)
    place[rows], absent[rows] = np.arange(len(rows)), False
    spread = arrow.from_numpy(place, pa.int64(), absent)
    return {"error": _texts([f.message for f in some]).take(spread), "failure": dense.take(spread)}


def _pickled(exception: Any) -> bytes | None:
    return dump_exception(exception) if isinstance(exception, BaseException) else exception


def decode(table: Any) -> dict[int, Failure]:
    """The failures by row."""
    if "failure" not in table.column_names:
        return {}
    rows = np.flatnonzero(arrow.valid(arrow.whole(table.column("failure"))))
    some = table.select(["error", "failure"]).take(arrow.from_numpy(rows, pa.int64()))
    messages, details = (column.to_pylist() for column in some.columns)
    found = zip(rows.tolist(), messages, details, strict=True)
    return {row: Failure(message=message, **detail) for row, message, detail in found}


def _texts(words: list[str]) -> Any:
    """Text for people, which Arrow must be able to store: a lone surrogate is shown as its escape."""
    return arrow.from_texts([word.encode("utf-8", "backslashreplace").decode("utf-8") for word in words])
