"""How many calls may be out at Lambda at once, and when to send none: learnt from what it refuses."""

from __future__ import annotations

import random
import time

from fnmap.errors import ComputeError, Throttled

ILL_S = 300.0  # without any answer: then it is not for a moment
PAUSE_S, LONGEST_S = 0.1, 10.0


class Window:
    """`size`: calls at once, at most `most`. A refusal makes it what got through; then it grows by 10 % a second, or
    one: Lambda's own ramp is not steeper."""

    def __init__(self, most: int) -> None:
        self.size, self._most = float(most), most
        self._waves, self._calm_at, self._grown_at, self._ill_since = 0, 0.0, 0.0, 0.0

    def well(self) -> None:
        """A call was answered."""
        self._waves, self._ill_since = 0, 0.0
        if self.size < self._most:
            now = time.monotonic()
            grown = self.size + (now - self._grown_at) * max(1.0, 0.1 * self.size)
            self.size, self._grown_at = min(float(self._most), grown), now

    def refused(self, busy: int, text: str, retry_after: str) -> Throttled:
        """A call was refused while so many were out."""
        self.size, self._grown_at = max(1.0, min(self.size, 0.9 * busy)), time.monotonic()
        return Throttled(f"Lambda: {text}", retry_after_s=self.pause_s(retry_after))

    def ill(self, text: str) -> Exception:
        """The service or the network is ill: no task is to blame, and it may pass."""
        now = time.monotonic()
        self._ill_since = self._ill_since or now
        if now - self._ill_since > ILL_S:
            return ComputeError(f"for {ILL_S:.0f} s no call got through. {text}")
        return Throttled(text, retry_after_s=self.pause_s(""))

    def pause_s(self, asked: str) -> float:
        """How long to send nothing. Refusals come by the hundred; those of calls that left together count as one.
        While other calls get through, a short pause will do, whatever is asked for."""
        now = time.monotonic()
        if now >= self._calm_at:
            self._waves += 1
            wait_s = min(LONGEST_S, PAUSE_S * 1.5 ** min(self._waves, 12)) * random.uniform(0.5, 1.0)
            asked_s = float(asked) if self._waves > 1 and asked.replace(".", "", 1).isdigit() else 0.0
            self._calm_at = now + max(wait_s, asked_s)
        return max(0.05, self._calm_at - now)
