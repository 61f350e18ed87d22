"""The modules that each call of a function imports in its body: it cannot run where one is missing.

Only what is certain counts, since a function may do without a module that it imports under an `if`, in a loop, or in a
`try` that goes on without it. What it calls is not looked into: it may provide for that in as many ways.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

from fnmap.format.bytecode import always_run
from fnmap.format.stable import by_name
from fnmap.format.travel import user_module_names

_LATER = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR  # a call runs nothing of it


def needed(fn: Callable[..., Any]) -> frozenset[str]:
    """The modules that each call of the function imports, as far as that is certain; none of a function that travels as
    a mere name."""
    found = _begins(fn)
    if found is None or by_name(found, user_module_names()) or found.__code__.co_flags & _LATER:
        return frozenset()
    return _imported(found.__code__)


def _begins(fn: Any) -> types.FunctionType | None:
    """The function that a call begins with, be it of a partial, a method or an object."""
    while not isinstance(fn, types.FunctionType):
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif isinstance(fn, types.MethodType):
            fn = fn.__func__
        elif isinstance(fn, functools._lru_cache_wrapper):
            fn = fn.__wrapped__
        else:
            method = None if isinstance(fn, type) else inspect.getattr_static(type(fn), "__call__", None)
            return method if isinstance(method, types.FunctionType) else None
    return fn


@lru_cache(maxsize=1024)
def _imported(code: CodeType) -> frozenset[str]:
    return frozenset(_absolute(code))


def _absolute(code: CodeType) -> Iterator[str]:
    steps = list(always_run(code))
    for at, step in enumerate(steps):
        if step.opname == "IMPORT_NAME" and at > 1 and steps[at - 2].argval == 0:  # else a relative one: the user's own
            yield step.argval
