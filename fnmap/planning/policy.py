"""Choices as pure functions and plain data: chunk size, retry, tolerance."""

from __future__ import annotations

from dataclasses import dataclass

INFRA_RETRIES = 3  # attempts after the first that a lost worker may cost one task before it is called poison
MEMORY_GROWTH = 2.0  # after a death for want of memory: a factor of eight within INFRA_RETRIES
SPLIT_WAYS = 16  # a lost chunk is split so: a poison item among 65 536 is alone after four losses


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a task whose function raised is tried again.

    `retries` more attempts, for exceptions of the types `on`, the k-th of them after
    min(`backoff_s` * 2**(k-1), `max_backoff_s`) seconds, with `memory_factor`**k times the memory where the
    compute can choose it. So have the attempts after the death of a worker. Unless it is given, only the attempt after
    one that was out of memory has more: twice as much.
    """

    retries: int
    on: tuple[type[BaseException], ...] = (Exception,)
    backoff_s: float = 0.1
    max_backoff_s: float = 30.0
    memory_factor: float | None = None

    def growth(self, *, out_of_memory: bool = False) -> float:
        """How many times the memory of an attempt the next one gets."""
        if self.memory_factor is not None:
            return self.memory_factor
        return MEMORY_GROWTH if out_of_memory else 1.0

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after this many failures of one task."""
        return float(min(self.backoff_s * 2.0 ** min(failures - 1, 1000), self.max_backoff_s))


@dataclass(frozen=True, slots=True)
class Tolerate:
    """The share of tasks, 0 to 1, that may fail before the run does."""

    share: float

    def allows(self, failed: int, total: int) -> bool:
        return failed <= self.share * total


@dataclass(frozen=True, slots=True)
class ChunkPolicy:
    """How many tasks travel together. `fixed` overrules the rest."""

    fixed: int | None = None
    target_s: float = 0.1
    most_tasks: int = 65_536
    growth: int = 64  # a chunk is at most so many times larger than any that came back

    def size(self, *, ready: int, slots: int, task_s: float | None, call_s: float, largest_done: int) -> int:
        """Tasks in the next chunk.

        `ready`: tasks that wait; `task_s`: observed seconds a task, None before the first report; `call_s`:
        what a call costs besides. Starts with single tasks, aims at `target_s`, and shrinks towards the end
        so that no worker idles while another still has a queue of its own.
        """
        if self.fixed is not None:
            return min(self.fixed, ready)
        if task_s is None:
            return 1
        small_s = max(SMALL_S, call_s * WORTH)
        tail = max(ready / (slots * TAIL_PARTS), small_s / max(task_s, 1e-9))
        target = max(self.target_s, small_s) / max(task_s, 1e-9)
        return max(1, min(ready, int(min(target, tail, self.most_tasks, largest_done * self.growth))))


def straggles_after_s(done: int, total: int, median_s: float) -> float:
    """How long a call may run before it gets a backup. `median_s`: what the calls that are done say of one like it.

    The rule of Cubed and MapReduce: only when ten tasks and half of all are done, and at three times the median.
    """
    known = done >= BACKUP_TASKS and 2 * done >= total
    return max(BACKUP_LEAST_S, BACKUP_FACTOR * median_s) if known else float("inf")


BACKUP_TASKS, BACKUP_FACTOR = 10, 3.0
BACKUP_LEAST_S = 0.5  # less is noise

COST_PARTS = 4  # where costs are known, a chunk has at most this part of a slot's share of what they come to
TAIL_PARTS = 4  # towards the end a chunk is at most this part of a slot's share of what is left
SMALL_S = 0.003  # no use in a chunk shorter than this
WORTH = 5  # or than so many times what its call costs


def stream_limit(buffer: int | None, slots: int, task_s: float | None, task_bytes: float) -> int:
    """Items of an iterator that may be out, drawn and not yet taken as results.

    `buffer`: what the user said. Else: enough for half a second of work, within bounds of count and memory.
    """
    if buffer is not None:
        return buffer
    by_time = STREAM_TASKS if task_s is None else min(STREAM_MOST, int(STREAM_AHEAD_S / max(task_s, 1e-9)))
    by_memory = STREAM_BYTES / task_bytes if task_bytes else STREAM_MOST
    return int(max(2 * slots, min(slots * by_time, by_memory)))


STREAM_TASKS = 64  # a slot, before it is known how long they take
STREAM_MOST = 16_384
STREAM_AHEAD_S = 0.5
STREAM_BYTES = 256 << 20
