"""What the tasks of a stage take, so that a chunk of any size is summed up at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fnmap.errors import PlanError

Floats = npt.NDArray[np.float64]


class Durations:
    """Seconds of each task of one stage; `longest` and `longest_at` say which takes the longest."""

    def __init__(self, seconds: Floats) -> None:
        self.seconds = seconds
        self.count = len(seconds)
        self._upto = np.concatenate([[0.0], np.cumsum(seconds)])
        self.sum = float(self._upto[-1])
        self.longest_at = int(np.argmax(seconds)) if self.count else 0
        self.longest = float(seconds[self.longest_at]) if self.count else 0.0

    def total(self, tasks: Sequence[int]) -> float:
        """Of these tasks together."""
        if isinstance(tasks, range):
            if len(tasks) == 1:
                return float(self.seconds[tasks.start])
            return float(self._upto[tasks.stop] - self._upto[tasks.start])
        return float(self.seconds[tasks].sum())

    def begun(self, tasks: Sequence[int], after_s: float) -> int:
        """How many of these tasks, one after the other, have begun after so many seconds; at least one."""
        upto = np.cumsum(self.seconds[tasks.start : tasks.stop] if isinstance(tasks, range) else self.seconds[tasks])
        return int(np.searchsorted(upto[:-1], after_s)) + 1


def by_stage(seconds: Any, counts: Sequence[int]) -> list[Durations]:
    """From an array of all tasks, or a number or an array for each stage."""
    total = sum(counts)
    if isinstance(seconds, np.ndarray) and seconds.shape == (total,):
        parts = np.split(seconds.astype(float), np.cumsum(counts)[:-1])
    elif len(seconds) == len(counts):
        parts = [_column(each, n, stage) for stage, (each, n) in enumerate(zip(seconds, counts, strict=True))]
    else:
        raise PlanError(
            f"seconds must be an array of all {total} tasks, or have an entry for each of the {len(counts)} stages; "
            f"got {len(seconds)} entries"
        )
    if any(len(part) and not (np.isfinite(part).all() and part.min() >= 0) for part in parts):
        raise PlanError("seconds of tasks must be numbers of 0 or more")
    return [Durations(part) for part in parts]


def _column(each: Any, count: int, stage: int) -> Floats:
    column = np.asarray(each, float)
    if column.ndim == 0:
        return np.full(count, float(column))
    if column.shape != (count,):
        raise PlanError(f"stage {stage} has {count} tasks; got seconds of shape {column.shape}")
    return column
