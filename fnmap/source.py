"""Where the items of a stage come from: what is known at once, and what is drawn one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from fnmap.errors import NotPicklable, UsageError
from fnmap.format.payload import NotDumped, Plain, Values
from fnmap.format.travel import to_worker
from fnmap.worker import short_repr

if TYPE_CHECKING:
    from fnmap.shared import Shared


class Source(Protocol):
    """The items of a stage."""

    def encode(self, tasks: Sequence[int]) -> Values:
        """The items of these tasks, ready to travel. Raises NotPicklable naming the item."""
        ...

    def item(self, task: int) -> Any:
        """The item of a task that is not settled yet."""
        ...

    def settled(self, tasks: Sequence[int]) -> None:
        """These tasks are done with; their items may go."""
        ...


def not_picklable(index: int, item: object, error: NotDumped) -> NotPicklable:
    kind = type(item)
    if isinstance(error.cause, NotPicklable):  # something of ours, which says what to do
        return NotPicklable(f"item {index}, {short_repr(item)}, cannot be sent to a worker: {error.cause}")
    return NotPicklable(
        f"item {index} cannot be sent to a worker: {short_repr(item)}, a {kind.__module__}.{kind.__qualname__}:"
        f" {error}. Pass what it is made from and build it inside the function"
    )


class Items:
    """Items that are all there. They are pickled when a chunk leaves, but for those that might fail to be:
    these are pickled now, so that a bad one is named before anything starts."""

    def __init__(self, items: Sequence[Any], share: Shared | None, *, plain: Plain | None = None) -> None:
        """`plain`: these items, if they are known to be plain. Raises NotPicklable, naming it, for an item that cannot
        travel or that no worker could hold."""
        self.items = items
        self._encoded: Values | None = None
        self._plain = plain or Plain.of(items)
        if self._plain is None:
            try:
                self._encoded = Values.of(items, to_worker, share)
            except NotDumped as error:
                raise not_picklable(error.at, items[error.at], error) from error.cause
        if share is not None:
            self._check_sizes(share)

    def __len__(self) -> int:
        return len(self.items)

    def encode(self, tasks: Sequence[int]) -> Values:
        if self._encoded is not None:
            return self._encoded.take(tasks)
        assert self._plain is not None
        return self._plain.encode(tasks)

    def _check_sizes(self, share: Shared) -> None:
        frames = [] if self._encoded is None else self._encoded.frames()
        try:
            share.check(frames, 0 if self._plain is None else self._plain.nbytes)
        except NotPicklable:  # all together; is it one of them?
            for at, item in enumerate(self.items):
                try:
                    share.check(self.encode(range(at, at + 1)).frames())
                except NotPicklable as error:
                    raise not_picklable(at, item, NotDumped(at, error)) from error

    def whole(self) -> Values:
        """All of them, large buffers and all."""
        return Values.of(self.items, to_worker) if self._plain is None else self.encode(range(len(self)))

    def item(self, task: int) -> Any:
        return self.items[task]

    def settled(self, tasks: Sequence[int]) -> None:
        """They stay: a failed task may be tried again later."""


class NoItems:
    """Tasks of a plan that take nothing but results of others."""

    def encode(self, tasks: Sequence[int]) -> Values:  # noqa: ARG002 - as of Source
        return Values.of_plain([])

    def item(self, task: int) -> Any:  # noqa: ARG002
        return ()

    def settled(self, tasks: Sequence[int]) -> None:
        """Nothing is held."""


class Stream:
    """Items drawn from an iterator by a thread of its own, and no faster than results are taken.

    `add(count)` is told of new items, `end(error)` of the end; `room()` says how many may be drawn now, and
    `hungry()` whether a worker waits for one. With `keep`, items stay, so that failed tasks may be tried again.
    """

    def __init__(
        self,
        iterator: Iterator[Any],
        *,
        room: Callable[[], int],
        hungry: Callable[[], bool],
        add: Callable[[int], None],
        end: Callable[[BaseException | None], None],
        keep: bool = False,
    ) -> None:
        self._keep, self.has_all = keep, False
        self._iterator, self._room, self._hungry, self._add, self._end = iterator, room, hungry, add, end
        self._pending, self._pending_lock = 0, threading.Lock()
        self._items: dict[int, Any] = {}
        self._drawn = 0
        self._stopped = self._drawing = False
        self._threaded = True
        self._poked = threading.Event()

    def start(self, *, threaded: bool) -> None:
        """Begin to draw, in a thread, or at each `poke` where calls run in the caller's thread."""
        self._threaded = threaded
        if threaded:
            threading.Thread(target=self._draw_all, name="fnmap-items", daemon=True).start()
        else:
            self.poke()

    def poke(self) -> None:
        """There may be more room now."""
        if self._threaded:
            self._publish()
            self._poked.set()
        elif not self._drawing:
            self._drawing = True
            try:
                while not self._stopped and (room := self._room()) > 0:
                    self._draw(room)
            finally:
                self._drawing = False

    def stop(self) -> None:
        """Draw no more, and let go of the iterator."""
        self._stopped = True
        if self._threaded:
            self._poked.set()
        else:
            self._iterator = iter(())

    def encode(self, tasks: Sequence[int]) -> Values:
        items = [self._items[t] for t in tasks]
        try:
            return Values.of(items, to_worker)
        except NotDumped as error:
            raise not_picklable(tasks[error.at], items[error.at], error) from error.cause

    def item(self, task: int) -> Any:
        return self._items[task]

    def settled(self, tasks: Sequence[int]) -> None:
        for task in () if self._keep else tasks:
            self._items.pop(task, None)

    def _draw_all(self) -> None:
        while True:
            self._poked.clear()  # before the looks, so that no change after them is missed
            if self._stopped:
                break
            if (room := self._room()) > 0:
                self._draw(room)
            else:
                self._poked.wait()  # with no lock held: who stops a stream holds the session's, which the look takes
        self._iterator = iter(())

    def _draw(self, room: int) -> None:
        """Up to `room` items, fewer if they come slowly."""
        error: BaseException | None = None
        drawn, over = 0, False
        until = time.monotonic() + DRAW_S
        try:
            for item in islice(self._iterator, room):
                with self._pending_lock:
                    self._items[self._drawn] = item
                    self._drawn += 1
                    self._pending += 1
                drawn += 1
                if self._hungry():
                    self._publish()
                if time.monotonic() > until:
                    break
            else:
                over = drawn < room
        except BaseException as raised:  # whatever the user's iterator raises is handed on, from a thread of ours
            error, over = raised, True
        self._publish()
        if over and not self._stopped:
            self._stopped, self.has_all = True, self._keep and error is None
            self._end(error)

    def _publish(self) -> None:
        """Tell of the items that were drawn. The iterator may take its time for the next one."""
        with self._pending_lock:
            count, self._pending = self._pending, 0
        if count:
            self._add(count)


DRAW_S = 0.005


def zip_items(iterables: Sequence[Iterable[Any]], *, strict: bool) -> Iterator[tuple[Any, ...]]:
    """Tuples of arguments. Under `strict`, iterables of unequal length are an error where the shortest ends."""
    missing = object()
    for at, item in enumerate(zip_longest(*iterables, fillvalue=missing)):
        if any(part is missing for part in item):
            if strict:
                raise UsageError(f"the iterables must have equal lengths (or pass strict=False); one ended after {at}")
            return
        yield item
