"""Plans: stages of tasks that depend on each other. Nothing runs before `run`.

with fnmap.plan("rollup") as p:
    losses = p.map(simulate, deals)
    prices = p.map(price, losses, kwargs={"events": p.add(read_events, path)})
    total = p.reduce(add_up, prices, by=region_of)
run = p.run()
run["add_up"].result()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np

from fnmap import build
from fnmap.errors import PlanError, UsageError
from fnmap.format.inputs import Hole
from fnmap.options import MapOptions, StageOptions, check_kwargs, count, resolve, shows
from fnmap.plan_parts import PlannedStage, StageRef, TaskRef, Wire
from fnmap.planning.graph import Edge, Graph, check_acyclic

if TYPE_CHECKING:
    from pathlib import Path

    from fnmap.compute.base import Compute
    from fnmap.plan_run import PlanRun
    from fnmap.planning.forecast import Forecast
    from fnmap.planning.models import ComputeModel
    from fnmap.storage.base import Store


class Plan:
    """Stages and what depends on what. A context manager for looks alone: nothing happens at its end."""

    def __init__(self, name: str = "plan") -> None:
        self.name = name
        self.stages: list[PlannedStage] = []
        self._added: dict[Any, tuple[int, Any]] = {}  # stages of `add`, by function and options

    def snapshot(self) -> Plan:
        """The plan as it is now: what is added later is no part of it."""
        frozen = Plan(self.name)
        frozen.stages = [stage.snapshot() for stage in self.stages]
        return frozen

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_added": {}}  # by id: of this process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs before `run`."""

    def __len__(self) -> int:
        return sum(stage.count for stage in self.stages)

    # -- stages --------------------------------------------------------------------------------------

    @shows(StageOptions)
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: StageRef | Iterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Unpack[StageOptions],
    ) -> StageRef:
        """A stage of one task for each item. An iterable may be a stage: its k-th result is the k-th item, and a
        task starts as soon as its own are there. A keyword may be a task, or a stage of one: all get its result.

        `name`: of the stage, by default the function's. Options: retries, timeout, chunksize, cache (as of
        `fnmap.map`), cost, limit (calls at once), idempotent (False: never tried a second
        time beside the first), on_upstream_error ("fail", "skip" or "pass" the error in place of the result).
        """
        if not iterables:
            raise UsageError("map needs at least one iterable of items, or a stage")
        stage = self._stage(fn, name, options)
        columns = [it if isinstance(it, StageRef) else _listed(at, it) for at, it in enumerate(iterables)]
        lengths = {len(column) for column in columns}
        if len(lengths) > 1:
            raise UsageError(f"the iterables must have equal lengths; got {[len(c) for c in columns]}")
        stage.count = lengths.pop()
        own = list[list[Any]]()
        for column in columns:
            if isinstance(column, StageRef):
                self._check_mine(column)
                stage.args.append(len(stage.wires))
                stage.wires.append(Wire(column.number, np.arange(stage.count, dtype=np.int32), None, column.columns))
            else:
                if bad := [at for at, item in enumerate(column) if isinstance(item, (TaskRef, StageRef))]:
                    raise UsageError(f"item {bad[0]} is a task of a plan: pass a whole stage, or use add(fn, task)")
                own.append(column)
                stage.args.append(-len(own))
        if own:
            stage.items = list(zip(*own, strict=True))
        self._bind(stage, check_kwargs(kwargs) or {})
        return self._append(stage)

    @shows(StageOptions)
    def gather(
        self,
        fn: Callable[..., Any],
        *stages: StageRef,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Unpack[StageOptions],
    ) -> StageRef:
        """A stage of one task: the function of the list of all results of each stage."""
        if not stages:
            raise UsageError("gather needs at least one stage")
        stage = self._stage(fn, name, options)
        stage.count, stage.lone = 1, True
        for source in stages:
            self._check_stage("gather", source)
            stage.args.append(len(stage.wires))
            tasks = np.arange(len(source), dtype=np.int32)
            stage.wires.append(Wire(source.number, tasks, np.array([len(source)]), source.columns))
        self._bind(stage, check_kwargs(kwargs) or {})
        return self._append(stage)

    @shows(StageOptions)
    def reduce(
        self,
        fn: Callable[[list[Any]], Any],
        source: StageRef,
        *,
        by: Callable[..., Any] | Sequence[Any] | None = None,
        fan_in: int = 32,
        name: str | None = None,
        **options: Unpack[StageOptions],
    ) -> StageRef:
        """Combine results by a function of a list of them, in a tree of at most `fan_in` at a time, in their order.

        `by`: a key for each task of the source, or a function of its item: a result for each key, in the order
        in which the keys first appear (`keys` of the stage). Without it, one result.
        """
        from fnmap.plan_tree import grow_tree

        self._check_stage("reduce", source)
        fan_in = count(fan_in, 2, "fan_in must be an int >= 2")
        return grow_tree(self, self._stage(fn, name, options), source, self._keys_of(source, by), fan_in)

    def add(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskRef:
        """One task. Arguments may be other tasks: it runs when they are done, and gets their results. All that
        are added with one function are a stage, which has its name."""
        return self.add_with({}, fn, *args, **kwargs)

    def add_with(self, options: Mapping[str, Any], fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskRef:
        """As `add`, with the options of `map`, and `name` for the stage's."""
        same = (id(fn.__func__), id(fn.__self__)) if isinstance(fn, MethodType) else (id(fn), 0)
        key = (same, repr(sorted(options.items(), key=lambda option: option[0])))
        if key not in self._added:
            asked, options = fn, dict(options)
            stage = self._stage(fn, options.pop("name", None), options)
            stage.holes, stage.items, stage.wires = True, [], [Wire([], [], [])]
            self._added[key] = self._append(stage).number, asked  # held: its id must not be another's one day
        number = self._added[key][0]
        stage, wire = self.stages[number], self.stages[number].wires[0]
        assert stage.items is not None
        inputs = list[TaskRef]()
        item = (
            tuple(self._hole(a, inputs) for a in args),
            {name: self._hole(value, inputs) for name, value in kwargs.items()},
        )
        stage.items.append(item)
        wire.stage += [ref.stage for ref in inputs]  # type: ignore[operator]
        wire.tasks += [ref.task for ref in inputs]
        wire.ends.append(len(wire.tasks))
        stage.count += 1
        return TaskRef(self, number, stage.count - 1)

    # -- what becomes of it --------------------------------------------------------------------------

    def graph(self) -> Graph:
        """The dependencies as columns. Raises PlanError if they go in a circle."""
        counts = [stage.count for stage in self.stages]
        graph = Graph(counts, self.edges(), [stage.options.on_upstream_error for stage in self.stages])
        if any(not isinstance(wire.stage, int) for stage in self.stages for wire in stage.wires):
            check_acyclic(graph, [stage.name for stage in self.stages])  # others are acyclic as they are made
        return graph

    def edges(self) -> list[Edge]:
        """What the graph is made of: an edge for each argument that takes results."""
        first = np.concatenate([[0], np.cumsum([stage.count for stage in self.stages], dtype=np.int64)])
        found = list[Edge]()
        for number, stage in enumerate(self.stages):
            for wire in stage.wires:
                ends = None if wire.ends is None else np.asarray(wire.ends, np.int64)
                if isinstance(wire.stage, int):
                    found.append(Edge(wire.stage, number, wire.tasks, ends, bool(stage.holes)))
                else:
                    through = first[np.asarray(wire.stage, np.int64)] + np.asarray(wire.tasks, np.int64)
                    found.append(Edge(-1, number, through, ends, bool(stage.holes)))
        return found

    def run(
        self,
        *,
        name: str | None = None,
        on: str | Compute | None = None,
        store: str | Path | Store | None = None,
        errors: Any = "raise",
        priority: int = 0,
        progress: bool | None = None,
        cache: bool | str = False,
    ) -> PlanRun:
        """Start it. `errors` as of `map`: under "raise" the first failure ends the run; `priority`: of two runs of
        a session, the one of higher priority gets free workers first. `cache`: as of `map`, for all stages that do not
        say otherwise."""
        from fnmap.api import session_for

        return session_for(on, store).run_plan(
            self, name=name, errors=errors, priority=priority, progress=progress, cache=cache
        )

    def explain(
        self, *, on: str | ComputeModel = "local", workers: int | None = None, seconds: Any = None, **model: Any
    ) -> Forecast:
        """What a run would take, without running it: the very scheduler runs in virtual time on a model of "local",
        "lambda" or "fargate". `workers`: calls at once. `seconds`: what a task takes here, a number or one for each
        stage by name; else the stages' `cost=` is taken for it. `model`: fields of the ComputeModel to change.
        """
        from fnmap.plan_forecast import forecast

        return forecast(self, on=on, workers=workers, seconds=seconds, **model)

    def to_parquet(self, path: str | Path) -> None:
        """Write it as a file that `fnmap.load_plan` reads, with functions by name. Raises PlanError for what JSON
        cannot say."""
        from fnmap.plan_save import write_plan

        write_plan(self, path)

    def __repr__(self) -> str:
        stages = ", ".join(f"{stage.name}[{stage.count}]" for stage in self.stages)
        return f"<Plan {self.name!r}: {len(self)} tasks; {stages or 'no stage'}>"

    # -- inside --------------------------------------------------------------------------------------

    def _stage(self, fn: Callable[..., Any], name: str | None, options: Mapping[str, Any]) -> PlannedStage:
        build.check_function(fn)
        fn, options = resolve(StageOptions, "a stage", fn, options)
        if isinstance(cost := options.get("cost"), Iterator):
            options = {**options, "cost": list(cost)}  # it is asked for more than once
        return PlannedStage(self._name(fn, name), fn, 0, options=MapOptions.check(options))

    def _name(self, fn: Callable[..., Any], name: str | None) -> str:
        taken = {stage.name for stage in self.stages}
        if name is not None:
            if not isinstance(name, str) or not name:
                raise UsageError(f"name must be a text; got {name!r}")
            if name in taken:
                raise PlanError(f"name={name!r}: the plan has a stage of that name already; choose another")
            return name
        base = build.label(fn).rpartition(".")[2].strip("<>")
        return next(n for n in _numbered(base) if n not in taken)

    def _append(self, stage: PlannedStage) -> StageRef:
        self.stages.append(stage)
        return StageRef(self, len(self.stages) - 1)

    def _bind(self, stage: PlannedStage, kwargs: Mapping[str, Any]) -> None:
        """Keywords: results that all tasks get, or plain values."""
        static = dict[str, Any]()
        for key, given in kwargs.items():
            value = given
            if isinstance(value, StageRef):
                if len(value) != 1:
                    raise PlanError(
                        f"kwargs[{key!r}] is the stage {value.name!r} of {len(value)} tasks: reduce or gather it first,"
                        " or pass it as an iterable"
                    )
                value = value[0]
            if isinstance(value, TaskRef):
                self._check_mine(value)
                stage.kwargs[key] = len(stage.wires)
                stage.wires.append(Wire(value.stage, np.full(stage.count, value.task, np.int32), None, value.columns))
            else:
                static[key] = value
        if static:
            stage.options = replace(stage.options, kwargs=static)

    def _hole(self, value: Any, inputs: list[TaskRef]) -> Any:
        if isinstance(value, StageRef):
            if len(value) != 1:
                raise PlanError(f"the stage {value.name!r} has {len(value)} tasks: pass one of them, or use gather")
            value = value[0]
        if not isinstance(value, TaskRef):
            inside = (
                value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
            )
            if any(isinstance(one, (TaskRef, StageRef)) for one in inside):
                raise PlanError("tasks in a list or dict are not waited for: pass each as an argument of its own")
            return value
        self._check_mine(value)
        if value.columns is not None:
            raise PlanError("columns of a result can be chosen in map, gather and reduce, not in add")
        inputs.append(value)
        return Hole(len(inputs) - 1)

    def _check_mine(self, ref: Any) -> None:
        if not isinstance(ref, (StageRef, TaskRef)):
            raise UsageError(f"a stage of this plan is needed here; got {ref!r}")
        if ref.plan is not self:
            raise PlanError(f"{ref!r} belongs to another plan: {ref.plan.name!r}")

    def _check_stage(self, verb: str, ref: Any) -> None:
        self._check_mine(ref)
        if isinstance(ref, TaskRef):
            name = self.stages[ref.stage].name
            raise PlanError(f"{verb} takes whole stages; got task {ref.task} of {name!r}, which can be passed to add")

    def _keys_of(self, source: StageRef, by: Any) -> list[Any] | None:
        """The key of each task of a stage."""
        if by is None:
            return None
        if not callable(by):
            if isinstance(by, (str, bytes)) or not isinstance(by, Iterable):
                raise UsageError(f"by must be a sequence of keys, one for each task, or a function; got {by!r}")
            keys = list(by)
            if len(keys) != len(source):
                raise UsageError(f"by must have a key for each of the {len(source)} tasks; it has {len(keys)}")
            return keys
        return [by(*item) for item in self._items_of(source.number)]

    def _items_of(self, number: int) -> list[tuple[Any, ...]]:
        """What a stage's tasks came from: its own items, the keys of its groups, or those of the stage before."""
        stage = self.stages[number]
        if stage.items is not None and not stage.holes:
            return stage.items
        if stage.keys is not None:
            return [(key,) for key in stage.keys]
        each = [w for w in stage.wires if w.ends is None and isinstance(w.stage, int) and w.tasks is not None]
        if stage.holes or not each:
            raise PlanError(
                f"by: the tasks of stage {stage.name!r} have no items; pass a sequence with the key of each"
            )
        assert isinstance(each[0].stage, int)
        return self._items_of(each[0].stage)


def _listed(at: int, iterable: Any) -> list[Any]:
    if isinstance(iterable, TaskRef) or (not hasattr(iterable, "__iter__") and not hasattr(iterable, "__getitem__")):
        raise UsageError(f"iterable {at} of the map must be a stage, or items; got {iterable!r}")
    return list(iterable)


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base}_{number}"
        number += 1
