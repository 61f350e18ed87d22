"""For those who write a store or a compute: what either must do, as tests, and wrappers that misbehave.

Needs pytest.
"""

import pytest

pytest.register_assert_rewrite("fnmap.testing.computes", "fnmap.testing.stores")

from fnmap.testing.computes import ClosedComputeContract, ComputeContract, make_call, values_of  # noqa: E402
from fnmap.testing.proxy import FaultyProxy  # noqa: E402
from fnmap.testing.stores import CountingStore, FaultyStore, StoreContract  # noqa: E402

__all__ = [
    "ClosedComputeContract",
    "ComputeContract",
    "CountingStore",
    "FaultyProxy",
    "FaultyStore",
    "StoreContract",
    "make_call",
    "values_of",
]
