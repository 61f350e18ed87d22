"""What binds the stages of a plan as it runs: results that are arguments, and what a settled task releases."""

from __future__ import annotations

import pickle
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fnmap.errors import StoreError
from fnmap.format.call import Failure
from fnmap.format.inputs import Columns, Holes, Inputs, Slot
from fnmap.planning.flow import Flow
from fnmap.planning.graph import Edge, Released
from fnmap.planning.schedule import State
from fnmap.results import MOST_LOSSES, Results
from fnmap.storage.base import Store

if TYPE_CHECKING:
    from fnmap.ledger import Ledger
    from fnmap.stage import Stage


class PartFeed:
    """Gives the tasks of a stage the results that they take, by the parts in which these were committed."""

    def __init__(
        self,
        store: Store,
        edges: Sequence[tuple[Edge, Columns]],
        results: Sequence[Results],
        locate: Callable[[int], tuple[int, int]],
        template: Inputs,
    ) -> None:
        self._store, self._edges, self._results, self._locate = store, edges, results, locate
        self._template = template

    def inputs(self, tasks: Sequence[int]) -> Inputs:
        keys: dict[str, int] = {}
        slots = [self._slot(edge, columns, tasks, keys) for edge, columns in self._edges]
        t = self._template
        return Inputs(self._store, list(keys), slots, t.args, t.kwargs, t.holes)

    def _slot(self, edge: Edge, columns: Columns, tasks: Sequence[int], keys: dict[str, int]) -> Slot:
        part, position, ends, errors = array("i"), array("q"), array("q"), list[bytes]()
        for inputs in edge.of(tasks):
            for task in inputs.tolist():
                stage, number = (edge.source, task) if edge.source >= 0 else self._locate(task)
                found = self._results[stage].part_of(number)
                if found is not None:
                    in_part, at = found
                    assert in_part.key is not None
                    part.append(keys.setdefault(in_part.key, len(keys)))
                    position.append(at if in_part.rows is None else in_part.rows[at])
                elif self._results[stage].has(number):  # it failed, or was skipped
                    part.append(-1)
                    position.append(len(errors))
                    errors.append(pickle.dumps(self._results[stage].task_error(number)))
                else:  # it was lost after this task had been released: whoever reads it there will say so
                    part.append(keys.setdefault(self._results[stage].lost[number], len(keys)))
                    position.append(0)
            ends.append(len(part))
        return Slot(part, position, None if edge.ends is None else ends, columns, errors)


class SkippingFeed(PartFeed):
    """As `PartFeed`, without the inputs that failed."""

    def _slot(self, edge: Edge, columns: Columns, tasks: Sequence[int], keys: dict[str, int]) -> Slot:
        slot = super()._slot(edge, columns, tasks, keys)
        if not slot.errors or slot.ends is None:
            return slot
        part, position, ends, begin = array("i"), array("q"), array("q"), 0
        for end in slot.ends:
            for entry in range(begin, end):
                if slot.part[entry] >= 0:
                    part.append(slot.part[entry])
                    position.append(slot.position[entry])
            ends.append(len(part))
            begin = end
        return Slot(part, position, ends, columns)


class PlanLinks:
    """Carries what is settled in one stage to those that depend on it. Called with the session's lock held."""

    def __init__(self, flow: Flow, stages: Sequence[Stage], ledgers: Sequence[Ledger]) -> None:
        self.flow, self.stages, self.ledgers = flow, list(stages), list(ledgers)
        self._number = {id(stage): number for number, stage in enumerate(self.stages)}
        self._doubted = Counter[tuple[int, int]]()  # tasks that could not read what is there, and how often

    def start(self) -> None:
        """Release what can start."""
        self._told(self.flow.start())

    def resume(self) -> None:
        """Try again what failed, and what fell with it, and make anew what was lost."""
        self._doubted.clear()
        self._told(self.flow.resume())

    def settled(self, stage: Stage, tasks: Sequence[int]) -> None:
        if len(tasks):
            self._told(self.flow.settled(self._number[id(stage)], tasks))

    def failed(self, stage: Stage, task: int) -> None:
        self._told(self.flow.failed(self._number[id(stage)], task))

    def unread(self, stage: Stage, keys: Mapping[int, str]) -> None:
        """These tasks could not read an input each, in the part at that key. What is gone is made anew, and they run
        after that, at no charge. What is gone time and again, or is there and yet cannot be read, ends the run."""
        number, lost = self._number[id(stage)], dict[int, list[int]]()
        for key in set(keys.values()):
            if any(ledger.results.has_lost(key) for ledger in self.ledgers):
                continue  # that is known: others have found it out
            found = self._lose(key)
            for source, tasks in found.items():
                lost.setdefault(source, []).extend(tasks)
            if not found:
                self._doubt(number, key, [task for task, at in keys.items() if at == key])
        self._put_back(lost, number, list(keys))

    def lose(self, stage: Stage, key: str) -> bool:
        """A reader could not read the part at that key. Is it gone? Then it is made anew, or will be when the run is
        taken up again."""
        lost = self._lose(key)
        if not all(bound.over for bound in self.stages):
            self._put_back(lost, self._number[id(stage)], [])
            self.check_over()
            return bool(lost)
        for number, tasks in lost.items():
            self.flow.schedules[number].undo(tasks)
        return bool(lost)

    def _lose(self, key: str) -> dict[int, list[int]]:
        """The tasks by stage whose results were at that key, if it is gone."""
        found = {number: ledger.lose(key) for number, ledger in enumerate(self.ledgers)}
        return {number: tasks for number, tasks in found.items() if tasks}

    def _put_back(self, lost: Mapping[int, Sequence[int]], number: int, unread: Sequence[int]) -> None:
        for source, tasks in lost.items():
            self.stages[source].over = False
            self.ledgers[source].go_on()
            if worn_out := self.ledgers[source].results.worn_out(tasks):
                self.stages[source].abort(StoreError(f"{worn_out} of {self.ledgers[source].store!r}"))
        self._told(self.flow.back(lost, (number, unread)))

    def _doubt(self, number: int, key: str, tasks: Sequence[int]) -> None:
        """These tasks could not read what the driver can."""
        self._doubted.update((number, task) for task in tasks)
        if max(self._doubted[number, task] for task in tasks) > MOST_LOSSES:
            where = f"{key!r} of {self.ledgers[number].store!r}"
            self.stages[number].abort(StoreError(f"workers cannot read {where}, though it is there"))

    def halt(self) -> None:
        for stage in self.stages:
            stage.schedule.halt()

    def check_over(self) -> None:
        error = next((stage.error for stage in self.stages if stage.error is not None), None)
        for stage, ledger in zip(self.stages, self.ledgers, strict=True):
            if stage.schedule.finished:
                stage.error = stage.error or error
                if not stage.over and stage.schedule.count(State.WAITING):
                    ledger.halted_by = next(
                        (other for other in self.ledgers if other is not ledger and other.too_many()), None
                    )
                stage.end()

    def _told(self, released: Released) -> None:
        for number, task, source, at in released.failed:
            cause = self.ledgers[source].results
            self.ledgers[number].upstream[task] = self.ledgers[source], at
            why = f"it depends on task {at} of {cause.function}, which has no result"
            self.ledgers[number].failed(task, Failure("upstream", why, attempts=0))
        for number, task, _, _ in released.skipped:
            self.ledgers[number].skipped(task)
        if any(self.ledgers[number].gives_up() for number, *_ in released.failed):
            self.halt()


def template(args: Sequence[int], kwargs: dict[str, int], *, holes: Holes) -> Inputs:
    """An Inputs that says what the arguments are, and not yet where."""
    nowhere: Any = None
    return Inputs(nowhere, (), (), tuple(args), dict(kwargs), holes)
