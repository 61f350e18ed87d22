"""The cache: which results of a function there are already, of any run in a store.

A run writes down where the result of each task is, as at most 16 manifests by the first hex digit of the
tasks' keys, or one if they are few. To look up a million keys is to read these, newest first, and to intersect
sorted columns: no read for a task. Every manifest is created exclusively and never changed; `compact` writes
merged ones before it deletes what they were made of, and readers that miss one list again.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fnmap.errors import MissingKey
from fnmap.format import keys
from fnmap.format.manifest import Manifest, decode, digit_slice, merged
from fnmap.storage.base import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEW = 4096  # entries that are one object rather than sixteen
_READERS = 16  # requests under way at a time: stores may be far away
_TRIES = 10  # at manifests that others keep merging
_ALL = "all"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Found:
    """Of each key that was looked up: the number of the part in `parts` and the position in that part; -1 and
    -1 where there is no result."""

    part_of: NDArray[np.int64]
    positions: NDArray[np.int64]
    parts: list[str]
    groups: int = 0  # of manifests, each written by a run or a `compact`


def write_manifest(
    store: Store, identity: str, run: str, task_keys: Any, parts: Sequence[str], part_of: Any, positions: Any
) -> None:
    """Write down where results are: of the task with the key task_keys[t] at positions[t] in the part
    parts[part_of[t]]. The parts must be committed."""
    entries = Manifest.of(task_keys, parts, part_of, positions)
    if not len(entries):
        return
    name = _new_name(f"{time.time_ns() // 1000:015x}", run)
    if len(entries) < FEW:
        _create(store, identity, name, _ALL, entries.take(slice(None)))
        return
    for digit, which in enumerate(keys.SPREAD):
        _create(store, identity, name, which, entries.take(entries.of_digit(digit)))


def lookup(store: Store, identity: str, task_keys: NDArray[np.uint64]) -> Found:
    """Where the results of these tasks are, as far as there are any and their parts are still there."""
    for tries in itertools.count(1):
        try:
            return _lookup(store, identity, task_keys, skip_missing=tries == _TRIES)
        except MissingKey:  # merged into another since it was listed
            continue
    raise AssertionError("not reached")


def compact(store: Store, identity: str) -> int:
    """Merge the manifests of a function into one set, leaving out entries whose parts are gone. Returns how many
    objects it replaced. Any number of processes may read, write and compact at the same time."""
    names = _listed(store, identity, keys.SPREAD)
    if len({_group(name) for name in names}) < 2:
        return 0
    there = Parts(store)
    try:
        replaced = _merge(store, identity, names, there)
    except MissingKey:  # another process compacts: what has been merged so far is there twice, and harmless
        return 0
    store.delete(replaced)
    return len(replaced)


def parts_in_use(store: Store) -> set[str]:
    """The parts in which results are that entries refer to, of all functions."""
    while True:
        names = sorted(_settled(lambda: {*store.list(keys.CACHE)}))
        try:
            return {part for _, manifest in _read(store, names) for part in manifest.parts}
        except MissingKey:  # merged into another since it was listed
            continue


def _lookup(store: Store, identity: str, wanted: NDArray[np.uint64], *, skip_missing: bool) -> Found:
    import numpy as np

    order = np.argsort(wanted[:, 0])
    left, asked = order, wanted[order]  # what has not been found yet, in order of the keys
    found = Found(np.full(len(wanted), -1, np.int64), np.full(len(wanted), -1, np.int64), [])
    there, numbers = Parts(store), dict[str, int]()
    digits = [keys.SPREAD[d] for d in np.unique(wanted[:, 0] >> np.uint64(60))]
    names = _listed(store, identity, digits) if digits else []
    for name, manifest in _read(store, names, skip_missing=skip_missing):
        which = _which(name)
        span = slice(0, len(left)) if which == _ALL else digit_slice(asked[:, 0], keys.SPREAD.index(which))
        at = manifest.find(asked[span])
        hits = np.flatnonzero(at >= 0)
        alive = there.alive(manifest, at[hits])
        hits, at = hits[alive], at[hits[alive]]
        if len(hits):
            where = left[span][hits]
            found.part_of[where] = _numbered(manifest, at, numbers)
            found.positions[where] = manifest.positions[at]
            keep = np.ones(len(left), bool)
            keep[span.start + hits] = False
            left, asked = left[keep], asked[keep]
        if not len(left):
            break
    found.parts.extend(numbers)
    return replace(found, groups=len({_group(name) for name in names}))


def _numbered(manifest: Manifest, at: NDArray[np.int64], numbers: dict[str, int]) -> NDArray[np.int64]:
    """The parts of these entries as numbers that count for all manifests."""
    import numpy as np

    used, inverse = np.unique(manifest.part_of[at], return_inverse=True)
    of_used = [numbers.setdefault(manifest.parts[part], len(numbers)) for part in used]
    return np.array(of_used, np.int64)[inverse]


class Parts:
    """Which parts are still there: told by listing where they are, of a run and stage at most one list for each prefix
    over which its keys are spread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._there: dict[str, set[str]] = {}

    def alive(self, manifest: Manifest, at: Any) -> NDArray[np.bool_]:
        """Of these entries, whether their parts are there."""
        import numpy as np

        used, inverse = np.unique(manifest.part_of[at], return_inverse=True)
        names = [manifest.parts[part] for part in used]
        new = sorted({keys.part_prefix(name) for name in names} - self._there.keys())
        self._there |= zip(new, _at_once(lambda prefix: set(self._store.list(prefix)), new), strict=True)
        return np.array([name in self._there[keys.part_prefix(name)] for name in names], bool)[inverse]


def _listed(store: Store, identity: str, digits: Iterable[str]) -> list[str]:
    """The manifests that may have keys of these digits, the newest first."""
    prefixes = [keys.cached(identity, digit) for digit in sorted({*digits, keys.cached_home(identity)})]

    def once() -> set[str]:
        return set(itertools.chain.from_iterable(_at_once(lambda p: list(store.list(p)), prefixes)))

    wanted = {*digits, _ALL}
    return sorted((name for name in _settled(once) if _which(name) in wanted), key=_group, reverse=True)


def _settled(once: Callable[[], set[str]]) -> set[str]:
    """A list that was made until two agree: one that is made while another process compacts may show neither what was
    merged nor what it was merged into."""
    before = once()
    while (now := once()) != before:
        before = now
    return now


def _read(store: Store, names: Sequence[str], *, skip_missing: bool = False) -> Iterator[tuple[str, Manifest]]:
    """The manifests of these names, some at a time. What is damaged is left out."""

    def get(name: str) -> Manifest | None:
        try:
            body = store.get(name)
        except MissingKey:
            if skip_missing:
                return None
            raise
        manifest = decode(body)
        if manifest is None:
            _log.warning("the manifest %r of the cache cannot be read; its tasks will run again", name)
        return manifest

    for first in range(0, len(names), _READERS):
        some = names[first : first + _READERS]
        for name, manifest in zip(some, _at_once(get, some), strict=True):
            if manifest is not None:
                yield name, manifest


def _merge(store: Store, identity: str, names: Sequence[str], there: Parts) -> list[str]:
    """Create manifests with the entries of all these, digit by digit; the names of those that were merged."""
    target = _new_name(_group(names[0]).partition(".")[0], "merged")

    def alive(some: list[str]) -> list[tuple[str, Manifest]]:
        return [(name, one.take(there.alive(one, slice(None)))) for name, one in _read(store, some)]

    whole = alive([name for name in names if _which(name) == _ALL])
    spread = [name for name in names if _which(name) != _ALL]
    done = [name for name, _ in whole]
    if not spread and sum(len(one) for _, one in whole) < FEW:
        _create(store, identity, target, _ALL, merged([one for _, one in whole]))
        return done
    for digit, which in enumerate(keys.SPREAD):
        own = alive([name for name in spread if _which(name) == which])
        some = own + [(name, one.take(one.of_digit(digit))) for name, one in whole]
        some.sort(key=lambda named: _group(named[0]), reverse=True)
        _create(store, identity, target, which, merged([one for _, one in some]))
        done += [name for name, _ in own]
    return done


def _create(store: Store, identity: str, name: str, which: str, entries: Manifest) -> None:
    if len(entries):
        folder = keys.cached(identity, keys.cached_home(identity) if which == _ALL else which)
        store.create(f"{folder}{name}.{which}", entries.encode())


def _new_name(stamp: str, run: str) -> str:
    """A name that no other manifests have, and by which they are ordered: the newest has the greatest."""
    return f"{stamp}.{os.urandom(6).hex()}.{run}"


def _group(key: str) -> str:
    """The name under which manifests were written together."""
    return key.rpartition("/")[2].rpartition(".")[0]


def _which(name: str) -> str:
    return name.rpartition(".")[2]


def _at_once(do: Callable[[str], Any], names: Sequence[str]) -> list[Any]:
    """Several requests at a time, as one waits for most of them."""
    if len(names) < 2:
        return [do(name) for name in names]
    with ThreadPoolExecutor(min(_READERS, len(names)), thread_name_prefix="fnmap-cache") as pool:
        return list(pool.map(do, names))
