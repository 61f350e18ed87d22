"""Results that are lost: what is made anew, what waits for that, and what falls if it cannot be made."""

from __future__ import annotations

import numpy as np
import pytest

from fnmap.planning.flow import Flow
from fnmap.planning.graph import Edge, Graph
from fnmap.planning.policy import ChunkPolicy, Retry
from fnmap.planning.schedule import Schedule, State

DONE, FAILED, WAITING = State.DONE, State.FAILED, State.WAITING


class Plan:
    """Three stages of two tasks each, every task with the same of the stage before; some have run."""

    def __init__(self, rule="fail", stages=3):
        edges = [Edge(at, at + 1, np.arange(2)) for at in range(stages - 1)]
        self.schedules = [Schedule(slots=1, chunks=ChunkPolicy(fixed=1), retry=Retry(0)) for _ in range(stages)]
        for schedule in self.schedules:
            schedule.add(2, ready=False)
            schedule.close()
        self.flow = Flow(Graph([2] * stages, edges, [rule] * stages), self.schedules)
        self.flow.start()

    def run(self, stage, *, unread=False, failed=False):
        """Run the next task of a stage."""
        chunk = self.schedules[stage].next(0.0)
        if chunk is None:
            return None
        (task,) = chunk.tasks
        self.schedules[stage].reported(chunk, 1, 0.1, {0: False} if failed else {}, 0.0, unread=[0] if unread else [])
        if failed:
            self.flow.failed(stage, task)
        elif not unread:
            self.flow.settled(stage, [task])
        return task

    def states(self):
        return [list(map(State, schedule.state)) for schedule in self.schedules]


def test_a_task_that_found_its_input_lost_runs_after_that_is_made_anew():
    plan = Plan()
    assert [plan.run(0), plan.run(0)] == [0, 1]
    assert plan.run(1, unread=True) == 0
    plan.flow.back({0: [0]}, (1, [0]))
    assert [plan.run(1), plan.run(1)] == [1, None]
    assert [plan.run(0), plan.run(1)] == [0, 0]
    assert plan.states()[:2] == [[DONE] * 2] * 2


def test_a_task_whose_input_is_there_after_all_runs_at_once():
    plan = Plan()
    plan.run(0), plan.run(1, unread=True)
    plan.flow.back({}, (1, [0]))
    assert plan.run(1) == 0


def test_what_was_made_of_a_lost_result_stays():
    plan = Plan()
    for stage in (0, 0, 1, 1):
        plan.run(stage)
    plan.run(2, unread=True)
    plan.flow.back({1: [0], 0: [1]}, (2, [0]))
    assert plan.states() == [[DONE, WAITING], [WAITING, DONE], [WAITING] * 2]
    ran = [(stage, task) for stage in (2, 1, 0, 2) for task in (plan.run(stage), plan.run(stage)) if task is not None]
    assert ran == [(2, 1), (1, 0), (0, 1), (2, 0)]
    assert plan.states() == [[DONE] * 2] * 3


@pytest.mark.parametrize(("rule", "fate"), [("fail", FAILED), ("skip", State.SKIPPED), ("pass", DONE)])
def test_who_waits_for_what_cannot_be_made_anew_is_told_so_once(rule, fate):
    plan = Plan(rule, stages=2)
    plan.run(0), plan.run(0), plan.run(1, unread=True)
    plan.flow.back({0: [0]}, (1, [0]))
    assert plan.run(0, failed=True) == 0
    assert plan.schedules[1].state[0] == (WAITING if rule == "pass" else fate)
    assert [plan.run(1), plan.run(1), plan.run(1)] == ([1, 0, None] if rule == "pass" else [1, None, None])
    assert plan.schedules[1].state[0] == fate
    assert all(schedule.finished for schedule in plan.schedules)


def test_a_lost_result_whose_own_input_has_failed_meanwhile_falls_with_it():
    plan = Plan()
    plan.run(0), plan.run(0), plan.run(1), plan.run(1), plan.run(2, unread=True)
    plan.flow.back({0: [0]}, (2, [0]))  # it was not that one
    plan.run(0, failed=True)
    assert plan.run(2) == 1
    assert plan.run(2, unread=True) == 0
    plan.flow.back({1: [0]}, (2, [0]))
    assert plan.states() == [[FAILED, DONE], [FAILED, DONE], [FAILED, DONE]]
