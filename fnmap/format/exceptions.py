"""Exceptions travel by what they hold, not through their constructor: that may ask for arguments which the
exception does not keep, or format a message that is formatted already."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

_MAKES, _SAYS_HOW = {"__init__", "__new__"}, {"__reduce__", "__reduce_ex__", "__setstate__"}


def reduced(error: BaseException) -> Any:
    """How to pickle an exception whose class has a constructor of its own; NotImplemented for others, and
    for those that say themselves how."""
    own = {name for c in type(error).__mro__ if c.__module__ != "builtins" for name in vars(c)}
    return by_content(error) if own & _MAKES and not own & _SAYS_HOW else NotImplemented


def by_content(error: BaseException) -> tuple[Any, ...]:
    """How to pickle any exception by its `args` and attributes."""
    plain: Any = _built_in(type(error)).__reduce__(error)
    kind, args, *rest = plain
    if isinstance(error, BaseExceptionGroup):
        args = error.message, error.exceptions  # its args may be what a constructor of its own was given
    state = {**(rest[0] if rest else {}), "args": error.args}
    return rebuild, (kind, args), state, None, None, set_state


class ByContent:
    """Pickles as the exception that it holds, whatever the class of that says."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return by_content(self._error)


def rebuild(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Called by a pickle: an exception that its own constructor never sees."""
    base = _built_in(kind)
    error = base.__new__(kind, *args)
    with contextlib.suppress(TypeError):  # the class hands on less than its base asks for
        base.__init__(error, *args)  # for what that keeps in fields of its own, such as errno
    return error


def set_state(error: BaseException, state: Mapping[str, Any]) -> None:
    """Called by a pickle: its attributes, also where the class forbids to set them."""
    for name, value in state.items():
        object.__setattr__(error, name, value)


def _built_in(kind: type[BaseException]) -> type[BaseException]:
    """What the class is in memory: the base whose constructor may make one."""
    while kind.__module__ != "builtins":
        kind = kind.__base__  # type: ignore[assignment]
    return kind
