"""Results of earlier runs in the place of calls: the keys of a map's or a plan's tasks, and what is there already."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fnmap import cache, clock
from fnmap.errors import MissingKey, NotCacheable
from fnmap.format import keys
from fnmap.format.call import Form
from fnmap.format.identity import function_identity
from fnmap.format.manifest import Manifest, decode
from fnmap.format.parts import Stored
from fnmap.format.task_keys import derived_keys, item_keys
from fnmap.lease import committed_hits
from fnmap.planning.schedule import State
from fnmap.stage import Part
from fnmap.storage.base import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fnmap.ledger import Ledger
    from fnmap.options import MapOptions
    from fnmap.plan_parts import PlannedStage
    from fnmap.planning.graph import Graph
    from fnmap.planning.schedule import Schedule
    from fnmap.plans import Plan

log = logging.getLogger(__name__)
FIRST_S = 30.0  # that a run takes before it writes down what it has so far
CROWDED = 32  # runs that have written down results of one function: what more of them read is merged
_runs = itertools.count()


def new_name() -> str:
    """A name for a run that is kept for its results alone."""
    return f"cached-{time.time_ns():x}-{os.getpid():x}-{next(_runs):x}"


def identity_of(fn: Any, options: MapOptions) -> str:
    """What makes results of this function the same. Raises NotCacheable."""
    version = options.cache if isinstance(options.cache, str) else None
    return function_identity(fn, options.kwargs, version)


class Cached:
    """The cache's side of one stage: what is found before it runs, and what is written down when it has ended."""

    def __init__(self, store: Store, identity: str, run: str, task_keys: NDArray[np.uint64]) -> None:
        self.store, self.identity, self.run, self.task_keys = store, identity, run, task_keys
        self._crowded = False
        self._written = set[str]()  # keys of parts of the run
        self._writing = threading.Lock()
        self._begun, self._wait_s = clock.now(), FIRST_S

    @classmethod
    def of_items(cls, store: Store, fn: Any, items: Sequence[Any], form: Form, options: MapOptions, run: str) -> Cached:
        """Of a map."""
        identity = identity_of(fn, options)
        return cls(store, identity, run, item_keys(identity, items, form))

    def fill(self, ledger: Ledger, schedule: Schedule, keep_as: str | None = None) -> None:
        """Put the results that are there into the run; they are done. `keep_as`: the key under which to say so in the
        store, for those who look at the run from elsewhere."""
        import numpy as np

        found = cache.lookup(self.store, self.identity, self.task_keys)
        waiting = np.frombuffer(bytes(schedule.state), np.uint8) == State.WAITING
        tasks = np.flatnonzero((found.part_of >= 0) & waiting)
        numbers = np.column_stack([tasks, np.zeros_like(tasks)])  # a manifest whose keys are the tasks' numbers
        hits = Manifest.of(numbers, found.parts, found.part_of[tasks], found.positions[tasks]).take(slice(None))
        if keep_as is not None and len(hits):
            self.store.create(keep_as, hits.encode())
        schedule.skip(ledger.put_hits(_parts(self.store, hits)), State.DONE)
        self._crowded = found.groups >= CROWDED

    def write_some(self, ledger: Ledger) -> None:
        """Called now and then while the run is live: if it dies, others find what it had. At ever longer intervals, so
        that a run writes few manifests however long it takes."""
        if clock.now() - self._begun >= self._wait_s:
            self._wait_s *= 2
            self.write(ledger)

    def write(self, ledger: Ledger, *, but: frozenset[int] = frozenset()) -> None:
        """Write down where the new results of this run are, that others find them. `but`: those that came of errors."""
        with self._writing:
            there = list(ledger.results.order)
            new = [part for part in there if part.key is not None and part.key not in self._written]
            self._write(new, but)
            self._written.update(str(part.key) for part in new)
            if self._crowded and ledger.ended:
                cache.compact(self.store, self.identity)

    def _write(self, new: Sequence[Part], but: frozenset[int]) -> None:
        parts, part_of, positions, tasks = dict[str, int](), list[int](), list[int](), list[int]()
        for part in new:
            if part.key is None or part.rows is not None or part.lost:
                continue  # a failure, or in the cache already, or gone
            number = parts.setdefault(part.key, len(parts))
            for at, task in enumerate(part.tasks):
                if at not in part.failures and task not in but:
                    tasks.append(task)
                    part_of.append(number)
                    positions.append(at)
        if tasks:
            cache.write_manifest(
                self.store, self.identity, self.run, self.task_keys[tasks], list(parts), part_of, positions
            )


def found_before(store: Store, name: str, seen: Collection[str] = ()) -> Iterator[tuple[str, int, list[Part]]]:
    """What drivers of a named run have found in the cache, as far as it is still there, but for what was seen: the key
    that says so, the stage, and the parts of other runs."""
    for key in committed_hits(store, name):
        if key in seen:
            continue
        try:
            hits = decode(store.get(key))
        except MissingKey:  # the run is being deleted
            continue
        if hits is None:
            log.warning("run %s: %s cannot be read; its tasks will run again", name, key)
            continue
        alive = hits.take(cache.Parts(store).alive(hits, slice(None)))
        yield key, keys.place_of_part(key)[0], list(_parts(store, alive))


def _parts(store: Store, hits: Manifest) -> Iterator[Part]:
    """The results at these places as parts of the run: one for each part that some are in."""
    import numpy as np

    order = np.argsort(hits.part_of, kind="stable")
    cuts = np.flatnonzero(np.diff(hits.part_of[order])) + 1
    for mine in np.split(order, cuts) if len(order) else ():
        rows, key = hits.positions[mine].tolist(), hits.parts[int(hits.part_of[mine[0]])]
        values: Any = Picked(Stored(store, key, 0), rows)
        yield Part(hits.keys[mine, 0].tolist(), values, {}, key, rows)


class Picked:
    """Some of the values of a stored part."""

    each, nbytes = True, 0

    def __init__(self, stored: Stored, rows: Sequence[int]) -> None:
        self._stored, self._rows = stored, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> Any:
        return self._stored[self._rows[at]]

    def __iter__(self) -> Iterator[Any]:
        return map(self._stored.__getitem__, self._rows)


def of_plan(plan: Plan, graph: Graph, store: Store, run: str, version: bool | str) -> dict[int, Cached]:
    """The cache's side of each stage that is cached, by number. `version`: the plan's `cache=`, for stages without one.

    The key of a task that takes results is made of the keys of the tasks that these come from, so that all are
    known before anything runs.
    """
    wanted = {number: stage.options.cache or version for number, stage in enumerate(plan.stages)}
    if not any(wanted.values()):
        return {}
    identities = {number: _identity(stage, wanted[number]) for number, stage in enumerate(plan.stages)}
    task_keys = _plan_keys(plan, graph, identities)
    first = graph.first
    return {
        number: Cached(store, identities[number], run, task_keys[first[number] : first[number + 1]])
        for number, cached in wanted.items()
        if cached
    }


def _identity(stage: PlannedStage, version: bool | str) -> str:
    try:
        return function_identity(stage.fn, stage.options.kwargs, version if isinstance(version, str) else None)
    except NotCacheable as error:
        raise NotCacheable(f"stage {stage.name!r}: {error}") from error


def _plan_keys(plan: Plan, graph: Graph, identities: Mapping[int, str]) -> NDArray[np.uint64]:
    """The keys of all tasks, numbered through: front by front, for those of a task need those of its inputs."""
    import numpy as np

    found = np.zeros((graph.total, 2), np.uint64)
    own = {
        number: item_keys(f"{identities[number]} item", stage.items, "args")
        for number, stage in enumerate(plan.stages)
        if stage.items is not None
    }
    edges: dict[int, list[Any]] = {}
    for edge, wire in zip(graph.edges, (w for stage in plan.stages for w in stage.wires), strict=True):
        edges.setdefault(edge.target, []).append((edge, wire.columns))
    for front in graph.fronts():
        for number, tasks in front:
            mine = np.asarray(tasks)
            mixed = [own[number][mine]] if number in own else []
            for at, (edge, columns) in enumerate(edges.get(number, ())):
                inputs = edge.of(tasks)
                offset = int(graph.first[edge.source]) if edge.source >= 0 else 0
                ends = np.cumsum([len(each) for each in inputs])
                through = (np.concatenate(inputs) if inputs else np.zeros(0, np.int64)) + offset
                mixed.append(derived_keys(f"{identities[number]} argument {at} {columns}", None, through, ends, found))
            stage = plan.stages[number]
            shape = f"{identities[number]} {stage.args} {sorted(stage.kwargs.items())}"
            together = np.stack(mixed, axis=1).reshape(-1, 2) if mixed else np.zeros((0, 2), np.uint64)
            arity = len(mixed)
            ends = np.arange(1, len(mine) + 1) * arity
            found[int(graph.first[number]) + mine] = derived_keys(shape, None, np.arange(len(together)), ends, together)
    return found
