"""How many partitions of S3 a rate of requests takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fnmap.errors import PlanError

WRITES_PER_S, READS_PER_S = 3500, 5500  # of a partition. Amazon S3 User Guide, "Optimizing Amazon S3 performance"
SPREAD = 16  # partitions over which the keys of parts are spread


def partitions_for(writes_per_s: float, reads_per_s: float = 0.0) -> int:
    """The least power of 16 that carries so many requests, if keys are spread evenly by hex digits."""
    for name, rate in (("writes_per_s", writes_per_s), ("reads_per_s", reads_per_s)):
        if not 0 <= rate < math.inf:
            raise PlanError(f"{name} must be a number of 0 or more; got {rate!r}")
    load, partitions = writes_per_s / WRITES_PER_S + reads_per_s / READS_PER_S, 1
    while partitions < load:
        partitions *= 16
    return partitions


def busiest_second(times: Any) -> int:
    """The most of these moments, a sorted array, that fall within one second."""
    return int((np.searchsorted(times, times + 1.0) - np.arange(len(times))).max(initial=0))
