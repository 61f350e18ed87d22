"""Results that travel as Arrow columns, so that nothing of an answer is unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from fnmap.errors import ComputeError, ResultLost
from fnmap.format.payload import Buffer, Frame, Ref


class Columns:
    """Stands in the place of `Values`: the results of a call as one Parquet object without pickles, read when they are
    asked for."""

    def __init__(self, body: Buffer, length: int) -> None:
        self._body, self._length = body, length
        self._read: Any = None

    @classmethod
    def of(cls, values: list[Any]) -> tuple[Columns, dict[int, str]]:
        """Encode. With it, why some positions have no result: it needs a pickle. They are None then."""
        from fnmap.format.table import encode, to_parquet
        from fnmap.format.table.cells import dump_cell
        from fnmap.format.table.layout import lay_out

        table, lost = encode(range(len(values)), values, dumps=dump_cell), dict[int, str]()
        if "failure" in table.column_names:
            lost = dict(lay_out(list(values), (), dump_cell).lost)
            for at in lost:
                values[at] = None
            table = encode(range(len(values)), values, dumps=dump_cell)
        return cls(to_parquet(table), len(values)), lost

    @classmethod
    def from_frames(cls, frames: Sequence[Frame]) -> Columns:
        """The inverse of `frames`."""
        length, body = frames
        if isinstance(length, Ref) or isinstance(body, Ref):
            raise ComputeError(PICKLED)
        return cls(body, int.from_bytes(length, "little"))

    def frames(self) -> list[Frame]:
        """What is sent."""
        return [self._length.to_bytes(8, "little"), self._body]

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        return memoryview(self._body).nbytes

    @property
    def each(self) -> bool:
        """Must they be asked for one by one, since some cannot be read?"""
        return bool(self._decoded().failures)

    def compact(self) -> None:
        """They are never part of a pickle."""

    def plain(self) -> list[Any]:
        values: list[Any] = self._decoded().values
        return values

    def __getitem__(self, at: int) -> Any:
        decoded = self._decoded()
        if at in decoded.failures:
            raise ResultLost(decoded.failures[at].message)
        return decoded.values[at]

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(self._length))

    def _decoded(self) -> Any:
        if self._read is None:
            from fnmap.format.table import decode, from_parquet
            from fnmap.format.table.cells import load_cell

            read = decode(from_parquet(self._body), loads=load_cell)
            if len(read.values) != self._length:
                raise ResultLost("the results are not as many as the answer says")
            self._read = read
        return self._read


PICKLED = 'the answer is not one that can be read without unpickling, as results="arrow" asks'


def head_text(head: dict[str, Any]) -> bytes:
    """The head of a report."""
    return json.dumps(head).encode()


def read_head(frame: Frame, *, only: bool) -> dict[str, Any] | None:
    """The head of a report that has no pickles; None for another, unless there may be `only` such."""
    if not isinstance(frame, Ref) and bytes(memoryview(frame)[:1]) == b"{":
        head: dict[str, Any] = json.loads(bytes(frame))
        return head
    if only:
        raise ComputeError(PICKLED)
    return None
