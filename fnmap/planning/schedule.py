"""Which tasks run next, and what becomes of each: facts in, decisions out, no I/O and no clock.

Whoever drives it reports facts (`add`, `close`, `reported`, `lost`, `timed_out`, `halt`) with the time of
their own clock, and asks `next(now)` for the next chunk to submit. State is columns: a byte a task.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from fnmap.planning.policy import INFRA_RETRIES, SPLIT_WAYS, ChunkPolicy, Retry


class State(IntEnum):
    """Where a task is."""

    WAITING = 0
    RUNNING = 1
    DONE = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tasks that run together in one call. `attempt` counts from 1, over losses and retries alike."""

    id: int
    tasks: Sequence[int]
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Tasks of a lost call that are not tried again, and how often each was."""

    exhausted: Sequence[int] = ()
    attempts: int = 0


class Schedule:
    """The schedule of one stage.

    `costs`: what each task is expected to take, in any unit: the longest start first. Without them tasks
    start in their own order.
    """

    def __init__(
        self,
        *,
        slots: int,
        chunks: ChunkPolicy,
        retry: Retry,
        costs: Sequence[float] | None = None,
        first_id: int = 0,
    ) -> None:
        self.slots, self.chunks, self.retry = slots, chunks, retry
        self.state = bytearray()
        self.halted = False
        self.closed = False
        self.task_s: float | None = None
        self.costs = costs
        self._fresh: deque[Sequence[int]] = deque()  # tasks that were never tried, in pieces of any size
        self._again: deque[Chunk] = deque()  # chunks to try once more, as they are
        self._later: list[tuple[float, int, Chunk]] = []  # a heap by time: retries that wait
        self._waiting = 0
        self._cost_left = 0.0
        self._counts = [0, 0, 0, 0]
        self._running: dict[int, Chunk] = {}
        self._losses: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._largest_done, self._call_s = 1, math.inf
        self._next_id = first_id

    # -- facts ---------------------------------------------------------------------------------------

    def add(self, count: int) -> None:
        """`count` more tasks are ready. With costs, all tasks are added at once."""
        start = len(self.state)
        self.state += bytes(count)
        self._counts[State.WAITING] += count
        if self.costs is None:
            self._push(range(start, start + count))
        else:
            self._push(sorted(range(count), key=self.costs.__getitem__, reverse=True))

    def skip(self, tasks: Iterable[int], state: State) -> None:
        """These tasks were settled by an earlier driver of the same run; called before `next`."""
        for task in tasks:
            self._move(task, state)
        left = [t for t in self._drain_fresh() if self.state[t] == State.WAITING]
        self._push(left)

    def close(self) -> None:
        """No more tasks will be added."""
        self.closed = True

    def reported(
        self, chunk: Chunk, ran: int, seconds: float, failed: dict[int, bool], now: float, *, call_s: float = 0.0
    ) -> list[int]:
        """The first `ran` tasks of the chunk were tried, in so many seconds, and `call_s` went by around them.
        `failed`: position -> may it be retried.

        Returns the tasks whose failure is final. Those not tried go back to the front of the queue.
        """
        del self._running[chunk.id]
        self._learn(ran, seconds, call_s)
        final = [p for p, retryable in failed.items() if not self._retry(chunk, p, retryable, now)]
        self._settle(chunk.tasks[:ran], failed, final)
        self._return(chunk.tasks[ran:])
        return [chunk.tasks[p] for p in final]

    def lost(self, chunk: Chunk, at: range | None = None) -> Verdict:
        """The worker died. `at`: positions one of which it was running, where that is known."""
        del self._running[chunk.id]
        if at is None or len(at) == 0:
            at = range(len(chunk.tasks))
        suspects = chunk.tasks[at.start : at.stop]
        self._return(chunk.tasks[at.stop :])
        self._return(chunk.tasks[: at.start])
        if len(suspects) == 1:
            return self._accuse(suspects[0], chunk.attempt)
        step = max(1, -(-len(suspects) // SPLIT_WAYS))
        for start in range(0, len(suspects), step):
            self._queue_again(suspects[start : start + step], chunk.attempt + 1)
        return Verdict()

    def timed_out(self, chunk: Chunk, at: int | None, retryable: bool, now: float) -> Verdict:
        """A task of the chunk ran over its limit; the call was killed."""
        if at is None and len(chunk.tasks) > 1:
            return self.lost(chunk)
        at = at or 0
        del self._running[chunk.id]
        self._return(chunk.tasks[at + 1 :])
        self._return(chunk.tasks[:at])
        if self._retry(chunk, at, retryable, now):
            return Verdict()
        self._move(chunk.tasks[at], State.FAILED)
        return Verdict([chunk.tasks[at]], self.tries(chunk.tasks[at]))

    def returned(self, chunk: Chunk, not_before: float) -> None:
        """The call never started (the compute was throttled): the chunk waits, uncharged."""
        del self._running[chunk.id]
        self._mark(chunk.tasks, State.WAITING)
        heapq.heappush(self._later, (not_before, chunk.id, chunk))

    def refused(self, chunk: Chunk) -> None:
        """The call cannot be made at all: its tasks have failed."""
        del self._running[chunk.id]
        self._mark(chunk.tasks, State.FAILED)

    def halt(self) -> None:
        """Start nothing more; what runs may end."""
        self.halted = True

    def resume(self) -> None:
        """Undo `halt` and try what failed again."""
        self.halted = False
        self._failures.clear()
        self._losses.clear()
        failed = [t for t, s in enumerate(self.state) if s == State.FAILED]
        for task in failed:
            self._move(task, State.WAITING)
        for task in failed:
            self._queue_again([task], 1)

    # -- decisions -----------------------------------------------------------------------------------

    def next(self, now: float) -> Chunk | None:
        """The next chunk to submit, or None when there is none for now."""
        if self.halted:
            return None
        while self._later and self._later[0][0] <= now:
            self._again.append(heapq.heappop(self._later)[2])
        chunk = self._again.popleft() if self._again else self._carve()
        if chunk is not None:
            self._mark(chunk.tasks, State.RUNNING)
            self._running[chunk.id] = chunk
        return chunk

    def wake_at(self) -> float | None:
        """When to ask again, if nothing else happens."""
        return self._later[0][0] if self._later and not self.halted else None

    @property
    def ready(self) -> int:
        """Fresh tasks that could start now."""
        return self._waiting

    @property
    def running(self) -> Iterable[Chunk]:
        """Chunks that were submitted and are not settled."""
        return self._running.values()

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

    def _push(self, tasks: Sequence[int], *, front: bool = False) -> None:
        if len(tasks):
            (self._fresh.appendleft if front else self._fresh.append)(tasks)
            self._waiting += len(tasks)
            self._cost_left += self._cost(tasks)

    def _cost(self, tasks: Sequence[int]) -> float:
        return sum(map(self.costs.__getitem__, tasks)) if self.costs is not None else 0.0

    def _drain_fresh(self) -> Iterator[int]:
        self._waiting, self._cost_left = 0, 0.0
        while self._fresh:
            yield from self._fresh.popleft()

    def _carve(self) -> Chunk | None:
        if not self._fresh:
            return None
        piece = self._fresh.popleft()
        size = min(len(piece), self._size(piece))
        if size < len(piece):
            self._fresh.appendleft(piece[size:])
        self._waiting -= size
        self._cost_left -= self._cost(piece[:size])
        return self._chunk(piece[:size], 1)

    def _size(self, piece: Sequence[int]) -> int:
        if self.costs is not None and self.chunks.fixed is None:
            return self._size_by_cost(piece)
        return self.chunks.size(
            ready=self._waiting,
            slots=self.slots,
            task_s=self.task_s,
            call_s=self._call_s,
            largest_done=self._largest_done,
        )

    def _size_by_cost(self, piece: Sequence[int]) -> int:
        """As many as make up a small share of the cost that is left; at least one."""
        assert self.costs is not None
        share, size, taken = self._cost_left / (self.slots * SPLIT_WAYS), 0, 0.0
        while size < len(piece) and (not size or taken + self.costs[piece[size]] <= share):
            taken += self.costs[piece[size]]
            size += 1
        return size

    def _chunk(self, tasks: Sequence[int], attempt: int) -> Chunk:
        self._next_id += 1
        return Chunk(self._next_id - 1, tasks, attempt)

    def _queue_again(self, tasks: Sequence[int], attempt: int) -> None:
        self._mark(tasks, State.WAITING)
        self._again.append(self._chunk(tasks, attempt))

    def _return(self, tasks: Sequence[int]) -> None:
        """Tasks that were not tried, through no fault of theirs, go to the front."""
        if len(tasks):
            self._mark(tasks, State.WAITING)
            self._push(tasks, front=True)

    def _learn(self, ran: int, seconds: float, call_s: float) -> None:
        if ran:
            self._call_s = min(self._call_s, call_s)  # the least, for more tasks cost more
            self._largest_done = max(self._largest_done, ran)
            latest = seconds / ran
            self.task_s = latest if self.task_s is None else 0.5 * (self.task_s + latest)

    def _retry(self, chunk: Chunk, position: int, retryable: bool, now: float) -> bool:
        task = chunk.tasks[position]
        failures = self._failures.get(task, 0) + 1
        if not retryable or failures > self.retry.retries or self.halted:
            return False
        self._failures[task] = failures
        self._mark([task], State.WAITING)
        again = self._chunk([task], chunk.attempt + 1)
        heapq.heappush(self._later, (now + self.retry.delay_s(failures), again.id, again))
        return True

    def _accuse(self, task: int, attempt: int) -> Verdict:
        losses = self._losses[task] = self._losses.get(task, 0) + 1
        if losses > INFRA_RETRIES:
            self._move(task, State.FAILED)
            return Verdict([task], losses)
        self._queue_again([task], attempt + 1)
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
        if isinstance(tasks, range) and tasks.step == 1 and len(tasks):
            self._counts[self.state[tasks.start]] -= len(tasks)
            self._counts[state] += len(tasks)
            self.state[tasks.start : tasks.stop] = bytes([state]) * len(tasks)
        else:
            for task in tasks:
                self._move(task, state)

    def _move(self, task: int, state: State) -> None:
        self._counts[self.state[task]] -= 1
        self._counts[state] += 1
        self.state[task] = state
