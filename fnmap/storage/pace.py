"""How many requests a second a store is asked for: no limit until it says that this is too many, then a rate that is
cut each time it says so, and that recovers.

Pure: whoever asks says what time it is.
"""

from __future__ import annotations

import threading

CUT = 0.7  # of the rate that was too much; as the adaptive mode of AWS's own clients
DEAF_S = 0.5  # after a cut: what was under way then is answered by now
DOUBLES_S = 5.0  # in which an unopposed rate doubles
FREE = 8.0  # times the rate that was once too much, and there is no limit any more
LEAST = 2.0  # requests a second; fewer would be no work at all
_WINDOW_S = 1.0  # over which the rate of requests is measured


class Pace:
    """The rate of one store in one process; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rate: float | None = None  # at the last cut; None: no limit
        self._too_much = 0.0
        self._cut_at = self._next = self._measured_at = float("-inf")
        self._measured = 0.0

    def rate(self, now: float) -> float | None:
        """Requests a second that may be made; None: as many as there are."""
        if self._rate is None:
            return None
        risen = self._rate * 2.0 ** min((now - self._cut_at) / DOUBLES_S, 64.0)
        return risen if risen < FREE * self._too_much else None

    def wait_s(self, now: float) -> float:
        """Take a place in the row: how long to wait before the request goes out."""
        with self._lock:
            self._measure(now)
            rate = self.rate(now)
            if rate is None:
                self._rate = None
                return 0.0
            turn = max(now, self._next)
            self._next = turn + 1.0 / rate
            return turn - now

    def slowed(self, now: float) -> None:
        """The store has said that there are too many requests."""
        with self._lock:
            if now < self._cut_at + DEAF_S:
                return
            rate = self.rate(now)
            sent = self._measured * _WINDOW_S / max(_WINDOW_S, now - self._measured_at)
            self._too_much = max(LEAST, sent if rate is None else min(rate, max(sent, LEAST)))
            self._rate = max(LEAST, CUT * self._too_much)
            self._cut_at, self._next = now, max(self._next, now)

    def _measure(self, now: float) -> None:
        """A moving average of the requests a second."""
        passed = now - self._measured_at
        kept = 0.0 if passed >= _WINDOW_S else 1.0 - max(passed, 0.0) / _WINDOW_S
        self._measured, self._measured_at = self._measured * kept + 1.0 / _WINDOW_S, now
