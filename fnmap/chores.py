"""Work that nobody waits for, done by whoever has the time first."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)
LATE_S = 0.02  # what has waited so long is done between other things


class Chores:
    """What is left to do. Any thread may add and do."""

    def __init__(self) -> None:
        self._left: deque[Callable[[], object]] = deque()
        self._since = 0.0

    def __bool__(self) -> bool:
        return bool(self._left)

    @property
    def late(self) -> bool:
        """Has the first of them waited for long?"""
        return bool(self._left) and time.monotonic() - self._since > LATE_S

    def add(self, chore: Callable[[], object]) -> None:
        if not self._left:
            self._since = time.monotonic()
        self._left.append(chore)

    def do(self) -> None:
        """All that there is."""
        while self._left:
            try:
                chore = self._left.popleft()
            except IndexError:  # another thread was quicker
                return
            try:
                chore()
            except Exception:  # nobody waits for it, so nobody else can be told
                log.exception("%r failed", chore)

    def forget(self) -> None:
        """In a forked child: they are the parent's."""
        self._left.clear()
