"""What a plan is made of: stages and tasks as arguments, and what is kept of each stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from fnmap.errors import PlanError
from fnmap.format.inputs import Columns, Holes
from fnmap.options import DEFAULTS, MapOptions

if TYPE_CHECKING:
    from fnmap.plans import Plan


@dataclass(frozen=True, slots=True)
class TaskRef:
    """One task of a plan; as an argument, its result."""

    plan: Plan
    stage: int
    task: int
    columns: Columns = None

    def __reduce__(self) -> NoReturn:
        raise PlanError("a task of a plan cannot travel: pass it as an argument of its own, and its result does")

    def __getitem__(self, columns: str | list[str]) -> TaskRef:
        """Of its result, one column, or a table of some."""
        return replace(self, columns=columns_of(columns))

    @property
    def whole(self) -> StageRef:
        """The stage that it is a task of."""
        return StageRef(self.plan, self.stage)


@dataclass(frozen=True, slots=True)
class StageRef:
    """A stage of a plan; as an argument, the results of its tasks. `keys`: of a grouped stage, the key of each task."""

    plan: Plan
    number: int
    columns: Columns = None

    def __reduce__(self) -> NoReturn:
        raise PlanError("a stage of a plan cannot travel: pass it to map, gather, reduce or add")

    @property
    def name(self) -> str:
        return self.plan.stages[self.number].name

    @property
    def keys(self) -> Sequence[Any] | None:
        return self.plan.stages[self.number].keys

    def __len__(self) -> int:
        return self.plan.stages[self.number].count

    def __getitem__(self, which: int | str | list[str]) -> Any:
        """Its task of that number; or of all its results one column, or a table of some."""
        if isinstance(which, (str, list)):
            return replace(self, columns=columns_of(which))
        if not hasattr(which, "__index__"):
            raise PlanError(
                f"[{which!r}] of stage {self.name!r}: a stage gives one task by its number, or columns of its results"
                " by name; several tasks can be arguments of add, one by one"
            )
        return TaskRef(self.plan, self.number, range(len(self))[which], self.columns)

    def __iter__(self) -> Iterator[TaskRef]:
        return (TaskRef(self.plan, self.number, task, self.columns) for task in range(len(self)))

    def __repr__(self) -> str:
        return f"<stage {self.name!r} of plan {self.plan.name!r}: {len(self)} tasks>"


@dataclass(slots=True, eq=False)
class Wire:
    """The results that one argument of a stage takes: tasks of a stage (or of a stage each, as a list or an array),
    one for each task, or a list, whose `ends` say where those of each task end."""

    stage: int | Sequence[int]
    tasks: Any
    ends: Any = None
    columns: Columns = None


@dataclass(slots=True, eq=False)
class PlannedStage:
    """One function over many tasks, and where their arguments come from (see format.inputs.Inputs)."""

    name: str
    fn: Callable[..., Any]
    count: int
    wires: list[Wire] = field(default_factory=list)
    args: list[int] = field(default_factory=list)
    kwargs: dict[str, int] = field(default_factory=dict)
    items: list[Any] | None = None  # a tuple a task
    holes: Holes = False
    keys: Sequence[Any] | None = None
    lone: bool = False  # one result of all there is, not a list of one
    options: MapOptions = DEFAULTS

    def snapshot(self) -> PlannedStage:
        """The stage as it is now; that of `add` may grow."""
        if not self.holes or self.items is None:
            return replace(self)
        wires = [replace(w, stage=copy(w.stage), tasks=copy(w.tasks), ends=copy(w.ends)) for w in self.wires]
        return replace(self, items=copy(self.items), wires=wires)

    filed: Filed | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Filed:
    """What the file that a stage was read from calls its function and its tasks (an Arrow array)."""

    function: str
    ids: Any


def columns_of(which: str | list[str]) -> Columns:
    """One column or some, checked."""
    if isinstance(which, str):
        return which
    if not isinstance(which, list) or not which or not all(isinstance(name, str) for name in which):
        raise PlanError(f"columns of a result are a name, or a list of at least one name; got {which!r}")
    return tuple(which)
