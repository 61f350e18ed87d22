"""Results of a chunk <-> one Arrow table, and that <-> Parquet; both ways the very same objects.

Column `task` comes first. Then, by what the values are:
- scalars, arrays, lists: a typed column `value`;
- rows (dict, dataclass, NamedTuple, tuple) of one shape: a column a field; a field whose values have no
  exact typed column becomes the binary column `<field>_pickle`;
- tables (Arrow, pandas, polars) of one schema: their columns, with `task` repeated for each of their rows;
- anything else: a binary column `pickle`.
A chunk with failures has the columns `error` (the message) and `failure` (the rest) as well. A user's
column called like one of ours gets an underscore (`task_`). What columns cannot say is JSON in the schema
metadata, under `fnmap`. The table may share memory with the values.
"""

from __future__ import annotations

from fnmap.format.call import Failure
from fnmap.format.small import Decoded
from fnmap.format.table.chunk import decode, encode, read_info
from fnmap.format.table.gather import combine
from fnmap.format.table.parquet import from_parquet, to_parquet

__all__ = ["Decoded", "Failure", "combine", "decode", "encode", "from_parquet", "read_info", "to_parquet"]
