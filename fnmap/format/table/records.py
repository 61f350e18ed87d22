"""Rows: dicts, dataclasses, NamedTuples and tuples of one shape <-> one list of values per field.

A `Shape` (JSON) says what the rows were; the class travels in it as a pickle. Instances are rebuilt from
their fields without `__init__`, so an object qualifies only when its fields are all the state it has.
"""

from __future__ import annotations

import copyreg
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from fnmap.format.table.spec import binary, text

RESERVED = ("task", "error", "failure")
"""Columns of every table: a user's column of such a name gets an underscore."""

Shape = dict[str, Any]
Fields = dict[str, list[Any]]  # names and values, of rows that are not None

_MAX_FIELDS = 1000  # a dict of ten thousand words is data, not a row
_MAX_TUPLE = 32  # longer tuples are lists
_PICKLING = ("__reduce__", "__reduce_ex__", "__getattribute__")


class Split(NamedTuple):
    """Rows apart: what they were, and per field as many values as rows (None where a row is None)."""

    shape: Shape
    fields: list[list[Any]]


def split(values: Sequence[Any], kind: type[Any], dumps: Callable[[Any], bytes]) -> Split | None:
    """`values` (of type `kind`, or None) by field, or None if they are not rows of one shape."""
    name, read = _reader(kind)
    rows = [v for v in values if v is not None] if read else []
    fields = read(rows) if read else None
    if not fields or len(fields) > _MAX_FIELDS:
        return None
    shape: Shape = {"kind": name, "names": list(fields)}
    if name in ("dataclass", "namedtuple"):
        try:
            shape |= {"type": f"{kind.__module__}.{kind.__qualname__}", "class": text(dumps(kind))}
        except Exception:  # a class that cannot travel: its instances will tell why, one by one
            return None
    if len(rows) == len(values):
        return Split(shape, list(fields.values()))
    streams = map(iter, fields.values())
    return Split(shape, [[None if v is None else next(stream) for v in values] for stream in streams])


def build(split: Split, present: Iterable[bool], loads: Callable[[Any], Any]) -> list[Any]:
    """The inverse of `split`: a row where `present`, else None."""
    make = _maker(split.shape, loads)
    rows = zip(zip(*split.fields, strict=True), present, strict=True)
    return [make(row) if there else None for row, there in rows]


def distinct(names: Iterable[str], taken: Iterable[str] = RESERVED) -> list[str]:
    """The names as column names: an underscore is added to one that is empty or taken (in any case of
    letters: SQL does not tell them apart) until it is free."""
    used = {name.casefold() for name in taken} | {""}
    columns = []
    for name in names:
        column = name
        while column.casefold() in used:
            column += "_"
        used.add(column.casefold())
        columns.append(column)
    return columns


def _reader(kind: type[Any]) -> tuple[str, Callable[[list[Any]], Fields | None] | None]:
    if kind is dict:
        return "dict", _read_dicts
    if kind is tuple:
        return "tuple", _read_tuples
    if kind.__bases__ == (tuple,) and hasattr(kind, "_fields"):
        return "namedtuple", partial(_read_namedtuples, kind)
    if dataclasses.is_dataclass(kind):
        return "dataclass", partial(_read_dataclasses, kind)
    return "", None


def _read_dicts(values: list[Any]) -> Fields | None:
    names = tuple(values[0])
    if set(map(type, chain.from_iterable(values))) != {str} or set(map(tuple, values)) != {names}:
        return None
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return None
    return _columns(names, values)


def _columns(names: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> Fields:
    return {name: list(map(itemgetter(name), rows)) for name in names}


def _read_tuples(values: list[Any]) -> Fields | None:
    length = len(values[0])
    if length > _MAX_TUPLE or set(map(len, values)) != {length}:
        return None
    return {f"value_{at}": list(map(itemgetter(at), values)) for at in range(length)}


def _read_namedtuples(kind: type[Any], values: list[Any]) -> Fields | None:
    if not _inherits(kind, tuple, "__iter__", "__len__", *_PICKLING) or kind.__dictoffset__:
        return None
    if set(map(len, values)) != {len(kind._fields)} or set(map(type, kind._fields)) != {str}:
        return None
    return dict(zip(kind._fields, map(list, zip(*values, strict=True)), strict=True))


def _read_dataclasses(kind: type[Any], values: list[Any]) -> Fields | None:
    names = [field.name for field in dataclasses.fields(kind)]
    slots = set(chain.from_iterable(map(_slots, kind.__mro__)))
    if not _is_plain_dataclass(kind):
        return None
    if not kind.__dictoffset__:
        complete = slots == set(names) and all(hasattr(v, name) for v in values for name in names)
        return {name: list(map(attrgetter(name), values)) for name in names} if complete else None
    states = list(map(vars, values))
    order = tuple(states[0])  # __post_init__ may have changed it
    if slots or set(order) != set(names) or set(map(tuple, states)) != {order}:
        return None
    return _columns(order, states)


def _is_plain_dataclass(kind: type[Any]) -> bool:
    """Whether nothing but the fields makes up an instance: no C base, no pickling of its own."""
    for method in (kind.__getstate__, getattr(kind, "__setstate__", None)):  # frozen slots have standard ones
        if method not in (object.__getstate__, None) and method.__module__ != "dataclasses":
            return False
    if kind in copyreg.dispatch_table or not _inherits(kind, object, "__new__", *_PICKLING):
        return False
    try:
        object.__new__(kind)
    except TypeError:  # a subclass of list, Exception, ...
        return False
    return True


def _inherits(kind: type[Any], base: type[Any], *methods: str) -> bool:
    return all(getattr(kind, method) is getattr(base, method) for method in methods)


def _slots(kind: type[Any]) -> set[str]:
    slots = vars(kind).get("__slots__", ())
    return {slots} if isinstance(slots, str) else set(slots) - {"__weakref__", "__dict__"}


def _maker(shape: Shape, loads: Callable[[Any], Any]) -> Callable[[tuple[Any, ...]], Any]:
    names = shape["names"]
    if shape["kind"] == "tuple":
        return lambda row: row
    if shape["kind"] == "dict":
        return lambda row: dict(zip(names, row, strict=True))
    try:
        kind = loads(binary(shape["class"]))
    except Exception as error:  # loading runs the user's imports
        why = f"{type(error).__name__}: {error}"
        raise ImportError(f"the class {shape['type']} cannot be loaded: {why}") from error
    if shape["kind"] == "namedtuple":
        return partial(tuple.__new__, kind)
    return partial(_dataclass_instance, kind, names)


def _dataclass_instance(kind: type[Any], names: list[str], row: tuple[Any, ...]) -> Any:
    instance = object.__new__(kind)
    if kind.__dictoffset__:
        instance.__dict__.update(zip(names, row, strict=True))
    else:
        for name, value in zip(names, row, strict=True):
            object.__setattr__(instance, name, value)
    return instance
