"""What a plan comes to: its last stage, read with the verbs of a Run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as pads

    from fnmap.run import Run


class LastStage:
    """The results of the stage that was planned last; `run["stage"]` has those of others."""

    @property
    def last(self) -> Run:
        """The run of the stage that was planned last."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        """The results of the last stage."""
        return iter(self.last)

    def __aiter__(self) -> AsyncIterator[Any]:
        """The results of the last stage, without blocking the event loop."""
        return aiter(self.last)

    def as_completed(self) -> Iterator[tuple[int, Any]]:
        """Of the last stage, pairs (index, result) as they arrive."""
        return self.last.as_completed()

    def table(self) -> pa.Table:
        """The results of the last stage as one Arrow table."""
        return self.last.table()

    def dataset(self) -> pads.Dataset:
        """The results of the last stage as a pyarrow dataset."""
        return self.last.dataset()

    def to_pandas(self) -> pd.DataFrame:
        """The results of the last stage as a pandas DataFrame."""
        return self.last.to_pandas()
