"""Tasks that are ready to run: in their own order, or the longest first. A queue holds pieces, not tasks."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any


class Fifo:
    """First come, first served. A piece is a sequence of tasks of any length; `count` is that of all tasks."""

    def __init__(self) -> None:
        self.count = 0
        self._pieces: deque[tuple[Sequence[int], int]] = deque()  # with the position that is next

    def push(self, tasks: Sequence[int], *, front: bool = False) -> None:
        if len(tasks):
            (self._pieces.appendleft if front else self._pieces.append)((tasks, 0))
            self.count += len(tasks)

    def take(self, most: int) -> Sequence[int]:
        """Up to so many tasks: a range where they are neighbours, else a list."""
        taken = list[Sequence[int]]()
        while most > 0 and self._pieces:
            piece, at = self._pieces.popleft()
            part = piece[at : at + most]
            if at + len(part) < len(piece):
                self._pieces.appendleft((piece, at + len(part)))
            taken.append(part)
            most -= len(part)
            self.count -= len(part)
        return join(taken)

    def drain(self) -> Sequence[int]:
        """All of them."""
        return self.take(self.count)


class LongestFirst:
    """By cost, the greatest first. Costs are told apart to a twelfth, so that what is released bit by bit is
    sorted bit by bit. `costs`: an array by task; `cost` is that of all that wait."""

    def __init__(self, costs: Any) -> None:
        self.count, self.cost = 0, 0.0
        self._costs = costs
        self._classes: dict[int, Fifo] = {}
        self._order: list[int] = []  # a heap of the classes that have tasks, the costliest first

    def push(self, tasks: Sequence[int], *, front: bool = False) -> None:
        import numpy as np

        if not len(tasks):
            return
        ids = np.asarray(tasks)
        costs = self._costs[ids]
        order = np.argsort(-costs, kind="stable")
        ids, costs = ids[order], costs[order]
        classes = np.floor(CLASSES * np.log2(np.maximum(costs, TINY))).astype(int)
        cuts = np.flatnonzero(np.diff(classes)) + 1
        for piece, kind in zip(np.split(ids, cuts), classes[[0, *cuts]].tolist(), strict=True):
            queue = self._classes.get(kind)
            if queue is None:
                queue = self._classes[kind] = Fifo()
                heapq.heappush(self._order, -kind)
            queue.push(piece, front=front)  # type: ignore[arg-type]  # an array will do
        self.count += len(ids)
        self.cost += float(costs.sum())

    def take(self, most: int, share: float = float("inf")) -> Sequence[int]:
        """Up to so many tasks that cost no more than `share` together; at least one."""
        taken = list[Sequence[int]]()
        while self.count and most > 0:
            kind = -self._order[0]
            queue = self._classes[kind]
            bound = 2.0 ** ((kind + 1) / CLASSES)  # none of the class costs more
            some = min(most, int(share / bound) if share < bound * queue.count else queue.count)
            if some < 1 and taken:
                break
            tasks = queue.take(max(1, some))
            cost = float(self._costs[tasks].sum()) if len(tasks) > 1 else float(self._costs[tasks[0]])
            taken.append(tasks)
            most -= len(tasks)
            share -= cost
            self.count -= len(tasks)
            self.cost -= cost
            if queue.count:
                break
            heapq.heappop(self._order)
            del self._classes[kind]
        return taken[0] if len(taken) == 1 else join(taken)

    def drain(self) -> Sequence[int]:
        """All of them."""
        taken = list[Sequence[int]]()
        while self.count:
            taken.append(self.take(self.count))
        return join(taken)


CLASSES = 8  # to an octave
TINY = 1e-12


def join(pieces: Sequence[Sequence[int]]) -> Sequence[int]:
    """One sequence of plain integers; a range if that will do."""
    if all(isinstance(piece, range) and piece.step == 1 for piece in pieces):
        if not pieces:
            return range(0)
        if all(a.stop == b.start for a, b in pairwise(pieces)):  # type: ignore[attr-defined]
            return range(pieces[0].start, pieces[-1].stop)  # type: ignore[attr-defined]
    return plain(list(chain.from_iterable(map(_integers, pieces))))


def _integers(piece: Any) -> Iterator[int]:
    return iter(piece.tolist() if hasattr(piece, "tolist") else piece)


def plain(tasks: list[int]) -> Sequence[int]:
    """A range if the tasks are neighbours in order."""
    first, count = tasks[0] if tasks else 0, len(tasks)
    if not count or (tasks[-1] - first == count - 1 and tasks == list(range(first, first + count))):
        return range(first, first + count)
    return tasks
