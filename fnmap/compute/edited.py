"""A worker that stays warm sees an edit of the user's modules as a new interpreter would: a module that a function
imports inside its body does not travel with the function, but is found here, on disk."""

from __future__ import annotations

import importlib
import os
import sys
import time
from contextlib import suppress
from types import ModuleType

from fnmap.format.travel import user_modules

Stamp = tuple[int, int] | None  # mtime in ns and size of a source file; None where there is none
MARGIN_NS = 1_000_000_000  # clocks of file systems tick slowly, and are not ours
MANY, PAUSE_S = 8, 0.01  # a look costs about 1 us a module: at more of them, one is had so often at most


class Sources:
    """What the files of the user's modules were like when this process read them."""

    def __init__(self) -> None:
        self._read: dict[str, Stamp] = {}
        self._noted: list[ModuleType] | None = None
        self._run, self._since, self._look_at = "", 0, 0.0

    def before(self, run: str) -> None:
        """A call of this run comes next. Of a new run: forget the user's modules if one was edited; all of them,
        for the others may hold what they took from it."""
        self._since = time.time_ns() - MARGIN_NS
        if run == self._run:
            return
        self._run, modules, now = run, user_modules(), time.monotonic()
        if len(modules) > MANY and now < self._look_at:
            return
        self._look_at = now + PAUSE_S
        edited = [m for m in modules if m.__name__ not in self._read or self._read[m.__name__] != _stamp(m)]
        if edited:
            self._read.clear()
            _forget(modules, edited)

    def after(self) -> None:
        """A call has ended, and may have imported modules. Of one that was written since the call began nobody
        can tell what was read: it is not noted, and so read again."""
        modules = user_modules()
        if modules is self._noted:
            return
        self._noted = modules
        for module in modules:
            stamp = _stamp(module)
            if module.__name__ not in self._read and (stamp is None or stamp[0] < self._since):
                self._read[module.__name__] = stamp


def _stamp(module: ModuleType) -> Stamp:
    try:
        status = os.stat(module.__file__ or "")  # noqa: PTH116 - pathlib would double its price
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _forget(modules: list[ModuleType], edited: list[ModuleType]) -> None:
    for module in edited:
        with suppress(OSError, TypeError, AttributeError):  # Python tells an old one by whole seconds only
            os.unlink(module.__cached__)  # noqa: PTH108
    for module in modules:
        if sys.modules.get(module.__name__) is not module:
            continue  # forgotten by another of its names
        del sys.modules[module.__name__]
        package, _, name = module.__name__.rpartition(".")
        parent = sys.modules.get(package)
        if getattr(parent, name, None) is module:
            delattr(parent, name)
    importlib.invalidate_caches()
