"""A driver and its fleet in virtual time: what a session does, with a heap of call ends for a compute.

Facts go into the same schedules that a session feeds, and what they decide is carried out by workers that come,
fail and straggle as the model says.
"""

from __future__ import annotations

import heapq
import math
from array import array
from dataclasses import dataclass
from itertools import count
from random import Random

from fnmap.planning.board import Board, Party
from fnmap.planning.durations import Durations
from fnmap.planning.fleet import Fleet, Worker
from fnmap.planning.flow import Flow
from fnmap.planning.graph import Released
from fnmap.planning.models import ComputeModel
from fnmap.planning.schedule import Chunk, Schedule

BUDGET_CHUNKS = 4  # a call that takes so many times what was aimed at hands back what it has not begun


@dataclass(slots=True, eq=False)
class VirtualStage:
    """A stage as the board sees it, and what it took."""

    number: int
    durations: Durations
    schedule: Schedule
    calls: int = 0
    first_s: float = math.inf
    last_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Call:
    """A call that is out."""

    stage: VirtualStage
    chunk: Chunk
    worker: Worker
    start: float
    end: float
    work_s: float  # in its tasks
    ran: int  # of its tasks; what is left is handed back
    lost: range | None = None  # where its worker dies: positions at one of which it is
    killed: bool = False


class VirtualRun:
    """A driver, its fleet, and a virtual clock."""

    def __init__(
        self, model: ComputeModel, flow: Flow, stages: list[VirtualStage], workers: int, random: Random, driver_s: float
    ) -> None:
        self.model, self.flow, self.stages, self.workers = model, flow, stages, workers
        self.driver_s, self.random = driver_s, random
        self.fleet = Fleet(model, workers, random)
        self.board = Board()
        self.party: Party = self.board.add(list(stages))
        self.now = 0.0  # by the driver, who may be late
        self.ended = 0.0  # when the last task was settled
        self.left = flow.graph.total
        self.failed = 0
        self.work_s = 0.0  # in tasks that counted
        self.tally = {"retries": 0, "backups": 0, "throttles": 0, "losses": 0}
        self.starts, self.ends = array("d"), array("d")
        self._events: list[tuple[float, int, _Call]] = []
        self._numbers = count()
        self._out: dict[tuple[int, int], list[_Call]] = {}  # by stage and chunk
        self._wake = self._held_until = 0.0

    def play(self) -> None:
        """Until every task is settled."""
        self._released(self.flow.start())
        self._pump()
        while self.left:
            at = min(self._events[0][0] if self._events else math.inf, self.fleet.next_arrival(), self._wake)
            if at == math.inf:
                raise AssertionError(f"{self.left} tasks are left, and nothing will happen")
            self.now = max(self.now, at)
            self.fleet.arrive(self.now)
            while self._events and self._events[0][0] <= self.now:
                self._ended(heapq.heappop(self._events)[2])
            self._pump()
        for _, _, call in self._events:  # twins that cannot be stopped: nobody waits for them, but they are paid for
            if not call.killed:
                self._close(call, call.end)
        self.fleet.close(self.ended)

    # -- the driver ----------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Submit whatever can be submitted now."""
        self._wake = math.inf
        while self._has_room():
            picked = self.board.next(self.now)
            if picked is None:
                wake_at = self.board.wake_at()
                self._wake = math.inf if wake_at is None else wake_at
                return
            self.now += self.driver_s
            self._launch(picked[1], picked[2])

    def _has_room(self) -> bool:
        if self.party.out >= self.workers:
            return False
        if self.fleet.has_idle(self.now):
            return True
        if self.model.beyond_ramp == "throttle":
            if self.now >= self._held_until:
                return True
            self._wake = self._held_until
            return False
        if self.fleet.alive < self.fleet.most:
            ready = sum(_could_start(stage.schedule) for stage in self.stages)
            self.fleet.order(self.now, max(ready - self.fleet.coming, int(not self.fleet.alive)))
        self.fleet.arrive(self.now)  # those that take no time to come
        return self.fleet.has_idle(self.now)

    def _launch(self, stage: VirtualStage, chunk: Chunk) -> None:
        model, now = self.model, self.now
        worker, cold_s = self.fleet.take(now), 0.0
        if worker is None:
            made = None if self._by_chance(model.throttle) else self.fleet.make(now)
            if made is None:
                self._throttled(stage, chunk)
                return
            worker, cold_s = made
        elif self._by_chance(model.throttle):
            self.fleet.give_back(worker, now)
            self._throttled(stage, chunk)
            return
        call = self._call(stage, chunk, worker, cold_s)
        heapq.heappush(self._events, (call.end, next(self._numbers), call))
        if stage.schedule.backups:
            self._out.setdefault((stage.number, chunk.id), []).append(call)
        self.starts.append(now)
        stage.calls += 1
        stage.first_s = min(stage.first_s, now)
        if stage.schedule.has_twin(chunk):
            self.tally["backups"] += 1
        elif chunk.attempt > 1:
            self.tally["retries"] += 1

    def _throttled(self, stage: VirtualStage, chunk: Chunk) -> None:
        """Sent back: nothing that needs a new worker goes out for a while."""
        self.party.out -= 1
        self.tally["throttles"] += 1
        self._held_until = self.now + self.model.retry_after_s
        stage.schedule.returned(chunk, self._held_until)

    def _ended(self, call: _Call) -> None:
        """A call has ended, in whatever way."""
        if call.killed:
            return
        self._close(call, call.end)
        stage, chunk = call.stage, call.chunk
        schedule = stage.schedule
        if not schedule.is_live(chunk):
            return  # its backup has answered, or what it backs
        if call.lost is not None:
            self.tally["losses"] += 1
            at = call.lost if self.model.kills else None
            for task in schedule.lost(chunk, at).exhausted:
                self._settled(stage, 1)
                self.failed += 1
                self._released(self.flow.failed(stage.number, task))
            return
        schedule.reported(chunk, call.ran, call.work_s, {}, self.now, call_s=self.model.overhead_s)
        tasks = chunk.tasks[: call.ran]
        self.work_s += call.work_s
        self._settled(stage, len(tasks))
        self._released(self.flow.settled(stage.number, tasks))
        if self.model.kills:
            for twin in list(self._out.get((stage.number, chunk.id), ())):
                twin.killed = True
                self._close(twin, self.now)

    def _close(self, call: _Call, at: float) -> None:
        """The worker is free again, or gone, and the call is paid for."""
        self.party.out -= 1
        if call.stage.schedule.backups:
            key = call.stage.number, call.chunk.id
            self._out[key].remove(call)
            if not self._out[key]:
                del self._out[key]
        self.ends.append(at)
        self.fleet.pay_call(at - call.start, call.chunk.memory)
        if call.lost is not None and not call.killed:
            self.fleet.lose(call.worker, at)
        else:
            self.fleet.give_back(call.worker, at)

    def _settled(self, stage: VirtualStage, tasks: int) -> None:
        self.left -= tasks
        stage.last_s = self.ended = self.now

    def _released(self, released: Released) -> None:
        fallen = len(released.failed) + len(released.skipped)
        self.left -= fallen
        self.failed += fallen

    # -- the compute ---------------------------------------------------------------------------------

    def _call(self, stage: VirtualStage, chunk: Chunk, worker: Worker, cold_s: float) -> _Call:
        """What will become of a call that starts now."""
        model, durations, tasks = self.model, stage.durations, chunk.tasks
        pace = (model.straggle_factor if self._by_chance(model.straggle) else 1.0) / model.speed
        work_s, ran, lost = durations.total(tasks) * pace, len(tasks), None
        budget_s = self._budget_s(stage)
        if work_s > budget_s and ran > 1:
            ran = durations.begun(tasks, budget_s / pace)
            work_s = durations.total(tasks[:ran]) * pace
        lasts_s = work_s + model.overhead_s
        dies_s = self.random.random() * lasts_s if self._by_chance(model.loss) else math.inf
        dies_s = min(dies_s, model.time_limit_s)
        if dies_s < lasts_s:
            at = durations.begun(tasks, max(0.0, dies_s - model.overhead_s) / pace) - 1
            lost, lasts_s = range(at, at + 1), dies_s
        return _Call(stage, chunk, worker, self.now, self.now + cold_s + lasts_s, work_s, ran, lost)

    def _budget_s(self, stage: VirtualStage) -> float:
        """After how long a call begins no further task: it was carved too large, or might be stopped in it."""
        model, policy = self.model, stage.schedule.chunks
        aimed_s = BUDGET_CHUNKS * policy.target_s if policy.fixed is None else math.inf
        return min(aimed_s, model.time_limit_s - model.overhead_s - stage.durations.longest / model.speed)

    def _by_chance(self, chance: float) -> bool:
        return chance > 0 and self.random.random() < chance


def _could_start(schedule: Schedule) -> int:
    """Calls at most that it has work for and may have."""
    return schedule.ready if schedule.limit is None else min(schedule.ready, schedule.limit - schedule.out)
