"""What a plan will take: its stages, as the simulator wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fnmap.compute.base import cores
from fnmap.errors import PlanError
from fnmap.plan_run import stage_costs
from fnmap.planning.forecast import Forecast
from fnmap.planning.models import FARGATE, LAMBDA, LOCAL, ComputeModel
from fnmap.planning.simulate import simulate

if TYPE_CHECKING:
    from fnmap.plan_parts import PlannedStage
    from fnmap.plans import Plan

MODELS = {"local": LOCAL, "lambda": LAMBDA, "fargate": FARGATE}


def forecast(
    plan: Plan, *, on: str | ComputeModel, workers: int | None, seconds: Any = None, seed: int = 0, **changes: Any
) -> Forecast:
    """Simulate the plan on a compute. `changes` are fields of its model that are otherwise here."""
    model = MODELS.get(on) if isinstance(on, str) else on
    if model is None:
        raise PlanError(
            f"on={on!r}: there is no model of that compute; there are {', '.join(MODELS)}, or a ComputeModel"
        )
    if model is LOCAL and workers is None:
        workers = cores()
    if unknown := changes.keys() - ComputeModel.__dataclass_fields__.keys():
        raise PlanError(
            f"a compute model has no {sorted(unknown)}; it has {', '.join(ComputeModel.__dataclass_fields__)}"
        )
    graph = plan.graph()
    takes = [_seconds(stage, seconds) for stage in plan.stages]
    return simulate(
        graph.counts,
        graph.edges,
        graph.upstream,
        seconds=takes,
        model=replace(model, **changes),
        workers=workers,
        seed=seed,
        by_cost=any(stage.options.cost is not None for stage in plan.stages),
        names=[stage.name for stage in plan.stages],
    )


def _seconds(stage: PlannedStage, given: Any) -> Any:
    """What each task of a stage takes: as said here, or by its `cost=`."""
    said = given.get(stage.name) if isinstance(given, Mapping) else given
    if said is None:
        said = stage_costs(stage)
    if said is None:
        raise PlanError(
            f"it is not known what a task of stage {stage.name!r} takes: pass seconds={{{stage.name!r}: ...}}, a number"
            " or one for each task, or plan the stage with cost= in seconds"
        )
    return said
