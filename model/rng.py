"""Random streams named by what they are for, so that a number never depends on who drew it or when."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from model.errors import ModelError


class Purpose(IntEnum):
    """What a stream is for. The values are part of every result: never renumber them."""

    OCCURRENCE = 1
    SEVERITY = 2
    LOSS_SETS = 3
    DEALS = 4
    EVENT_SET = 5
    BOOK = 6


def stream(seed: int, *ids: int) -> np.random.Generator:
    """A Philox generator of its own for (`seed`, `ids`), e.g. ``stream(7, Purpose.SEVERITY, loss_set)``.

    Two loss sets, two purposes or two seeds never share numbers, and the same names give the same
    numbers in every process: results do not depend on chunking, worker or order.
    Keys go through numpy's SeedSequence (O'Neill's seed_seq), whose spawn keys are made for this.

    Raises ModelError if `seed` or an id is negative.
    """
    if seed < 0 or any(i < 0 for i in ids):
        raise ModelError(f"seed and stream ids must be whole numbers >= 0; got seed {seed}, ids {ids}")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=ids)))
