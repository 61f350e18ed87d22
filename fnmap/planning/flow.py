"""A plan in motion: the schedules of its stages, fed by what they settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fnmap.planning.graph import Graph, Released
from fnmap.planning.schedule import Schedule, State


class Flow:
    """Releases the tasks of a plan. What is settled in one stage's schedule is told here, and goes into the
    schedules of those that depend on it; what has fallen with a failure is marked there and returned."""

    def __init__(self, graph: Graph, schedules: Sequence[Schedule]) -> None:
        self.graph, self.schedules = graph, list(schedules)

    def start(self) -> Released:
        """Release what is ready, given the states in the schedules."""
        return self._carry_out(self.graph.start([schedule.state for schedule in self.schedules]))

    def settled(self, stage: int, tasks: Sequence[int]) -> Released:
        """These tasks of the stage are done."""
        return self._carry_out(self.graph.settled(stage, tasks))

    def failed(self, stage: int, task: int) -> Released:
        """This task of the stage has failed for good."""
        return self._carry_out(self.graph.failed(stage, task))

    def back(self, lost: Mapping[int, Sequence[int]], unread: tuple[int, Sequence[int]]) -> Released:
        """Results that are lost, by stage, and the tasks of a stage that found that out: all of them wait again."""
        for stage, tasks in lost.items():
            self.schedules[stage].undo(tasks)
        first, (stage, mine) = self.graph.first, unread
        gone = [np.asarray(tasks, np.int64) + first[number] for number, tasks in lost.items()]
        return self._carry_out(
            self.graph.back(
                [schedule.state for schedule in self.schedules],
                np.concatenate([np.zeros(0, np.int64), *gone]),
                np.asarray(mine, np.int64) + first[stage],
            )
        )

    def resume(self) -> Released:
        """Try again what failed, and what fell with it."""
        for schedule in self.schedules:
            schedule.resume(ready=False)
        return self.start()

    def _carry_out(self, released: Released) -> Released:
        for stage, task, _, _ in released.failed:
            self.schedules[stage].fell(task, State.FAILED)
        for stage, task, _, _ in released.skipped:
            self.schedules[stage].fell(task, State.SKIPPED)
        for stage, tasks in released.ready:
            self.schedules[stage].release(tasks)
        return released
