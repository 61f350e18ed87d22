"""Results of earlier runs are used again where function and items are the same, and only there."""

from __future__ import annotations

from threading import Event

import pytest
from gates import say_at, wait_at

import fnmap
from fnmap.caching import CROWDED
from fnmap.errors import NotCacheable, UsageError
from fnmap.lease import committed
from fnmap.observe.events import RunEnded
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore
from fnmap.testing.stores import CountingStore


@pytest.fixture
def kept(tmp_path):
    with fnmap.Session(on="inline", store=tmp_path / "store") as session:
        yield session


def make(calls, text="return x * x"):
    """A function as a notebook would define it, that tells when it runs."""
    namespace = {"__name__": "__main__", "log": str(calls)}
    exec(f"def square(x):\n    open(log, 'a').write('.')\n    {text}\n", namespace)
    return namespace["square"]


def ran(calls) -> int:
    """How often it ran since the last time."""
    count = len(calls.read_text()) if calls.exists() else 0
    calls.unlink(missing_ok=True)
    return count


def test_what_was_computed_is_not_computed_again(kept, tmp_path):
    calls = tmp_path / "calls"
    assert list(kept.map(make(calls), range(10), cache=True)) == [x * x for x in range(10)]
    assert ran(calls) == 10
    run = kept.map(make(calls), range(10), cache=True)
    assert list(run) == [x * x for x in range(10)]
    assert (ran(calls), run.report()["cached"]) == (0, 10)


def test_only_what_is_missing_is_computed(kept, tmp_path):
    calls = tmp_path / "calls"
    kept.map(make(calls), range(10), cache=True, chunksize=3).wait()
    ran(calls)
    run = kept.map(make(calls), [20, 3, 9, 30, 3], cache=True)
    assert list(run) == [400, 9, 81, 900, 9]
    assert (ran(calls), run.report()["cached"]) == (2, 3)
    assert sorted(run.table().column("value").to_pylist()) == [9, 9, 81, 400, 900]
    assert run.table().column("task").to_pylist() == [0, 1, 2, 3, 4]
    assert run.dataset().count_rows() == 5


def test_an_edited_function_is_another(kept, tmp_path):
    calls = tmp_path / "calls"
    kept.map(make(calls), range(5), cache=True).wait()
    ran(calls)
    assert list(kept.map(make(calls, "return x + 1"), range(5), cache=True)) == [1, 2, 3, 4, 5]
    assert ran(calls) == 5


def test_a_version_stands_for_the_code(kept, tmp_path):
    calls = tmp_path / "calls"
    kept.map(make(calls), range(5), cache="v1").wait()
    assert list(kept.map(make(calls, "return x + 1"), range(5), cache="v1")) == [x * x for x in range(5)]
    assert list(kept.map(make(calls, "return x + 1"), range(5), cache="v2")) == [1, 2, 3, 4, 5]


def test_failures_are_not_kept(kept, tmp_path):
    calls = tmp_path / "calls"
    fn = make(calls, "return 1 // x")
    kept.map(fn, [1, 0, 2], cache=True, errors="return").wait()
    ran(calls)
    kept.map(fn, [1, 0, 2], cache=True, errors="return").wait()
    assert ran(calls) == 1


def test_a_named_run_finds_what_others_have_computed(kept, tmp_path):
    calls = tmp_path / "calls"
    kept.map(make(calls), range(5), cache=True).wait()
    ran(calls)
    assert list(kept.map(make(calls), range(6), cache=True, name="n")) == [x * x for x in range(6)]
    assert ran(calls) == 1


def test_what_is_gone_from_the_store_is_computed_again(kept, tmp_path):
    calls = tmp_path / "calls"
    run = kept.map(make(calls), range(4), cache=True, chunksize=2)
    run.wait()
    store = FileStore(tmp_path / "store")
    store.delete(committed(store, run.id)[:1])
    ran(calls)
    assert list(kept.map(make(calls), range(4), cache=True)) == [0, 1, 4, 9]
    assert ran(calls) == 2


def test_the_store_is_not_asked_task_by_task():
    store = CountingStore(MemoryStore())
    with fnmap.Session(on="inline", store=store) as session:
        session.map(abs, range(3000), cache=True, chunksize=3000).wait()
        store.calls.clear()
        session.map(abs, range(3000), cache=True, chunksize=3000).wait()
    assert sum(store.calls.values()) < 60


def test_what_many_runs_have_written_down_is_merged(kept, tmp_path):
    calls = tmp_path / "calls"
    for item in range(CROWDED + 2):
        kept.map(make(calls), [item], cache=True).wait()
    assert len(list(kept.store.list("cache/"))) < 4
    ran(calls)
    assert list(kept.map(make(calls), range(CROWDED + 2), cache=True))[-1] == (CROWDED + 1) ** 2
    assert ran(calls) == 0


def test_what_cannot_be_told_apart_is_refused(kept, tmp_path):
    with (tmp_path / "open").open("w") as file:

        def writes(x):
            return file.write(x)

        with pytest.raises(NotCacheable, match="file"):
            kept.map(writes, ["a"], cache=True)
    with pytest.raises(UsageError, match="cache="):
        kept.map(abs, iter([1]), cache=True)
    with pytest.raises(UsageError, match="cache must be True, False, or a text"):
        kept.map(abs, [1], cache=3)


def planned(calls, deals, text="return x * x"):
    with fnmap.plan("p") as p:
        squares = p.map(make(calls, text), deals)
        p.reduce(sum, squares, fan_in=4)
    return p


def test_a_plan_runs_again_only_what_depends_on_a_change(kept, tmp_path):
    calls = tmp_path / "calls"
    deals = list(range(16))
    assert kept.run_plan(planned(calls, deals), cache=True).result() == 1240
    assert ran(calls) == 16
    again = kept.run_plan(planned(calls, deals), cache=True)
    assert again.result() == 1240
    assert (ran(calls), [stage["cached"] for stage in again.report().values()]) == (0, [16, 4, 1])
    deals[5] = 100
    changed = kept.run_plan(planned(calls, deals), cache=True)
    assert changed.result() == 1240 - 25 + 10_000
    assert (ran(calls), [stage["cached"] for stage in changed.report().values()]) == (1, [15, 3, 0])


def test_results_of_a_plan_with_failures_are_not_taken_for_good(kept, tmp_path):
    calls = tmp_path / "calls"

    def plan():
        with fnmap.plan("p") as p:
            p.gather(len, p.map(make(calls, "return 1 // x"), [1, 0]), on_upstream_error="skip")
        return p

    for _ in range(2):
        run = kept.run_plan(plan(), cache=True, errors="return")
        assert run["len"][0] == 1
        assert run["len"].report()["cached"] == 0


def test_what_was_made_of_a_result_that_came_of_an_error_is_not_taken_for_good(kept, tmp_path):
    mended = tmp_path / "mended"

    def source(x, *, mended=mended):
        return x if x or mended.exists() else 1 // x

    def plan():
        with fnmap.plan("p") as p:
            sources = p.map(source, [1, 0])
            told = p.map(lambda x: isinstance(x, Exception), sources, name="told", on_upstream_error="pass")
            p.map(lambda bad: not bad, told, name="good")
        return p

    run = kept.run_plan(plan(), cache="v1", errors="return")
    assert list(run["good"]) == [True, False]
    mended.touch()
    run = kept.run_plan(plan(), cache="v1")
    assert list(run["good"]) == [True, True]
    assert run["good"].report()["cached"] == 1


def test_tasks_that_were_added_one_by_one_are_cached_too(kept, tmp_path):
    calls = tmp_path / "calls"

    def plan(first):
        fn, p = make(calls), fnmap.plan("p")
        with p:
            a = p.add(fn, first)
            b = p.add(fn, 7)
            p.add(fn, a)
            p.add(fn, b)
        return p

    assert list(kept.run_plan(plan(2), cache=True).last) == [4, 49, 16, 2401]
    assert ran(calls) == 4
    assert list(kept.run_plan(plan(3), cache=True).last) == [9, 49, 81, 2401]
    assert ran(calls) == 2


def test_one_stage_alone_may_be_cached(kept, tmp_path):
    calls = tmp_path / "calls"

    def plan():
        with fnmap.plan("p") as p:
            p.map(lambda x: x + 1, p.map(make(calls), range(4), cache=True))
        return p

    for _ in range(2):
        run = kept.run_plan(plan())
        assert run.result() == [1, 2, 5, 10]
    assert ran(calls) == 4
    assert [stage["cached"] for stage in run.report().values()] == [4, 0]


@pytest.fixture
def eager(monkeypatch):
    """Drivers say all the time that they live, and what they have."""
    monkeypatch.setattr("fnmap.durable.BEAT_S", 0.0)
    monkeypatch.setattr("fnmap.driver.BEAT_S", 0.01)
    monkeypatch.setattr("fnmap.caching.FIRST_S", 0.0)


def test_what_a_run_has_is_found_by_others_while_it_goes_on(eager, tmp_path, gate, begun):
    pipe, told = gate.path, begun.path

    def task(x):
        if x < 3:
            return x * x
        say_at(told)
        wait_at(pipe)
        return x * x

    store = tmp_path / "store"
    with fnmap.Session(workers=1, store=store) as session, fnmap.Session(on="inline", store=store) as other:
        run = session.map(task, range(4), cache=True, chunksize=1)
        begun.heard()
        while not any(key.startswith("cache/") for key in other.store.list("")):
            run.wait(0.01)
        again = other.map(task, range(3), cache=True)
        assert list(again) == [0, 1, 4]
        assert again.report()["cached"] > 0
        gate.open()
        assert list(run) == [0, 1, 4, 9]


@pytest.mark.parametrize("read", [list, fnmap.Run.wait], ids=["list", "wait"])
def test_who_has_read_a_cached_run_finds_its_results_in_the_cache(tmp_path, read):
    order, has_read = [], Event()
    with fnmap.Session(workers=1, store=tmp_path) as session:
        run = session.map(abs, range(3), cache=True)
        write = run.ledger.on_end

        def write_late(ledger):
            has_read.wait(0.2)
            write(ledger)
            order.append("written")

        run.ledger.on_end = write_late
        read(run)
        order.append("read")
        has_read.set()
        assert order == ["written", "read"]
        assert session.map(abs, range(3), cache=True).report()["cached"] == 3


def test_a_listener_reads_the_results_of_a_cached_run(tmp_path):
    heard, there = [], Event()

    def listen(event):
        if isinstance(event, RunEnded):
            there.wait()
            heard.append(list(run))

    with fnmap.Session(workers=1, store=tmp_path, listeners=[listen]) as session:
        run = session.map(abs, range(3), cache=True)
        there.set()
        assert run.wait(60)
    assert heard == [[0, 1, 2]]
