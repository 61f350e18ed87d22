"""A reduction as stages: each group's results are combined in a tree whose shape depends on their number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fnmap.errors import UsageError
from fnmap.worker import short_repr

if TYPE_CHECKING:
    from fnmap.plan_parts import PlannedStage, StageRef
    from fnmap.plans import Plan


def grow_tree(plan: Plan, last: PlannedStage, source: StageRef, keys: Sequence[Any] | None, fan_in: int) -> StageRef:
    """Append the stages of a reduction: for groups of over `fan_in` results some in between, named
    `<name>.1` and so on, and `last`, with a task for each group."""
    from fnmap.plan_parts import Wire

    distinct, group = _groups(len(source), keys)
    order = np.argsort(group, kind="stable")
    stages, tasks, group = np.full(len(order), source.number), order, group[order]
    columns, level = source.columns, 0
    while len(group) and (sizes := np.bincount(group, minlength=len(distinct))).max() > fan_in:
        level += 1
        big = sizes[group] > fan_in if columns is None else np.ones(len(group), bool)  # columns of the source alone
        starts = np.cumsum(sizes) - sizes
        block = (np.arange(len(group)) - starts[group]) // fan_in
        inner = group[big] * (len(order) + 1) + block[big]  # numbers a block of a group; ascending
        cuts = np.flatnonzero(np.diff(inner, append=-1))
        between = replace(last, name=plan._name(last.fn, f"{last.name}.{level}"), count=len(cuts), wires=[], args=[0])
        between.wires.append(_wire(Wire, stages[big], tasks[big], cuts + 1, columns))
        number = plan._append(between).number
        groups = np.concatenate([group[big][cuts], group[~big]])
        stages = np.concatenate([np.full(len(cuts), number), stages[~big]])
        tasks = np.concatenate([np.arange(len(cuts)), tasks[~big]])
        again = np.argsort(groups, kind="stable")
        group, stages, tasks = groups[again], stages[again], tasks[again]
        columns = None
    last.count, last.keys, last.args = len(distinct), (None if keys is None else distinct), [0]
    last.lone = keys is None
    ends = np.cumsum(np.bincount(group, minlength=len(distinct)))
    last.wires.append(_wire(Wire, stages, tasks, ends, columns))
    return plan._append(last)


def _groups(count: int, keys: Sequence[Any] | None) -> tuple[list[Any], Any]:
    """The keys in order of their first appearance, and which of them each task has."""
    if keys is None:
        return [None], np.zeros(count, np.int64)
    places, group = dict[Any, int](), list[int]()
    for task, key in enumerate(keys):
        try:
            group.append(places.setdefault(key, len(places)))
        except TypeError as error:
            raise UsageError(f"by: the key of task {task} cannot be hashed: {short_repr(key)}: {error}") from error
    return list(places), np.array(group, np.int64)


def _wire(kind: Any, stages: Any, tasks: Any, ends: Any, columns: Any) -> Any:
    one = int(stages[0]) if len(stages) and bool((stages == stages[0]).all()) else stages.tolist()
    return kind(one, tasks.astype(np.int32), ends, columns)
