"""How a plan's run starts: its stages are made ready, and what is there already is put into them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fnmap import build
from fnmap.compute.base import Warm
from fnmap.durable import Durable, stored_parts
from fnmap.durable_plan import begin_plan
from fnmap.errors import PlanError, UsageError
from fnmap.format import keys
from fnmap.format.travel import together
from fnmap.links import PartFeed, SkippingFeed, template
from fnmap.options import check_cache, check_errors, check_priority
from fnmap.plan_run import PlanRun
from fnmap.planning.graph import Graph
from fnmap.planning.schedule import State
from fnmap.shared import Shared
from fnmap.source import Items, NoItems
from fnmap.stage import Part, Stage
from fnmap.storage.base import Store, can_map

if TYPE_CHECKING:
    from fnmap.caching import Cached
    from fnmap.plan_parts import PlannedStage
    from fnmap.plans import Plan
    from fnmap.session import Session


def start_plan(
    session: Session,
    plan: Plan,
    *,
    name: str | None,
    errors: Any,
    priority: int,
    progress: bool | None,
    cache: bool | str = False,
) -> PlanRun:
    """A run of the plan that has started. What can be wrong with the plan is raised here."""
    if not plan.stages:
        raise PlanError(f"the plan {plan.name!r} has no stage: add one with map, add, gather or reduce")
    if session.results == "arrow":
        raise UsageError('results="arrow" is for maps and calls: run the plan in another session')
    plan = plan.snapshot()
    errors, graph = check_errors(errors), plan.graph()
    live_id, caches = build.new_run_id(), check_cache(cache) or any(stage.options.cache for stage in plan.stages)
    made_up = name is None
    if name is None and caches:
        from fnmap.caching import new_name

        name = new_name()
    run = PlanRun(session, plan, name or live_id, errors, check_priority(priority), graph)
    store, number = (session.scratch, 0) if name is None else (session.store, 0)
    run.digits = _digits(session, store, plan, graph)
    stages = make_stages(run, session, store, run.id, live_id, number)
    for stage, stage_run in zip(stages, run.runs.values(), strict=True):
        stage_run.ledger.hold(stage)
    build.check_store(session, store)
    if caches:
        run.cached = _cached(run, store, cache)
    if name is None:
        weakref.finalize(run, _forget, store, live_id)
    else:
        number = begin_plan(run, store)  # whatever can be wrong with the plan was found before
        for stage in stages:
            stage.renumber(number, run.digits)
    try:
        if number > 0:
            _restore(run, stages, store)
        for at, cached in run.cached.items():
            keep_as = None if made_up else keys.hits(run.id, number, at)
            cached.fill(run.runs[plan.stages[at].name].ledger, stages[at].schedule, keep_as)
    except BaseException:
        if run.durable is not None:
            run.durable.rest(session)  # the name is free again
        raise
    run.show_progress(session.progress if progress is None else progress)
    run.begin(stages)
    return run


def _digits(session: Session, store: Store, plan: Plan, graph: Graph) -> int:
    """Over how many hex digits the keys of its parts are spread."""
    sizes = [(stage.options, stage.count) for stage in plan.stages]
    return build.part_digits(session, store, sizes, reads=bool(graph.edges))


def _cached(run: PlanRun, store: Store, version: bool | str) -> dict[int, Cached]:
    """The cache's side of the stages."""
    from fnmap.caching import of_plan

    return of_plan(run.plan, run.graph, store, run.id, version)


def _restore(run: PlanRun, stages: Sequence[Stage], store: Store) -> None:
    """Put what is committed already, or was found in the cache, into the run. Failures are not taken over: they are
    tried again."""
    from fnmap.caching import found_before

    runs = list(run.runs.values())
    done: list[list[int]] = [[] for _ in stages]
    for key, tasks, report in stored_parts(store, run.id, run.digits):
        number = keys.place_of_part(key)[0]
        assert report.values is not None
        runs[number].ledger.put_stored(Part(tasks, report.values, report.failures, key))
        done[number] += [t for at, t in enumerate(tasks) if at not in report.failures]
    for _, number, parts in found_before(store, run.id):
        done[number] += runs[number].ledger.put_hits(parts)
    for stage, tasks_done in zip(stages, done, strict=True):
        stage.schedule.skip(set(tasks_done), State.DONE)  # some are in two parts


def make_stages(run: PlanRun, session: Session, store: Store, run_id: str, live_id: str, driver: int) -> list[Stage]:
    """The stages of a plan, ready to be driven; they commit to this store."""
    made = list[Stage]()
    edges = iter(run.plan.edges())
    results = [r.ledger.results for r in run.runs.values()]
    shared = build.new_shared(session, live_id)
    framed = run_id == live_id and can_map(store)  # it has no name: nothing but its own processes reads the parts
    with together():
        for number, planned in enumerate(run.plan.stages):
            own = [(next(edges), wire.columns) for wire in planned.wires]
            kind = SkippingFeed if planned.options.on_upstream_error == "skip" else PartFeed
            shape = template(planned.args, planned.kwargs, holes=planned.holes)
            feed = kind(store, own, results, run.graph.locate, shape)
            ledger = run.runs[planned.name].ledger
            ledger.store = store
            keeper = Durable(store, run_id, driver, number, digits=run.digits, framed=framed)
            made.append(_stage(session, planned, f"{live_id}.{number}", ledger, keeper, feed, shared))
            if number == 0 and isinstance(session.compute, Warm):  # meanwhile
                session.compute.warm(made[0].job, planned.count)
    if shared is not None:
        shared.clear_with(run)
    return made


def _stage(
    session: Session,
    planned: PlannedStage,
    live_id: str,
    ledger: Any,
    keeper: Durable,
    feed: PartFeed,
    shared: Shared | None,
) -> Stage:
    limits = session.compute.limits
    source = NoItems() if planned.items is None else Items(planned.items, shared)
    job = build.make_job(session, planned.fn, planned.options, form="call", shared=shared)
    job = replace(job, scratch=session.scratch)
    limits = replace(limits, chunk_s=limits.chunk_s or IN_PROCESS_S)
    schedule = planned.options.schedule(limits, stage_costs(planned))
    schedule.add(planned.count, ready=False)
    schedule.close()
    return Stage(live_id, schedule, source, job, ledger, keeper, feed)


IN_PROCESS_S = 0.1  # of a chunk where calls run in this thread: it is committed, which is worth some tasks


def stage_costs(planned: PlannedStage) -> Any:
    """What each task is expected to take, or None."""
    cost = planned.options.cost
    if callable(cost) and (planned.items is None or planned.holes):
        raise PlanError(
            f"cost of stage {planned.name!r}: its tasks have no items; pass a sequence with a cost for each"
        )
    items = planned.items if planned.items is not None else range(planned.count)
    return build.check_costs(cost, items, "args" if planned.items is not None else "item")


def _forget(store: Store, run_id: str) -> None:
    """Delete what an unnamed run has left in the scratch store, in which nothing else is than the session's own."""
    store.delete([key for key in store.list(keys.PARTS) if keys.run_of_part(key) == run_id])
