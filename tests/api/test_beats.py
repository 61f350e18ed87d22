"""A driver says that it lives, however busy it is."""

from __future__ import annotations

import threading

import pytest
from gates import say_at, wait_at

import fnmap


@pytest.fixture
def beats(monkeypatch, begun):
    """A pipe that gets a line each time that a driver says that it lives, which it does all the time."""
    monkeypatch.setattr("fnmap.durable.BEAT_S", 0.01)
    monkeypatch.setattr("fnmap.driver.BEAT_S", 0.01)
    monkeypatch.setattr("fnmap.durable.say_alive", lambda *_: say_at(begun.path))
    return begun


def test_a_driver_whose_workers_are_all_busy_says_that_it_lives(beats, gate, tmp_path):
    pipe = gate.path
    with fnmap.Session(workers=1, store=tmp_path / "store") as session:
        run = session.map(lambda _: wait_at(pipe), range(6), name="n", chunksize=1)
        beats.heard(3)
        assert run.status.waiting > 0
        gate.open(6)


def test_a_driver_that_runs_its_tasks_itself_says_that_it_lives_meanwhile(beats, tmp_path):
    pipe = beats.path

    def task(_):
        for _ in range(3):
            wait_at(pipe)
        return threading.get_ident()

    with fnmap.Session(on="inline", store=tmp_path / "store") as session:
        assert list(session.map(task, range(2), name="n")) == [threading.get_ident()] * 2
