"""Named runs of plans: they outlast their driver, can be followed, and are taken over when it is dead."""

from __future__ import annotations

import pytest
from small_plan import make_plan, square

import fnmap
from fnmap.errors import RunBusy, RunError, RunTakenOver, UsageError
from fnmap.format import keys
from fnmap.lease import DEAD_S, claim, committed, last_driver, say_alive
from fnmap.ledger import Status
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore

DRIVER = """
import sys, fnmap
store, gate, begun = sys.argv[1:]
def slow(x):
    with open(begun, "wb", buffering=0) as pipe: pipe.write(b"begun\\n")
    with open(gate, "rb", buffering=0) as pipe: pipe.read(1)
    return x
def double(x):
    return 2 * x
with fnmap.plan("p") as p:
    p.reduce(sum, p.map(double, p.map(slow, range(20), chunksize=1), chunksize=1))
with fnmap.Session(workers=2, store=store) as session:
    print(session.run_plan(p, name="n").result())
"""


@pytest.fixture
def kept(tmp_path):
    with fnmap.Session(workers=2, store=tmp_path / "store") as session:
        yield session


def test_a_named_run_of_a_plan_is_kept(kept, tmp_path):
    assert kept.run_plan(make_plan(), name="n").result() == 285
    with fnmap.Session(on="inline", store=tmp_path / "store") as other:
        run = other.attach("n")
        assert run.result() == 285
        assert list(run["square"]) == [x * x for x in range(10)]
        assert [(i.name, i.state, i.total) for i in other.runs()] == [("n", "done", len(run))]


def test_the_same_plan_again_computes_nothing_twice(kept):
    kept.run_plan(make_plan(), name="n").result()
    before = committed(kept.store, "n")
    assert kept.run_plan(make_plan(), name="n").result() == 285
    assert committed(kept.store, "n") == before


def test_another_plan_cannot_take_the_name(kept):
    kept.run_plan(make_plan(), name="n").result()
    with pytest.raises(UsageError, match=r"a plan of square\[10\].*this is one of square\[11\]"):
        kept.run_plan(make_plan(11), name="n")
    with pytest.raises(UsageError, match=r"not of a plan|belongs to a run of p"):
        kept.map(square, range(3), name="n")
    kept.map(square, range(3), name="m").wait()
    with pytest.raises(UsageError, match="belongs to a run of square, not of a plan"):
        kept.run_plan(make_plan(), name="m")


def test_what_failed_is_tried_again_by_the_same_call(kept, tmp_path):
    def picky(x):
        if x == 3 and not (tmp_path / "mended").exists():
            raise OSError("not yet")
        return x

    def make():
        with fnmap.plan("p") as p:
            p.gather(sum, p.map(picky, range(5)))
        return p

    run = kept.run_plan(make(), name="n", errors="return")
    run.wait()
    assert run.status.failed == 2
    (tmp_path / "mended").touch()
    assert kept.run_plan(make(), name="n").result() == 10


def test_a_run_of_a_killed_driver_is_finished_by_another(start, kept, gate, begun):
    driver = start(DRIVER, kept.store.root, gate.path, begun.path)
    begun.heard(2)
    gate.open(5)
    begun.heard(4)
    driver.kill()
    driver.wait()
    run = kept.attach("n")
    assert run.status.state == "interrupted"
    with pytest.raises(RunError, match=r"interrupted.*retry\(\)"):
        run.result()
    gate.open(40)
    assert run.retry().result() == 380


def test_a_live_run_of_another_process_is_followed_to_its_end(start, kept, gate, begun):
    driver = start(DRIVER, kept.store.root, gate.path, begun.path)
    begun.heard(2)
    run = kept.attach("n")
    assert run.status.state == "running"
    with pytest.raises(RunBusy, match="attach"):
        kept.attach("n").retry()
    with pytest.raises(RunBusy, match="cancel it there"):
        run.cancel()
    gate.open(40)
    assert run.result(60) == 380
    assert driver.wait() == 0
    assert run.status.state == "done"


def test_the_one_who_follows_takes_over_when_the_driver_dies(start, kept, gate, begun):
    driver = start(DRIVER, kept.store.root, gate.path, begun.path)
    begun.heard(2)
    run = kept.attach("n")
    with pytest.raises(RunBusy):
        run.retry()
    driver.kill()
    driver.wait()
    assert run.wait(60)
    assert run.status.state == "interrupted"
    gate.open(40)
    assert run.retry().result(60) == 380


# -- who may drive, and what counts --------------------------------------------------------------------

PLAN = {"owner": "elsewhere.1.1", "total": 9}


def put_part(store, driver, chunk):
    key = keys.part("n", driver, chunk)
    store.create(key, b"")
    return key


def test_what_a_driver_commits_after_it_was_taken_over_does_not_count():
    store = MemoryStore()
    early = put_part(store, 0, 0)
    assert claim(store, "n", PLAN, silent=last_driver(store, "n", PLAN)) == 1
    put_part(store, 0, 1)  # by the zombie
    mine = put_part(store, 1, 0)
    assert committed(store, "n") == [early, mine]


def test_a_claimer_that_dies_before_it_adopts_anything_harms_nothing():
    store = MemoryStore()
    early = put_part(store, 0, 0)
    store.create(keys.driver("n", 1), b"elsewhere.2.2")
    put_part(store, 0, 1)  # after the claim: it may count or not, so it does not yet
    assert committed(store, "n") == []
    assert claim(store, "n", PLAN, silent=last_driver(store, "n", PLAN)) == 2
    assert committed(store, "n") == [early, keys.part("n", 0, 1)]
    put_part(store, 0, 2)
    put_part(store, 1, 0)
    assert committed(store, "n") == [early, keys.part("n", 0, 1)]


def test_a_driver_elsewhere_is_busy_until_it_was_silent_for_long():
    store = MemoryStore()
    with pytest.raises(RunBusy, match="cannot be asked from here"):
        claim(store, "n", PLAN)
    heard = last_driver(store, "n", PLAN)
    say_alive(store, "n", 0, 1)
    with pytest.raises(RunBusy):
        claim(store, "n", PLAN, silent=heard)  # it has said something since
    assert claim(store, "n", PLAN, silent=last_driver(store, "n", PLAN)) == 1
    assert DEAD_S > 0


def test_a_run_that_ended_is_not_undone_by_the_end_of_a_driver_before(tmp_path):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.map(square, range(3), name="n")
        assert run.wait()
        FileStore(tmp_path).create(keys.driver("n", 1), b"elsewhere.1.1")
        FileStore(tmp_path).put(keys.end("n", 1), b'{"state": "done", "done": 3, "failed": 0}')
        run.ledger.durable.end(Status("cancelled", 3, 1, 0, 0, 2))  # it looked in vain for another driver, a moment ago
        assert [(info.state, info.done) for info in session.runs()] == [("done", 3)]


def test_a_driver_that_was_taken_over_is_told(tmp_path, monkeypatch, gate):
    monkeypatch.setattr("fnmap.durable.BEAT_S", 0.0)
    with fnmap.Session(workers=1, store=tmp_path) as session:
        from gates import wait_at

        run = session.map(lambda x, path=str(gate.path): wait_at(path) or x, [1], name="n")
        FileStore(tmp_path).create(keys.driver("n", 1), b"elsewhere.1.1")
        session._wake()
        with pytest.raises(RunTakenOver, match="another process has taken it up"):
            run.result(30)
        gate.open(2)
