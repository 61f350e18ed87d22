"""What is installed, as against the user's own code: modules by name, and the versions of their packages."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import types
from hashlib import blake2b
from importlib.machinery import ModuleSpec
from pathlib import Path

from fnmap.format.travel import holds_installed, is_installed_path, user_module_names

MAIN = frozenset({"__main__", "__mp_main__"})


def is_installed_module(name: str) -> bool:
    """Does what is in this module travel as a mere name?"""
    return name not in MAIN and name in sys.modules and name not in user_module_names()


@functools.cache
def version_of(module: str) -> str:
    """The version of the package that the module belongs to, with a digest of the module's file where that may
    change without the version: outside of where packages are installed."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"python {sys.version_info[0]}.{sys.version_info[1]}"
    file = getattr(sys.modules.get(module), "__file__", None)
    own = file and not is_installed_path(file) and Path(file).is_file()
    digest = blake2b(Path(file).read_bytes(), digest_size=16).hexdigest() if file and own else ""
    return f"{_package_version(top)} {digest}"


@functools.cache
def _package_version(top: str) -> str:
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:  # packages may have other names than modules
        packages = {*importlib.metadata.packages_distributions().get(top, ())}
        return ", ".join(sorted(f"{name} {importlib.metadata.version(name)}" for name in packages))


def find_module(name: str) -> types.ModuleType | str | None:
    """The module that an import statement would find. One that is installed and not loaded is only named, with
    its version; the user's own is imported, for its content counts. None if there is none."""
    if name in sys.modules:
        return named(name) if is_installed_module(name) else sys.modules[name]
    top = name.partition(".")[0]
    if (spec := _spec(top)) is None:
        return None
    if top in sys.stdlib_module_names or _is_installed(spec):
        return named(name)
    try:
        module = importlib.import_module(name)
    except Exception:  # whatever a module raises when it is run; the function's import will raise it too
        return None
    return named(name) if is_installed_module(name) else module


def is_installed_top(name: str) -> bool:
    """Would an import of this top level module find one that is installed, rather than the user's own?"""
    if (spec := _spec(name)) is None:
        return False
    places = spec.submodule_search_locations or [spec.origin or ""]
    return _is_installed(spec) or any(holds_installed(Path(place).parent) for place in places)


def _spec(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def _is_installed(spec: ModuleSpec) -> bool:
    return any(map(is_installed_path, [spec.origin or "", *(spec.submodule_search_locations or ())]))


def named(module: str) -> str:
    """An installed module as its name and version."""
    return f"module {module} {version_of(module)}"
