"""Plans that come from a table, and go into one."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fnmap
from fnmap.errors import PlanError
from fnmap.plan_parts import StageRef

INTS = pa.list_(pa.int64())


def price(deal, *, year=2026):
    return deal * 100 + year


def total(inputs):
    return sum(inputs)


def square(x):
    return x * x


def add(a, b):
    return a + b


def collect(parts, scale=1):
    return [scale * part for part in parts]


KNOWN = {"price": price, "total": total, "square": square, "add": add, "collect": collect}


def rows(*tasks, kind=None, **columns):
    """A table of (task, function, parameters, dependencies)."""
    names = ("task", "function", "parameters", "dependencies")
    table = {name: [task[at] for task in tasks] for at, name in enumerate(names)}
    if all(isinstance(p, (dict, list)) for p in table["parameters"]) and kind is None:
        table["parameters"] = [json.dumps(p) for p in table["parameters"]]
    elif kind is not None:
        table["parameters"] = pa.array(table["parameters"], kind)
    of = pa.int64() if isinstance(tasks[0][0], int) else pa.string()
    table["dependencies"] = pa.array(table["dependencies"], pa.list_(of))
    return pa.table(table | columns)


def load(*tasks, functions=KNOWN, **columns):
    return fnmap.load_plan(rows(*tasks, **columns), functions)


def result(*tasks, **columns):
    return load(*tasks, **columns).run(on="inline").result()


DEALS = (("d1", "price", {"deal": 1}, []), ("d2", "price", {"deal": 2, "year": 0}, None))


def test_a_file_of_a_planner_is_a_plan(tmp_path, local):
    pq.write_table(rows(*DEALS, ("all", "total", {}, ["d2", "d1"])), tmp_path / "plan.parquet")
    plan = fnmap.load_plan(tmp_path / "plan.parquet", KNOWN)
    ran = local.run_plan(plan)
    assert ran.result() == 2326
    assert dict(zip(plan.stages[0].keys, ran["price"], strict=True)) == {"d1": 2126, "d2": 200}


def test_rows_may_come_in_any_order_and_ids_may_be_numbers():
    plan = load((7, "total", {}, [3, 5]), (5, "price", [1], []), (3, "price", {"deal": 2}, []))
    assert plan.run(on="inline")["total"][0] == 2126 + 2226


def test_references_are_filled_in_at_any_depth():
    tasks = [
        ("a", "square", {"x": 3}, []),
        ("b", "square", {"x": {"$task": "a"}}, []),
        ("c", "collect", {"parts": [{"$task": "b"}, 1, {"$task": "a"}], "scale": {"$task": "a"}}, ["a"]),
    ]
    assert result(*tasks) == [729, 9, 81]


def test_what_refers_to_results_gets_no_list_of_inputs_and_its_neighbours_do():
    tasks = [*DEALS, ("t1", "total", {}, ["d1", "d2"]), ("t2", "total", {"inputs": [{"$task": "d2"}]}, ["d1", "d2"])]
    assert result(*tasks) == {"t1": 2326, "t2": 200}


def test_a_list_is_positional_and_an_object_may_have_both():
    assert result(("a", "add", [1, 2], [])) == 3
    assert result(("a", "add", {"$args": [1], "b": 2}, [])) == 3


STRUCT = pa.struct([("deal", pa.int64()), ("year", pa.int64())])


@pytest.mark.parametrize("kind", [STRUCT, pa.map_(pa.string(), pa.int64())])
def test_parameters_may_be_columns(kind):
    given = [{"deal": 1}, {"deal": 2, "year": 0}]
    if pa.types.is_map(kind):
        given = [list(one.items()) for one in given]
    tasks = [(name, "price", one, []) for name, one in zip("ab", given, strict=True)]
    assert result(*tasks, kind=kind) == {"a": 2126, "b": 200}


def test_lists_in_a_column_are_positional():
    assert result(("a", "add", [1, 2], []), kind=INTS) == 3


def test_stages_and_costs_are_columns():
    plan = load(*DEALS, ("d3", "price", {"deal": 3}, []), stage=["x", "y", "x"], cost=[1.0, 2.0, 3.0])
    assert [(stage.name, stage.keys, list(stage.options.cost)) for stage in plan.stages] == [
        ("x", ["d1", "d3"], [1.0, 3.0]),
        ("y", None, [2.0]),
    ]


def test_a_function_is_imported_where_that_is_allowed():
    table = rows(("a", "math:factorial", [4], []))
    assert fnmap.load_plan(table, imports=["math"]).run(on="inline").result() == 24
    with pytest.raises(PlanError, match=r"'math:factorial': pass it in functions=, which has none, or allow"):
        fnmap.load_plan(table)
    with pytest.raises(PlanError, match="'math:nothing' cannot be imported"):
        fnmap.load_plan(rows(("a", "math:nothing", [4], [])), imports=["math"])


@pytest.mark.parametrize(
    ("tasks", "columns", "message"),
    [
        ([("a", "add", {}, ["b"]), ("b", "add", {}, ["a"])], {}, "in a circle: [ab] -> [ab] -> [ab];"),
        ([("a", "add", [{"$task": "a"}], [])], {}, "in a circle: a -> a;"),
        ([("a", "add", {}, []), ("b", "add", {}, ["c"])], {}, r"row 1 \(task 'b'\): its dependencies have 'c', and"),
        ([("a", "add", [{"$task": "z"}, 1], [])], {}, r"row 0 \(task 'a'\): its parameters refer to 'z', and"),
        ([("a", "add", [{"$task": 1}, 1], [])], {}, "'1', and there is no such task"),
        ([("a", "add", {}, []), ("a", "add", {}, [])], {}, r"'a' is there twice, in the rows 0 and 1"),
        ([("a", "prise", {}, [])], {}, "call 'prise': pass it in functions=, which has 'price', 'total'"),
        ([("a", "add", {}, []), ("b", "add", "{", [])], {"kind": pa.string()}, r"row 1 \(task 'b'\).*cannot be read"),
        ([("a", "add", "3", [])], {"kind": pa.string()}, r"row 0 \(task 'a'\).*an object or a list is needed"),
        ([("a", "add", {}, [])], {"cost": [-1.0]}, r"row 0 \(task 'a'\): cost must be seconds >= 0; it is -1"),
        (
            [("a", "add", {}, []), ("b", "add", {}, [])],
            {"cost": [1.0, None]},
            r"\(task 'b'\).*is null, and other tasks",
        ),
        ([("a", "add", {}, []), ("b", "total", {}, [])], {"stage": ["s", "s"]}, "a stage has one function"),
        ([("a", "add", {}, []), ("b", "add", {}, [])], {"stage": ["s", None]}, r"\(task 'b'\): stage is null"),
    ],
)
def test_a_table_that_is_no_plan_is_refused_by_row(tasks, columns, message):
    if "kind" in columns:
        tasks = [(i, f, p if isinstance(p, str) else json.dumps(p), d) for i, f, p, d in tasks]
    with pytest.raises(PlanError, match=message):
        load(*tasks, **columns)


def test_a_column_that_is_missing_is_named(tmp_path):
    with pytest.raises(PlanError, match="it lacks parameters, dependencies"):
        fnmap.load_plan(pa.table({"task": ["a"], "function": ["add"]}), KNOWN)
    (tmp_path / "plan.parquet").write_text("task,function")
    with pytest.raises(PlanError, match=r"plan\.parquet is no Parquet file"):
        fnmap.load_plan(tmp_path / "plan.parquet", KNOWN)


def make_plan():
    with fnmap.plan("p") as p:
        squares = p.map(square, range(20), retries=2, name="squares")
        sums = p.map(add, squares, range(20), cost=list(range(20)))
        p.reduce(sum, sums, by=lambda x: "odd" if x % 2 else "even", fan_in=4)
        one = p.add(add, sums[3], b=squares[4])
        p.map(square, [], name="nothing")
        p.map(collect, [[1], [2, 3]], kwargs={"scale": one})
        p.gather(collect, squares, name="gathered", kwargs={"scale": 2})
    return p


def test_a_plan_that_is_saved_and_loaded_is_the_same_plan(tmp_path):
    plan = make_plan()
    plan.to_parquet(tmp_path / "plan.parquet")
    again = fnmap.load_plan(tmp_path / "plan.parquet", {**KNOWN, "sum": sum})
    runs = [p.run(on="inline") for p in (plan, again)]
    assert runs[0].result() == runs[1].result()
    one, other = ({name: list(stage) for name, stage in run.runs.items()} for run in runs)
    assert one == other
    assert [s.keys for s in plan.stages] == [s.keys for s in again.stages]
    assert again.stages[0].options.retries == plan.stages[0].options.retries
    assert list(again.stages[1].options.cost) == list(range(20))


def test_a_file_that_is_loaded_extended_and_saved_keeps_its_ids(tmp_path):
    plan = load((7, "price", [1], []), (9, "total", {}, [7]), (8, "price", [2], []))
    plan.add(square, StageRef(plan, 0)[1])
    plan.to_parquet(tmp_path / "plan.parquet")
    table = pq.read_table(tmp_path / "plan.parquet")
    assert table["task"].to_pylist() == [7, 8, 9, 10]
    assert table["dependencies"].to_pylist() == [[], [], [7], [8]]
    assert fnmap.load_plan(table, KNOWN).run(on="inline").result() == 2226**2


def test_what_json_cannot_say_is_not_saved(tmp_path):
    def save(fill):
        with fnmap.plan() as p:
            fill(p)
        p.to_parquet(tmp_path / "plan.parquet")

    with pytest.raises(PlanError, match=r"task 1 of stage 'square' cannot be written: \(1, 2\) is a tuple"):
        save(lambda p: p.map(square, [1, (1, 2)]))
    with pytest.raises(PlanError, match="stage 'total' takes columns"):
        save(lambda p: p.gather(total, p.map(dict, [{"x": 1}])["x"]))
    with pytest.raises(PlanError, match="two functions of the plan are called"):
        save(lambda p: (p.map(lambda x: x, [1]), p.map(lambda x: -x, [1])))
    with pytest.raises(PlanError, match="a number of retries"):
        save(lambda p: p.map(square, [1], retries=fnmap.Retry(1, on=(OSError,))))
    assert not (tmp_path / "plan.parquet").exists()


def test_a_failed_task_of_a_file_fails_what_depends_on_it():
    plan = load(("a", "square", {"x": "no"}, []), ("b", "square", {"x": {"$task": "a"}}, []), ("c", "square", [2], []))
    ran = plan.run(on="inline", errors="return")
    assert ran.result()["c"] == 4
    assert set(ran.errors) == {("square", 0), ("square", 1)}


def test_dependencies_that_are_all_null_are_none():
    table = rows((1, "square", {"x": 3}, []), (2, "square", {"x": 4}, []))
    table = table.set_column(table.schema.get_field_index("dependencies"), "dependencies", pa.nulls(2))
    assert list(fnmap.load_plan(table, KNOWN).run(on="inline").last) == [9, 16]
