"""The modules that a function imports in its body, whichever way it is called: it cannot run where one is missing.

Only what is certain counts, since a function may do without a module that it imports under an `if`, or in a `try` that
goes on without it. From the function on, calls are followed by name to other code that travels with it, as long as
there is only one of that name.
"""

from __future__ import annotations

import functools
import inspect
import opcode
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

from fnmap.format.bytecode import always_run

_IMPORT = opcode.opmap["IMPORT_NAME"]
_INIT = ".__init__"


@dataclass(frozen=True)
class _Done:
    """What a code object does in each of its calls: modules that it imports, global names that it reads, attributes and
    variables of the code around it, and the functions inside of it that run."""

    modules: frozenset[str]
    globals: frozenset[str]
    others: frozenset[str]
    inner: tuple[CodeType, ...]


def needed(fn: Callable[..., Any], travels: Iterable[CodeType]) -> frozenset[str]:
    """The modules that each call of the function imports. `travels`: all code that goes along by value."""
    codes = list(travels)
    if not any(_IMPORT in code.co_code[::2] for code in codes):
        return frozenset()
    named: dict[str, set[CodeType]] = {}
    for code in codes:
        named.setdefault(code.co_qualname.removesuffix(_INIT).rpartition(".")[2], set()).add(code)
    modules, seen, ahead = set[str](), set[CodeType](), [code for code in _begins(fn) if code in codes]
    while ahead:
        code = ahead.pop()
        if code in seen:
            continue
        seen.add(code)
        done = _done(code)
        modules |= done.modules
        ahead += done.inner
        for name in done.globals | done.others:
            found = named.get(name, set())
            if name not in done.others:  # neither a method nor inside of a function
                found = {code for code in found if code.co_qualname.removesuffix(_INIT) == name}
            ahead += found if len(found) == 1 else ()
    return frozenset(modules)


def _begins(fn: Any) -> list[CodeType]:
    """The code that a call of it begins with, in partials, methods and decorators too."""
    found, ahead = list[CodeType](), [fn]
    while ahead:
        one = ahead.pop()
        if isinstance(one, functools.partial):
            ahead.append(one.func)
        elif isinstance(one, types.MethodType):
            ahead.append(one.__func__)
        elif isinstance(one, functools._lru_cache_wrapper):
            ahead.append(one.__wrapped__)
        elif isinstance(one, types.FunctionType):
            if one.__code__ not in found:
                found.append(one.__code__)
                ahead += _held(one)
        else:
            of, name = (one, "__init__") if isinstance(one, type) else (type(one), "__call__")
            method = inspect.getattr_static(of, name, None)
            ahead += [method] if isinstance(method, types.FunctionType) else []
    return found


def _held(fn: types.FunctionType) -> Iterator[Any]:
    """The functions that it takes out of its closure, whatever happens."""
    taken = _done(fn.__code__).others
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        with suppress(ValueError):  # not filled yet
            if name in taken and isinstance(cell.cell_contents, (types.FunctionType, functools._lru_cache_wrapper)):
                yield cell.cell_contents


@lru_cache(maxsize=1024)
def _done(code: CodeType) -> _Done:
    steps: Sequence[Any] = list(always_run(code))
    modules, globals_, others, locals_ = set[str](), set[str](), set[str](), set[str]()
    made: list[CodeType] = []
    for at, step in enumerate(steps):
        names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        if step.opname == "IMPORT_NAME":
            level = steps[at - 2].argval if at > 1 else None
            modules |= {step.argval} if level == 0 else set()
        elif step.opname == "LOAD_CONST":
            made += [step.argval] if isinstance(step.argval, CodeType) else []
        elif step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            globals_.update(names)
        elif "FAST" in step.opname and "LOAD" in step.opname:
            locals_.update(names)
        elif step.opname.startswith("LOAD_") and isinstance(step.argval, str):
            (locals_ if step.argval in code.co_cellvars else others).add(step.argval)
    inner = [one for one in made if one.co_name in locals_ or one.co_name[0] == "<" or _is_class_body(one)]
    return _Done(frozenset(modules), frozenset(globals_), frozenset(others), tuple(inner))


def _is_class_body(code: CodeType) -> bool:
    return not code.co_flags & inspect.CO_OPTIMIZED
