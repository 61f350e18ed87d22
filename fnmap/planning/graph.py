"""What depends on what, as columns: a task is released when all its inputs are settled.

Tasks of all stages are numbered through: those of stage s start at `first[s]`. An edge says which tasks of one
stage are the inputs of each task of another; inputs of a task are in order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fnmap.errors import PlanError
from fnmap.planning.queue import plain
from fnmap.planning.schedule import State

Ints = npt.NDArray[Any]  # of integers
Upstream = Literal["fail", "skip", "pass"]


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """The tasks of stage `source` that are the inputs of each task of stage `target`.

    `inputs`: their numbers, those of one target after those of the one before; numbered through where `source`
    is -1: they are of several stages. `ends`: where those of each
    target end; None where each target has exactly one.
    """

    source: int
    target: int
    inputs: Ints
    ends: Ints | None = None
    each_needed: bool = False  # the inputs are arguments of their own, and not one list

    def of(self, tasks: Sequence[int]) -> list[Ints]:
        """The inputs of each of these target tasks."""
        if self.ends is None:
            return list(self.inputs[_index(tasks)].reshape(-1, 1))
        return [self.inputs[self.ends[t - 1] if t else 0 : self.ends[t]] for t in tasks]

    def counts(self, targets: int) -> Ints:
        """How many inputs each target has."""
        if self.ends is None:
            return np.ones(targets, np.int32)
        return np.diff(self.ends, prepend=0).astype(np.int32)


@dataclass(slots=True)
class Released:
    """What the settling of tasks has led to: tasks by stage that are ready now, and tasks that will not run,
    each with a task that it depends on and that failed: (stage, task, source stage, source task)."""

    ready: list[tuple[int, Sequence[int]]] = field(default_factory=list)
    failed: list[tuple[int, int, int, int]] = field(default_factory=list)
    skipped: list[tuple[int, int, int, int]] = field(default_factory=list)


class Graph:
    """The dependencies of a plan.

    `counts`: tasks of each stage. `upstream`: what each stage does about an input that failed. "fail": the
    task fails too. "skip": it does without the input, and is skipped where it has no other, or where the
    input is an argument of its own. "pass": the error is passed in its place.
    """

    def __init__(self, counts: Sequence[int], edges: Sequence[Edge], upstream: Sequence[Upstream]) -> None:
        self.counts, self.edges, self.upstream = list(counts), list(edges), list(upstream)
        self.first = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        self._firsts: list[int] = self.first.tolist()
        self.total = self._firsts[-1]
        small = np.int32 if self.total < 2**31 else np.int64
        sources = [np.asarray(e.inputs + (self.first[e.source] if e.source >= 0 else 0), small) for e in edges]
        targets = [self._targets(e).astype(small) for e in edges]
        self._inputs = np.concatenate(sources) if edges else np.zeros(0, small)  # by edge
        self._consumers = np.concatenate(targets) if edges else np.zeros(0, small)
        self._alone = np.zeros(self.total, bool)  # tasks that cannot do without one input: it is an argument
        for edge in edges:
            if edge.ends is None or edge.each_needed:
                self._alone[self.first[edge.target] : self.first[edge.target + 1]] = True
        self._missing = np.zeros(self.total, np.int32)
        self._absent: dict[int, list[int]] = {}  # inputs of a task that failed and are done without
        self._over = np.zeros(self.total, bool)  # released or settled: what becomes of inputs is no matter any more
        self._needs = np.bincount(self._consumers, minlength=self.total).astype(np.int32)
        order = np.argsort(self._inputs, kind="stable") if not _sorted(self._inputs) else None
        per_task = np.bincount(self._inputs, minlength=self.total)
        self._starts = np.concatenate([[0], np.cumsum(per_task)])
        self._consumers_of = self._consumers if order is None else self._consumers[order]

    def _targets(self, edge: Edge) -> Ints:
        ids = np.arange(self.first[edge.target], self.first[edge.target + 1])
        if edge.ends is None:
            return ids
        return np.repeat(ids, edge.counts(self.counts[edge.target]))

    def start(self, states: Sequence[bytearray] | None = None) -> Released:
        """Take up a plan whose tasks are in these states, by stage: none is done, unless said otherwise.
        Returns what is ready, and what cannot run."""
        state = np.zeros(self.total, np.uint8)
        if states is not None:
            state[:] = np.frombuffer(b"".join(states), np.uint8)
        self._over = state != State.WAITING  # what runs is out already
        self._missing = self._needs.copy()
        self._absent = {}
        done = np.flatnonzero(state == State.DONE)
        np.subtract.at(self._missing, self._consumers_at(done), 1)
        ready = np.flatnonzero((self._missing == 0) & ~self._over)
        self._over[ready] = True
        released = Released(self._by_stage(ready))
        for task in np.flatnonzero((state == State.FAILED) | (state == State.SKIPPED)).tolist():
            self._fall(task, released)
        return released

    def settled(self, stage: int, tasks: Sequence[int]) -> Released:
        """These tasks are done: their results are there."""
        ids = _index(tasks, self._firsts[stage])
        self._over[ids] = True
        targets = self._consumers_at(ids)
        if not len(targets):
            return Released()
        once = bool((targets[1:] > targets[:-1]).all())  # else some have several of these for inputs
        at = _span(targets) if once else targets
        if once:
            self._missing[at] -= 1
        else:
            np.subtract.at(self._missing, targets, 1)
        ready = targets[(self._missing[at] == 0) & ~self._over[at]]
        if not once:
            ready = np.unique(ready)
        released = Released()
        skipped = [t for t in ready.tolist() if self._skips(t, released)] if self._absent else []
        if skipped:
            ready = np.setdiff1d(ready, skipped)
        self._over[ready] = True
        released.ready += self._by_stage(ready)
        for task in skipped:
            self._fall(task, released)
        return released

    def failed(self, stage: int, task: int) -> Released:
        """This task has no result, and will have none."""
        released = Released()
        at = self._firsts[stage] + task
        self._over[at] = True
        self._fall(at, released)
        return released

    def back(self, states: Sequence[bytearray], lost: Ints, unread: Ints) -> Released:
        """Tasks, numbered through, that wait again: those whose results are `lost`, and those that found an input to be
        so. `states` are those of all, these among them. Others that were released before have their inputs, as far as
        is known."""
        state = np.frombuffer(b"".join(states), np.uint8)
        np.add.at(self._missing, self._consumers_at(lost), 1)
        back = np.unique(np.concatenate([lost, unread]))
        self._over[back] = False
        edges = np.flatnonzero(np.isin(self._consumers, back))
        inputs, targets = self._inputs[edges], self._consumers[edges]
        self._missing[back] = np.bincount(targets[state[inputs] != State.DONE], minlength=self.total)[back]
        ready = back[self._missing[back] == 0]
        self._over[ready] = True
        released = Released(self._by_stage(ready))
        for task in back.tolist():
            self._absent.pop(task, None)
        failed = (state[inputs] == State.FAILED) | (state[inputs] == State.SKIPPED)
        for target, source in zip(targets[failed].tolist(), inputs[failed].tolist(), strict=True):
            if not self._over[target] and self._lacks(target, source, released):
                self._fall(target, released)
        return released

    def fronts(self) -> Iterator[list[tuple[int, Sequence[int]]]]:
        """The tasks by stage, those first that depend on none, then those that depend on these, and so on."""
        missing = self._needs.copy()
        front = np.flatnonzero(missing == 0)
        while len(front):
            yield self._by_stage(front)
            targets = self._consumers_at(front)
            np.subtract.at(missing, targets, 1)
            front = np.unique(targets[missing[targets] == 0])

    def tainted(self, states: bytes, sound: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.bool_]:
        """Results that came of an error, by task, numbered through, given the states of all: of tasks that did without
        an input, or were passed its error, and of all that were made of these. `sound`: results that are of the cache,
        and so are right whatever became of their inputs here."""
        done = np.frombuffer(states, np.uint8) == State.DONE
        lenient = np.repeat([rule != "fail" for rule in self.upstream], self.counts)  # others have had all inputs
        doubtful = done if sound is None else done & ~sound
        found = np.zeros(self.total, bool)
        found[self._consumers[~done[self._inputs]]] = True
        found &= lenient & doubtful
        front = np.flatnonzero(found)
        while len(front):
            targets = np.unique(self._consumers_at(front))
            front = targets[doubtful[targets] & ~found[targets]]
            found[front] = True
        return found

    def locate(self, at: int) -> tuple[int, int]:
        """The stage of a task that is numbered through, and its number there."""
        stage = bisect_right(self._firsts, at) - 1
        return stage, at - self._firsts[stage]

    # -- inside --------------------------------------------------------------------------------------

    def _consumers_at(self, ids: Any) -> Ints:
        """The tasks that have these among their inputs, once for each time."""
        if isinstance(ids, slice):
            return self._consumers_of[self._starts[ids.start] : self._starts[ids.stop]]
        starts, stops = self._starts[ids], self._starts[ids + 1]
        lengths = stops - starts
        total = int(lengths.sum())
        if not total:
            return self._consumers_of[:0]
        jumps = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        return self._consumers_of[jumps + np.arange(total)]

    def _by_stage(self, ids: Ints) -> list[tuple[int, Sequence[int]]]:
        """Sorted numbers as tasks of stages."""
        found, at = list[tuple[int, Sequence[int]]](), 0
        while at < len(ids):
            stage, _ = self.locate(int(ids[at]))
            stop = self._firsts[stage + 1]
            upto = len(ids) if ids[-1] < stop else int(np.searchsorted(ids, stop))
            found.append((stage, _tasks(ids[at:upto] - self._firsts[stage])))
            at = upto
        return found

    def _fall(self, at: int, released: Released) -> None:
        """What becomes of all that depends on a task without a result, however far."""
        todo = [at]
        while todo:
            source = todo.pop()
            targets = self._consumers_at(slice(source, source + 1)).tolist()
            todo += [t for t in targets if not self._over[t] and self._lacks(t, source, released)]

    def _lacks(self, target: int, source: int, released: Released) -> bool:
        """An input of a task has no result, and will have none. Does the task fall with it?"""
        stage, task = self.locate(target)
        rule = self.upstream[stage]
        if rule == "fail":
            self._over[target] = True
            released.failed.append((stage, task, *self.locate(source)))
            return True
        self._missing[target] -= 1
        if rule == "skip":
            self._absent.setdefault(target, []).append(source)
        if self._missing[target] > 0:
            return False
        if self._skips(target, released):
            return True
        self._over[target] = True
        released.ready.append((stage, range(task, task + 1)))
        return False

    def _skips(self, target: int, released: Released) -> bool:
        """Is the task skipped, now that all its inputs are settled?"""
        absent = self._absent.get(target)
        if absent is None or (len(absent) < self._needs[target] and not self._alone[target]):
            return False
        self._over[target] = True
        released.skipped.append((*self.locate(target), *self.locate(absent[0])))
        return True


def check_acyclic(graph: Graph, names: Sequence[str], called: Callable[[int, int], str] | None = None) -> None:
    """Raise PlanError, naming the tasks, if some depend on each other in a circle. `called`: what a task of a stage is
    called, if it has a name of its own."""
    graph.start()
    missing = graph._needs.copy()
    front = np.flatnonzero(missing == 0)
    seen = len(front)
    while len(front):
        targets = graph._consumers_at(front)
        np.subtract.at(missing, targets, 1)
        front = np.unique(targets[missing[targets] == 0])
        seen += len(front)
    if seen < graph.total:
        circle = _circle(graph, missing)
        called = called or (lambda stage, task: f"{names[stage]}[{task}]")
        shown = " -> ".join(called(*graph.locate(task)) for task in circle[:20])
        raise PlanError(f"these tasks depend on each other in a circle: {shown}; remove one of the dependencies")


def critical_path(graph: Graph, seconds: Sequence[Any], names: Sequence[str]) -> float:
    """What the longest chain of dependent tasks takes, of which each stage's `seconds` are given. Raises PlanError
    if there is a circle."""
    ends = np.concatenate([*seconds, []]) if len(seconds) else np.zeros(0)
    takes, missing = ends.copy(), graph._needs.copy()
    front, seen = np.flatnonzero(missing == 0), 0
    while len(front):
        seen += len(front)
        targets = graph._consumers_at(front)
        lengths = graph._starts[front + 1] - graph._starts[front]
        np.maximum.at(ends, targets, np.repeat(ends[front], lengths) + takes[targets])
        np.subtract.at(missing, targets, 1)
        front = np.unique(targets[missing[targets] == 0])
    if seen < graph.total:
        check_acyclic(graph, names)  # says which
    return float(ends.max(initial=0.0))


def _circle(graph: Graph, missing: Ints) -> list[int]:
    """One circle among tasks that can never start: go from each to an input that cannot start either."""
    order = np.argsort(graph._consumers, kind="stable")
    inputs, consumers = graph._inputs[order], graph._consumers[order]
    at, path = int(np.flatnonzero(missing > 0)[0]), dict[int, int]()
    while at not in path:
        path[at] = len(path)
        low, high = np.searchsorted(consumers, [at, at + 1])
        at = next(int(i) for i in inputs[low:high] if missing[i] > 0)
    circle = [task for task, place in path.items() if place >= path[at]]
    return [at, *reversed(circle)]


def _index(tasks: Sequence[int], first: int = 0) -> Any:
    if isinstance(tasks, range) and tasks.step == 1:
        return slice(tasks.start + first, tasks.stop + first)
    return np.asarray(tasks, np.int64) + first


def _span(ids: Ints) -> Any:
    """Rising numbers as a slice if they are neighbours: that is faster to index with."""
    first, last = int(ids[0]), int(ids[-1])
    return slice(first, last + 1) if last - first == len(ids) - 1 else ids


def _tasks(ids: Ints) -> Sequence[int]:
    """As a range if they are neighbours; else as an array, which takes an eighth of a list."""
    if len(ids) == int(ids[-1]) - int(ids[0]) + 1:
        return range(int(ids[0]), int(ids[-1]) + 1)
    return plain(ids.tolist()) if len(ids) <= 16 else ids  # type: ignore[return-value]


def _sorted(ids: Ints) -> bool:
    return len(ids) < 2 or bool(np.all(ids[1:] >= ids[:-1]))
