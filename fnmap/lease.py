"""Who may drive a named run, and which of its parts count.

A run has one driver at a time. Each has a number, taken by the exclusive creation of an object, and commits
under that number alone: so a driver that was thought dead and is not can commit what it likes, it does no harm.
Whoever takes over claims the next number first, lists the parts that are there next, and says then which
of them it adopts. From the claim on, only those count of the earlier drivers, and all of the last.

A reader that saw parts before the claim saw parts that are adopted: they were there when they were listed. So what
was read once does not change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fnmap.errors import MissingKey, RunBusy
from fnmap.format import keys
from fnmap.storage.base import Store
from fnmap.storage.owner import is_here, may_live, me

BEAT_S = 5.0  # a driver that lives longer says so at such intervals, for those who cannot ask its host
DEAD_S = 6 * BEAT_S  # one that said nothing for so long is taken for dead


@dataclass(frozen=True, slots=True)
class Driver:
    """The latest driver of a run: its number, its process, and what it said last."""

    number: int
    owner: str
    beat: str = ""


def last_driver(store: Store, name: str, plan: Mapping[str, Any]) -> Driver:
    """The latest driver of a run. The first is named in the plan."""
    number = _last_number(store, name)
    owner = store.get(keys.driver(name, number)).decode() if number else str(plan["owner"])
    return Driver(number, owner, "" if is_here(owner) else _beat(store, name, number))


def claim(store: Store, name: str, plan: Mapping[str, Any], *, silent: Driver | None = None) -> int:
    """Become the next driver of a run, and get its number. Raises RunBusy if the last one may be alive.

    `silent`: a driver on another host that was watched for DEAD_S and said nothing.
    """
    last = last_driver(store, name, plan)
    ended = read_end(store, name, last.number)
    alive = may_live(last.owner) and last.owner != me() and last != silent
    if alive and ended is None:
        raise RunBusy(
            f"name={name!r}: the process {last.owner} drives that run, or did so on a host that cannot be asked from"
            f" here. attach({name!r}) follows it, and its retry() takes over once it is dead"
        )
    number = last.number + 1
    if not store.create(keys.driver(name, number), me().encode()):
        raise RunBusy(f"name={name!r}: another process has just taken up that run")
    driver, before = _adopted(store, name, number - 1)  # those after it have begun nothing
    adopted = sorted(key for key in _of_all(store, name) if _counts(key, _View(driver - 1, before)))
    store.create(keys.adopted(name, number), json.dumps(adopted).encode())
    return number


def is_last(store: Store, name: str, number: int) -> bool:
    """Has nobody taken up the run after the driver of that number?"""
    return _last_number(store, name) == number


def say_alive(store: Store, name: str, number: int, beat: int) -> None:
    """What a driver says from time to time."""
    store.put(keys.beat(name, number), str(beat).encode())


def committed(store: Store, name: str) -> list[str]:
    """The keys of the parts that count, by stage, driver and chunk."""
    while True:
        number = _last_number(store, name)
        view = _View(number - 1, _adopted(store, name, number)[1])
        found = [key for key in _of_all(store, name) if _counts(key, view)]
        if _last_number(store, name) == number:  # else somebody has claimed the run meanwhile: look again
            return sorted(found, key=keys.place_of_part)


def read_end(store: Store, name: str, number: int) -> dict[str, Any] | None:
    """What became of the run the last time that it ended under the driver of that number."""
    try:
        end: dict[str, Any] = json.loads(store.get(keys.end(name, number)))
    except MissingKey:
        return None
    return end


@dataclass(frozen=True, slots=True)
class _View:
    """Of drivers after the number `after` all parts count, of the others those in `adopted`."""

    after: int
    adopted: frozenset[str] = frozenset()


def _counts(key: str, view: _View) -> bool:
    return keys.place_of_part(key)[1] > view.after or key in view.adopted


def _adopted(store: Store, name: str, number: int) -> tuple[int, frozenset[str]]:
    """The latest driver up to that number that has said what it adopts, and what that is."""
    while number > 0:
        try:
            return number, frozenset(json.loads(store.get(keys.adopted(name, number))))
        except MissingKey:
            number -= 1
    return 0, frozenset()


def _of_all(store: Store, name: str) -> list[str]:
    return [key for prefix in keys.all_part_prefixes(name) for key in store.list(prefix)]


def _last_number(store: Store, name: str) -> int:
    return max((int(key.rpartition(".")[2]) for key in store.list(keys.drivers(name))), default=0)


def _beat(store: Store, name: str, number: int) -> str:
    try:
        return store.get(keys.beat(name, number)).decode()
    except MissingKey:
        return ""
