"""Manifests of cached results: what was written is found, with few reads, whoever else writes or merges."""

from __future__ import annotations

import pickletools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnmap import cache
from fnmap.cache import compact, lookup, write_manifest
from fnmap.format import keys
from fnmap.format.task_keys import item_keys
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore
from fnmap.testing import CountingStore

IDENTITY = "0123456789abcdef" * 2


@pytest.fixture(params=["memory", "files"])
def store(request, tmp_path):
    return CountingStore(MemoryStore() if request.param == "memory" else FileStore(tmp_path))


def own(items):
    return item_keys(IDENTITY, list(items), "item")


def write(store, run, items, per_part=1000):
    """As if a run had committed these items in parts of so many."""
    items = list(items)
    count = -(-len(items) // per_part)
    parts = [keys.part(run, 0, chunk) for chunk in range(count)]
    for part in parts:
        store.create(part, b"")
    places = np.arange(len(items))
    write_manifest(store, IDENTITY, run, own(items), parts, places // per_part, places % per_part)
    return parts


def found(store, items):
    """Where each item's result is; None where there is none."""
    answer = lookup(store, IDENTITY, own(items))
    places = zip(answer.part_of, answer.positions, strict=True)
    return [(answer.parts[part], int(at)) if part >= 0 else None for part, at in places]


def manifests(store):
    return list(store.list("cache/"))


def test_a_result_is_found_where_it_was_written(store):
    first, second = write(store, "one", range(1500))
    assert found(store, [1499, 7, -1, 7, "x"]) == [(second, 499), (first, 7), None, (first, 7), None]


def test_nothing_is_found_where_nothing_is(store):
    assert found(store, [1, 2]) == [None, None]
    write(store, "one", [])
    assert found(store, []) == []
    assert manifests(store) == []


def test_functions_do_not_see_each_other_s_results(store):
    write(store, "one", [1])
    assert lookup(store, "f" * 32, own([1])).part_of.tolist() == [-1]


@pytest.mark.parametrize(("size", "objects"), [(cache.FEW - 1, 1), (cache.FEW, 16), (100_000, 16)])
def test_reads_do_not_grow_with_the_tasks(store, size, objects):
    write(store, "one", range(size))
    assert len(manifests(store)) == objects
    store.calls.clear()
    assert None not in found(store, range(size))
    assert store.calls["get"] == objects
    assert store.calls["list"] <= 16 * 2 + 16  # the manifests, till two lists agree, and the parts of the run


def test_what_is_found_in_newer_runs_is_not_looked_up_in_older(store):
    for run in ("one", "two", "three"):
        write(store, run, range(10_000))
    store.calls.clear()
    assert all(place[0].split("/")[2] == "three" for place in found(store, range(10_000)))
    assert store.calls["get"] == 16


def test_the_newest_result_counts(store):
    write(store, "one", range(10))
    (newer,) = write(store, "two", range(5, 15))
    assert found(store, [5]) == [(newer, 0)]
    compact(store, IDENTITY)
    assert found(store, [5]) == [(newer, 0)]


def test_a_result_whose_part_is_gone_is_not_found_and_an_older_one_is(store):
    (older,) = write(store, "one", range(10))
    (newer,) = write(store, "two", range(5, 15))
    store.delete([newer])
    assert found(store, [4, 5, 12]) == [(older, 4), (older, 5), None]
    compact(store, IDENTITY)
    assert found(store, [4, 5, 12]) == [(older, 4), (older, 5), None]


def test_keys_that_share_a_half_are_told_apart(store):
    task_keys = np.array([[7, 1], [7, 2], [7, 3], [8, 1], [(1 << 64) - 1, 5]], np.uint64)
    part = keys.part("one", 0, 0)
    store.create(part, b"")
    write_manifest(store, IDENTITY, "one", task_keys[[0, 1, 3, 4]], [part], [0] * 4, [0, 1, 3, 4])
    assert lookup(store, IDENTITY, task_keys).positions.tolist() == [0, 1, -1, 3, 4]


def test_merging_leaves_few_objects_and_loses_nothing(store):
    for run in range(20):
        write(store, f"run.{run}", range(run * 300, run * 300 + 400))
    before = found(store, range(7000))
    assert compact(store, IDENTITY) == 20
    assert len(manifests(store)) == 16
    assert found(store, range(7000)) == before
    assert compact(store, IDENTITY) == 0


def test_small_manifests_merge_into_one(store):
    for run in range(20):
        write(store, f"run{run}", [run])
    compact(store, IDENTITY)
    assert len(manifests(store)) == 1
    assert None not in found(store, range(20))


class Merging(MemoryStore):
    """A store in which another process merges the manifests just before some reads."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def get(self, key):
        if self.times and key.startswith("cache/"):
            self.times -= 1
            write(self, f"late{self.times}", [f"late{self.times}"])
            times, self.times = self.times, 0
            compact(self, IDENTITY)
            self.times = times
        return super().get(key)


@pytest.mark.parametrize("times", [1, 3, 5])
def test_a_reader_finds_everything_while_others_merge(times, monkeypatch):
    monkeypatch.setattr(cache, "_at_once", lambda do, names: [do(name) for name in names])
    store = Merging(0)
    for run in ("one", "two"):
        write(store, run, range(10 if run == "one" else 20))
    store.times = times
    assert None not in found(store, range(20))


def test_merging_while_another_merges_loses_nothing(monkeypatch):
    monkeypatch.setattr(cache, "_at_once", lambda do, names: [do(name) for name in names])
    store = Merging(0)
    for run in ("one", "two"):
        write(store, run, [run])
    store.times = 1
    compact(store, IDENTITY)
    store.times = 0
    assert None not in found(store, ["one", "two", "late0"])


def test_threads_that_write_read_and_merge_lose_nothing(store):
    failed = []

    def work(name):
        for turn in range(8):
            write(store, f"{name}{turn}", [(name, n) for n in range(turn + 1)])
            if None in found(store, [(name, n) for n in range(turn + 1)]):
                failed.append((name, turn))
            compact(store, IDENTITY)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert None not in found(store, [(name, n) for name in "abc" for n in range(8)])


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-30] + bytes(30), lambda b: b"{}\n"])
def test_a_damaged_manifest_is_a_miss_and_stays(store, damage):
    write(store, "one", [1])
    (name,) = manifests(store)
    store.put(name, damage(store.get(name)))
    write(store, "two", [2])
    compact(store, IDENTITY)
    assert found(store, [1])[0] is None
    assert found(store, [2])[0] is not None
    assert name in manifests(store)


def test_a_manifest_holds_no_pickle(store):
    write(store, "one", range(10))
    (name,) = manifests(store)
    with pytest.raises(ValueError, match="opcode"):
        list(pickletools.genops(store.get(name)))


RUNS = st.lists(
    st.tuples(st.lists(st.integers(0, 30), unique=True, min_size=1), st.booleans(), st.booleans()), max_size=6
)


@given(RUNS)
@settings(max_examples=30, deadline=None)
def test_the_cache_answers_as_a_dict_would(runs):
    store, layers = MemoryStore(), []
    for number, (items, merge, expire) in enumerate(runs):
        parts = write(store, f"run{number}", items, per_part=4)
        layers.append({item: (parts[at // 4], at % 4) for at, item in enumerate(items)})
        if expire:
            store.delete(parts[:1])
            layers = [{k: v for k, v in layer.items() if v[0] != parts[0]} for layer in layers]
        if merge:
            compact(store, IDENTITY)
            layers = [{item: place for layer in layers for item, place in layer.items()}]
    model = {item: place for layer in layers for item, place in layer.items()}
    assert found(store, range(32)) == [model.get(item) for item in range(32)]
