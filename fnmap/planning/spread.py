"""How many partitions of S3 a rate of requests takes, and over how many the keys of a run's parts are spread."""

from __future__ import annotations

import math
from typing import Any

from fnmap.errors import PlanError

WRITES_PER_S, READS_PER_S = 3500, 5500  # of a partition. Amazon S3 User Guide, "Optimizing Amazon S3 performance"
CALLS_PER_S = 10  # of one slot, at most: besides its way, a call waits for two requests to S3 of 20 to 30 ms each
MOST_DIGITS = 3  # 4,096 prefixes, each of which is listed by itself


def partitions_for(writes_per_s: float, reads_per_s: float = 0.0) -> int:
    """The least power of 16 that carries so many requests, if keys are spread evenly by hex digits."""
    for name, rate in (("writes_per_s", writes_per_s), ("reads_per_s", reads_per_s)):
        if not 0 <= rate < math.inf:
            raise PlanError(f"{name} must be a number of 0 or more; got {rate!r}")
    load, partitions = writes_per_s / WRITES_PER_S + reads_per_s / READS_PER_S, 1
    while partitions < load:
        partitions *= 16
    return partitions


def digits_for(calls: float, slots: int, *, per_slot: float = CALLS_PER_S, reads: bool = False) -> int:
    """Over how many hex digits keys are spread so that S3 carries the busiest second of so many calls, each of which
    commits a part, and `reads` one if it takes results of others. `per_slot`: calls a second."""
    rate, digits = min(calls, slots * per_slot), 1
    while digits < MOST_DIGITS and partitions_for(rate, rate if reads else 0.0) > 16**digits:
        digits += 1
    return digits


def busiest_second(times: Any) -> int:
    """The most of these moments, a sorted array, that fall within one second."""
    import numpy as np  # a map without a plan needs none

    return int((np.searchsorted(times, times + 1.0) - np.arange(len(times))).max(initial=0))
