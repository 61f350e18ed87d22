"""Plans: stages and tasks that depend on each other."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fnmap
from fnmap.errors import PlanError, UpstreamFailed, UsageError
from fnmap.observe.events import RunProgressed


@pytest.fixture(scope="module", params=["inline", "local"])
def session(request):
    with fnmap.Session(on=request.param) as session:
        yield session


def square(x):
    return x * x


def add(a, b):
    return a + b


def total(values):
    return sum(values)


def odd_fails(x):
    if x % 2:
        raise ValueError(f"odd: {x}")
    return x


def show(x):
    return type(x).__name__


def test_a_stage_takes_the_results_of_another_one_by_one(session):
    with fnmap.plan() as p:
        squares = p.map(square, range(20))
        p.map(add, squares, range(20))
    run = session.run_plan(p)
    assert run.result() == [x * x + x for x in range(20)]
    assert list(run["square"]) == [x * x for x in range(20)]
    assert run.status.done == 40


def test_nothing_runs_before_run():
    with fnmap.plan() as p:
        p.map(lambda _: pytest.fail("it ran"), [1])
    assert len(p) == 1


def test_results_are_reduced_by_key_in_a_tree(session):
    with fnmap.plan() as p:
        squares = p.map(square, range(50))
        sums = p.reduce(total, squares, by=lambda x: x % 3, fan_in=4)
        p.gather(max, sums, name="greatest")
    run = session.run_plan(p)
    expected = {key: sum(x * x for x in range(50) if x % 3 == key) for key in range(3)}
    assert run.result() == max(expected.values())
    assert dict(zip(sums.keys, run["total"], strict=True)) == expected


@given(st.lists(st.text(max_size=3), max_size=40), st.integers(2, 5), st.data())
@settings(max_examples=40, deadline=None)
def test_a_tree_combines_every_group_in_its_order(words, fan_in, data):
    keys = [data.draw(st.integers(0, 3)) for _ in words]
    with fnmap.plan() as p:
        source = p.map(str, words)
        p.reduce("".join, source, by=keys, fan_in=fan_in, name="joined")
    run = p.run(on="inline")
    expected: dict[int, str] = {}
    for word, key in zip(words, keys, strict=True):
        expected[key] = expected.get(key, "") + word
    assert dict(zip(p.stages[-1].keys or (), run["joined"], strict=True)) == expected


def test_tasks_are_added_one_by_one(session):
    with fnmap.plan() as p:
        one, two = p.add(square, 3), p.add(square, 4)
        both = p.add(add, one, b=two)
        p.add(add, both, both)
    assert session.run_plan(p).last[1] == 50


def test_a_keyword_is_one_result_that_all_tasks_get(session):
    with fnmap.plan() as p:
        k = p.add(square, 3)
        p.map(add, range(5), kwargs={"b": k})
    assert session.run_plan(p).result() == [9, 10, 11, 12, 13]


def test_a_keyword_may_be_a_plain_value_beside_a_result(session):
    with fnmap.plan() as p:
        p.map(lambda x, *, a, b: (x, a, b), range(2), kwargs={"a": "plain", "b": p.add(square, 3)})
    assert session.run_plan(p).result() == [(0, "plain", 9), (1, "plain", 9)]


def make_table(n):
    return pa.table({"loss": np.arange(n, dtype=float), "year": np.arange(n)})


def test_only_the_columns_that_are_asked_for_are_read(session):
    with fnmap.plan() as p:
        tables = p.map(make_table, [1, 2, 3])
        p.map(np.sum, tables["loss"], name="sums")
        p.map(lambda t: t.column_names, tables[["year"]], name="names")
    run = session.run_plan(p)
    assert list(run["sums"]) == [0.0, 1.0, 3.0]
    assert list(run["names"]) == [["year"]] * 3


def test_a_column_that_is_not_there_is_named(session):
    with fnmap.plan() as p:
        p.map(show, p.map(make_table, [1])["lss"])
    with pytest.raises(UsageError, match=r"no column 'lss'; they have loss, year"):
        session.run_plan(p).result()


def test_fields_of_rows_are_columns(session):
    with fnmap.plan() as p:
        rows = p.map(lambda x: {"x": x, "y": [x]}, range(3))
        p.map(add, rows["x"], rows["x"])
    assert session.run_plan(p).result() == [0, 2, 4]


def test_what_depends_on_a_failed_task_fails_and_says_on_which(session):
    with fnmap.plan() as p:
        p.map(square, p.map(odd_fails, range(4)))
    run = session.run_plan(p, errors="return")
    results = list(run["square"])
    assert [results[0], results[2]] == [0, 4]
    assert isinstance(results[1], UpstreamFailed)
    assert "task 1 of odd_fails" in str(results[1])
    assert set(run.errors) == {("odd_fails", 1), ("odd_fails", 3), ("square", 1), ("square", 3)}


def test_the_first_failure_ends_the_run_and_is_raised_as_its_own_type(session):
    with fnmap.plan() as p:
        p.map(square, p.map(odd_fails, range(4)))
    run = session.run_plan(p)
    with pytest.raises(ValueError, match="odd: "):
        run.result()
    assert run.status.state == "failed"
    for read in (list, fnmap.Run.table, lambda last: list(last.as_completed())):
        with pytest.raises(ValueError, match="odd: "):
            read(run.last)


def test_failed_inputs_can_be_left_out(session):
    with fnmap.plan() as p:
        numbers = p.map(odd_fails, range(6))
        p.map(square, numbers, on_upstream_error="skip")
        p.gather(total, numbers, on_upstream_error="skip")
    run = session.run_plan(p, errors="return")
    assert run["total"][0] == 6
    assert list(run["square"]) == [0, 4, 16]
    assert run["square"].status.skipped == 3
    assert isinstance(run["square"][1], UpstreamFailed)


def test_what_depends_on_a_skipped_task_is_skipped_or_fails_in_its_turn(session):
    with fnmap.plan() as p:
        kept = p.map(square, p.map(odd_fails, range(4)), on_upstream_error="skip")
        p.map(square, kept, name="fails")
        p.map(square, kept, name="skips", on_upstream_error="skip")
        p.gather(len, kept, name="counts", on_upstream_error="skip")
    run = session.run_plan(p, errors="return")
    run.wait()
    assert (run["fails"].status.failed, run["skips"].status.skipped, run["counts"][0]) == (2, 2, 2)


def test_a_task_that_was_added_is_skipped_when_one_of_its_arguments_failed(session):
    with fnmap.plan() as p:
        bad, good = p.add(odd_fails, 1), p.add(odd_fails, 2)
        p.add_with({"on_upstream_error": "skip", "name": "both"}, add, bad, good)
    run = session.run_plan(p, errors="return")
    run.wait()
    assert run["both"].status.skipped == 1


def test_errors_can_be_passed_on(session):
    with fnmap.plan() as p:
        p.map(show, p.map(odd_fails, range(3)), on_upstream_error="pass")
    assert list(session.run_plan(p, errors="return")["show"]) == ["int", "TaskError", "int"]


def test_retry_runs_what_failed_and_what_fell_with_it(session, tmp_path):
    def fails_once(x, *, mark=tmp_path):
        if x == 2 and not (mark / "seen").exists():
            (mark / "seen").touch()
            raise OSError("once")
        return x

    with fnmap.plan() as p:
        p.map(square, p.map(fails_once, range(4)))
    run = session.run_plan(p, errors="return")
    run.wait()
    assert run.status.failed == 2
    assert run.retry().result() == [0, 1, 4, 9]
    assert run.errors == {}


def test_a_chunk_starts_when_its_own_inputs_are_there(tmp_path: Path):
    """The second of the first stage waits for a file that is written by what depends on the first."""
    go = tmp_path / "go"

    def first(x):
        while x and not go.exists():
            pass
        return x

    def second(x):
        go.touch()
        return x

    with fnmap.plan() as p:
        p.map(second, p.map(first, [0, 1], chunksize=1), chunksize=1)
    with fnmap.Session(workers=2) as session:
        assert session.run_plan(p).result(30) == [0, 1]


@pytest.mark.parametrize("limit", [1, 2])
def test_a_limit_bounds_the_calls_at_once(limit):
    heard: list[object] = []
    with fnmap.plan() as p:
        p.map(square, range(40), chunksize=1, limit=limit)
    with fnmap.Session(workers=4, listeners=(heard.append,)) as session:
        assert session.run_plan(p).result() == [x * x for x in range(40)]
    running = [event.running for event in heard if isinstance(event, RunProgressed)]
    assert len(running) >= 40
    assert max(running) <= limit


def test_cancel_stops_all_stages():
    with fnmap.plan() as p:
        p.map(square, p.map(lambda _: threading.Event().wait(60), range(4), chunksize=1))
    with fnmap.Session(workers=2) as session:
        run = session.run_plan(p)
        run.cancel()
        assert run.wait(30)
        assert run.status.state == "cancelled"
        with pytest.raises(fnmap.errors.RunCancelled):
            run.result()


def test_a_stage_that_a_failure_elsewhere_has_halted_is_not_done():
    with fnmap.plan() as p:
        numbers = p.map(square, range(8), chunksize=1, name="numbers")
        p.map(odd_fails, numbers, chunksize=1)
        p.map(square, range(3), name="whole")
    with fnmap.Session(on="inline") as session:
        run = session.run_plan(p)
        run.wait()
        halted = run["numbers"]
        assert halted.status.waiting
        assert halted.status.state == run.status.state == "failed"
        for read in (list, lambda run: run.result(), lambda run: dict(run.as_completed()), lambda run: run.table()):
            with pytest.raises(ValueError, match="odd: 1"):
                read(halted)
        with pytest.raises(ValueError, match="odd: 1"):
            run.retry().result()


@pytest.mark.parametrize("first", ["plan", "stage", "ctrl-c"])
def test_to_cancel_a_stage_cancels_the_plan_and_twice_is_as_once(first):
    with fnmap.plan() as p:
        p.map(square, p.map(lambda _: threading.Event().wait(60), range(4), chunksize=1, name="waits"))
    with fnmap.Session(workers=2) as session:
        run = session.run_plan(p)
        if first == "plan":
            run.cancel()
        elif first == "stage":
            run["waits"].cancel()
        else:

            def interrupted():
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                run["square"].ledger.wait(interrupted)
        assert run.wait(30)
        for _ in range(2):
            assert {stage.status.state for stage in run.runs.values()} == {"cancelled"}
            with pytest.raises(fnmap.errors.RunCancelled):
                list(run["square"])
            run.cancel()
            run["waits"].cancel()


def test_an_unnamed_run_leaves_nothing_behind(session):
    with fnmap.plan() as p:
        p.map(square, range(3))
    run = session.run_plan(p)
    assert run.result() == [0, 1, 4]
    assert any(session.scratch.list(f"part/{h}/") for h in "0123456789abcdef")
    del run
    import gc

    gc.collect()
    assert not [key for h in "0123456789abcdef" for key in session.scratch.list(f"part/{h}/")]


def test_names_are_told_apart_and_a_name_twice_is_refused():
    p = fnmap.plan("p")
    assert [p.map(square, [1]).name, p.map(square, [1]).name] == ["square", "square_2"]
    with pytest.raises(PlanError, match=r"'square'.*already"):
        p.map(square, [1], name="square")


def test_wrong_plans_are_refused_by_name():
    p, other = fnmap.plan("p"), fnmap.plan("other")
    stage = p.map(square, range(3))
    with pytest.raises(PlanError, match="another plan: 'other'"):
        p.map(square, other.map(square, [1]))
    with pytest.raises(UsageError, match=r"equal lengths.*\[3, 2\]"):
        p.map(add, stage, [1, 2])
    with pytest.raises(UsageError, match=r"'chunksze'.*it takes cache, chunksize"):
        p.map(square, [1], chunksze=3)
    with pytest.raises(PlanError, match="'square' of 3 tasks: reduce or gather it"):
        p.map(add, [1], kwargs={"b": stage})
    with pytest.raises(UsageError, match="on_upstream_error must be"):
        p.map(square, stage, on_upstream_error="ignore")
    with pytest.raises(UsageError, match="limit must be an int >= 1"):
        p.map(square, stage, limit=0)
    with pytest.raises(PlanError, match="has no stage"):
        fnmap.plan("empty").run(on="inline")
    with pytest.raises(PlanError, match="no stage 'sqare'; it has square"):
        p.run(on="inline")["sqare"]


def test_an_empty_stage_is_an_empty_run(session):
    with fnmap.plan() as p:
        nothing = p.map(square, [])
        p.reduce(total, p.map(square, nothing))
    run = session.run_plan(p)
    assert run.result() == 0
    assert list(run["square"]) == []


def test_functions_that_are_added_are_told_apart(session):
    def make(k):
        return fnmap.task(retries=1)(lambda x: (k, x))

    with fnmap.plan() as p:
        for k in range(6):
            p.add(make(k), 0)
    run = session.run_plan(p)
    run.wait()
    assert [value for stage in run.runs.values() for value in stage] == [(k, 0) for k in range(6)]


def test_a_task_inside_a_list_is_refused():
    p = fnmap.plan()
    one = p.add(square, 1)
    with pytest.raises(UsageError, match="item 0 is a task of a plan"):
        p.map(square, [one])
    with pytest.raises(PlanError, match="in a list or dict"):
        p.add(total, [one])


def test_a_plan_may_grow_after_it_was_run(session):
    with fnmap.plan() as p:
        stage = p.map(square, range(3))
        added = p.add(square, 5)
    run = session.run_plan(p)
    p.reduce(total, stage)
    p.add(square, added)
    assert (list(run["square"]), run.result()) == ([0, 1, 4], 25)
    assert session.run_plan(p)["total"][0] == 5


def test_a_plan_can_be_run_twice_though_its_costs_were_an_iterator(session):
    with fnmap.plan() as p:
        p.map(square, range(3), cost=(float(x) for x in range(3)))
    assert session.run_plan(p).result() == session.run_plan(p).result() == [0, 1, 4]


def test_a_plan_that_cannot_start_does_not_take_the_name(tmp_path):
    with fnmap.Session(on="inline", store=tmp_path) as session:
        with fnmap.plan() as p:
            p.map(square, range(3), cost=[1, 2])
        with pytest.raises(UsageError, match="cost must have one number an item"):
            session.run_plan(p, name="n")
        assert session.runs() == []
        with fnmap.plan() as q:
            q.map(square, range(3))
        assert session.run_plan(q, name="n").result() == [0, 1, 4]


def test_the_result_of_a_stage_keeps_its_shape(session):
    with fnmap.plan() as p:
        p.map(square, [3])
    assert session.run_plan(p).result() == [9]
    with fnmap.plan() as p:
        p.reduce(total, p.map(odd_fails, range(4)), by=lambda x: x % 2, on_upstream_error="skip")
    assert session.run_plan(p, errors="skip").result() == {0: 2}


def test_a_plan_run_can_be_awaited(session):
    import asyncio

    async def main():
        with fnmap.plan() as p:
            p.gather(total, p.map(square, range(4)))
        return await session.run_plan(p)

    assert asyncio.run(main()) == 14


@pytest.mark.parametrize("make", [make_table, lambda n: {"loss": n, "year": n}, lambda n: {"loss": n, "year": {n}}])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_column_of_none_is_none_whatever_is_in_its_chunk(make, chunksize):
    with fnmap.plan() as p:
        found = p.map(lambda n: None if n == 1 else make(n), range(3), chunksize=chunksize)
        p.map(lambda one, both: (one is None, both is None), found["loss"], found[["loss", "year"]])
    assert p.run(on="inline").result() == [(False, False), (True, True), (False, False)]


@pytest.mark.parametrize(
    ("use", "error", "match"),
    [
        (lambda p, s: s[[]], PlanError, r"at least one name; got \[\]"),
        (lambda p, s: s[0][5], PlanError, "a name, or a list .*; got 5"),
        (lambda p, s: s[0:2], PlanError, "of stage 'square': a stage gives one task by its number"),
        (lambda p, s: s[1.5], PlanError, "1.5.* of stage 'square'"),
        (lambda p, s: p.gather(total, s[0]), PlanError, "gather takes whole stages; got task 0 of 'square'"),
        (lambda p, s: p.reduce(total, s[1]), PlanError, "reduce takes whole stages; got task 1 of 'square'"),
        (lambda p, s: p.map(square, 5), UsageError, "iterable 0 of the map .* got 5"),
        (lambda p, s: p.map(square, s[0]), UsageError, "iterable 0 of the map"),
        (lambda p, s: p.map(square, [s[0]]), UsageError, "item 0 is a task of a plan"),
        (lambda p, s: p.reduce(total, s, by="region"), UsageError, "by must be a sequence of keys.*'region'"),
        (lambda p, s: p.reduce(total, s, by=5), UsageError, "by must be a sequence of keys.* 5"),
        (lambda p, s: p.reduce(total, s, by=[1, [2], 3]), UsageError, r"the key of task 1 cannot be hashed: \[2\]"),
    ],
)
def test_what_cannot_be_planned_is_refused_when_it_is_planned(use, error, match):
    p = fnmap.plan()
    squares = p.map(square, range(3))
    with pytest.raises(error, match=match):
        use(p, squares)
    assert len(p.stages) == 1


def test_what_was_never_tried_is_not_said_to_have_been():
    with fnmap.plan() as p:
        p.map(square, p.map(odd_fails, [1]))
    message = str(p.run(on="inline", errors="return").errors["square", 0])
    assert "was not run" in message
    assert "tried" not in message


def test_an_array_that_several_stages_refer_to_is_stored_once(tmp_path):
    table = np.arange(300_000.0)

    def lookup(at):
        return float(table[at])

    def lookup_again(value):
        return float(table[int(value)] + len(table))

    with fnmap.Session(workers=1, store=tmp_path) as session, fnmap.plan("p") as p:
        p.map(lookup_again, p.map(lookup, [3, 5]))
        run = session.run_plan(p)
        assert run.result() == [300_003.0, 300_005.0]
        assert len([key for key in session.scratch.list("tmp/") if "/shared." in key]) == 1
        del run
        gc.collect()
        assert not [key for key in session.scratch.list("tmp/") if "/shared." in key]


def test_a_plan_is_read_by_its_last_stage_as_a_run_is():
    with fnmap.plan() as p:
        p.map(square, p.map(square, [1, 2, 3]), name="last")
    run = p.run(on="inline")

    async def gathered():
        return [result async for result in run]

    assert list(run) == asyncio.run(gathered()) == [1, 16, 81]
    assert sorted(run.as_completed()) == [(0, 1), (1, 16), (2, 81)]
    assert run.table().equals(run["last"].table())
    assert run.dataset().to_table().equals(run.table())
    assert run.to_pandas()["task"].tolist() == [0, 1, 2]


def test_a_task_knows_its_stage():
    with fnmap.plan() as p:
        stage = p.map(square, [1, 2])
        assert isinstance(stage[1], fnmap.TaskRef)
        assert stage[1].whole == stage
        p.gather(sum, p.add(square, 3).whole)
    assert p.run(on="inline").result() == 9


def test_tables_of_a_plan_without_a_name_are_as_those_of_one_with(tmp_path):
    def row(x):
        return {"x": x, "xs": np.arange(x)}

    with fnmap.plan() as p:
        p.gather(list, p.map(row, range(5))["x"])
    with fnmap.Session(workers=1, store=tmp_path) as session:
        live, kept = session.run_plan(p), session.run_plan(p, name="kept")
        assert live.result() == kept.result() == list(range(5))
        tables = [table for run in (live, kept) for table in (run["row"].table(), run["row"].dataset().to_table())]
        assert all(table.equals(tables[0]) for table in tables[1:])
        assert [part.is_parquet for part in (live["row"]._stored()[0], kept["row"]._stored()[0])] == [False, True]
