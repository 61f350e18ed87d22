"""Tables that people write, CSV or Parquet: read whole, with the place of what is wrong in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from model.arrays import F8, I4, I8
from model.errors import ModelError

_INT32 = 2**31


@dataclass(frozen=True, eq=False)
class Sheet:
    """A table and the name of its file; rows of a CSV file are told by line, those of Parquet by number from 0."""

    name: str
    table: pa.Table

    def where(self, row: int) -> str:
        """What to call a row in a message."""
        return f"{self.name} line {row + 2}" if self.name.endswith(".csv") else f"{self.name} row {row}"

    def has(self, column: str) -> bool:
        """Is there such a column?"""
        return column in self.table.column_names

    def require(self, columns: Sequence[str]) -> None:
        """Raise ModelError naming the columns that are missing."""
        if missing := [name for name in columns if not self.has(name)]:
            raise ModelError(f"{self.name} lacks the columns {missing}; it has {self.table.column_names}")

    def numbers(self, column: str) -> F8:
        """A column as f8; NaN where a cell is empty or no number (`Sheet.cell` says what it is)."""
        self.require([column])
        values = self.table[column]
        try:
            return np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return np.array([number(cell) for cell in values.to_pylist()])

    def ids(self, column: str) -> I4:
        """A column of whole numbers >= 0. Raises ModelError naming the first row that has none."""
        values = self.numbers(column)
        ok = (values >= 0) & (values < _INT32) & (values == np.floor(values))
        if not ok.all():
            row = int(np.argmin(ok))
            raise ModelError(f"{self.where(row)}: {column} must be a whole number >= 0; got {self.cell(column, row)}")
        return values.astype(np.int32)

    def amounts(self, column: str, rows: I8, values: F8, about: str) -> F8:
        """`values[rows]` of a column, finite and >= 0. Raises ModelError naming the row, and by `about` its event."""
        found = values[rows]
        ok = np.isfinite(found) & (found >= 0)
        if not ok.all():
            row = int(rows[int(np.argmin(ok))])
            event = self.cell(about, row)
            raise ModelError(
                f"{self.where(row)} (event {event}): {column} must be finite and >= 0; got {self.cell(column, row)}"
            )
        return np.asarray(found)

    def cell(self, column: str, row: int) -> str:
        """A cell as it is to be shown."""
        value = self.table[column][row].as_py()
        return "nothing (or NaN)" if value is None else str(value)

    def rows(self) -> Iterator[tuple[str, dict[str, str]]]:
        """(place, cells) of each row; an empty cell is ""."""
        for row, cells in enumerate(self.table.to_pylist()):
            yield self.where(row), {k: "" if v is None else str(v).strip() for k, v in cells.items()}


def number(cell: Any) -> float:
    """A cell as a number; NaN if it is none."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")


def find(folder: Path, stem: str) -> Path | None:
    """`stem`.csv or `stem`.parquet in `folder`, if there is one. Raises ModelError if there are both."""
    found = [path for path in (folder / f"{stem}.csv", folder / f"{stem}.parquet") if path.exists()]
    if len(found) > 1:
        raise ModelError(f"{folder} has {found[0].name} and {found[1].name}: keep one of them")
    return found[0] if found else None


def read(path: Path, *, text: bool = False) -> Sheet:
    """The table of a CSV or Parquet file; with `text`, all cells of CSV as they are written.

    Raises ModelError for a file that cannot be read as one.
    """
    try:
        if path.suffix == ".parquet":
            return Sheet(path.name, pq.read_table(path))
        kinds: Mapping[str, pa.DataType] = {}
        if text:
            names = pyarrow.csv.open_csv(path).schema.names
            kinds = dict.fromkeys(names, pa.string())
        convert = pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=False)
        parse = pyarrow.csv.ParseOptions(ignore_empty_lines=False)
        return Sheet(path.name, pyarrow.csv.read_csv(path, convert_options=convert, parse_options=parse))
    except (pa.ArrowInvalid, OSError) as e:
        raise ModelError(f"{path} cannot be read as a table: {e}") from e
