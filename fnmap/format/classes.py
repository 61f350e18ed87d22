"""Which class is meant by one that travelled by value, so that `type(result) is module.Class` holds where it is read.

A class that a worker was sent by value is another object in every process that it is loaded in. What comes back names
it: by module, name, and what cloudpickle calls it (its tracker id), which tells several of one name apart.
"""

from __future__ import annotations

import functools
import importlib
import pickle
import sys
import weakref
from typing import Any

import cloudpickle

_left: weakref.WeakSet[type] = weakref.WeakSet()  # classes of this process that were sent by value

Shape = tuple[tuple[str, ...], tuple[str, ...]]
"""Annotated names and names of bases: what two classes of one name must share to be thought the same."""


def by_value(obj: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """cloudpickle's way to send a class, with its qualified name, which that forgets. The class is noted."""
    if reduced[0] is cloudpickle.cloudpickle._make_skeleton_class:
        if obj.__qualname__ != obj.__name__:
            reduced[2][0]["__qualname__"] = obj.__qualname__
        if _own(obj.__module__, obj.__qualname__) in (obj, None):  # else it came here itself
            _left.add(obj)
    return reduced


def named(obj: type) -> tuple[str, str, str | None]:
    """What to call a class on its way home."""
    return obj.__module__, obj.__qualname__, cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(obj)


def shape(obj: type) -> Shape:
    """Of this class."""
    return tuple(getattr(obj, "__annotations__", ())), tuple(base.__qualname__ for base in obj.__bases__)


def home_class(module: str, qualname: str, tracker_id: str | None) -> Any:
    """The very class where it left from, else that of an imported module, else one of that name that came here, else
    that of the module once it is imported."""
    found = _known(module, qualname, tracker_id)
    return found or functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


def main_class(module: str, qualname: str, tracker_id: str | None, wanted: Shape, content: bytes) -> Any:
    """As `home_class`, of `__main__`: another program may have a class of that name which is not the same, or none."""
    found = _known(module, qualname, tracker_id)
    return found if found is not None and shape(found) == wanted else pickle.loads(content)


def _known(module: str, qualname: str, tracker_id: str | None) -> type | None:
    tracked: type | None = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
    if tracked in _left:
        return tracked
    return _own(module, qualname) or tracked or _came(module, qualname)


def _own(module: str, qualname: str) -> type | None:
    """The class of that name in a module that is imported here."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) else None


def _came(module: str, qualname: str) -> type | None:
    """The last class of that name that came here by value, with the function that asks for it, say."""
    here = list(cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS)
    return next((c for c in reversed(here) if (c.__module__, c.__qualname__) == (module, qualname)), None)
