"""User code travels: how functions, classes and their instances are pickled for another interpreter.

Functions and classes of `__main__`, of notebooks and of the user's own modules go by value, so that a
worker needs only third-party packages, and an edited module is simply sent again. What is installed
(site-packages, the standard library, fnmap) goes by name.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle

from fnmap.format import classes, exceptions
from fnmap.format.payload import Dumper, Frame, Ref, Share, Take, common_object, dump

_lock = threading.Lock()
_is_user: dict[str, bool] = {}
_last: tuple[int, list[types.ModuleType], frozenset[str]] = (-1, [], frozenset())


def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")} | {sys.base_prefix + "/lib"})


_INSTALLED = _installed()


def is_installed_path(path: str) -> bool:
    """Does pip or the interpreter's own installer put files there?"""
    return "site-packages" in path or path.startswith(_INSTALLED)


def _travels_by_value(name: str, module: types.ModuleType) -> bool:
    file = _file(module)
    top = name.partition(".")[0]
    if file is None or top in ("fnmap", "cloudpickle", "__main__", "__mp_main__"):
        return False
    path = str(file)
    if not path.endswith(".py") or is_installed_path(path):
        return False
    folder = Path(_file(sys.modules.get(top)) or path).parent
    return not holds_installed(folder) and not holds_installed(folder.parent)


def _asleep(module: object) -> bool:
    """Is it imported only when it is first touched, which is not for us to do?"""
    if not isinstance(module, types.ModuleType):
        return False
    return type(module).__getattribute__ is not types.ModuleType.__getattribute__


def _file(module: object) -> str | None:
    """Its `__file__`, without waking a module that would be imported at the first touch."""
    held = object.__getattribute__(module, "__dict__") if isinstance(module, types.ModuleType) else {}
    file: str | None = held.get("__file__")
    return file


@functools.cache
def holds_installed(folder: Path) -> bool:
    """Did pip put packages there, as it does with --target?"""
    return any(folder.glob("*.dist-info"))


def user_modules() -> list[types.ModuleType]:
    """Loaded modules that are the user's own: Python source outside of what is installed."""
    global _last
    if len(sys.modules) == _last[0] and all(sys.modules.get(m.__name__) is m for m in _last[1]):
        return _last[1]
    found = []
    for name, module in list(sys.modules.items()):
        if _asleep(module):
            continue
        known = _is_user.get(name)
        if known is None:
            known = _is_user[name] = isinstance(module, types.ModuleType) and _travels_by_value(name, module)
        if known:
            found.append(module)
    _last = len(sys.modules), found, frozenset(module.__name__ for module in found)
    return found


def user_module_names() -> frozenset[str]:
    """The names of `user_modules`."""
    user_modules()
    return _last[2]


@contextmanager
def _by_value() -> Iterator[None]:
    """While this lasts, cloudpickle sends the user's modules by value. Its registry belongs to the whole
    process, so it is left as it was found."""
    with _lock:
        before = cloudpickle.list_registry_pickle_by_value()
        ours = [m for m in user_modules() if m.__name__ not in before and sys.modules.get(m.__name__) is m]
        for module in ours:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in ours:
                cloudpickle.unregister_pickle_by_value(module)


class _Together(threading.local):
    """What was found out of functions and classes while many objects are pickled one by one, in this thread: how each
    is reduced, and the namespaces that its like share where it is unpickled. None: that is not kept."""

    reduced: dict[int, tuple[Any, Any]] | None = None  # by id, with the object
    namespaces: dict[int, dict[str, Any]] | None = None


_together = _Together()


@contextmanager
def together() -> Iterator[None]:
    """Until this ends, nothing that is pickled changes: what several objects refer to is taken apart once. Of what they
    hold, each pickle still has all."""
    _together.reduced, _together.namespaces = {}, {}
    try:
        yield
    finally:
        _together.reduced = _together.namespaces = None


_EACH = (type, types.FunctionType, BaseException)  # how these are pickled is not said by their class alone


class _Whole(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles one object with all that it needs inside."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._usual = set[type]()  # classes whose instances are all pickled as ever
        if _together.namespaces is not None:
            self.globals_ref = _together.namespaces

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in self._usual:
            return NotImplemented
        reduced = self._known(obj)
        if reduced is NotImplemented and obj.__class__ is kind and not issubclass(kind, _EACH):  # and no proxy
            self._usual.add(kind)
        return reduced

    def _known(self, obj: Any) -> Any:
        known = _together.reduced
        if known is None or not isinstance(obj, (type, types.FunctionType)):
            return self._reduced(obj)
        if id(obj) not in known:
            known[id(obj)] = obj, self._reduced(obj)
        return known[id(obj)][1]

    def _reduced(self, obj: Any) -> Any:
        if isinstance(obj, functools._lru_cache_wrapper):  # would go by a name that a worker may not have
            return _with_cache, (obj.__wrapped__, obj.cache_parameters())
        if issubclass(type(obj), BaseException) and (how := exceptions.reduced(obj)) is not NotImplemented:
            return how
        reduced = super().reducer_override(obj)
        return classes.by_value(obj, reduced) if isinstance(obj, type) and isinstance(reduced, tuple) else reduced

    def common(self) -> bytes:
        return b""


class _WholeHome(_Whole):
    """Towards the client: a class that came here by value goes home by name, so that the client gets an
    instance of its own class. Those of `__main__` have their content beside it, for readers with another `__main__`.
    Classes of function bodies have no such name; cloudpickle recognises them in the process that they came from."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and "<locals>" not in obj.__qualname__:
            if obj.__module__ == "__main__":
                return classes.main_class, (*classes.named(obj), classes.shape(obj), _content(obj))
            if obj.__module__ not in sys.modules:
                return home_class, classes.named(obj)
        return super().reducer_override(obj)


class _Many:
    """Mixed in front of a pickler: a class that goes by value is sent once for all the objects."""

    def __init__(self, out: io.BytesIO, take: Take) -> None:
        super().__init__(out, 5, buffer_callback=take)  # type: ignore[call-arg]
        self._common: list[type] = []
        self._places: dict[type, Any] = {}

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, type):
            return super().reducer_override(obj)  # type: ignore[misc]
        if obj not in self._places:
            reduced = super().reducer_override(obj)  # type: ignore[misc]
            if isinstance(reduced, tuple) and reduced[0] is not home_class:  # that is as short as a place
                self._common.append(obj)
                reduced = common_object, (len(self._common) - 1,)
            self._places[obj] = reduced
        return self._places[obj]

    def common(self) -> bytes:
        if not self._common:
            return b""
        out = io.BytesIO()
        next(c for c in type(self).__mro__ if c in (_Whole, _WholeHome))(out, 5).dump(self._common)
        return out.getvalue()


class _ManyOut(_Many, _Whole):
    """Items on their way to a worker."""


class _ManyHome(_Many, _WholeHome):
    """Results on their way home."""


def _with_cache(fn: Callable[..., Any], parameters: dict[str, Any]) -> Callable[..., Any]:
    cached: Callable[..., Any] = functools.lru_cache(**parameters)(fn)
    return cached


def home_class(module: str, qualname: str, tracker_id: str | None) -> Any:
    """The class of a user's module, here; stored results name this function."""
    return classes.home_class(module, qualname, tracker_id)


def _content(obj: type) -> bytes:
    out = io.BytesIO()
    _Whole(out, 5).dump(obj)
    return out.getvalue()


@contextmanager
def to_worker(out: io.BytesIO, take: Take) -> Iterator[Dumper]:
    """Pickle items, which may be many, on their way to a worker."""
    with _by_value():
        yield _ManyOut(out, take)


@contextmanager
def whole(out: io.BytesIO, take: Take) -> Iterator[Dumper]:
    """Pickle one object, such as a function, on its way to a worker."""
    with _by_value():
        yield _Whole(out, 5, buffer_callback=take)


@contextmanager
def whole_home(out: io.BytesIO, take: Take) -> Iterator[Dumper]:
    """Pickle one object, such as an exception, on its way home."""
    yield _WholeHome(out, 5, buffer_callback=take)


@contextmanager
def to_client(out: io.BytesIO, take: Take) -> Iterator[Dumper]:
    """Pickle results on their way home."""
    yield _ManyHome(out, take)


def dumps(obj: Any) -> bytes:
    """One small object, on its way to a worker, as one pickle."""
    out = io.BytesIO()
    with whole(out, lambda _: True) as dumper:
        dumper.dump(obj)
    return out.getvalue()


def dump_function(fn: Callable[..., Any], kwargs: Mapping[str, Any], share: Share | None) -> tuple[str, list[Frame]]:
    """A function and its fixed keywords as frames, with a key that names their content."""
    frames = dump((fn, dict(kwargs)), whole, share)
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        digest.update(frame.key.encode() if isinstance(frame, Ref) else frame)
    return digest.hexdigest(), frames


def dump_exception(error: BaseException) -> bytes | None:
    """The exception on its way home, if it survives that: what its class says of how to pickle it may be wrong."""
    for sent in (error, exceptions.ByContent(error)):
        out = io.BytesIO()
        try:
            with whole_home(out, lambda _: True) as dumper:
                dumper.dump(sent)
            if isinstance(pickle.loads(out.getvalue()), BaseException):
                return out.getvalue()
        except Exception:  # whatever the user's class raises
            continue
    return None
