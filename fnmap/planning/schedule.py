"""Which tasks of a stage run next, and what becomes of each: facts in, decisions out, no I/O and no clock.

Whoever drives it reports facts (`add`, `release`, `close`, `reported`, `lost`, `timed_out`, `halt`) with the
time of their own clock, and asks `next(now)` for the next chunk to submit. State is columns: a byte a task.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import Any

from fnmap.planning.policy import COST_PARTS, INFRA_RETRIES, SPLIT_WAYS, ChunkPolicy, Retry, straggles_after_s
from fnmap.planning.queue import Fifo, LongestFirst, plain


class State(IntEnum):
    """Where a task is."""

    WAITING = 0  # for a slot, or for what it depends on
    RUNNING = 1
    DONE = 2
    FAILED = 3
    SKIPPED = 4  # what it depends on has failed


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tasks that run together in one call. `attempt` counts from 1, over losses, retries and backups alike;
    `memory`: how many times the usual memory the call should get."""

    id: int
    tasks: Sequence[int]
    attempt: int = 1
    memory: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Tasks of a lost call that are not tried again, and how often each was."""

    exhausted: Sequence[int] = ()
    attempts: int = 0


class Schedule:
    """The schedule of one stage.

    `costs`: what each task is expected to take, in any unit: the longest start first. Without them tasks
    start in their own order. `limit`: calls at once. `backups`: a call that straggles is tried a second time
    beside the first, and the first to answer counts.
    """

    def __init__(
        self,
        *,
        slots: int,
        chunks: ChunkPolicy,
        retry: Retry,
        costs: Sequence[float] | None = None,
        limit: int | None = None,
        backups: bool = False,
    ) -> None:
        self.slots, self.chunks, self.retry, self.limit, self.backups = slots, chunks, retry, limit, backups
        self.state = bytearray()
        self.halted = False
        self.closed = False
        self.task_s: float | None = None
        self.costs = None if costs is None else _column(costs)
        self._fresh: Any = Fifo() if costs is None else LongestFirst(self.costs)  # never tried
        self._again: deque[Chunk] = deque()  # chunks to try once more, as they are
        self._later: list[tuple[float, int, Chunk]] = []  # a heap by time: retries that wait
        self._counts = [0] * len(State)
        self._running: dict[int, tuple[Chunk, float]] = {}  # with the time of its start
        self._twins: dict[int, int] = {}  # chunks that have a backup: how many of the two are out
        self._losses: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._largest_done, self._call_s = 1, math.inf
        self._pace = 0.0  # where costs are known: seconds for a unit of it
        self._paces: deque[float] = deque(maxlen=PACES)  # seconds for a unit of cost, of the latest calls
        self._ways: deque[float] = deque(maxlen=PACES)  # and what their way and their turn took besides
        self._next_id = 0

    # -- facts ---------------------------------------------------------------------------------------

    def add(self, count: int, *, ready: bool = True) -> None:
        """`count` more tasks; those that are not ready are released later. With costs, all are added at once."""
        start = len(self.state)
        self.state += bytes(count)
        self._counts[State.WAITING] += count
        if ready:
            self._fresh.push(range(start, start + count))

    def release(self, tasks: Sequence[int]) -> None:
        """What these tasks depend on is there."""
        self._fresh.push(tasks)

    def blame(self, task: int) -> None:
        """A worker has died of this task before it came here."""
        self._losses[task] = 1

    def close(self) -> None:
        """No more tasks will be added."""
        self.closed = True

    def skip(self, tasks: Iterable[int], state: State) -> None:
        """These tasks, which wait, are settled without a call: by an earlier driver, or by what they depend on."""
        self._mark(plain(sorted(tasks)), state)
        left = self._fresh.drain()
        self._fresh.push([t for t in left if self.state[t] == State.WAITING] if len(left) else left)

    def undo(self, tasks: Iterable[int]) -> None:
        """The results of these tasks, which were done, are lost: they wait until they are released again."""
        for task in tasks:
            self._move(task, State.WAITING)

    def fell(self, task: int, state: State) -> None:
        """A task that was not released will not run: what it depends on has failed."""
        self._move(task, state)

    def reported(
        self,
        chunk: Chunk,
        ran: int,
        seconds: float,
        failed: dict[int, bool],
        now: float,
        *,
        call_s: float = 0.0,
        unread: Collection[int] = (),
    ) -> list[int]:
        """The first `ran` tasks of the chunk were tried, in so many seconds, and `call_s` went by around them.
        `failed`: position -> may it be retried. `unread`: positions that found an input to be lost, which wait
        again at no charge until they are released.

        Returns the tasks whose failure is final. Those not tried go back to the front of the queue.
        """
        begun = self._running[chunk.id][1]
        self._end(chunk)
        self._learn(chunk.tasks[:ran], seconds, call_s)
        if self.backups:
            self._ways.append(max(0.0, now - begun - seconds))
        final = [p for p, retryable in failed.items() if not self._retry(chunk, p, retryable, now)]
        self._settle(chunk.tasks[:ran], {**failed, **dict.fromkeys(unread, True)} if unread else failed, final)
        for position in unread:
            self._move(chunk.tasks[position], State.WAITING)
        self._return(chunk.tasks[ran:])
        return [chunk.tasks[p] for p in final]

    def lost(self, chunk: Chunk, at: range | None = None, *, out_of_memory: bool = False) -> Verdict:
        """The worker died. `at`: positions one of which it was running, where that is known. `out_of_memory`: of that,
        as far as the compute can tell."""
        if self.has_twin(chunk):
            self._twins[chunk.id] -= 1  # the other may still answer
            return Verdict()
        self._end(chunk)
        if at is None or len(at) == 0:
            at = range(len(chunk.tasks))
        suspects = chunk.tasks[at.start : at.stop]
        self._return(chunk.tasks[at.stop :])
        self._return(chunk.tasks[: at.start])
        if len(suspects) == 1:
            return self._accuse(suspects[0], chunk, out_of_memory)
        step = max(1, -(-len(suspects) // SPLIT_WAYS))
        for start in range(0, len(suspects), step):
            self._queue_again(suspects[start : start + step], chunk.attempt + 1, chunk.memory)
        return Verdict()

    def timed_out(self, chunk: Chunk, at: int | None, retryable: bool, now: float) -> Verdict:
        """A task of the chunk ran over its limit; the call was killed."""
        self._twins.pop(chunk.id, None)
        if at is None and len(chunk.tasks) > 1:
            return self.lost(chunk)
        at = at or 0
        self._end(chunk)
        self._return(chunk.tasks[at + 1 :])
        self._return(chunk.tasks[:at])
        if self._retry(chunk, at, retryable, now):
            return Verdict()
        self._move(chunk.tasks[at], State.FAILED)
        return Verdict([chunk.tasks[at]], self.tries(chunk.tasks[at]))

    def returned(self, chunk: Chunk, not_before: float) -> None:
        """The call never started (the compute was throttled): the chunk waits, uncharged."""
        if self.has_twin(chunk):
            self._twins[chunk.id] -= 1
            return
        self._end(chunk)
        self._mark(chunk.tasks, State.WAITING)
        heapq.heappush(self._later, (not_before, chunk.id, chunk))

    def refused(self, chunk: Chunk) -> None:
        """The call cannot be made at all: its tasks have failed."""
        self._end(chunk)
        self._mark(chunk.tasks, State.FAILED)

    def halt(self) -> None:
        """Start nothing more; what runs may end."""
        self.halted = True

    def resume(self, *, ready: bool = True) -> None:
        """Undo `halt`: what failed or was skipped waits again, and what waits is ready, or released later."""
        self.halted = False
        self._failures.clear()
        self._losses.clear()
        self._fresh.drain()
        self._again.clear()
        self._later.clear()
        again = [t for t, state in enumerate(self.state) if state in (State.FAILED, State.SKIPPED)]
        for task in again:
            self._move(task, State.WAITING)
        if ready:
            self._fresh.push(plain([t for t, state in enumerate(self.state) if state == State.WAITING]))

    # -- decisions -----------------------------------------------------------------------------------

    def next(self, now: float) -> Chunk | None:
        """The next chunk to submit, or None when there is none for now."""
        if self.halted or self._full:
            return None
        while self._later and self._later[0][0] <= now:
            self._again.append(heapq.heappop(self._later)[2])
        chunk = self._again.popleft() if self._again else self._carve()
        if chunk is None:
            return self._backup(now) if self.backups else None
        self._mark(chunk.tasks, State.RUNNING)
        self._running[chunk.id] = chunk, now
        return chunk

    def wake_at(self) -> float | None:
        """When to ask again, if nothing else happens."""
        if self.halted or self._full:  # the end of a call is what will change it
            return None
        times = [self._later[0][0]] if self._later else []
        if self.backups:
            times += [at for _, at in self._stragglers() if at < math.inf]
        return min(times, default=None)

    def is_live(self, chunk: Chunk) -> bool:
        """Is an answer to it still of use? Not once its backup, or what it backs, has answered."""
        return chunk.id in self._running

    def has_twin(self, chunk: Chunk) -> bool:
        """Is the same chunk out a second time?"""
        return self._twins.get(chunk.id, 0) > 1

    @property
    def ready(self) -> int:
        """Tasks that could start now and never did."""
        return int(self._fresh.count)

    @property
    def out(self) -> int:
        """Calls that are out."""
        return len(self._running) + sum(n - 1 for n in self._twins.values())

    @property
    def finished(self) -> bool:
        """Nothing runs and nothing more will start."""
        if self._running:
            return False
        return self.halted or (self.closed and not self._counts[State.WAITING])

    def tries(self, task: int) -> int:
        """How often a task that has failed for good was tried."""
        return self._failures.get(task, 0) + self._losses.get(task, 0) + 1

    def count(self, state: State) -> int:
        """Tasks in this state."""
        return self._counts[state]

    # -- inside --------------------------------------------------------------------------------------

    @property
    def _full(self) -> bool:
        return self.limit is not None and self.out >= self.limit

    def _carve(self) -> Chunk | None:
        ready = self._fresh.count
        if not ready:
            return None
        if self.costs is not None and self.chunks.fixed is None:
            left = self._fresh.cost * self._counts[State.WAITING] / ready  # with what is not released yet
            share = left / (self.slots * COST_PARTS)
            if self._pace and self.chunks.target_s:
                share = min(share, self.chunks.target_s / self._pace)
            tasks = self._fresh.take(ready, share)
        else:
            size = self.chunks.size(
                ready=self._counts[State.WAITING],
                slots=self.slots,
                task_s=self.task_s,
                call_s=self._call_s,
                largest_done=self._largest_done,
            )
            tasks = self._fresh.take(size)
        return self._chunk(tasks, 1)

    def _backup(self, now: float) -> Chunk | None:
        """A second attempt of a call that takes far longer than its like."""
        for chunk, at in self._stragglers():
            if at <= now:
                self._twins[chunk.id] = 2
                return Chunk(chunk.id, chunk.tasks, chunk.attempt + BACKUP, chunk.memory)
        return None

    def _stragglers(self) -> list[tuple[Chunk, float]]:
        """Calls that are out, and when each is due for a backup. The oldest will do: there is no hurry."""
        done, total = self._counts[State.DONE], len(self.state)
        if not self._running or not self._paces or not math.isfinite(straggles_after_s(done, total, 0.0)):
            return []
        pace, way_s = (sorted(some)[len(some) // 2] for some in (self._paces, self._ways))
        alone = (pair for pair in self._running.values() if pair[0].id not in self._twins)
        return [
            (chunk, begun + straggles_after_s(done, total, way_s + pace * self._cost(chunk.tasks)))
            for chunk, begun in islice(alone, OLDEST)
        ]

    def _cost(self, tasks: Sequence[int]) -> float:
        return float(len(tasks)) if self.costs is None else float(self.costs[tasks].sum())

    def _chunk(self, tasks: Sequence[int], attempt: int, memory: float = 1.0) -> Chunk:
        self._next_id += 1
        return Chunk(self._next_id - 1, tasks, attempt, memory)

    def _queue_again(self, tasks: Sequence[int], attempt: int, memory: float = 1.0) -> None:
        self._mark(tasks, State.WAITING)
        self._again.append(self._chunk(tasks, attempt, memory))

    def _end(self, chunk: Chunk) -> None:
        del self._running[chunk.id]
        if self._twins:
            self._twins.pop(chunk.id, None)

    def _return(self, tasks: Sequence[int]) -> None:
        """Tasks that were not tried, through no fault of theirs, go to the front."""
        if len(tasks):
            self._mark(tasks, State.WAITING)
            self._fresh.push(tasks, front=True)

    def _learn(self, tasks: Sequence[int], seconds: float, call_s: float) -> None:
        ran = len(tasks)
        if not ran:
            return
        self._call_s = min(self._call_s, call_s)  # the least, for more tasks cost more
        self._largest_done = max(self._largest_done, ran)
        latest = seconds / ran
        self.task_s = latest if self.task_s is None else 0.5 * (self.task_s + latest)
        if self.costs is not None and (cost := self._cost(tasks)) > 0:
            self._pace = 0.5 * (self._pace + seconds / cost) if self._pace else seconds / cost
        if self.backups:
            self._paces.append(seconds / max(self._cost(tasks), 1e-12))

    def _retry(self, chunk: Chunk, position: int, retryable: bool, now: float) -> bool:
        task = chunk.tasks[position]
        failures = self._failures.get(task, 0) + 1
        if not retryable or failures > self.retry.retries or self.halted:
            return False
        self._failures[task] = failures
        self._mark([task], State.WAITING)
        again = self._chunk([task], chunk.attempt + 1, chunk.memory * self.retry.growth())
        heapq.heappush(self._later, (now + self.retry.delay_s(failures), again.id, again))
        return True

    def _accuse(self, task: int, chunk: Chunk, out_of_memory: bool) -> Verdict:
        losses = self._losses[task] = self._losses.get(task, 0) + 1
        if losses > INFRA_RETRIES:
            self._move(task, State.FAILED)
            return Verdict([task], losses)
        memory = chunk.memory * self.retry.growth(out_of_memory=out_of_memory)
        self._queue_again([task], chunk.attempt + 1, memory)
        return Verdict()

    def _settle(self, tasks: Sequence[int], failed: dict[int, bool], final: list[int]) -> None:
        if not failed:
            self._mark(tasks, State.DONE)
            return
        over = set(final)
        for position, task in enumerate(tasks):
            if position not in failed:
                self._move(task, State.DONE)
            elif position in over:
                self._move(task, State.FAILED)

    def _mark(self, tasks: Sequence[int], state: State) -> None:
        """Move tasks that are all in one state."""
        count = len(tasks)
        if not count:
            return
        self._counts[self.state[tasks[0]]] -= count
        self._counts[state] += count
        if isinstance(tasks, range):
            self.state[tasks.start : tasks.stop] = bytes([state]) * count
            return
        column = self.state
        for task in tasks:
            column[task] = state

    def _move(self, task: int, state: State) -> None:
        self._counts[self.state[task]] -= 1
        self._counts[state] += 1
        self.state[task] = state


PACES = 201  # calls whose median tells what is usual
OLDEST = 16
BACKUP = 1000  # the attempt number of a backup is greater by so much: no retry gets there


def _column(costs: Sequence[float]) -> Any:
    import numpy as np

    return np.asarray(costs, float)
