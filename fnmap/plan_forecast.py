"""What a plan will take: its stages, as the simulator wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fnmap.compute.base import cores
from fnmap.errors import PlanError, UsageError
from fnmap.options import MapOptions, count
from fnmap.plan_start import stage_costs
from fnmap.planning.forecast import Forecast
from fnmap.planning.models import FARGATE, LAMBDA, LOCAL, ComputeModel
from fnmap.planning.simulate import Rules, simulate
from fnmap.worker import short_repr

if TYPE_CHECKING:
    from fnmap.plan_parts import PlannedStage
    from fnmap.plans import Plan

MODELS = {"local": LOCAL, "lambda": LAMBDA, "fargate": FARGATE}


def forecast(
    plan: Plan, *, on: str | ComputeModel, workers: int | None, seconds: Any = None, seed: int = 0, **changes: Any
) -> Forecast:
    """Simulate the plan on a compute. `changes` are fields of its model that are otherwise here."""
    model: Any = MODELS.get(on) if isinstance(on, str) else on
    if not isinstance(model, ComputeModel):
        raise PlanError(
            f"on={on!r}: there is no model of that compute; there are {', '.join(MODELS)}, or a ComputeModel"
        )
    if workers is not None:
        workers = _count(workers)
    elif model is LOCAL:
        workers = cores()
    names = [stage.name for stage in plan.stages]
    if isinstance(seconds, Mapping) and (strays := seconds.keys() - names):
        raise PlanError(f"seconds={seconds!r}: the plan has no stage {strays.pop()!r}; it has {', '.join(names)}")
    if unknown := changes.keys() - ComputeModel.__dataclass_fields__.keys():
        raise PlanError(
            f"a compute model has no {sorted(unknown)}; it has {', '.join(ComputeModel.__dataclass_fields__)}"
        )
    graph = plan.graph()
    costs = [None if (c := stage_costs(stage)) is None else np.asarray(c, float) for stage in plan.stages]
    takes = [_seconds(stage, seconds, known) for stage, known in zip(plan.stages, costs, strict=True)]
    model = replace(model, **changes)
    return simulate(
        graph.counts,
        graph.edges,
        graph.upstream,
        seconds=takes,
        model=model,
        workers=workers,
        seed=seed,
        rules=[_rules(stage.options, known, model) for stage, known in zip(plan.stages, costs, strict=True)],
        names=names,
    )


def _rules(options: MapOptions, costs: Any, model: ComputeModel) -> Rules:
    """As a run would schedule the stage."""
    return Rules(options.chunks(model.chunk_s), options.limit, options.idempotent, costs, options.retry)


def _count(workers: Any) -> int:
    try:
        return count(workers, 1, "workers must be an int >= 1")
    except UsageError as error:
        raise PlanError(str(error)) from None


def _seconds(stage: PlannedStage, given: Any, costs: Any) -> Any:
    """What each task of a stage takes: as said here, or by its `cost=`."""
    said = given.get(stage.name) if isinstance(given, Mapping) else given
    if said is None:
        said = costs
    if said is None:
        raise PlanError(
            f"it is not known what a task of stage {stage.name!r} takes: pass seconds={{{stage.name!r}: ...}}, a number"
            " or one for each task, or plan the stage with cost= in seconds"
        )
    column = np.asarray(said)
    numbers = column.dtype.kind in "iuf" or not column.size
    if not numbers or column.shape not in ((), (stage.count,)) or not (np.isfinite(column) & (column >= 0)).all():
        raise PlanError(
            f"seconds={short_repr(given)}: of stage {stage.name!r} they must be a number of 0 or more, or one for each"
            f" of its {stage.count} tasks; got {short_repr(said)}"
        )
    return said
