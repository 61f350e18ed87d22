"""Runs whose keys are spread over 256 partitions of a bucket: all that finds parts finds them there too."""

from __future__ import annotations

import gc
import json
import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plan import make_plan

import fnmap
from fnmap.build import part_digits
from fnmap.collect import collect
from fnmap.compute.base import Limits
from fnmap.errors import UsageError
from fnmap.format import keys
from fnmap.format.payload import pack, unpack
from fnmap.lease import DELETED, claim, committed, last_driver, read_head, read_plan
from fnmap.options import MapOptions
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore
from fnmap.testing.stores import CountingStore

PARTITIONS = 256


def half_broken(x):
    if x % 2 and "MENDED" not in os.environ:
        raise ValueError(x)
    return x * x


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def wide(store):
    with fnmap.Session(on="inline", store=store, spread=2) as session:
        yield session


@pytest.fixture
def other(store):
    """A session that was told nothing of how keys are spread."""
    with fnmap.Session(on="inline", store=store) as session:
        yield session


def folders(store, digits=2):
    """The hex digits that parts lie under, each of so many."""
    found = {key.split("/")[1] for key in store.list("part/")}
    assert {len(folder) for folder in found} <= {digits}
    return found


# -- what finds parts ----------------------------------------------------------------------------------


def test_a_map_is_spread_over_two_digits_and_found_by_those_who_were_not_told(wide, other, store):
    assert list(wide.map(abs, range(60), name="n", chunksize=1)) == list(range(60))
    assert len(folders(store)) > 16
    run = other.attach("n")
    assert (run.status.state, list(run)) == ("done", list(range(60)))
    assert run.dataset().count_rows() == 60


def test_a_plan_is_spread_over_two_digits_and_found_by_those_who_were_not_told(wide, other, store):
    assert wide.run_plan(make_plan(), name="n").result() == 285
    assert len(folders(store)) > 1
    assert other.attach("n").result() == 285
    before = committed(store, "n")
    assert other.run_plan(make_plan(), name="n").result() == 285
    assert committed(store, "n") == before


def test_a_plan_without_a_name_leaves_nothing_behind(wide):
    run = wide.run_plan(make_plan())
    assert run.result() == 285
    assert folders(wide.scratch)
    del run
    gc.collect()
    assert list(wide.scratch.list("part/")) == []


def test_a_run_is_resumed_with_the_digits_that_it_began_with(wide, other, store, monkeypatch):
    run = wide.map(half_broken, range(40), name="n", chunksize=1, errors="return")
    assert run.status.failed or run.wait()
    first = set(committed(store, "n"))
    monkeypatch.setenv("MENDED", "")
    again = other.map(half_broken, range(40), name="n", chunksize=1)  # its session would have taken one digit
    assert list(again) == [x * x for x in range(40)]
    assert first < set(committed(store, "n"))
    assert len(folders(store)) > 16


def test_who_attaches_takes_a_run_over_with_its_digits(wide, other, store, monkeypatch):
    wide.map(half_broken, range(20), name="n", chunksize=1, errors="return").wait()
    monkeypatch.setenv("MENDED", "")
    run = other.attach("n")
    assert list(run.retry()) == [x * x for x in range(20)]
    assert folders(store)


def test_who_attaches_to_a_plan_takes_it_over_with_its_digits(wide, other, store, monkeypatch):
    with fnmap.plan("p") as p:
        p.reduce(sum, p.map(half_broken, range(20), chunksize=1))
    wide.run_plan(p, name="n", errors="return").wait()
    monkeypatch.setenv("MENDED", "")
    assert other.attach("n").retry().result() == sum(x * x for x in range(20))
    assert folders(store)


def test_a_claimer_adopts_what_is_spread_over_two_digits(wide, store):
    wide.map(abs, range(20), name="n", chunksize=1).wait()
    plan = {**read_plan(store, "n"), "owner": "elsewhere.1.1"}
    before = committed(store, "n")
    assert claim(store, "n", plan, silent=last_driver(store, "n", plan)) == 1
    assert committed(store, "n") == before


def test_cached_results_are_found_wherever_they_are_spread(wide, other, store):
    wide.map(abs, range(30), cache=True, chunksize=1).wait()
    assert len(folders(store)) > 8
    run = other.map(abs, range(30), cache=True)
    assert list(run) == list(range(30))
    assert run.report()["cached"] == 30


def test_a_run_in_another_process_is_followed(gate, begun, start, tmp_path):
    script = """
import sys, fnmap
store, gate, begun = sys.argv[1:]
def slow(x):
    with open(begun, "wb", buffering=0) as pipe: pipe.write(b"begun\\n")
    with open(gate, "rb", buffering=0) as pipe: pipe.read(1)
    return x
with fnmap.Session(workers=2, store=store, spread=2) as session:
    print(sum(session.map(slow, range(4), name="n", chunksize=1)))
"""
    driver = start(script, tmp_path / "store", gate.path, begun.path)
    begun.heard(2)
    with fnmap.Session(on="inline", store=tmp_path / "store") as session:
        run = session.attach("n")
        assert run.status.state == "running"
        gate.open(4)
        assert run.result(30) == [0, 1, 2, 3]
    driver.wait()


# -- deleting ------------------------------------------------------------------------------------------


def test_a_collection_finds_all_parts_and_spares_those_of_others(wide, other, store):
    wide.map(abs, range(30), name="old", chunksize=1).wait()
    other.map(abs, range(30), name="narrow", chunksize=1).wait()
    parts = committed(store, "old")
    assert len(parts) == 30
    report = collect(store, 0, dry_run=True)
    assert (report.runs, report.parts) == (("narrow", "old"), 60)
    collect(store, 0)
    assert list(store.list("part/")) == []


def test_late_parts_of_a_deleted_run_are_found_though_the_next_of_its_name_is_spread_otherwise(wide, other, store):
    wide.map(abs, range(3), name="n").wait()
    (body, *_) = [store.get(key) for key in committed(store, "n")]
    collect(store, 0)
    head = read_head(store, "n")
    assert (head["form"], keys.digits_of(head)) == (DELETED, (2,))
    zombie = keys.part("n", 0, 7, digits=2)
    store.create(zombie, body)
    assert other.map(abs, [-5], name="n").result() == [5]
    assert zombie not in committed(store, "n")
    assert keys.digits_of(read_head(store, "n")) == (2, 1)
    assert other.attach("n").result() == [5]
    collect(store, 0)
    assert list(store.list("part/")) == []


def test_a_run_of_an_older_fnmap_has_one_digit(other, wide, store):
    other.map(abs, range(5), name="n", chunksize=1).wait()
    frames = [bytes(frame) for frame in unpack(store.get(keys.plan("n")))]
    head = json.loads(frames[0])
    assert head.pop("digits") == [1]
    store.put(keys.plan("n"), b"".join(pack([json.dumps(head).encode(), *frames[1:]])))
    assert list(wide.attach("n")) == list(range(5))
    assert list(wide.map(abs, range(5), name="n", chunksize=1)) == list(range(5))
    assert len(committed(store, "n")) == 5
    assert folders(store, digits=1)
    assert collect(store, 0).parts == 5


# -- how many ------------------------------------------------------------------------------------------


@given(
    run=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True),
    stage=st.integers(0, 9),
    driver=st.integers(0, 99),
    digits=st.integers(1, 2),
)
def test_consecutive_chunks_are_spread_evenly(run, stage, driver, digits):
    each = 64  # chunks for a prefix, on the average
    prefixes = set(keys.all_part_prefixes(run, digits))
    parts = [keys.part(run, driver, chunk, stage, digits) for chunk in range(each * 16**digits)]
    counts = Counter(part.rpartition("/")[0] + "/" for part in parts)
    assert set(counts) <= prefixes
    assert len(prefixes) == 16**digits
    assert max(counts.values()) <= 2 * each  # no partition has twice its share
    assert {keys.run_of_part(part) for part in parts[:5]} == {run}
    assert keys.place_of_part(parts[3]) == (stage, driver, 3)


class FarStore(MemoryStore):
    at_once = 32


class OfSize:
    """A session that has so many slots."""

    def __init__(self, slots, chunk_s=10.0, spread=None):
        self.spread = spread
        self.compute = type("Compute", (), {"limits": Limits(slots=slots, chunk_s=chunk_s)})


@pytest.mark.parametrize(
    ("slots", "tasks", "chunksize", "digits"),
    [
        (1000, 10**8, "auto", 1),
        (1000, 10**8, 1, 1),  # 10,000 calls a second
        (10_000, 10**8, "auto", 1),  # calls grow to ten seconds
        (10_000, 10**8, 1, 2),  # 100,000 calls a second
        (10_000, 50_000, 1, 1),  # which it has not
        (10_000, 10**8, 5000, 1),
        (10_000, None, 1, 2),
        (200_000, 10**8, 1, 3),
        (10**7, 10**9, 1, 3),  # more than there are
    ],
)
def test_a_run_takes_as_many_digits_as_its_busiest_second_may_need(slots, tasks, chunksize, digits):
    stage = MapOptions(chunksize=chunksize), tasks
    assert part_digits(OfSize(slots), FarStore(), [stage]) == digits


def test_stages_that_read_what_others_commit_count_twice():
    stages = [(MapOptions(chunksize=1), 10**6)]
    assert part_digits(OfSize(4000), FarStore(), stages) == 1
    assert part_digits(OfSize(4000), FarStore(), stages, reads=True) == 2


def test_a_disk_has_no_partitions(tmp_path):
    stages = [(MapOptions(chunksize=1), 10**8)]
    assert part_digits(OfSize(10**6), FileStore(tmp_path), stages) == 1
    assert part_digits(OfSize(1, spread=3), FileStore(tmp_path), stages) == 3


@pytest.mark.parametrize("spread", [0, 4, 1.5, "2", True])
def test_a_spread_that_cannot_be_is_named(spread):
    with pytest.raises(UsageError, match=r"spread must be None or an int from 1 to 3.*got"):
        fnmap.Session(on="inline", spread=spread)


def test_a_reader_lists_each_prefix_once(wide, store):
    wide.map(abs, range(5), name="n").wait()
    counting = CountingStore(store)
    committed(counting, "n", 2)
    assert counting.calls["list"] == PARTITIONS + 2  # and the drivers before and after
