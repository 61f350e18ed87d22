"""A named run is whole for those who attach to it, though some of its results are of earlier runs."""

from __future__ import annotations

import pytest
from small_plan import make_plan, square

import fnmap
from fnmap.format import keys
from fnmap.format.manifest import decode
from fnmap.lease import claim, committed, committed_hits, read_plan
from fnmap.storage.files import FileStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def open_session(path):
    return fnmap.Session(on="inline", store=path)


def as_elsewhere(path, name):
    """The run as a session sees it that does not drive it."""
    with open_session(path) as session:
        run = session.attach(name)
        return run.status.state, run.result() if hasattr(run, "plan") else list(run)


def test_a_cached_map_under_a_second_name_is_whole_elsewhere(path):
    with open_session(path) as session:
        session.map(square, range(8), cache=True, name="first", chunksize=3).wait()
        session.map(square, range(6, 0, -1), cache=True, name="second").wait()
    assert not committed(FileStore(path), "second")
    assert as_elsewhere(path, "second") == ("done", [36, 25, 16, 9, 4, 1])


def test_a_cached_plan_under_a_second_name_is_whole_elsewhere(path):
    with open_session(path) as session:
        session.run_plan(make_plan(8), cache=True, name="first").wait()
        session.run_plan(make_plan(10), cache=True, name="second").wait()
    assert committed_hits(FileStore(path), "second")
    assert as_elsewhere(path, "second") == ("done", 285)


def test_the_same_map_without_the_cache_has_what_was_found_before(path):
    with open_session(path) as session:
        session.map(square, range(6), cache=True).wait()
        session.map(square, range(6), cache=True, name="n").wait()
        run = session.map(square, range(6), name="n")
        assert (list(run), run.report()["cached"]) == ([0, 1, 4, 9, 16, 25], 6)
        assert not committed(session.store, "n")


def test_the_same_plan_without_the_cache_has_what_was_found_before(path):
    with open_session(path) as session:
        session.run_plan(make_plan(6), cache=True).wait()
        session.run_plan(make_plan(6), cache=True, name="n").wait()
        run = session.run_plan(make_plan(6), name="n")
        assert (run.result(), run["square"].report()["cached"]) == (55, 6)
        assert not committed(session.store, "n")


def test_a_run_without_a_name_of_its_own_writes_down_nothing_of_the_sort(path):
    with open_session(path) as session:
        for _ in range(2):
            run = session.map(square, range(6), cache=True)
            run.wait()
        assert not committed_hits(session.store, run.id)


def test_hits_of_a_driver_that_was_taken_over_before_it_found_them_do_not_count(path):
    with open_session(path) as session:
        session.map(square, range(4), cache=True, name="first").wait()
        session.map(square, range(4), cache=True, name="n").wait()
        store = session.store
    early = keys.hits("n", 0)
    claim(store, "n", read_plan(store, "n"))
    late = keys.hits("n", 0, 1)
    store.put(late, store.get(early))
    assert committed_hits(store, "n") == [early]


def test_what_is_gone_since_is_to_be_done_again(path):
    with open_session(path) as session:
        session.map(square, range(4), cache=True, name="first", chunksize=2).wait()
        session.map(square, range(4), cache=True, name="n").wait()
        session.store.delete(committed(session.store, "first")[:1])
    with open_session(path) as session:
        run = session.attach("n")
        assert (run.status.state, run.status.done) == ("interrupted", 2)
        assert list(run.retry()) == [0, 1, 4, 9]


def test_a_damaged_list_of_hits_is_left_out(path):
    with open_session(path) as session:
        session.map(square, range(4), cache=True, name="first").wait()
        session.map(square, range(4), cache=True, name="n").wait()
        key = keys.hits("n", 0)
        assert decode(session.store.get(key)) is not None
        session.store.put(key, session.store.get(key)[:-1])
    with open_session(path) as session:
        assert list(session.attach("n").retry()) == [0, 1, 4, 9]


DRIVER = """
import sys, fnmap
store, gate, begun, log = sys.argv[1:]
def work(x):
    with open(log, "a") as file: file.write(f"{x} ")
    if x >= 4:
        with open(begun, "wb", buffering=0) as pipe: pipe.write(b"begun\\n")
        with open(gate, "rb", buffering=0) as pipe: pipe.read(1)
    return x * x
with fnmap.Session(workers=1, store=store) as session:
    session.map(work, range(4), cache=True).wait()
    session.map(work, range(5), cache=True, name="n", chunksize=1).wait()
"""


def test_who_takes_over_from_a_killed_driver_has_what_that_one_found(start, path, tmp_path, gate, begun):
    log = tmp_path / "log"
    driver = start(DRIVER, path, gate.path, begun.path, log)
    begun.heard(1)
    with open_session(path) as session:
        assert session.attach("n").status.done == 4
    driver.kill()
    driver.wait()
    gate.open(2)  # a worker of the killed one may take a token to its grave
    with fnmap.Session(workers=1, store=path) as session:
        run = session.attach("n")
        assert (run.status.state, run.status.done) == ("interrupted", 4)
        assert list(run.retry()) == [0, 1, 4, 9, 16]
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3", "4", "4"]
