"""Named runs of plans: the plan is kept in the store, and each stage commits there."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from fnmap.durable import PYTHON, Durable, check_not_live_here, kept_options, live, live_lock, with_digits
from fnmap.errors import UsageError
from fnmap.format import keys
from fnmap.format.payload import pack, unpack
from fnmap.format.travel import dumps
from fnmap.lease import begin_again, claim, read_head, read_plan
from fnmap.same import same_items, same_kwargs
from fnmap.storage.base import Store, create_parts, open_object
from fnmap.storage.owner import me

if TYPE_CHECKING:
    from fnmap.plan_parts import PlannedStage
    from fnmap.plan_run import PlanRun
    from fnmap.plans import Plan


def begin_plan(run: PlanRun, store: Store) -> int:
    """Claim the run's name for it; the number of its driver. Raises RunBusy if another driver may be alive,
    UsageError if the name belongs to another plan."""
    with live_lock:
        number = _claimed(run, store, keys.check_name(run.id))
        hold_plan(run, store, number)
        return number


def _claimed(run: PlanRun, store: Store, name: str) -> int:
    check_not_live_here(store, name)
    mine, plan = _head(run), dumps(run.plan)
    if create_parts(store, keys.plan(name), pack([with_digits(mine, run.digits), plan])):
        return 0
    head = read_plan(store, name)
    if head is None:
        number, before = begin_again(store, name), read_head(store, name)
        store.put(keys.plan(name), b"".join(pack([with_digits(mine, run.digits, before), plan])))
        return number
    if head["form"] != "plan":
        raise UsageError(f"name={name!r} belongs to a run of {head['function']}, not of a plan; choose another name")
    _check_same(read_planned(store, name), run.plan, name)
    run.digits = keys.digits_of(head)[-1]
    return claim(store, name, head)


def hold_plan(run: PlanRun, store: Store, number: int) -> None:
    """The run is driven from here, as its driver of that number."""
    run.durable = Durable(store, run.id, number, digits=run.digits)
    live(run, run.durable, run.session)


def read_planned(store: Store, name: str) -> Plan:
    """The plan of a named run."""
    plan: Plan = pickle.loads(unpack(open_object(store, keys.plan(name)))[1])  # type: ignore[arg-type]
    return plan


def _head(run: PlanRun) -> dict[str, Any]:
    plan = run.plan
    return {
        "format": 1, "python": PYTHON, "function": plan.name, "total": len(plan), "form": "plan",
        "stages": {stage.name: stage.count for stage in plan.stages}, "started": time.time(), "owner": me(),
        "options": kept_options({"errors": run.errors_option, "priority": run.priority}),
    }  # fmt: skip


def _check_same(before: Plan, now: Plan, name: str) -> None:
    """Raise UsageError unless the plans have the same stages, dependencies and arguments. Functions may have
    changed."""
    shapes = [[(stage.name, stage.count) for stage in plan.stages] for plan in (before, now)]
    if shapes[0] != shapes[1]:
        old, new = (", ".join(f"{stage}[{count}]" for stage, count in shape) for shape in shapes)
        raise UsageError(f"name={name!r} belongs to a plan of {old}, and this is one of {new}; choose another name")
    for was, planned in zip(before.stages, now.stages, strict=True):
        if _layout(was) != _layout(planned):
            raise UsageError(
                f"name={name!r} belongs to a run of a plan whose stage {was.name!r} has its arguments from elsewhere;"
                " choose another name"
            )
    for one, other in zip(before.edges(), now.edges(), strict=True):
        same = one.source == other.source and np.array_equal(one.inputs, other.inputs)
        if not (same and _equal_ends(one.ends, other.ends)):
            stage = now.stages[other.target].name
            raise UsageError(
                f"name={name!r} belongs to a run of a plan whose stage {stage!r} depends on other tasks;"
                " choose another name"
            )
    for was, planned in zip(before.stages, now.stages, strict=True):
        what = f"name={name!r} belongs to a run in which stage {was.name!r} has"
        same_items(was.items or (), planned.items or (), what)
        same_items(was.keys or (), planned.keys or (), f"{what} groups by")
        same_kwargs(was.options.kwargs or {}, planned.options.kwargs or {}, what)


def _layout(stage: PlannedStage) -> Any:
    """What each argument of a stage is, but for the values."""
    columns = [wire.columns for wire in stage.wires]
    return columns, stage.args, stage.kwargs, stage.holes, stage.items is None, stage.keys is None


def _equal_ends(one: Any, other: Any) -> bool:
    return (one is None) == (other is None) and (one is None or np.array_equal(one, other))
