"""The clock by which runs are driven: one, so that a simulation can turn it."""

from __future__ import annotations

import time
from collections.abc import Callable

source: Callable[[], float] = time.monotonic


def now() -> float:
    """Seconds since some moment in the past; never set back."""
    return source()
