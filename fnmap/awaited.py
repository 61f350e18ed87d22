"""Futures and runs as arguments: what is on its way is waited for in the background, never by the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from itertools import chain
from typing import TYPE_CHECKING, Any

from fnmap.format.call import Form
from fnmap.run import Awaited

if TYPE_CHECKING:
    from fnmap.session import Session

ON_ITS_WAY = (Future, Awaited)


def any_awaited(args: Iterable[Any], kwargs: Mapping[str, Any]) -> bool:
    """Is a future or a run among these arguments? On the path of every call: a look at types."""
    for given in args:
        if isinstance(given, ON_ITS_WAY):
            return True
    for given in kwargs.values():  # noqa: SIM110 - as above: a generator costs more than the look
        if isinstance(given, ON_ITS_WAY):
            return True
    return False


def any_among(items: Sequence[Any], form: Form) -> bool:
    """Is one among these items, or among the arguments that each of them is?"""
    if form == "args":
        items = [*chain.from_iterable(item for item in items if isinstance(item, (tuple, list)))]
    return any(issubclass(kind, ON_ITS_WAY) for kind in set(map(type, items)))


def arrived(given: Any) -> Any:
    """What was given, or its result if it is a future or a run, waiting for that."""
    return given.result() if isinstance(given, ON_ITS_WAY) else given


def all_arrived(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords with results in the place of futures and runs."""
    return {name: arrived(value) for name, value in given.items()}


def items_arrived(items: Iterable[Any], form: Form) -> Iterator[Any]:
    """Items with results in the place of futures and runs, waiting for each in its turn."""
    for item in items:
        if form == "args" and isinstance(item, (tuple, list)):
            yield tuple(map(arrived, item))
        else:
            yield arrived(item)


class Later:
    """A call that starts when all that it takes has arrived, and fails as soon as some of that does."""

    def __init__(
        self,
        session: Session,
        future: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        start: Callable[[tuple[Any, ...], dict[str, Any]], object],
        *,
        in_place: bool,
    ) -> None:
        """`in_place`: the call runs in the caller's thread, which waits for what it takes as well."""
        self.future, self._start = future, start
        self._args, self._kwargs = tuple(map(_future_of, args)), {n: _future_of(v) for n, v in kwargs.items()}
        self._lock, self._over = threading.Lock(), False
        future._withdraw, future._is_out = self._take, lambda: False
        session.later.add(self)
        future.add_done_callback(lambda _: session.later.discard(self))
        awaited = {given for given in (*self._args, *self._kwargs.values()) if isinstance(given, Future)}
        self._left = len(awaited)
        if in_place:
            wait(awaited)
        for one in awaited:
            one.add_done_callback(self._has_arrived)

    def fail(self, error: BaseException) -> None:
        """It will not start, for this reason."""
        if self._take():
            self._end(error)

    def _take(self) -> bool:
        """Only one can start it, withdraw it or let it fail."""
        with self._lock:
            mine, self._over = not self._over, True
            return mine

    def _has_arrived(self, one: Future[Any]) -> None:
        error = CancelledError() if one.cancelled() else one.exception()
        with self._lock:
            self._left -= 1
            all_there = self._left == 0
        if error is not None:
            self.fail(error)
        elif all_there and self._take():
            try:
                self._start(tuple(map(arrived, self._args)), all_arrived(self._kwargs))
            except Exception as refused:  # a result that cannot be pickled, a session that is closed
                self._end(refused)

    def _end(self, error: BaseException) -> None:
        self.future._withdraw = self.future._is_out = None
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


_gathering: dict[Awaited, Future[Any]] = {}
_gathering_lock = threading.Lock()


def _future_of(given: Any) -> Any:
    """A run as a future of its results, one for all who wait for it; else what was given."""
    if not isinstance(given, Awaited):
        return given
    with _gathering_lock:
        future = _gathering.get(given)
        if future is None:
            future = _gathering[given] = Future()
            threading.Thread(target=_gather, args=(given, future), name="fnmap-gather", daemon=True).start()
        return future


def _gather(run: Awaited, future: Future[Any]) -> None:
    try:
        value, error = run.result(), None
    except BaseException as raised:  # whatever the function raised is the future's, in a thread of ours
        value, error = None, raised
    with _gathering_lock:
        del _gathering[run]
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
