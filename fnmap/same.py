"""Is a call of a named run the same as the one that is kept? What is taken for the same gives the results of that one,
so it is told by content: an equal text is no proof, as of arrays that are shown in part."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from fnmap.errors import NotCacheable, UsageError
from fnmap.format.task_keys import item_keys
from fnmap.format.travel import dumps
from fnmap.worker import short_repr

log = logging.getLogger(__name__)


def same_items(kept: Sequence[Any], now: Sequence[Any], what: str) -> None:
    """Raise UsageError, naming the first that differs, unless the items are the same."""
    at = first_other(kept, now)
    if at is not None:
        raise UsageError(f"{what} other items: item {at} {_change(kept[at], now[at])}; choose another name")


def same_kwargs(kept: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    """Raise UsageError, naming the first that differs, unless the keywords are the same."""
    names = sorted(kept)
    if names != sorted(now):
        raise UsageError(f"{what} other keywords: {names}, and this has {sorted(now)}; choose another name")
    at = first_other([kept[name] for name in names], [now[name] for name in names])
    if at is not None:
        name = names[at]
        raise UsageError(f"{what} other keywords: {name!r} {_change(kept[name], now[name])}; choose another name")


def first_other(kept: Sequence[Any], now: Sequence[Any]) -> int | None:
    """The first place at which two columns of one length differ, if they do."""
    try:
        differs = (item_keys("", kept, "item") != item_keys("", now, "item")).any(axis=1).nonzero()[0].tolist()
    except NotCacheable:
        differs = range(len(kept))
    return next((at for at in differs if not _same(kept[at], now[at])), None)


def _same(one: Any, other: Any) -> bool:
    """Are they surely the same? By content; where that cannot be told, by their pickles, or as they say themselves."""
    try:
        return bool((item_keys("", [one], "item") == item_keys("", [other], "item")).all())
    except NotCacheable:
        log.debug("compared by their pickles, for their content cannot be told: %s", type(one))
    if type(one) is not type(other):
        return False
    try:
        return _pickled(one) == _pickled(other) or bool(one == other)
    except Exception:  # whatever a user's __eq__ raises, or a pickle
        log.debug("items that cannot be compared", exc_info=True)
        return False


def _pickled(value: Any) -> bytes:
    """A pickle as of what came out of one, as what is kept has: which of its parts are one object shows in a pickle."""
    return dumps(pickle.loads(dumps(value)))


def _change(before: Any, now: Any) -> str:
    old, new = short_repr(before), short_repr(now)
    return f"was {old}, and is {new} now" if old != new else f"is not what it was, though both are shown as {old}"
