"""The promise, under whatever can go wrong: thousands of seeded scenarios in virtual time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import scenario

from fnmap import durable, lease
from fnmap.format import parts
from fnmap.ledger import Ledger
from fnmap.planning.graph import Graph
from fnmap.stage import Stage

SEEDS, AT_ONCE = 2000, 2


def test_the_promise_holds_for_two_thousand_seeds():
    step = SEEDS // AT_ONCE
    players = [
        subprocess.Popen(
            [sys.executable, str(Path(scenario.__file__)), str(first), str(first + step)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(0, SEEDS, step)
    ]
    said = [player.communicate()[0] for player in players]
    assert [player.returncode for player in players] == [0] * AT_ONCE, "".join(said)


def broken(first: int, last: int) -> bool:
    """Does any of these seeds notice?"""
    for seed in range(first, last):
        try:
            scenario.play(seed)
        except Exception:
            return True
    return False


def test_it_is_noticed_when_a_lost_chunk_is_not_sealed(monkeypatch):
    monkeypatch.setattr(durable.Durable, "seal", lambda *_: None)
    assert broken(0, 60)


def test_it_is_noticed_when_a_commit_is_not_exclusive(monkeypatch):
    monkeypatch.setattr(parts, "close_off", lambda *_: True)
    assert broken(0, 60)


def test_it_is_noticed_when_what_zombies_commit_counts(monkeypatch):
    monkeypatch.setattr(lease, "_counts", lambda *_: True)
    assert broken(0, 300)


def test_it_is_noticed_when_a_result_is_dropped(monkeypatch):
    stored = durable.stored_parts
    monkeypatch.setattr("fnmap.plan_start.stored_parts", lambda *a: list(stored(*a))[1:])
    assert broken(0, 60)


def test_it_is_noticed_when_what_was_lost_is_not_made_anew(monkeypatch):
    monkeypatch.setattr(Ledger, "lose", lambda *_: [])
    assert broken(0, 60)


def test_it_is_noticed_when_tasks_do_not_wait_for_what_is_made_anew(monkeypatch):
    back = Graph.back
    monkeypatch.setattr(Graph, "back", lambda self, states, lost, unread: back(self, states, lost, unread[:0]))
    assert broken(30, 40)


def test_it_is_noticed_when_a_run_goes_on_after_a_full_store_as_if_nothing_had_been(monkeypatch):
    monkeypatch.setattr(Stage, "reopen", lambda self: self._doubtful.clear())
    assert broken(40, 160)


def test_it_is_noticed_when_the_place_of_a_lost_part_is_left_open(monkeypatch):
    is_gone = parts.is_gone
    monkeypatch.setattr(parts, "is_gone", lambda store, key, **_: is_gone(store, key, seal=False))
    assert broken(940, 960)


@pytest.mark.parametrize("seed", [202, 262, 271, 731])
def test_a_seed_that_once_broke_it_is_kept(seed):
    scenario.play(seed)
