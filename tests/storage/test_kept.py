"""What a worker keeps on its disk of objects that it maps: each is fetched once, and all together have a bound."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from fnmap.storage import cached
from fnmap.storage.cached import KEEP, MOST, Kept
from fnmap.storage.memory import MemoryStore
from fnmap.testing.stores import CountingStore

MB = 1_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where files are kept, at most 3 MB, by a process that has kept none yet."""
    monkeypatch.setenv(KEEP, str(tmp_path / "kept"))
    monkeypatch.setenv(MOST, "3")
    begin(monkeypatch)
    return tmp_path / "kept"


def begin(monkeypatch):
    """As a process that has just begun."""
    monkeypatch.setattr(cached, "_kept", OrderedDict())
    monkeypatch.setattr(cached, "_files", None)


@pytest.fixture
def store():
    store = CountingStore(MemoryStore())
    for at, name in enumerate("abcdef"):
        store.put(name, bytes([at]) * MB)
    return store


def kept_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fetched(store, name):
    """How often the object is asked for when it is mapped now."""
    before = store.calls["get"]
    assert bytes(Kept(store).map(name)[:2]) == bytes(store.store.get(name)[:2])
    return store.calls["get"] - before


def test_an_object_is_fetched_once(folder, store):
    assert [fetched(store, "a") for _ in range(3)] == [1, 0, 0]
    assert kept_bytes(folder) == MB


def test_the_bound_holds_and_what_was_mapped_least_recently_goes(folder, store):
    for name in "abc":
        fetched(store, name)
    fetched(store, "a")
    for name in "de":
        assert fetched(store, name) == 1
        assert kept_bytes(folder) == 3 * MB
    assert [fetched(store, name) for name in "dea"] == [0, 0, 0]
    assert fetched(store, "b") == 1


def test_what_is_mapped_stays_though_its_file_goes(folder, store):
    view = Kept(store).map("a")
    for name in "bcde":
        fetched(store, name)
    assert fetched(store, "a") == 1
    assert bytes(view) == bytes(MB)


def test_an_object_over_the_bound_is_not_kept_and_throws_nothing_out(folder, store):
    store.put("large", bytes(4 * MB))
    fetched(store, "a")
    assert [fetched(store, "large") for _ in range(2)] == [1, 1]
    assert kept_bytes(folder) == MB
    assert fetched(store, "a") == 0


def test_the_next_worker_of_the_machine_finds_what_is_kept_and_keeps_to_the_bound(folder, store, monkeypatch):
    for name in "abc":
        fetched(store, name)
    begin(monkeypatch)
    assert [fetched(store, name) for name in "abc"] == [0, 0, 0]
    assert fetched(store, "d") == 1
    assert kept_bytes(folder) == 3 * MB


def test_a_file_that_another_worker_has_removed_is_fetched_again(folder, store):
    fetched(store, "a")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()
    assert fetched(store, "a") == 1


def test_a_bound_that_is_no_number_is_the_usual_one(folder, store, monkeypatch):
    monkeypatch.setenv(MOST, "much")
    for name in "abcdef":
        fetched(store, name)
    assert kept_bytes(folder) == 6 * MB
