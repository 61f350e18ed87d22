"""Plans as tables of one row a task, as a planner in any language would write them.

task          the task's id: text or an integer, unique
function      the name of its function
parameters    its arguments: JSON text, or an Arrow struct, map or list. An object is keywords, a list positional
              arguments (format.parameters). Of a struct, fields that are null are left out.
dependencies  the ids of the tasks whose results it takes, a list
cost          optional: seconds that it is expected to take; null in all of a stage, or in none
stage         optional: the stage that it belongs to; without it, a stage is the tasks of one function

Where parameters have {"$task": id}, at any depth, the function gets that task's result in its place; such a task need
not be listed as a dependency, and others that are listed come first, and no more. In a stage with dependencies that no
parameters refer to, the function gets the keyword `inputs`: the results of its dependencies, a list in their order.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fnmap.errors import PlanError
from fnmap.format.parameters import INPUTS, may_refer, parse, references
from fnmap.plan_parts import Filed, PlannedStage, Wire
from fnmap.planning.graph import Graph, check_acyclic
from fnmap.plans import Plan
from fnmap.worker import short_repr

if TYPE_CHECKING:
    from fnmap.planning.graph import Ints

COLUMNS = ("task", "function", "parameters", "dependencies")


def load_plan(
    source: str | Path | pa.Table,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    *,
    imports: Collection[str] = (),
    name: str | None = None,
) -> Plan:
    """The plan in a Parquet file or an Arrow table of one row a task, with the columns `task`, `function`,
    `parameters`, `dependencies` and, if wanted, `cost` and `stage`.

    `parameters` are JSON, or columns: keywords, or a list of positional arguments. {"$task": id} in them stands for
    the result of another task. A task of a stage that depends on others without such references gets their results
    as the keyword `inputs`, a list in the order of its dependencies.

    `functions`: by name. One called "package.module:name" that is not there is imported if `imports` has "package".
    Raises PlanError for a table from which no plan can be made, naming the row or the task.
    """
    table = _Table(_read(source))
    known = _functions(table, functions or {}, imports)
    plan = Plan(name or table.about.get("plan", "plan"))
    for number, stage in enumerate(table.stages):
        plan.stages.append(_stage(plan, table, number, stage, known))
    names = [stage.name for stage in plan.stages]
    graph = Graph([stage.count for stage in plan.stages], plan.edges(), ["fail"] * len(names))
    check_acyclic(graph, names, lambda stage, task: str(table.ids[int(table.rows_of(stage)[task])]))
    return plan


def _read(source: Any) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    try:
        return pq.read_table(source, partitioning=None)
    except pa.ArrowInvalid as error:
        raise PlanError(f"{source} is no Parquet file: {error}") from error


class _Table:
    """The columns of a file, and what depends on what as numbers of rows."""

    def __init__(self, table: pa.Table) -> None:
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise PlanError(f"a plan's table needs the columns {', '.join(COLUMNS)}; it lacks {', '.join(missing)}")
        self.about: dict[str, Any] = json.loads((table.schema.metadata or {}).get(b"fnmap", b"{}"))
        self.ids = self._column(table, "task")
        self.function, self.parameters = self._column(table, "function"), self._column(table, "parameters")
        self._check_ids()
        self._name_stages(table)
        self.texts, self.refs = list[Any](), dict[int, list[Any]]()  # parameters; by row, the ids they refer to
        self._parse()
        self._link(self._column(table, "dependencies"))
        self.cost = self._costs(table)

    # -- what the columns say ------------------------------------------------------------------------

    @staticmethod
    def _column(table: pa.Table, name: str) -> Any:
        column = table[name].combine_chunks()
        column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column

    def _check_ids(self) -> None:
        kind = self.ids.type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise PlanError(f"task must be a column of text or integers; it is of {kind}")
        if self.ids.null_count:
            raise PlanError(f"row {_first(self.ids.is_null())}: task is null; each row needs an id")
        if len(pc.unique(self.ids)) < len(self.ids):
            counts = self.ids.value_counts()
            twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
            rows = np.flatnonzero(pc.equal(self.ids, twice[0]))[:2].tolist()
            raise PlanError(f"task {twice[0].as_py()!r} is there twice, in the rows {rows[0]} and {rows[1]}")

    def _name_stages(self, table: pa.Table) -> None:
        """Stages in the order in which they first appear; those that the file tells of come before."""
        by = self._column(table, "stage") if "stage" in table.column_names else self.function
        for column, what in ((self.function, "function"), (by, "stage")):
            if column.null_count:
                raise PlanError(f"{self.where(_first(column.is_null()))}: {what} is null")
        told = [stage["name"] for stage in self.about.get("stages", ())]
        found = pc.unique(by).to_pylist()
        self.stages = told + [name for name in found if name not in set(told)]
        codes = np.asarray(pc.index_in(by, value_set=pa.array(self.stages, by.type)), np.int64)
        self._order = np.argsort(codes, kind="stable")
        self._ends = np.cumsum(np.bincount(codes, minlength=len(self.stages)))
        self._stage_of = codes
        self._number_of = np.empty(len(codes), np.int64)  # in its stage
        starts = np.concatenate([[0], self._ends[:-1]])[codes[self._order]] if len(codes) else codes
        self._number_of[self._order] = np.arange(len(codes)) - starts

    def _parse(self) -> None:
        """Check the parameters, row by row; nothing of them is kept but the text, and the references."""
        self.texts = _values(self.parameters)
        for row, text in enumerate(self.texts):
            try:
                value = parse(text)
            except ValueError as error:
                raise PlanError(f"{self.where(row)}: parameters cannot be read: {error}; {short_repr(text)}") from None
            if may_refer(text) and (refs := list(references(value))):
                self.refs[row] = refs

    def _costs(self, table: pa.Table) -> Any:
        if "cost" not in table.column_names:
            return np.full(len(self.ids), np.nan)
        try:
            column = self._column(table, "cost").cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise PlanError(f"cost must be a column of seconds: {error}") from error
        cost, given = column.to_numpy(zero_copy_only=False), np.asarray(column.is_valid())
        some = np.bincount(self._stage_of[given], minlength=len(self.stages)) > 0
        if len(bad := np.flatnonzero(~(cost >= 0) & (given | some[self._stage_of]))):
            what = cost[bad[0]] if given[bad[0]] else "null, and other tasks of its stage have one"
            raise PlanError(f"{self.where(int(bad[0]))}: cost must be seconds >= 0; it is {what}")
        return cost

    def where(self, row: int) -> str:
        """A row, for people."""
        return f"row {row} (task {self.ids[row].as_py()!r})"

    def rows_of(self, stage: int) -> Ints:
        """The rows of a stage, in their order."""
        return self._order[self._ends[stage - 1] if stage else 0 : self._ends[stage]]

    # -- what depends on what ------------------------------------------------------------------------

    def _link(self, dependencies: Any) -> None:
        """The inputs of all rows, by stage and row: what its parameters refer to, then what else it depends on."""
        if pa.types.is_null(dependencies.type):  # nobody has any
            dependencies = dependencies.cast(pa.list_(self.ids.type))
        if not (pa.types.is_list(dependencies.type) or pa.types.is_large_list(dependencies.type)):
            raise PlanError(f"dependencies must be a column of lists of ids; it is of {dependencies.type}")
        counts = np.asarray(pc.fill_null(pc.list_value_length(dependencies), 0), np.int64)
        takers = np.repeat(np.arange(len(self.ids)), counts)
        given = self._rows(pc.list_flatten(dependencies), takers, "dependencies have")
        self.listed = set(self._stage_of[takers[~np.isin(takers, list(self.refs))]].tolist())  # stages with `inputs`
        if self.refs:
            referred = np.repeat(np.fromiter(self.refs, np.int64), [len(ids) for ids in self.refs.values()])
            ids = [id_ for ids in self.refs.values() for id_ in ids]
            rows = self._rows(ids, referred, "parameters refer to")
            pairs = referred * len(self.ids) + rows
            other = ~np.isin(takers * len(self.ids) + given, pairs)
            takers, given = np.concatenate([referred, takers[other]]), np.concatenate([rows, given[other]])
        rank = np.empty(len(self.ids), np.int64)
        rank[self._order] = np.arange(len(self.ids))
        order = np.argsort(rank[takers], kind="stable")
        self._inputs = given[order]
        self._input_ends = np.cumsum(np.bincount(rank[takers], minlength=len(self.ids)))

    def _rows(self, ids: Any, takers: Ints, how: str) -> Ints:
        """The rows of these ids. PlanError names the first that is in none."""
        try:
            wanted = (pa.array(ids) if isinstance(ids, list) else ids).cast(self.ids.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise PlanError(f"{how} ids of another type than task, which is {self.ids.type}: {error}") from error
        found = pc.index_in(wanted, value_set=self.ids)
        if found.null_count:
            at = _first(found.is_null())
            row = int(takers[at])
            raise PlanError(f"{self.where(row)}: its {how} {wanted[at].as_py()!r}, and there is no such task")
        return np.asarray(found, np.int64)

    def wire(self, stage: int) -> Wire:
        """The inputs of the tasks of a stage."""
        begin, end = (int(self._ends[stage - 1]) if stage else 0), int(self._ends[stage])
        first = int(self._input_ends[begin - 1]) if begin else 0
        ends = self._input_ends[begin:end] - first
        inputs = self._inputs[first : first + (int(ends[-1]) if len(ends) else 0)]
        stages = self._stage_of[inputs]
        one = len(stages) == 0 or (int(stages[0]) < stage and bool((stages == stages[0]).all()))
        source: Any = (int(stages[0]) if len(stages) else 0) if one else stages.astype(np.int32)
        return Wire(source, self._number_of[inputs].astype(np.int32), ends)


def _stage(plan: Plan, table: _Table, number: int, name: str, known: Mapping[str, Callable[..., Any]]) -> PlannedStage:
    told: dict[str, Any] = next((s for s in table.about.get("stages", ()) if s["name"] == name), {})
    rows = table.rows_of(number)
    names = pc.unique(table.function.take(rows)).to_pylist() or [told["function"]]
    if len(names) > 1:
        raise PlanError(f"stage {name!r} has tasks of the functions {', '.join(names)}: a stage has one function")
    options = dict(told.get("options", {}))
    if len(rows) and not np.isnan(table.cost[rows[0]]):
        options["cost"] = table.cost[rows]
    stage = plan._stage(known[names[0]], str(name), options)
    ids = table.ids.take(rows)
    stage.count, stage.wires, stage.holes = len(rows), [table.wire(number)], "parameters"
    stage.kwargs = {INPUTS: 0} if number in table.listed else {}
    stage.items = [table.texts[row] for row in rows.tolist()]
    stage.keys = told["keys"] if "keys" in told else None if len(rows) == 1 else ids.to_pylist()
    stage.filed = Filed(names[0], ids)
    return stage


def _functions(
    table: _Table, functions: Mapping[str, Callable[..., Any]], imports: Collection[str]
) -> dict[str, Callable[..., Any]]:
    """What the names of functions stand for."""
    told = [stage["function"] for stage in table.about.get("stages", ())]
    found = dict[str, Callable[..., Any]]()
    for name in dict.fromkeys([*told, *pc.unique(table.function).to_pylist()]):
        module, colon, inner = name.partition(":")
        if name in functions:
            found[name] = functions[name]
        elif colon and module.partition(".")[0] in imports:
            found[name] = _imported(name, module, inner)
        else:
            known = ", ".join(map(repr, functions)) or "none"
            hint = f", or allow its import with imports=[{module.partition('.')[0]!r}]" if colon else ""
            raise PlanError(f"the plan's tasks call {name!r}: pass it in functions=, which has {known}{hint}")
    return found


def _imported(name: str, module: str, inner: str) -> Callable[..., Any]:
    try:
        value: Any = importlib.import_module(module)
        for part in inner.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        raise PlanError(f"the function {name!r} cannot be imported: {error}") from error
    if callable(value):
        return value  # type: ignore[no-any-return]
    raise PlanError(f"the function {name!r} is no function: {value!r}")


def _values(column: Any) -> list[Any]:
    """Parameters as text, dicts and lists; null is none."""
    if pa.types.is_struct(column.type):
        names, fields = [field.name for field in column.type], column.flatten()
        rows = zip(*(values.to_pylist() for values in fields), strict=True) if fields else [()] * len(column)
        return [{n: v for n, v in zip(names, row, strict=True) if v is not None} for row in rows]
    values = column.to_pylist()
    if pa.types.is_map(column.type):
        return [dict(pairs or ()) for pairs in values]
    return ["{}" if value is None else value for value in values]


def _first(where: Any) -> int:
    return int(np.flatnonzero(np.asarray(where))[0])
