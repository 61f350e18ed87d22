"""Tasks by cost, the greatest first, in chunks that do not cost too much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnmap.planning.policy import ChunkPolicy, Retry
from fnmap.planning.queue import LongestFirst
from fnmap.planning.schedule import Schedule

COSTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60)


@given(COSTS, st.floats(1e-3, 1e4), st.integers(1, 20))
def test_each_task_is_taken_once_and_no_chunk_of_several_costs_more_than_its_share(costs, share, most):
    queue = LongestFirst(np.array(costs))
    queue.push(range(len(costs)))
    taken = []
    while queue.count:
        chunk = list(queue.take(most, share))
        assert 1 <= len(chunk) <= most
        assert len(chunk) == 1 or sum(costs[task] for task in chunk) <= share * (1 + 1e-9)
        taken += chunk
    assert sorted(taken) == list(range(len(costs)))


def test_a_chunk_has_tasks_of_several_classes_of_cost():
    queue = LongestFirst(np.array([8.0, 4.0, 2.0, 1.0]))
    queue.push(range(4))
    assert list(queue.take(4, 14.5)) == [0, 1, 2]


@pytest.mark.parametrize(("seconds_each", "tasks"), [(0.001, 25), (0.05, 5), (0.5, 1)])
def test_a_chunk_of_known_cost_takes_no_longer_than_is_aimed_at(seconds_each, tasks):
    """25 of 200 are a quarter of a slot's share, if they take no longer. Costs are told apart to a twelfth."""
    schedule = Schedule(slots=2, chunks=ChunkPolicy(target_s=0.25), retry=Retry(0), costs=[1.0] * 201)
    schedule.add(201)
    first = schedule.next(0.0)
    schedule.reported(first, 1, seconds_each, {}, 0.0, call_s=0.0)
    assert 0.8 * tasks <= len(schedule.next(0.0).tasks) <= tasks
