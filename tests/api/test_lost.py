"""Parts that are lost after they were committed: their results are made anew, and nobody's tries are charged."""

from __future__ import annotations

from collections import Counter

import pytest
from gates import wait_at

import fnmap
from fnmap.errors import MissingKey, ResultLost, StoreError, StoreFull
from fnmap.format import parts
from fnmap.lease import committed
from fnmap.storage.memory import MemoryStore
from fnmap.testing.stores import FaultyStore


class Fragile(MemoryStore):
    """Parts of stage 0 are spoilt when it is said."""

    def __reduce__(self):  # with the functions of a plan that is kept, and never asked for there
        return Fragile, ()

    def spoil(self, how="delete", most=9):
        for key in [key for key in committed(self, "n") if "/0." in key][:most]:
            body = self.get(key)
            self.delete([key])
            if how == "tear":
                self.create(key, body[: len(body) // 2])
            elif how == "flip":
                last = len(body) - 9 - int.from_bytes(body[-8:-4], "little")  # of the pages
                self.create(key, body[:last] + bytes([body[last] ^ 1]) + body[last + 1 :])
        parts._recent.clear()  # as a worker that has not read them


@pytest.fixture
def store():
    return Fragile()


@pytest.fixture
def kept(store):
    with fnmap.Session(on="inline", store=store) as session:
        yield session


def plan_that_loses(lose, ran):
    """The first stage is lost after it has run, and before the last task takes it."""

    def first(x):
        ran[x] += 1
        return {"x": x}

    def between(number, *_):
        lose()
        return number

    with fnmap.plan("p") as p:
        source = p.map(first, range(4), chunksize=2, name="first")
        gate = p.gather(between, source, name="between")
        p.add(lambda *xs: [x["x"] for x in xs[:-1]], *(source[at] for at in range(4)), gate[0])
    return p


@pytest.mark.parametrize("how", ["delete", "tear", "flip"])
def test_an_input_that_is_lost_is_made_anew_and_its_consumer_runs_after_that(kept, store, how):
    ran = Counter()
    run = kept.run_plan(plan_that_loses(lambda: store.spoil(how), ran), name="n")
    assert run.result() == [0, 1, 2, 3]
    assert ran == Counter(dict.fromkeys(range(4), 2))
    assert run.status.state == "done"
    assert list(run["first"]) == [{"x": x} for x in range(4)]
    assert run["first"].table()["x"].to_pylist() == [0, 1, 2, 3]
    with fnmap.Session(on="inline", store=store) as other:
        assert other.attach("n").result() == [0, 1, 2, 3]


def test_what_is_not_lost_does_not_run_again(kept, store):
    ran = Counter()
    assert kept.run_plan(plan_that_loses(lambda: store.spoil(most=1), ran), name="n").result() == [0, 1, 2, 3]
    assert ran == {0: 2, 1: 2, 2: 1, 3: 1}


def test_a_late_attempt_cannot_bring_back_what_was_made_anew(kept, store):
    gone = []

    def lose():
        gone.extend(key for key in committed(store, "n") if "/0." in key)
        store.spoil()

    kept.run_plan(plan_that_loses(lose, Counter()), name="n").wait()
    assert not any(store.create(key, b"late") for key in gone)


def test_a_column_of_a_lost_result_is_made_anew_too(kept, store):
    def lose(x):
        store.spoil()
        return x

    with fnmap.plan("p") as p:
        rows = p.map(lambda x: {"x": x, "y": -x}, range(3), name="rows")
        gate = p.map(lose, rows, chunksize=3)
        p.gather(lambda ys, _: list(ys), rows["y"], gate)
    assert kept.run_plan(p, name="n").result() == [0, -1, -2]


class Sieve(Fragile):
    """Loses each part of stage 0 before anybody can read it."""

    def get(self, key):
        if "/0.0" in key:
            raise MissingKey(key)
        return super().get(key)


def test_a_result_that_is_lost_time_and_again_ends_the_run_with_its_key_and_the_store():
    with fnmap.Session(on="inline", store=Sieve()) as session, fnmap.plan("p") as p:
        p.gather(sum, p.map(abs, range(3)))
        run = session.run_plan(p, name="n", errors="return")
        with pytest.raises(StoreError, match=r"task 0 of abs was lost 4 times, the last at 'part/.*' of MemoryStore"):
            run.result()
        assert run.status.state == "failed"
        session.store.__class__ = Fragile
        assert run.retry().result() == 3


def test_what_workers_cannot_read_and_the_driver_can_is_not_made_anew(kept, monkeypatch):
    def unreadable(store, key, chosen):
        raise MissingKey(key)

    monkeypatch.setattr(parts, "read_values", unreadable)
    ran = Counter()
    run = kept.run_plan(plan_that_loses(lambda: None, ran), name="n", errors="return")
    with pytest.raises(StoreError, match=r"workers cannot read 'part/.*, though it is there"):
        run.result()
    assert set(ran.values()) == {1}


def test_whoever_reads_a_lost_result_of_a_run_that_is_over_is_told_how_to_have_it(kept, store):
    def double(x):
        return 2 * x

    with fnmap.plan("p") as p:
        p.map(double, p.map(abs, range(3)))
    for run in (kept.run_plan(p, name="n"), kept.map(double, range(3), name="m")):
        run.wait()
        store.delete(committed(store, run.id))
        parts._recent.clear()  # it is not held by the process
        last = run.last if run.id == "n" else run
        for part in last._results.order:
            part.values = parts.Stored(store, part.key, len(part.tasks))  # nor by this process
        with pytest.raises(ResultLost, match=r"gone from the store.*retry\(\) makes it anew"):
            run.result()
        assert run.status.state == "interrupted"
        assert run.retry().result() == [0, 2, 4]
        assert run.status.state == "done"


def test_results_as_they_arrive_come_once_though_they_were_lost(kept, store):
    run = kept.run_plan(plan_that_loses(store.spoil, Counter()), name="n")
    assert sorted(task for task, _ in run["first"].as_completed()) == [0, 1, 2, 3]


class Brimful(Fragile):
    """Takes no part while it is full."""

    full = True

    def create(self, key, body):
        if self.full and key.startswith("part/"):
            raise StoreFull("no space left")
        return super().create(key, body)


def test_workers_that_lost_their_inputs_have_them_made_anew_and_a_reader_waits(tmp_path, gate):
    pipe = gate.path

    def first(x):
        return x + 1

    def stands_at(*_):
        wait_at(pipe)
        return 0

    with fnmap.plan("p") as p:
        source = p.map(first, range(6), chunksize=2)
        held = p.gather(stands_at, source)
        p.add(lambda *xs: sum(xs), *(source[at] for at in range(6)), held[0])
    with fnmap.Session(workers=2, store=tmp_path / "store") as session:
        run = session.run_plan(p, name="n")
        run["first"].wait()
        keys = sorted(key for key in committed(session.store, "n") if "/0." in key)
        session.store.delete(keys[:1])
        path = session.store.path(keys[1])
        path.write_bytes(path.read_bytes()[:50])
        assert list(run["first"]) == [1, 2, 3, 4, 5, 6]  # though the plan stands still
        gate.open()
        assert run.result() == 21
        assert run.status.state == "done"


@pytest.mark.parametrize("named", [True, False])
def test_a_full_store_ends_the_run_with_that_and_a_retry_finishes_it_when_there_is_room(named):
    with fnmap.Session(on="inline", store=Brimful()) as session, fnmap.plan("p") as p:
        p.gather(sum, p.map(abs, range(3)))
        run = session.run_plan(p, name="n") if named else session.map(abs, range(3), name="n")
        with pytest.raises(StoreFull, match="no space left"):
            run.result()
        assert run.status.state == "failed"
        session.store.full = False
        assert run.retry().result() == (3 if named else [0, 1, 2])


@pytest.mark.parametrize("verb", ["map", "submit"])
def test_a_large_result_for_which_there_is_no_room_is_told_as_that_and_no_task_is_blamed(verb):
    with fnmap.Session(workers=1) as session:
        session._scratch = FaultyStore(session.scratch, 0, 1.0, errors=(StoreFull,), verbs=("create", "create_parts"))
        begin = {"map": lambda f: session.map(f, [0]), "submit": lambda f: session.submit(f, 0)}[verb]
        with pytest.raises(StoreFull):
            begin(lambda _: bytes(20 << 20)).result()
