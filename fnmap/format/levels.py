"""Levels of loggers travel, so that a worker sends what the caller's own loggers would let through, and no more."""

from __future__ import annotations

import logging

Levels = tuple[tuple[str, int], ...]  # pairs (name of a logger, its own level); the root's name is empty
DEFAULT: Levels = (("", logging.WARNING),)
_MARK = "fnmap"
_followed: Levels = ()


def levels() -> Levels:
    """The levels that are set here. Collected anew only after one was set: that empties the cache in which
    each logger keeps what it lets through, and so tells on itself, where a walk over hundreds of loggers would
    cost each call some 20 us."""
    cache = getattr(logging.root, "_cache", {})
    known: Levels | None = cache.get(_MARK)
    if known is None:
        with logging._lock:  # type: ignore[attr-defined]  # nobody sets a level in the meantime
            named = logging.root.manager.loggerDict.items()
            own = [(name, logger.level) for name, logger in named if isinstance(logger, logging.Logger)]
            known = cache[_MARK] = ("", logging.root.level), *((name, level) for name, level in own if level)
    return known


def follow(wanted: Levels) -> None:
    """In a worker: have the caller's levels, whatever a task may have set since."""
    global _followed
    if wanted != _followed:
        for name in dict(_followed).keys() - dict(wanted).keys():
            logging.getLogger(name).setLevel(logging.NOTSET)
        _followed = wanted
    for name, level in wanted:
        logger = logging.getLogger(name)
        if logger.level != level:
            logger.setLevel(level)
