"""An alarm clock: calls back at a time, from one thread that is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

Ring = Callable[[], object]
Asked = tuple[float, Ring] | None  # when, by time.monotonic(), and what to call; None: stop


class Alarm:
    """Rings at the earliest of the times that were asked for, once, and forgets the others with it.

    Its thread begins at `start`, or at the first `set`, and ends with `close`, or when the alarm is garbage.
    Whoever may need it while the interpreter exits starts it before: from Python 3.12 on, no thread can begin then.
    Only while a time is set does it hold what it will call.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[Asked] = SimpleQueue()  # its put() may be called anywhere, also by __del__
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Have the thread ready."""
        if self._started:
            return
        with self._starting:
            if not self._started:
                threading.Thread(target=_keep_watch, args=(self._asked,), name="fnmap-alarm", daemon=True).start()
                self._started = True

    def set(self, at: float, ring: Ring) -> None:
        """Call `ring` at that time, unless an earlier one is set already."""
        self.start()
        self._asked.put((at, ring))

    def close(self) -> None:
        """Ring no more."""
        self._asked.put(None)

    __del__ = close


def _keep_watch(asked: SimpleQueue[Asked]) -> None:
    """The thread. It holds the queue and not the alarm, which may be garbage meanwhile."""
    due: Asked = None
    while True:
        try:
            new = asked.get(timeout=None if due is None else _until(due[0]))
        except Empty:
            if due is not None and due[0] <= time.monotonic():
                ring, due = due[1], None
                ring()
                del ring  # it may be the last to hold its session
            continue
        if new is None:
            return
        due = new if due is None or new[0] < due[0] else due
        del new


def _until(at: float) -> float:
    return min(max(0.0, at - time.monotonic()), threading.TIMEOUT_MAX)
