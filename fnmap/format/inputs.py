"""Results that are arguments: a call names the parts they lie in, and the worker reads them there.

A call for a chunk of a plan says for each task which results it takes, by part and position. Only the
columns that are asked for are read.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fnmap.errors import Damaged, MissingKey
from fnmap.format.parameters import arguments
from fnmap.format.payload import Values
from fnmap.storage.base import Store, is_parallel
from fnmap.storage.many import for_each

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


class InputLost(Exception):
    """An argument of a task cannot be had: the part at `key` is gone or damaged. Only the driver is told."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key, self.why = key, why


class Resolved:
    """The arguments of each task of a call: its own items with the results that they take. As `Values`."""

    def __init__(self, inputs: Inputs, items: Values, length: int) -> None:
        self._inputs, self._items, self._length = inputs, items, length
        parts = dict[Any, _Parts]()  # slots that take the same of a part share it
        self._slots = [
            (slot, parts.setdefault((slot.columns, id(slot.errors)), _Parts(inputs, slot))) for slot in inputs.slots
        ]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(self._length))

    def __getitem__(self, at: int) -> Any:
        """The (args, kwargs) of one task. Raises InputLost."""
        inputs = self._inputs
        own = self._items[at] if len(self._items) else ()
        if inputs.holes == "parameters":
            return arguments(own, iter(self._input(0, at)), listed=bool(inputs.kwargs))
        if inputs.holes:
            return _filled(own, self._input(0, at))
        args = tuple([self._input(n, at) if n >= 0 else own[-1 - n] for n in inputs.args])
        if not inputs.kwargs:
            return args, {}
        return args, {name: self._input(n, at) if n >= 0 else own[-1 - n] for name, n in inputs.kwargs.items()}

    def _input(self, number: int, at: int) -> Any:
        """What a slot has for a task: a result, or a list of them."""
        slot, parts = self._slots[number]
        if slot.ends is None:
            return parts[slot.part[at]][slot.position[at]]
        mine = slice(slot.ends[at - 1] if at else 0, slot.ends[at])
        parts.fetch(slot.part[mine])
        return [parts[part][position] for part, position in zip(slot.part[mine], slot.position[mine], strict=True)]


class _Parts(dict[int, Any]):
    """What a slot takes of each part, by position; read when it is first asked for, and kept for the call, unless
    all of it is too much."""

    def __init__(self, inputs: Inputs, slot: Slot) -> None:
        self._inputs, self._slot, self._bytes = inputs, slot, 0

    def fetch(self, parts: Iterable[int]) -> None:
        """Of a store that is far away, read those that are not here yet all at once."""
        if is_parallel(self._inputs.store):
            new = [part for part in dict.fromkeys(parts) if part >= 0 and part not in self]
            for part, read in zip(new, for_each(self._inputs.store, self._read, new), strict=True):
                self._keep(part, *read)

    def __missing__(self, part: int) -> Any:
        if part < 0:
            self[part] = _Pickled(self._slot.errors)
        else:
            self._keep(part, *self._read(part))
        return self[part]

    def _read(self, part: int) -> tuple[Any, int]:
        from fnmap.format.parts import read_values

        key = self._inputs.keys[part]
        try:
            return read_values(self._inputs.store, key, self._slot.columns)
        except (MissingKey, Damaged) as error:
            return _Gone(key, str(error)), 0  # that is known now for all tasks of the call

    def _keep(self, part: int, values: Any, size: int) -> None:
        if (whole := self._bytes + size) > KEPT_BYTES:
            self.clear()
            whole = size
        self._bytes = whole
        self[part] = values


class _Gone:
    """What there is of a part that cannot be read."""

    def __init__(self, key: str, why: str) -> None:
        self._key, self._why = key, why

    def __getitem__(self, at: int) -> Any:
        raise InputLost(self._key, self._why)


KEPT_BYTES = 256 << 20  # of parts as they are stored


class _Pickled:
    """Errors that are passed on: one of its own for each that asks."""

    def __init__(self, errors: Sequence[bytes]) -> None:
        self._errors = errors

    def __getitem__(self, at: int) -> Any:
        return pickle.loads(self._errors[at])


def _filled(item: Any, values: Sequence[Any]) -> Any:
    """An item with the values in the place of its holes."""
    args, kwargs = item
    return (
        tuple(values[a.number] if isinstance(a, Hole) else a for a in args),
        {name: values[a.number] if isinstance(a, Hole) else a for name, a in kwargs.items()},
    )
