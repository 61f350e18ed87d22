"""map_reduce: results are combined on the workers, in a tree whose shape depends on their number alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NoReturn

from fnmap.build import check_function
from fnmap.errors import NotCallable, NotPicklable, UsageError
from fnmap.mapping import start_map
from fnmap.options import MapOptions, ReduceOptions, count, resolve
from fnmap.run import Run

if TYPE_CHECKING:
    from fnmap.session import Session


def start_reduction(
    session: Session,
    fn: Callable[..., Any],
    items: Iterable[Any],
    reduce_fn: Callable[[list[Any]], Any],
    *,
    by: Callable[[Any], Any] | None,
    fan_in: int,
    options: ReduceOptions,
) -> Future[Any]:
    """Start the map, and combine its results as they arrive."""
    check_function(fn)
    if not callable(reduce_fn):
        raise NotCallable(f"reduce_fn must be a function of a list of results; got {reduce_fn!r}")
    if by is not None and not callable(by):
        raise NotCallable(f"by must be a function of an item; got {by!r}")
    fan_in = count(fan_in, 2, "fan_in must be an int >= 2")
    mapped, said = resolve(ReduceOptions, "map_reduce", fn, options)
    checked = MapOptions.check(said)
    if checked.errors not in ("raise", "skip"):
        raise UsageError(f'errors must be "raise" or "skip" in map_reduce; got {checked.errors!r}')
    items = list(items)
    run = start_map(session, mapped, (items,), "item", checked)
    return _Reduction(session, run, _groups(items, by), reduce_fn, fan_in, grouped=by is not None).start()


def _groups(items: list[Any], by: Callable[[Any], Any] | None) -> dict[Any, list[int]]:
    """Tasks by key, in order of first appearance."""
    if by is None:
        return {None: list(range(len(items)))}
    groups: dict[Any, list[int]] = {}
    for task, item in enumerate(items):
        groups.setdefault(by(item), []).append(task)
    return groups


class ReducedFuture(Future[Any]):
    """What map_reduce returns: a future of the reduced value. `run` is the run of its map."""

    run: Run

    def __reduce__(self) -> NoReturn:
        raise NotPicklable("a Future cannot be sent to or from a worker: send its result()")

    def cancel(self) -> bool:
        """Cancel the map and the reduction, unless it is done."""
        if not super().cancel():
            return False
        self.run.cancel()
        return True


class _Tree:
    """One group: values come in at their places, blocks of `fan_in` neighbours go out when they are full."""

    def __init__(self, count: int, fan_in: int, submit: Callable[[list[Any], Callable[[Any], None]], None]) -> None:
        self._fan_in, self._submit = fan_in, submit
        self._levels: list[list[Any]] = [[_PENDING] * count]
        self.root: Any = _PENDING
        if not count:
            self._send(0, 0, [])

    def put(self, level: int, place: int, value: Any) -> None:
        """A value, or _ABSENT if there will be none."""
        row = self._levels[level]
        row[place] = value
        block = place // self._fan_in
        start = block * self._fan_in
        values = row[start : start + self._fan_in]
        if any(v is _PENDING for v in values):
            return
        row[start : start + self._fan_in] = [None] * len(values)  # they are on their way: hold them no longer
        kept = [v for v in values if v is not _ABSENT]
        if kept or self._is_last(level):
            self._send(level, block, kept)
        else:
            self._done(level, block, _ABSENT)

    def _is_last(self, level: int) -> bool:
        return len(self._levels[level]) <= self._fan_in

    def _send(self, level: int, block: int, values: list[Any]) -> None:
        self._submit(values, lambda reduced: self._done(level, block, reduced))

    def _done(self, level: int, block: int, reduced: Any) -> None:
        if self._is_last(level):
            self.root = reduced
            return
        if len(self._levels) == level + 1:
            self._levels.append([_PENDING] * -(-len(self._levels[level]) // self._fan_in))
        self.put(level + 1, block, reduced)


_PENDING, _ABSENT = object(), object()


class _Reduction:
    """Feeds the results of a run into a tree for each group, and the roots into a future."""

    def __init__(
        self,
        session: Session,
        run: Run,
        groups: dict[Any, list[int]],
        reduce_fn: Callable[[list[Any]], Any],
        fan_in: int,
        *,
        grouped: bool,
    ) -> None:
        self._session, self._run, self._reduce_fn, self._grouped = session, run, reduce_fn, grouped
        self._lock = threading.RLock()
        self.future = ReducedFuture()
        self.future.run = run
        self._places = {task: (key, place) for key, tasks in groups.items() for place, task in enumerate(tasks)}
        self._trees = {key: _Tree(len(tasks), fan_in, self._submit) for key, tasks in groups.items()}

    def start(self) -> ReducedFuture:
        threading.Thread(target=self._feed, name="fnmap-reduce", daemon=True).start()
        return self.future

    def _feed(self) -> None:
        left = set(self._places)
        try:
            for task, value in self._run.as_completed():
                left.discard(task)
                self._put(task, value)
            for task in left:  # skipped
                self._put(task, _ABSENT)
            self._finish()
        except BaseException as error:  # whatever the function raised is the future's, in its own thread
            self._fail(error)

    def _put(self, task: int, value: Any) -> None:
        key, place = self._places[task]
        with self._lock:
            self._trees[key].put(0, place, value)

    def _submit(self, values: list[Any], done: Callable[[Any], None]) -> None:
        future = self._session.submit(self._reduce_fn, values)

        def reduced(answer: Future[Any]) -> None:
            if (error := answer.exception()) is not None:
                self._fail(error)
                return
            with self._lock:
                done(answer.result())
            self._finish()

        future.add_done_callback(reduced)

    def _finish(self) -> None:
        with self._lock:
            if self.future.done() or any(tree.root is _PENDING for tree in self._trees.values()):
                return
            roots = {key: tree.root for key, tree in self._trees.items()}
            self.future.set_result(roots if self._grouped else roots[None])

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self.future.done():
                return
            self.future.set_exception(error)
        self._run.cancel()
