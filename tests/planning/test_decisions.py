"""Single decisions of the scheduler that a simulation of it has shown to matter."""

from __future__ import annotations

import numpy as np

from fnmap.planning.flow import Flow
from fnmap.planning.graph import Edge, Graph
from fnmap.planning.policy import ChunkPolicy, Retry
from fnmap.planning.schedule import OLDEST, Schedule

SINGLE = ChunkPolicy(fixed=1)


def test_a_retry_that_is_due_does_not_wake_a_driver_who_may_send_nothing():
    schedule = Schedule(slots=4, chunks=SINGLE, retry=Retry(1, backoff_s=1.0), limit=1)
    schedule.add(2)
    first = schedule.next(0.0)
    schedule.reported(first, 1, 0.1, {0: True}, 0.0)
    second = schedule.next(0.0)
    assert (schedule.next(5.0), schedule.wake_at()) == (None, None)
    schedule.reported(second, 1, 0.1, {}, 5.0)
    assert schedule.next(5.0).attempt == 2


def test_with_costs_what_is_released_bit_by_bit_travels_in_no_smaller_chunks_than_the_rest_calls_for():
    schedule = Schedule(slots=1, chunks=ChunkPolicy(), retry=Retry(0), costs=[1.0] * 1600)
    schedule.add(1600, ready=False)
    schedule.release(range(10))
    assert len(schedule.next(0.0).tasks) == 10


def test_stragglers_get_backups_though_many_older_ones_have_theirs():
    most = 2 * OLDEST
    schedule = Schedule(slots=100, chunks=SINGLE, retry=Retry(0), backups=True)
    schedule.add(4 * most)
    chunks = [schedule.next(0.0) for _ in range(4 * most)]
    for chunk in chunks[most:]:
        schedule.reported(chunk, 1, 1.0, {}, 1.0)
    backed = [schedule.next(100.0) for _ in range(most)]
    assert [chunk.id for chunk in backed] == [chunk.id for chunk in chunks[:most]]
    assert (schedule.next(100.0), schedule.wake_at()) == (None, None)


def test_what_runs_is_not_released_again_when_a_plan_is_taken_up_once_more():
    edge = Edge(0, 1, np.arange(3))
    schedules = [Schedule(slots=4, chunks=SINGLE, retry=Retry(0)) for _ in range(2)]
    for schedule in schedules:
        schedule.add(3, ready=False)
    flow = Flow(Graph([3, 3], [edge], ["fail", "fail"]), schedules)
    flow.start()
    running = schedules[0].next(0.0)
    flow.resume()
    again = [schedules[0].next(0.0).tasks for _ in range(2)]
    assert [[*running.tasks], *map(list, again)] == [[0], [1], [2]]
    assert schedules[0].next(0.0) is None


def test_a_way_that_is_long_for_all_makes_no_straggler():
    schedule = Schedule(slots=100, chunks=SINGLE, retry=Retry(0), backups=True)
    schedule.add(40)
    chunks = [schedule.next(0.0) for _ in range(40)]
    for chunk in chunks[1:]:
        schedule.reported(chunk, 1, 0.001, {}, 5.0)  # a task of a millisecond, five seconds after it was sent
    assert schedule.next(10.0) is None
    assert schedule.next(3 * 5.1).id == chunks[0].id
