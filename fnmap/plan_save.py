"""Plans as files that `plan_file` reads: one row a task. What JSON cannot say is refused, and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fnmap import build
from fnmap.errors import PlanError
from fnmap.format.inputs import Hole
from fnmap.format.parameters import ARGS, TASK
from fnmap.options import DEFAULTS, StageOptions
from fnmap.plan_start import stage_costs
from fnmap.planning.policy import Retry
from fnmap.worker import short_repr

if TYPE_CHECKING:
    from pathlib import Path

    from fnmap.plan_parts import PlannedStage, Wire
    from fnmap.plans import Plan

Ids = Sequence[Sequence[Any]]  # of the tasks of each stage


def write_plan(plan: Plan, path: str | Path) -> None:
    """Write the plan as one Parquet file."""
    if not plan.stages:
        raise PlanError(f"the plan {plan.name!r} has no stage: there is nothing to write")
    ids, names = _ids(plan), _function_names(plan)
    tables = [_rows(stage, ids[at], ids, names[at]) for at, stage in enumerate(plan.stages)]
    about = [
        {"name": stage.name, "function": name, "options": _options(stage), **_keys(stage, own)}
        for stage, name, own in zip(plan.stages, names, ids, strict=True)
    ]
    told = {"fnmap": json.dumps({"plan": plan.name, "stages": about})}
    pq.write_table(pa.concat_tables(tables).replace_schema_metadata(told), path)


def _ids(plan: Plan) -> Ids:
    """What each task is called: as in the file that it came from, or by stage and number."""
    filed = [None if stage.filed is None else stage.filed.ids.to_pylist() for stage in plan.stages]
    known = [id_ for ids in filed if ids is not None for id_ in ids]
    if not any(isinstance(id_, int) for id_ in known):
        found = [
            ids if ids is not None else [f"{stage.name}[{task}]" for task in range(stage.count)]
            for stage, ids in zip(plan.stages, filed, strict=True)
        ]
    else:  # all ids are of one type: those of new tasks go on from the largest
        found, free = [], max(known) + 1
        for stage, ids in zip(plan.stages, filed, strict=True):
            found.append(ids if ids is not None else range(free, free + stage.count))
            free += 0 if ids is not None else stage.count
    return found


def _function_names(plan: Plan) -> list[str]:
    """What each stage's function is called: as in the file, or by the last part of its own name."""
    taken = dict[str, Any]()
    for stage in plan.stages:
        name = stage.filed.function if stage.filed else build.label(stage.fn).rpartition(".")[2]
        if taken.setdefault(name, stage.fn) is not stage.fn:
            raise PlanError(f"two functions of the plan are called {name!r}: a file has functions by name")
    return [stage.filed.function if stage.filed else build.label(stage.fn).rpartition(".")[2] for stage in plan.stages]


def _rows(stage: PlannedStage, own: Sequence[Any], ids: Ids, name: str) -> pa.Table:
    if stage.options.on_upstream_error == "skip" or any(wire.columns is not None for wire in stage.wires):
        raise PlanError(
            f"stage {stage.name!r} takes columns of results, or leaves out what failed: a file cannot say that"
        )
    kind = pa.string() if isinstance(next((i for tasks in ids for i in tasks), ""), str) else pa.int64()
    takes = [_referred(wire, ids) for wire in stage.wires]
    texts = [_text(stage, task, takes) for task in range(stage.count)]
    depends = [list(dict.fromkeys(i for taken in takes for i in taken(task))) for task in range(stage.count)]
    costs = stage_costs(stage)
    return pa.table(
        {
            "task": pa.array(list(own), kind),
            "stage": pa.array([stage.name] * stage.count, pa.string()),
            "function": pa.array([name] * stage.count, pa.string()),
            "parameters": pa.array(texts, pa.string()),
            "dependencies": pa.array(depends, pa.list_(kind)),
            "cost": pa.array([None] * stage.count if costs is None else costs, pa.float64()),
        }
    )


def _referred(wire: Wire, ids: Ids) -> Callable[[int], list[Any]]:
    """The ids of what each task takes by this wire."""
    stages, tasks = wire.stage, [int(task) for task in wire.tasks]
    of = [ids[stages if isinstance(stages, int) else stages[at]][task] for at, task in enumerate(tasks)]
    if wire.ends is None:
        return lambda task: [of[task]]
    ends = [0, *(int(end) for end in wire.ends)]
    return lambda task: of[ends[task] : ends[task + 1]]


def _text(stage: PlannedStage, task: int, takes: Sequence[Callable[[int], list[Any]]]) -> str:
    """The parameters of one task as JSON."""
    own = () if stage.items is None else stage.items[task]
    try:
        if stage.holes == "parameters":
            return own if isinstance(own, str) else json.dumps(own)
        args, kwargs = _hollow(own, takes[0](task)) if stage.holes else _given(stage, own, takes, task)
        kwargs = {**{name: _plain(value) for name, value in (stage.options.kwargs or {}).items()}, **kwargs}
        return json.dumps({**({ARGS: args} if args else {}), **kwargs} if kwargs else args)
    except (TypeError, ValueError) as error:
        raise PlanError(
            f"task {task} of stage {stage.name!r} cannot be written: {error}; parameters of a file are numbers, texts,"
            " None, and lists and dicts of them"
        ) from None


def _hollow(own: Any, ids: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a task that was added by itself."""
    args, kwargs = own

    def shown(value: Any) -> Any:
        return {TASK: ids[value.number]} if isinstance(value, Hole) else _plain(value)

    return [shown(value) for value in args], {name: shown(value) for name, value in kwargs.items()}


def _given(
    stage: PlannedStage, own: Any, takes: Sequence[Callable[[int], list[Any]]], task: int
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a task of `map`, `gather` or `reduce`."""

    def shown(number: int) -> Any:
        if number < 0:
            return _plain(own[-1 - number])
        taken = [{TASK: id_} for id_ in takes[number](task)]
        return taken[0] if stage.wires[number].ends is None else taken

    return [shown(n) for n in stage.args], {name: shown(n) for name, n in stage.kwargs.items()}


def _plain(value: Any) -> Any:
    """The value, if it comes back from JSON as it is. Raises TypeError."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list:
        return [_plain(inner) for inner in value]
    if kind is dict and all(type(name) is str for name in value) and not value.keys() & {TASK, ARGS}:
        return {name: _plain(inner) for name, inner in value.items()}
    raise TypeError(f"{short_repr(value)} is a {kind.__name__}")


_SCALARS = frozenset({int, float, str, bool, type(None)})


def _options(stage: PlannedStage) -> dict[str, Any]:
    """The options of a stage that are not the default."""
    said = {name: getattr(stage.options, name) for name in StageOptions.__optional_keys__ - {"cost"}}
    said = {name: value for name, value in said.items() if value != getattr(DEFAULTS, name)}
    if isinstance(retry := said.get("retries"), Retry):
        said["retries"] = retry.retries
        if retry != Retry(retry.retries):
            raise PlanError(f"stage {stage.name!r}: {retry} cannot be written: a file has a number of retries")
    return said


def _keys(stage: PlannedStage, ids: Sequence[Any]) -> dict[str, Any]:
    """By what its results are told apart, unless that is the tasks' ids."""
    if stage.keys is None or (stage.filed is not None and list(stage.keys) == list(ids)):
        return {} if stage.keys is not None else {"keys": None}
    try:
        return {"keys": [_plain(key) for key in stage.keys]}
    except TypeError as error:
        raise PlanError(f"the keys of stage {stage.name!r} cannot be written: {error}") from None
