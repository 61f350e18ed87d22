"""How many tasks a second are planned, released and carved on one core, and in how much memory?"""

from __future__ import annotations

import time
import tracemalloc
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks.peers import System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check
from fnmap.planning.board import Board
from fnmap.planning.flow import Flow
from fnmap.planning.graph import Edge, Graph
from fnmap.planning.policy import ChunkPolicy, Retry
from fnmap.planning.schedule import Chunk, Schedule, State

FAN_IN = 100  # results that go into a group
SLOTS = 1000  # calls that are out at once
CHUNK = 500  # tasks of a call


class Plan(System):
    """A plan of so many tasks. There is no worker: a call that was sent has been answered when its turn comes."""

    tasks: ClassVar[int]

    def settle(self, flow: Flow, stage: int, tasks: Sequence[int]) -> None:
        """What a call has done goes back into the plan."""
        flow.settled(stage, tasks)


class Plan10k(Plan):
    name, tasks = "plan-10k", 10_000


class Plan100k(Plan):
    name, tasks = "plan-100k", 100_000


class Plan1M(Plan):
    name, tasks = "plan-1m", 1_000_000


class Plan10M(Plan):
    name, tasks = "plan-10m", 10_000_000


def measure(system: Plan, *, memory: bool) -> Iterator[Metrics]:
    """Seconds to plan and to drive a plan: a map, a map of its results, and a reduction by groups whose members
    lie anywhere. Or the most memory that it takes, which is measured apart, for that is slow."""
    planned(FAN_IN * 10)  # what is imported late is imported now
    if memory:
        tracemalloc.start()
    begin_s, cpu_s = time.perf_counter(), time.process_time()
    flow = planned(system.tasks)
    plan_s = time.perf_counter() - begin_s
    if memory:
        yield {"planned_b": tracemalloc.get_traced_memory()[0] / system.tasks}
    calls = driven(system, flow)
    if memory:
        yield {"peak_b": tracemalloc.get_traced_memory()[1] / system.tasks}
        return
    used_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - begin_s
    yield {"us": wall_s / system.tasks * 1e6, "m_per_cpu_s": system.tasks / used_s / 1e6, "plan_s": plan_s}
    yield {"drive_s": wall_s - plan_s, "calls": calls}


def planned(tasks: int) -> Flow:
    """The plan and its schedules, its first tasks released."""
    groups = tasks // (2 * FAN_IN + 1)
    mapped = (tasks - groups) // 2
    members = np.random.default_rng(0).permutation(mapped)
    ends = np.arange(1, groups + 1) * mapped // groups
    counts = [mapped, tasks - groups - mapped, groups]
    each = np.minimum(np.arange(counts[1]), mapped - 1)  # the odd task takes the last again
    edges = [Edge(0, 1, each), Edge(1, 2, members, ends)]
    schedules = [Schedule(slots=SLOTS, chunks=ChunkPolicy(fixed=CHUNK), retry=Retry(0)) for _ in counts]
    for schedule, count in zip(schedules, counts, strict=True):
        schedule.add(count, ready=False)
        schedule.close()
    flow = Flow(Graph(counts, edges, ["fail"] * len(counts)), schedules)
    flow.start()
    return flow


def driven(system: Plan, flow: Flow) -> int:
    """Every call in its turn, until all is done; how many there were."""
    board = Board()
    party = board.add([_Stage(number, schedule) for number, schedule in enumerate(flow.schedules)])
    out: deque[tuple[Any, Chunk]] = deque()
    calls, now = 0, 0.0
    while True:
        while party.out < SLOTS and (picked := board.next(now)) is not None:
            out.append(picked[1:])
            calls += 1
        if not out:
            break
        stage, chunk = out.popleft()
        party.out -= 1
        now += 1e-3
        stage.schedule.reported(chunk, len(chunk.tasks), 1.0, {}, now, call_s=0.01)
        system.settle(flow, stage.number, chunk.tasks)
    check(all(s.finished and s.count(State.DONE) == len(s.state) for s in flow.schedules), "some tasks are not done")
    return calls


@dataclass
class _Stage:
    """A stage as the board sees it."""

    number: int
    schedule: Schedule


QUESTION = Question(
    name="plan_scale",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(
        Part(("us", "m_per_cpu_s", "plan_s", "drive_s", "calls"), {"memory": False}),
        Part(("planned_b", "peak_b"), {"memory": True}, once=True),
    ),
    columns=(
        Column("us", "a task", "us"),
        Column("m_per_cpu_s", "M tasks a CPU second", "M"),
        Column("plan_s", "planned"),
        Column("drive_s", "driven"),
        Column("calls", "calls", "count"),
        Column("planned_b", "a task, planned", "bytes"),
        Column("peak_b", "a task, at the most", "bytes"),
    ),
    systems=("plan-10k", "plan-100k", "plan-1m", "plan-10m"),
    toy_systems=("plan-10k",),
    goals=(
        Goal("a million tasks a CPU second, of a plan of a million", "plan-1m", "m_per_cpu_s", 1.0, at_least=True),
        Goal("memory of a task, of a plan of a million", "plan-1m", "peak_b", 200.0),
    ),
    own=(Plan10k, Plan100k, Plan1M, Plan10M),
    reference="plan-1m",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
