"""Named runs: they outlast their process, go on where they were, and are never half there."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from gates import wait_at

import fnmap
from fnmap.errors import RunBusy, RunError, TaskError
from fnmap.format import keys
from fnmap.format.parts import read_report
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore
from fnmap.testing.stores import CountingStore


@pytest.fixture
def kept(tmp_path):
    session = fnmap.Session(workers=2, store=tmp_path / "store")
    yield session
    session.close()


def parts(store) -> dict[str, bytes]:
    return {key: bytes(store.get(key)) for key in store.list("") if key.endswith(".parquet")}


def commits(store) -> list[int]:
    """The tasks that were committed, one entry for each time."""
    found = [read_report(store, key) for key in parts(store)]
    return sorted(task for one in found if one for task in one[0])


def test_the_same_call_again_computes_nothing_twice(kept, tmp_path):
    def count(x):
        with (tmp_path / "calls").open("a") as file:
            file.write(".")
        return x

    assert list(kept.map(count, range(20), name="n")) == list(range(20))
    before = parts(kept.store)
    assert list(kept.map(count, range(20), name="n")) == list(range(20))
    assert (tmp_path / "calls").read_text() == "." * 20
    assert parts(kept.store) == before


@pytest.mark.parametrize("on", ["local", "inline"])
def test_what_a_task_raised_is_kept(tmp_path, on):
    with fnmap.Session(on=on, store=tmp_path / "store") as session:
        list(session.map(lambda x: 1 / x, [1, 0], name="n", errors="return"))
    with fnmap.Session(on="inline", store=tmp_path / "store") as session:
        (error,) = session.attach("n").errors.values()
    assert (error.index, error.item, type(error.exception)) == (1, "0", ZeroDivisionError)


def test_the_same_call_again_tries_what_failed(kept, tmp_path):
    def need(x):
        if x == 1 and not (tmp_path / "mended").exists():
            raise ValueError("not yet")
        return x

    assert isinstance(list(kept.map(need, range(3), name="n", errors="return"))[1], TaskError)
    (tmp_path / "mended").touch()
    assert list(kept.map(need, range(3), name="n", errors="return")) == [0, 1, 2]


def test_a_mended_closure_is_what_runs_the_second_time(kept):
    def make(value):
        big = np.full(400_000, value)

        def need(x):
            if x and big[0] == 1:
                raise ValueError("wrong array")
            return int(big[0])

        return need

    first = kept.map(make(1), [0, 1], name="n", errors="return")
    assert isinstance(list(first)[1], TaskError)
    second = list(kept.map(make(2), [0, 1], name="n", errors="return"))
    assert second[1] == 2


def test_every_task_is_committed_exactly_once_though_workers_die(kept, tmp_path):
    def kill_once(x):
        import os

        try:
            (tmp_path / f"killed{x % 7}").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
        return x

    assert list(kept.map(kill_once, range(60), name="n", chunksize=5)) == list(range(60))
    assert commits(kept.store) == list(range(60))


def test_a_committed_result_never_changes(kept, gate):
    pipe = gate.path
    run = kept.map(lambda x: wait_at(pipe) if x == 3 else x, range(4), name="n", chunksize=1)
    assert run[0] == 0
    before = parts(kept.store)
    gate.open()
    run.wait()
    after = parts(kept.store)
    assert {key: after[key] for key in before} == before


def test_a_live_run_is_attached_to_as_itself(kept, gate):
    pipe = gate.path
    run = kept.map(wait_at, [pipe], name="n")
    assert kept.attach("n") is run
    gate.open()
    assert run.wait()


def test_attaching_again_and_again_works(tmp_path):
    fnmap.map(abs, [-1], name="n", store=tmp_path, on="inline").wait()
    assert [list(fnmap.attach("n", store=tmp_path, on="inline")) for _ in range(2)] == [[1], [1]]


def test_runs_lists_what_there_is_newest_first(kept):
    for name in ("a", "b"):
        kept.map(abs, [1, 2], name=name).wait()
    assert [(r.name, r.state, r.total, r.done) for r in kept.runs()] == [("b", "done", 2, 2), ("a", "done", 2, 2)]


DRIVER = """
import sys, fnmap
from pathlib import Path
store, gate, begun = sys.argv[1:]
def work(x):
    if x >= 10:
        with open(begun, "wb", buffering=0) as pipe: pipe.write(b"begun\\n")
        with open(gate, "rb", buffering=0) as pipe: pipe.read(1)
    return x * x
fnmap.map(work, range(20), name="n", store=store, chunksize=1).wait()
"""


def test_another_process_finishes_the_run_of_a_killed_driver(start, kept, gate, begun):
    driver = start(DRIVER, kept.store.root, gate.path, begun.path)
    begun.heard(2)
    with pytest.raises(RunBusy):
        kept.attach("n").retry()
    driver.kill()
    driver.wait()
    run = kept.attach("n")
    assert (run.status.state, run.status.done) == ("interrupted", 10)
    assert run[3] == 9
    with pytest.raises(RunError, match=r"interrupted.*retry\(\)"):
        list(run)
    gate.open(12)  # a worker of the killed one may take a token to its grave
    assert list(run.retry()) == [x * x for x in range(20)]
    assert commits(kept.store) == list(range(20))


def test_the_same_call_finishes_the_run_of_a_killed_driver(start, kept, gate, begun):
    driver = start(DRIVER, kept.store.root, gate.path, begun.path)
    begun.heard(2)
    driver.kill()
    driver.wait()
    gate.open(12)  # a worker of the killed one may take a token to its grave
    again = start(DRIVER, kept.store.root, gate.path, begun.path)
    assert again.wait() == 0
    assert list(kept.attach("n")) == [x * x for x in range(20)]


def test_a_reader_sees_whole_results_or_none_while_others_write(start, kept, gate, begun):
    driver = start(DRIVER, kept.store.root, gate.path, begun.path)
    begun.heard(1)
    run = kept.attach("n")
    assert run.status.state == "running"
    for key in parts(kept.store):
        tasks, report = read_report(kept.store, key)
        assert list(report.values) == [x * x for x in tasks]
    driver.kill()


def test_an_interrupted_run_whose_items_came_from_an_iterator_still_gives_its_results(kept):
    run = kept.map(abs, iter(range(10)), name="n")
    assert run.wait()
    assert list(kept.attach("n")) == list(range(10))


READS = {
    "in order": lambda run: [x for x in run],  # noqa: C416 - list() would ask for all at once, and so keep them
    "as they arrive": lambda run: [value for _, value in sorted(run.as_completed())],
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("again", READS.values(), ids=READS)
def test_a_named_run_over_an_iterator_gives_its_results_as_often_as_one_likes(kept, read, again):
    run = kept.map(lambda x: x * x, iter(range(100)), name="n", buffersize=10)
    expected = [x * x for x in range(100)]
    assert read(run) == expected
    assert again(run) == expected
    assert (run[7], run[-1], list(run)) == (49, 99 * 99, expected)
    assert sorted(run.table().column("value").to_pylist()) == expected
    assert run.dataset().count_rows() == 100


def test_a_named_run_over_an_iterator_tells_of_its_failures_for_good(kept):
    run = kept.map(lambda x: 1 / x, iter([1, 0, 2]), name="n", errors="return", chunksize=3)
    for _ in run:
        pass
    assert list(run.errors) == [1]
    assert (run[0], type(run[1]), run[2]) == (1.0, TaskError, 0.5)
    assert run.table().column("error").to_pylist().count(None) == 2


@pytest.mark.parametrize("ordered", [True, False])
def test_the_results_of_a_named_run_over_an_iterator_are_left_to_the_store(tmp_path, ordered):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.map(lambda x: "a" * 1000, iter(range(100)), name="n", buffersize=5, ordered=ordered)
        for _ in run:
            assert sum(part.values.nbytes for part in run.ledger.results.order) <= 6 * 1100
    assert run.ledger.results.order


def test_a_run_whose_end_cannot_be_written_still_ends_for_its_reader(tmp_path):
    class Full(FileStore):
        def put(self, key, body):
            raise fnmap.errors.StoreFull("no space left")

    with fnmap.Session(on="inline", store=Full(tmp_path)) as session:
        run = session.map(abs, [-1, -2], name="n")
        assert run.wait()
        assert run[0] == 1


def test_results_of_a_named_run_may_be_large_and_of_any_kind(kept):
    values = list(kept.map(lambda n: (n, np.full(n, 1.5)), [10, 300_000], name="n"))
    assert [(n, a.sum()) for n, a in values] == [(10, 15.0), (300_000, 450_000.0)]
    again = list(kept.attach("n"))
    assert [(n, a.sum()) for n, a in again] == [(10, 15.0), (300_000, 450_000.0)]


DAMAGES = {
    "cut": lambda body: body[:-1],
    "empty": lambda body: b"",
    "a hole": lambda body: body[:100] + bytes(64) + body[164:],
    "one bit": lambda body: body[:120] + bytes([body[120] ^ 1]) + body[121:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("fn", [lambda x: x * x, lambda x: (x, x / 7)], ids=["small", "arrow"])
def test_a_part_that_was_damaged_is_not_there_and_is_done_again(tmp_path, caplog, fn, damage):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        session.map(fn, range(100), name="n", chunksize=50).wait()
    store, (first, _) = FileStore(tmp_path), sorted(parts(FileStore(tmp_path)))
    store.put(first, damage(bytes(store.get(first))))
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.attach("n")
        assert (run.status.state, run.status.done) == ("interrupted", 50)
        assert "left out and done again" in caplog.text
        with pytest.raises(RunError, match=r"retry\(\) finishes it"):
            list(run)
        assert list(run.retry()) == [fn(x) for x in range(100)]


def test_a_call_costs_a_plan_a_part_and_an_end():
    store = CountingStore(MemoryStore())
    with fnmap.Session(on="inline", store=store) as session:
        assert list(session.map(abs, [-1], name="n")) == [1]
    assert store.calls == {"create": 2, "put": 1}


def test_a_run_whose_driver_had_no_time_to_write_its_end_is_done(tmp_path):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        session.map(abs, [-1, -2], name="n", chunksize=1).wait()
    FileStore(tmp_path).delete([keys.end("n", 0)])
    with fnmap.Session(on="inline", store=tmp_path) as session:
        run = session.attach("n")
        assert (run.status.state, list(run)) == ("done", [1, 2])
        assert list(session.map(abs, [-1, -2], name="n")) == [1, 2]
        assert [info.state for info in session.runs()] == ["done"]


def test_a_function_with_a_large_array_is_whole_in_the_store(kept, tmp_path):
    big = np.full(400_000, 1.5)

    def need(x):
        if x and not (tmp_path / "mended").exists():
            raise ValueError("not yet")
        return float(big[x])

    assert kept.map(need, [0, 1], name="n", errors="return").wait()
    kept.close()
    (tmp_path / "mended").touch()
    with fnmap.Session(workers=1, store=kept.store) as other:
        assert list(other.attach("n").retry()) == [1.5, 1.5]


def test_a_store_of_a_script_s_own_class_is_carried_to_the_workers(start, tmp_path):
    script = start(
        "import sys, fnmap\n"
        "from fnmap.storage.files import FileStore\n"
        "class Mine(FileStore):\n"
        "    def create(self, key, body):\n"
        "        return super().create(key, body)\n"
        "with fnmap.Session(workers=1, store=Mine(sys.argv[1])) as session:\n"
        "    print(*session.map(abs, [-1, -2], name='n'))\n",
        tmp_path / "store",
    )
    assert script.communicate()[0] == "1 2\n"
