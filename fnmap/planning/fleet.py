"""Workers in virtual time: when they may come, who is idle, and what is paid for them."""

from __future__ import annotations

import heapq
import math
from collections import deque
from random import Random

from fnmap.planning.models import ComputeModel

FARGATE_LEAST_S = 60.0  # Fargate pricing: the least that is billed of a container
LAMBDA_STEP_S = 0.001  # Lambda pricing: to what the duration of a call is rounded up


class Ramp:
    """A bucket of tokens: how many workers may be started by when."""

    def __init__(self, burst: float, per_s: float) -> None:
        self.burst, self.per_s = burst, per_s
        self._tokens, self._at = burst, 0.0

    def take(self, now: float) -> bool:
        """May one be started now?"""
        if self._level(now) < 1.0 - SLACK:
            return False
        self._tokens -= 1.0
        return True

    def reserve(self, now: float) -> float:
        """When one that is asked for now will be started."""
        level = self._level(now)
        self._tokens -= 1.0
        return now if level >= 1.0 else now + (1.0 - level) / self.per_s

    def _level(self, now: float) -> float:
        if now > self._at:
            if self._tokens < self.burst:
                self._tokens = min(self.burst, self._tokens + (now - self._at) * self.per_s)
            self._at = now
        return self._tokens


SLACK = 1e-9  # of a token: what adding up rounds away


class Worker:
    """One worker: from when it is paid for, and when its latest call ended."""

    __slots__ = ("idle_since", "since")

    def __init__(self, since: float, idle_since: float = 0.0) -> None:
        self.since, self.idle_since = since, idle_since


class Fleet:
    """The workers of a compute, up to so many. The one that was idle the shortest is used first, so that those
    that are not needed can go."""

    def __init__(self, model: ComputeModel, workers: int, random: Random) -> None:
        self.model, self.most = model, workers
        self.cold_starts = 0
        self.paid_s = 0.0
        self.alive = self.coming = 0  # those that come are alive
        self._random, self._sigma = random, model.cold_sigma
        self._ramp = Ramp(model.burst, model.ramp_per_s)
        self._idle: deque[Worker] = deque()
        self._coming: list[tuple[float, int, Worker]] = []
        self._busy: set[Worker] = set()
        if model.warm:
            self._idle.extend(Worker(0.0) for _ in range(workers))
            self.alive = workers

    def take(self, now: float) -> Worker | None:
        """A worker that is there and idle."""
        self._retire(now)
        if not self._idle:
            return None
        worker = self._idle.pop()
        self._busy.add(worker)
        return worker

    def has_idle(self, now: float) -> bool:
        """Is one there and idle?"""
        self._retire(now)
        return bool(self._idle)

    def make(self, now: float) -> tuple[Worker, float] | None:
        """A new worker, for a call that waits for it, and how long; None if it may not be now."""
        if self.alive >= self.most or not self._ramp.take(now):
            return None
        self.alive += 1
        worker = Worker(now)
        self._busy.add(worker)
        return worker, self._cold_s()

    def order(self, now: float, count: int) -> None:
        """Have so many more come, as soon as the ramp allows, but no more than there may be."""
        for _ in range(min(count, self.most - self.alive)):
            since = self._ramp.reserve(now)
            ready = since + self._cold_s()
            heapq.heappush(self._coming, (ready, self.cold_starts, Worker(since, ready)))
            self.alive += 1
            self.coming += 1

    def next_arrival(self) -> float:
        """When the next of those that come will be there."""
        return self._coming[0][0] if self._coming else math.inf

    def arrive(self, now: float) -> None:
        """Those that have come by now are idle."""
        while self._coming and self._coming[0][0] <= now:
            self._idle.append(heapq.heappop(self._coming)[2])
            self.coming -= 1

    def give_back(self, worker: Worker, now: float) -> None:
        """Its call has ended."""
        self._busy.discard(worker)
        worker.idle_since = now
        self._idle.append(worker)

    def lose(self, worker: Worker, now: float) -> None:
        """It has died."""
        self._busy.discard(worker)
        self._dismiss(worker, now)
        if self.model.warm:  # it is replaced at once
            self._idle.append(Worker(now, now))
            self.alive += 1

    def pay_call(self, seconds: float, memory: float = 1.0) -> None:
        """A call took so long: where calls are what is paid for. One of twice the memory costs twice as much."""
        if self.model.billing == "lambda":
            self.paid_s += math.ceil(round(seconds / LAMBDA_STEP_S, 6)) * LAMBDA_STEP_S * self.model.size(memory)

    def close(self, now: float) -> None:
        """All are let go."""
        for worker in [*self._idle, *self._busy, *(w for _, _, w in self._coming)]:
            self._dismiss(worker, now)

    def _retire(self, now: float) -> None:
        idle, longest = self._idle, self.model.idle_s
        while idle and now - idle[0].idle_since > longest:
            worker = idle.popleft()
            self._dismiss(worker, worker.idle_since + longest)

    def _dismiss(self, worker: Worker, now: float) -> None:
        self.alive -= 1
        if self.model.billing == "lambda" or now <= worker.since:
            return
        least = FARGATE_LEAST_S if self.model.billing == "fargate" else 0.0
        self.paid_s += max(least, now - worker.since)

    def _cold_s(self) -> float:
        self.cold_starts += 1
        median = self.model.cold_s
        return median * math.exp(self._sigma * self._random.gauss(0.0, 1.0)) if self._sigma else median
