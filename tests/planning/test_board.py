"""Whose turn it is: priority, fair shares, and what is nearly done first."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnmap.planning.board import Board
from fnmap.planning.policy import ChunkPolicy, Retry
from fnmap.planning.schedule import Schedule


@dataclass
class Stage:
    name: str
    schedule: Schedule


def stage(name: str, tasks: int, **options) -> Stage:
    schedule = Schedule(slots=8, chunks=ChunkPolicy(fixed=1), retry=options.pop("retry", Retry(0)), **options)
    schedule.add(tasks)
    schedule.close()
    return Stage(name, schedule)


def picked(board: Board, times: int) -> list[str]:
    return [found[1].name for _ in range(times) if (found := board.next(0.0))]


def test_runs_take_turns():
    board = Board()
    board.add([stage("a", 9)])
    board.add([stage("b", 9)])
    assert picked(board, 4) == ["a", "b", "a", "b"]


def test_the_run_with_fewer_calls_out_comes_first():
    board = Board()
    long = board.add([stage("a", 9)])
    picked(board, 4)
    board.add([stage("b", 9)])
    assert picked(board, 4) == ["b"] * 4
    long.out -= 4
    assert picked(board, 2) == ["a", "a"]


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=5))
def test_no_run_waits_for_one_of_lower_priority(priorities):
    board = Board()
    for number, priority in enumerate(priorities):
        board.add([stage(str(number), 2)], priority)
    order = [priorities[int(name)] for name in picked(board, 2 * len(priorities))]
    assert order == sorted(priorities * 2, reverse=True)


def test_what_is_downstream_goes_first():
    board = Board()
    board.add([stage("first", 2), stage("second", 2)])
    assert picked(board, 4) == ["second", "second", "first", "first"]


def test_a_stage_has_no_more_calls_out_than_its_limit():
    board = Board()
    board.add([stage("a", 9, limit=2)])
    assert picked(board, 9) == ["a", "a"]


def test_a_retry_gets_more_memory_each_time():
    schedule = stage("a", 1, retry=Retry(2, memory_factor=2.0)).schedule
    seen = []
    for _ in range(3):
        chunk = schedule.next(1e9)
        seen.append(chunk.memory)
        schedule.reported(chunk, 1, 0.1, {0: True}, 0.0)
    assert seen == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("factor", "out_of_memory", "memory"),
    [(None, True, [1, 2, 4, 8]), (None, False, [1] * 4), (3.0, True, [1, 3, 9, 27]), (1.0, True, [1] * 4)],
)
def test_what_was_out_of_memory_gets_more_of_it_unless_retry_says_otherwise(factor, out_of_memory, memory):
    schedule = stage("a", 1, retry=Retry(0, memory_factor=factor)).schedule
    seen = []
    while chunk := schedule.next(1e9):
        seen.append(chunk.memory)
        schedule.lost(chunk, out_of_memory=out_of_memory)
    assert seen == memory


def test_a_lost_chunk_is_split_before_any_of_it_gets_more_memory():
    schedule = stage("a", 4, retry=Retry(0)).schedule
    schedule.chunks = ChunkPolicy(fixed=4)
    schedule.lost(schedule.next(0.0), out_of_memory=True)
    assert [schedule.next(0.0).memory for _ in range(4)] == [1.0] * 4
