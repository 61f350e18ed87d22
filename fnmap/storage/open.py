"""From what a user writes as `store=` to a store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING

from fnmap.errors import UsageError
from fnmap.storage.base import Store
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "fnmap.stores"
"""The group of entry points by which plugins add schemes: each names a callable that takes the whole URL."""

_memories: dict[str, MemoryStore] = {}
_memories_lock = threading.Lock()


def open_store(spec: Store | str | PathLike[str]) -> Store:
    """The store that `spec` means.

    A store is returned as it is. A path, or `file:///path`, is a directory of files. `memory://name` is
    the one store of that name in this process, `s3://bucket/prefix` a place in a bucket. Any other scheme is
    looked up among the installed plugins.
    """
    if isinstance(spec, str):
        scheme, separator, rest = spec.partition("://")
        return _by_scheme(scheme.lower(), rest, spec) if separator else FileStore(spec)
    if isinstance(spec, PathLike):
        return FileStore(spec)
    if isinstance(spec, Store) and not isinstance(spec, type):
        return spec
    raise UsageError(f"store must be a directory, a URL such as 'memory://', or a Store; got {spec!r}")


def default_store() -> Store:
    """Where runs are kept when nobody says where: FNMAP_STORE, or .fnmap in the home directory."""
    return open_store(os.environ.get("FNMAP_STORE") or "~/.fnmap")


def _by_scheme(scheme: str, rest: str, spec: str) -> Store:
    if scheme in _BUILT_IN:
        return _BUILT_IN[scheme](rest)
    plugins = _plugins()
    if scheme not in plugins:
        known = ", ".join(f"'{name}://'" for name in sorted({*_BUILT_IN, *plugins}))
        raise UsageError(
            f"store={spec!r}: no store is known for '{scheme}://', only {known}; "
            f"install a package that has an entry point {scheme!r} in the group {GROUP!r}"
        )
    plugin = plugins[scheme]
    store = _load(plugin, spec)(spec)
    if not isinstance(store, Store):
        raise UsageError(f"store={spec!r}: the plugin {plugin.value!r} gave {store!r}, which is no Store")
    return store


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # looks through every installed package: only when needed

    return {point.name: point for point in entry_points(group=GROUP)}


def _load(plugin: EntryPoint, spec: str) -> Callable[[str], object]:
    try:
        factory: Callable[[str], object] = plugin.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"store={spec!r}: its plugin {plugin.value!r} cannot be loaded: {error}") from error
    return factory


def _memory(name: str) -> Store:
    with _memories_lock:
        return _memories.setdefault(name, MemoryStore())


def _file(rest: str) -> Store:
    from urllib.parse import unquote

    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"a file URL needs an absolute path: write 'file:///{rest}', or the plain path")
    return FileStore("/" + unquote(path))


def _s3(rest: str) -> Store:
    from fnmap.storage.s3 import from_url  # with what only S3 needs

    return from_url(rest)


_BUILT_IN: dict[str, Callable[[str], Store]] = {"memory": _memory, "file": _file, "s3": _s3}
