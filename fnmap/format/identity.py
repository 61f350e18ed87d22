"""What makes a function the same as one that ran before, so that the results of that one may be used again.

The identity of a function is a digest of its code in normal form, its defaults, closure and attributes, the
values of the globals that it reads, and all that these refer to in turn: other functions and classes of
the user's (what travels by value: `fnmap.format.travel`) by their content, what is installed by its name and
version. Names of files, line numbers, comments, docstrings and type hints of functions are no part of it;
the names of classes and of their modules are, for results may be instances. Code is as the interpreter sees
it: another Python version is another function.
"""

from __future__ import annotations

import builtins
import functools
import importlib.util
import marshal
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fnmap.errors import NotCacheable
from fnmap.format.bytecode import Chain, Import, global_names, imports, normal_form
from fnmap.format.digest import Digester, Shape, Unknown, hashed
from fnmap.format.installed import find_module, is_installed_module, version_of
from fnmap.format.values import value_shape

_MISSING = object()
_DISPATCH = functools.singledispatch(lambda _: None).__code__  # type: ignore[attr-defined]
_NOT_OF_A_CLASS = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
    "__abstractmethods__", "_abc_impl", "__slotnames__", "__annotations_cache__", "__annotate__", "__annotate_func__",
})  # fmt: skip
_DESCRIPTORS = (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType)
_PLACES = (types.MemberDescriptorType, types.GetSetDescriptorType)


def function_identity(
    fn: Callable[..., Any], kwargs: Mapping[str, Any] | None = None, version: str | None = None
) -> str:
    """A hex digest of the function and its fixed keywords: another one as soon as its results might differ.

    With `version`, a function is its qualified name and that version, whatever its code; what it is bound
    to (closure, defaults, keywords, the instance of a method) still counts. Raises NotCacheable.
    """
    digester = Digester(Functions(by_name=version is not None).shape, loose_dicts=False)
    named = sorted((kwargs or {}).items())
    try:
        parts = [digester(_Bound(fn)), *(digester(_Bound(value, f"keyword {name!r}")) for name, value in named)]
    except Unknown as error:
        raise NotCacheable(f"fn={_label(fn)} cannot be cached: {_why(error, _label(fn), version)}") from error.__cause__
    about = marshal.dumps((sys.version_info[:2] if version is None else version, [name for name, _ in named]), 2)
    return hashed(about, *parts).hex()


def item_digester() -> Digester:
    """Digests of items: as those of values that a function refers to, but equal dicts are equal in any order."""
    return Digester(Functions().shape, loose_dicts=True)


def why_not(error: Unknown, of: str) -> str:
    """What has no identity and how it is reached, as part of a message."""
    obj = error.args[0]
    kind = f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")
    return f"{' of '.join([*error.names, of])} is a {kind}, whose content cannot be told"


def _why(error: Unknown, of: str, version: str | None) -> str:
    make = "Make it inside the function, or pass what it is made from (a path, a URL, a seed)"
    say = "" if version is not None else ', or say which version of the function it is: cache="v1"'
    return f"{why_not(error, of)}. {make}{say}"


def _label(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


@dataclass(frozen=True, eq=False)
class _Bound:
    """Something under a name."""

    value: Any
    name: str = ""


class Functions:
    """Takes apart functions, classes, modules and whatever they refer to. `by_name`: functions and classes
    are their names."""

    def __init__(self, *, by_name: bool = False) -> None:
        self._by_name = by_name

    def shape(self, obj: Any) -> Shape:
        """An object taken apart. Raises Unknown."""
        if isinstance(obj, _Bound):
            return Shape(b"bound", [obj.value], [obj.name])
        if obj is _MISSING:
            return Shape(b"missing")
        if isinstance(obj, types.ModuleType):
            return self._module(obj)
        if isinstance(obj, types.CodeType):
            form, constants = normal_form(obj)
            return Shape(b"code" + form, constants, lasting=True)
        if installed := _installed_as(obj):
            return Shape(b"installed " + installed, lasting=True)
        if isinstance(obj, type):
            return self._class(obj)
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        return self._wrapper(obj) or value_shape(obj)

    def _function(self, fn: types.FunctionType) -> Shape:
        code = fn.__code__
        if code is _DISPATCH:  # its cache changes with each call
            return Shape(b"singledispatch", tuple(fn.registry.items()), loose=True)  # type: ignore[attr-defined]
        held = {f"default of parameter {n!r}": v for n, v in _defaults(fn)}
        held |= {
            f"closure variable {n!r}": _cell(c) for n, c in zip(code.co_freevars, fn.__closure__ or (), strict=True)
        }
        if self._by_name:
            held |= {f"attribute {n!r}": v for n, v in sorted(fn.__dict__.items()) if n != "__wrapped__"}
            if "<lambda>" in fn.__qualname__:  # no name to tell two of them apart by
                held[""] = code
            return _shape(f"function {fn.__module__}.{fn.__qualname__}", held)
        held |= {f"attribute {n!r}": v for n, v in sorted(fn.__dict__.items())}
        home = fn.__globals__.get("__name__")
        if isinstance(home, str) and is_installed_module(home):  # what an installed decorator has made
            return _shape(f"function of {home} {version_of(home)}", {"": code, **held}, lasting=True)
        return _shape(f"function {code.co_name}", {"": code, **held, **dict(_globals(fn))}, lasting=True)

    def _class(self, cls: type) -> Shape:
        about = f"class {cls.__module__}.{cls.__qualname__}"
        if self._by_name:
            return Shape(about.encode())
        held: dict[str, Any] = {"the metaclass": type(cls)}
        held |= {f"base {at}": base for at, base in enumerate(cls.__bases__)}
        held |= {f"attribute {n!r}": v for n, v in sorted(vars(cls).items()) if n not in _NOT_OF_A_CLASS}
        if "__annotate_func__" in vars(cls):  # from Python 3.14 on
            held["annotations"] = cls.__annotations__
        return _shape(about, held, lasting=True)

    def _module(self, module: types.ModuleType) -> Shape:
        name = module.__name__
        if self._by_name:
            return Shape(f"module {name}".encode())
        if is_installed_module(name):
            return Shape(f"module {name} {version_of(name)}".encode(), lasting=True)
        held = {f"global {n!r}": v for n, v in sorted(vars(module).items()) if not n.startswith("__")}
        return _shape("module", held, lasting=True)

    def _wrapper(self, obj: Any) -> Shape | None:
        """What is there to hold a function."""
        if isinstance(obj, types.MethodType):
            return Shape(b"method", [obj.__func__, obj.__self__], ["", "the instance"])
        if isinstance(obj, (classmethod, staticmethod)):
            return Shape(type(obj).__name__.encode(), [obj.__func__])
        if type(obj) is property:
            return Shape(b"property", [obj.fget, obj.fset, obj.fdel])
        if isinstance(obj, functools._lru_cache_wrapper):
            return Shape(b"lru_cache", [obj.__wrapped__])
        if isinstance(obj, functools.cached_property):
            return Shape(b"cached_property", [obj.func])
        if isinstance(obj, (types.BuiltinFunctionType, types.MethodWrapperType)):
            return Shape(f"builtin {obj.__name__}".encode(), [obj.__self__], ["the instance"])
        if isinstance(obj, _DESCRIPTORS):
            return Shape(f"method {obj.__name__}".encode(), [obj.__objclass__])
        if isinstance(obj, _PLACES):
            return Shape(f"slot {obj.__name__}".encode())
        if type(obj).__module__ == "fnmap.tasks":
            return Shape(b"task", [obj.fn])
        return None


def _shape(about: str, held: Mapping[str, Any], *, lasting: bool = False) -> Shape:
    tag = marshal.dumps((about, list(held)), 2)
    return Shape(tag, list(held.values()), list(held), lasting=lasting)


def _installed_as(obj: Any) -> bytes | None:
    """Module, name and version of something that is installed; None of what is the user's, or has no such name."""
    try:
        home, name = obj.__module__, obj.__qualname__
    except Exception:  # most objects have none; and a user's __getattr__ may raise anything
        return None
    if not isinstance(home, str) or not isinstance(name, str) or not is_installed_module(home):
        return None
    found: Any = sys.modules.get(home)
    for step in name.split("."):
        found = getattr(found, step, _MISSING)
    return f"{home}.{name} {version_of(home)}".encode() if found is obj else None


def _defaults(fn: types.FunctionType) -> Iterator[tuple[str, Any]]:
    positional = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    values = fn.__defaults__ or ()
    yield from zip(positional[len(positional) - len(values) :], values, strict=True)
    yield from sorted((fn.__kwdefaults__ or {}).items())


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _MISSING


def _globals(fn: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """The values of the globals and of the imported modules that the function reads, of the user's modules
    only what it takes of them, under the names that a message calls them by."""
    for name, chains in global_names(fn.__code__).items():
        value = fn.__globals__.get(name, _MISSING)
        if value is _MISSING:
            value = getattr(builtins, name, _MISSING)
        yield from _taken(name, value, chains)
    for one in imports(fn.__code__):
        name = _absolute(one, fn.__globals__.get("__package__"))
        module = find_module(name)
        for inner in one.names:
            if not isinstance(module, types.ModuleType):
                yield f"import {name}", module
            elif (taken := getattr(module, inner, _MISSING)) is not _MISSING:
                yield f"import {name}.{inner}", taken
            else:
                yield f"import {name}.{inner}", find_module(f"{name}.{inner}")
        if not one.names:
            yield from _taken(f"import {one.bound}", module and find_module(one.bound), one.uses)


def _absolute(one: Import, package: str | None) -> str:
    """The full name of the module; one that begins with a dot, which no module does, where there is no package."""
    name = "." * one.level + one.module
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return name


def _taken(name: str, value: Any, chains: frozenset[Chain]) -> Iterator[tuple[str, Any]]:
    """A value, or of a module of the user's what the chains of attributes lead to."""
    for chain in sorted(chains):
        label, found = name, value
        for attribute in chain:
            if not isinstance(found, types.ModuleType) or is_installed_module(found.__name__):
                break
            label, found = f"{label}.{attribute}", getattr(found, attribute, _MISSING)
        yield (label if label.startswith("import ") else f"global {label!r}"), found
