"""What a plan will take on a compute: the real scheduler, in virtual time, on a model of it.

No clock, and no I/O but to read the price list that comes with fnmap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from fnmap.errors import PlanError
from fnmap.planning.cost import Used, bill, price_list
from fnmap.planning.durations import Durations, by_stage
from fnmap.planning.flow import Flow
from fnmap.planning.forecast import Forecast, StageForecast, peak, profile
from fnmap.planning.graph import Edge, Graph, Upstream, critical_path
from fnmap.planning.models import ComputeModel
from fnmap.planning.policy import ChunkPolicy, Retry
from fnmap.planning.schedule import Schedule
from fnmap.planning.spread import busiest_second
from fnmap.planning.virtual import VirtualRun, VirtualStage

DRIVER_S = 50e-6  # of the driver for a call: some 20 to 80 us, mostly to pickle it and to take its answer


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What holds for the schedule of one stage; None: what holds for all. `limit`: calls at once. `costs`: what the
    scheduler takes the tasks to cost. `retry`: how much memory the attempt after a loss has."""

    chunks: ChunkPolicy | None = None
    limit: int | None = None
    backups: bool | None = None
    costs: Any = None
    retry: Retry | None = None


def simulate(
    counts: Sequence[int],
    edges: Sequence[Edge] = (),
    upstream: Sequence[Upstream] | None = None,
    *,
    seconds: Any,
    model: ComputeModel,
    workers: int | None = None,
    seed: int = 0,
    chunks: ChunkPolicy | None = None,
    backups: bool | None = None,
    by_cost: bool = False,
    rules: Sequence[Rules] | None = None,
    names: Sequence[str] | None = None,
    result_bytes: Sequence[float] | None = None,
    driver_s: float = DRIVER_S,
    prices: Mapping[str, Any] | None = None,
) -> Forecast:
    """What a plan takes; the same for the same seed.

    `counts`, `edges`, `upstream`: as of Graph. `seconds`: what tasks take on this machine: an array of all tasks,
    numbered through; or a sequence with a number or an array for each stage. `workers`: calls at once, the model's
    slots unless said. `backups`: are calls that straggle tried a second time? By default where the model has
    stragglers. `by_cost`: does the scheduler know the seconds beforehand? `rules`: what differs, by stage.
    `result_bytes`: of a task's result, by stage. `driver_s`: time of the driver for each call, one after the other.
    """
    names = list(names) if names is not None else [f"stage {k}" for k in range(len(counts))]
    workers = model.slots if workers is None else workers
    if workers < 1:
        raise PlanError(f"workers must be at least 1; got {workers}")
    durations = by_stage(seconds, counts)
    for name, each in zip(names, durations, strict=True):
        _check_time_limit(name, each, model)
    graph = Graph(counts, edges, list(upstream or ["fail"] * len(counts)))
    shortest_s = critical_path(graph, [each.seconds for each in durations], names) / model.speed
    of_all = Rules(
        chunks or ChunkPolicy(target_s=model.chunk_s), backups=model.straggle > 0 if backups is None else backups
    )
    stages = [
        VirtualStage(number, each, _schedule(each, own, of_all, workers, by_cost))
        for number, (each, own) in enumerate(zip(durations, rules or [of_all] * len(counts), strict=True))
    ]
    run = VirtualRun(model, Flow(graph, [stage.schedule for stage in stages]), stages, workers, Random(seed), driver_s)
    run.play()
    return _forecast(run, names, shortest_s, _bytes(graph, result_bytes), prices or price_list())


def _schedule(each: Durations, own: Rules, of_all: Rules, workers: int, by_cost: bool) -> Schedule:
    known: Any = each.seconds if by_cost else None  # an array will do
    schedule = Schedule(
        slots=workers,
        chunks=own.chunks or of_all.chunks or ChunkPolicy(),
        retry=own.retry or Retry(0),
        costs=known if own.costs is None else own.costs,
        limit=own.limit,
        backups=bool(of_all.backups if own.backups is None else own.backups),
    )
    schedule.add(each.count, ready=False)
    schedule.close()
    return schedule


def _check_time_limit(name: str, each: Durations, model: ComputeModel) -> None:
    takes_s = each.longest / model.speed + model.overhead_s
    if takes_s > model.time_limit_s:
        raise PlanError(
            f"task {each.longest_at} of {name!r} takes about {takes_s:,.0f} s on {model.name}, where a call is stopped "
            f"after {model.time_limit_s:,.0f} s; split it into smaller tasks, or run the stage on a compute without "
            "such a limit, as are local workers and Fargate"
        )


def _bytes(graph: Graph, result_bytes: Sequence[float] | None) -> tuple[float, float] | None:
    """Bytes of results that are written, and that are read as inputs."""
    if result_bytes is None:
        return None
    written = sum(n * size for n, size in zip(graph.counts, result_bytes, strict=True))
    return written, float(sum(len(edge.inputs) * result_bytes[edge.source] for edge in graph.edges))


def _forecast(
    run: VirtualRun,
    names: Sequence[str],
    shortest_s: float,
    moved: tuple[float, float] | None,
    prices: Mapping[str, Any],
) -> Forecast:
    model, calls = run.model, len(run.starts)
    requests = {kind: calls * n for kind, n in model.requests.items()}
    starts, ends = np.sort(np.asarray(run.starts)), np.sort(np.asarray(run.ends))
    all_s = sum(stage.durations.sum for stage in run.stages) / model.speed
    return Forecast(
        compute=model.name,
        workers=run.workers,
        tasks=run.flow.graph.total,
        failed=run.failed,
        makespan_s=run.ended,
        work_s=run.work_s,
        paid_s=run.fleet.paid_s,
        peak=peak(starts, ends),
        calls=calls,
        cold_starts=run.fleet.cold_starts,
        **run.tally,
        requests=requests,
        writes_per_s=busiest_second(ends) * model.requests.get("s3_put", 0.0),
        reads_per_s=busiest_second(starts) * model.requests.get("s3_get", 0.0),
        bytes_written=moved and moved[0],
        bytes_read=moved and moved[1],
        dollars=bill(model, Used(run.fleet.paid_s, requests, calls * model.log_bytes), prices),
        prices_of=f"{prices['region']}, {prices['date']}" if model.billing != "none" else "",
        critical_path_s=shortest_s,
        lower_bound_s=max(shortest_s, all_s / run.workers),
        stages=tuple(
            StageForecast(name, s.durations.count, s.calls, min(s.first_s, s.last_s), s.last_s)
            for name, s in zip(names, run.stages, strict=True)
        ),
        profile=profile(starts, ends, run.ended),
    )
