"""Results that are arguments: a call names the parts they lie in, and the worker reads them there.

A call for a chunk of a plan says for each task which results it takes, by part and position. Only the
columns that are asked for are read.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fnmap.format.parameters import arguments
from fnmap.format.payload import Values
from fnmap.storage.base import Store

Columns = str | tuple[str, ...] | None  # one column, a table of some, or the whole result
Holes = bool | Literal["parameters"]  # what an item of a stage has in it


@dataclass(frozen=True, slots=True)
class Hole:
    """Stands in an item's arguments for the n-th of the task's inputs."""

    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """One argument, by task: the results at `position` of the parts `part` (a place in Inputs.keys).

    `ends`: where those of each task end, for an argument that is a list; None where each has one. A part of -1 stands
    for an error, which is passed on: a pickled TaskError at `position` of `errors`.
    """

    part: array[int]
    position: array[int]
    ends: array[int] | None = None
    columns: Columns = None
    errors: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Where the arguments of a chunk's tasks are.

    `args` and `kwargs` say what each argument is: a slot n >= 0, or the element -1 - n of the task's own item. With
    `holes`, the item is (args, kwargs) in which Holes stand for the results in slot 0; if they are "parameters", the
    item is as format.parameters says, and slot 0 has its results.
    """

    store: Store
    keys: Sequence[str]
    slots: Sequence[Slot]
    args: Sequence[int] = ()
    kwargs: Mapping[str, int] | None = None
    holes: Holes = False


class Resolved:
    """The arguments of each task of a call: its own items with the results that they take. As `Values`."""

    def __init__(self, inputs: Inputs, items: Values, length: int) -> None:
        self._inputs, self._items, self._length = inputs, items, length
        self._read: dict[tuple[int, Columns], Sequence[Any]] = {}

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(self._length))

    def __getitem__(self, at: int) -> Any:
        """The (args, kwargs) of one task."""
        inputs = self._inputs
        own = self._items[at] if len(self._items) else ()
        if inputs.holes == "parameters":
            slot = inputs.slots[0]
            return arguments(own, (self._value(slot, e) for e in _entries(slot, at)), listed=bool(inputs.kwargs))
        if inputs.holes:
            return _filled(own, self._slot(inputs.slots[0], at))
        args = tuple(self._argument(n, own, at) for n in inputs.args)
        return args, {name: self._argument(n, own, at) for name, n in (inputs.kwargs or {}).items()}

    def _argument(self, number: int, own: Sequence[Any], at: int) -> Any:
        return self._slot(self._inputs.slots[number], at) if number >= 0 else own[-1 - number]

    def _slot(self, slot: Slot, at: int) -> Any:
        if slot.ends is None:
            return self._value(slot, at)
        return [self._value(slot, entry) for entry in _entries(slot, at)]

    def _value(self, slot: Slot, entry: int) -> Any:
        part, position = slot.part[entry], slot.position[entry]
        if part < 0:
            return pickle.loads(slot.errors[position])
        place = part, slot.columns
        if place not in self._read:
            from fnmap.format.parts import read_values

            self._read[place] = read_values(self._inputs.store, self._inputs.keys[part], slot.columns)
        return self._read[place][position]


def _entries(slot: Slot, at: int) -> range:
    """Which of a slot's results are those of a task; it takes any number."""
    assert slot.ends is not None
    return range(slot.ends[at - 1] if at else 0, slot.ends[at])


def _filled(item: Any, values: Sequence[Any]) -> Any:
    """An item with the values in the place of its holes."""
    args, kwargs = item
    return (
        tuple(values[a.number] if isinstance(a, Hole) else a for a in args),
        {name: values[a.number] if isinstance(a, Hole) else a for name, a in kwargs.items()},
    )
