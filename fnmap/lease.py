"""Who may drive a named run, and which of its parts count.

A run has one driver at a time. Each has a number, taken by the exclusive creation of an object, and commits
under that number alone: so a driver that was thought dead and is not can commit what it likes, it does no harm.
Whoever takes over claims the next number first, lists the parts that are there next, and says then which
of them it adopts. From the claim on, only those count of the earlier drivers, and all of the last.

A reader that saw parts before the claim saw parts that are adopted: they were there when they were listed. So what
was read once does not change.

Who deletes a run becomes its last driver first, and leaves that number behind: see `collect`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fnmap.errors import MissingKey, RunBusy, RunNotFound
from fnmap.format import keys
from fnmap.format.payload import unpack
from fnmap.storage.base import Store, open_object
from fnmap.storage.many import list_all
from fnmap.storage.owner import is_here, may_live, me

BEAT_S = 5.0  # a driver that lives longer says so at such intervals, for those who cannot ask its host
DELETED = "deleted"  # the form of a plan of which nothing but its last driver's number is left
COLLECTS = "collects "  # stands before the process of a driver that deletes the run
DEAD_S = 6 * BEAT_S  # one that said nothing for so long is taken for dead


@dataclass(frozen=True, slots=True)
class Driver:
    """The latest driver of a run: its number, its process, and what it said last. `collects`: it deletes the run."""

    number: int
    owner: str
    beat: str = ""
    collects: bool = False


def read_plan(store: Store, name: str) -> dict[str, Any] | None:
    """What was asked for under this name, if anything."""
    head = read_head(store, name)
    return None if head is None or head["form"] == DELETED else head


def read_head(store: Store, name: str) -> dict[str, Any] | None:
    """The head of the plan, also of one that was deleted."""
    try:
        frames: Any = unpack(open_object(store, keys.plan(name)))
    except MissingKey:
        return None
    head: dict[str, Any] = json.loads(bytes(frames[0]))
    return head


def last_driver(store: Store, name: str, plan: Mapping[str, Any]) -> Driver:
    """The latest driver of a run. The first is named in the plan."""
    number = _last_number(store, name)
    said = store.get(keys.driver(name, number)).decode() if number else str(plan["owner"])
    owner = said.removeprefix(COLLECTS)
    return Driver(number, owner, "" if is_here(owner) else _beat(store, name, number), collects=said != owner)


def claim(store: Store, name: str, plan: Mapping[str, Any], *, silent: Driver | None = None) -> int:
    """Become the next driver of a run, and get its number. Raises RunBusy if the last one may be alive.

    `silent`: a driver on another host that was watched for DEAD_S and said nothing.
    """
    last = last_driver(store, name, plan)
    ended = read_end(store, name, last.number)
    alive = may_live(last.owner) and (last.collects or last.owner != me()) and last != silent
    if alive and last.collects:
        raise RunBusy(f"name={name!r}: the process {last.owner} is just deleting that run")
    if alive and ended is None:
        raise RunBusy(
            f"name={name!r}: {_who(last.owner)} drives that run. attach({name!r}) follows it, and its retry()"
            " takes over once it is dead"
        )
    number = last.number + 1
    _become(store, name, number)
    if last.collects and read_plan(store, name) is None:
        unclaim(store, name, number)
        raise RunNotFound(f"no run named {name!r}: it was deleted")
    driver, before = _adopted(store, name, number - 1)  # those after it have begun nothing
    there = [*_parts(store, name, keys.digits_of(plan)[-1]), *_hits(store, name)]
    adopted = sorted(key for key in there if _counts(key, _View(driver - 1, before)))
    store.create(keys.adopted(name, number), json.dumps(adopted).encode())
    return number


def begin_again(store: Store, name: str) -> int:
    """The number of the first driver of a run whose name was that of another, which was deleted: larger than any of
    its drivers', so that what zombies of those commit does not count. Raises RunBusy if another is first."""
    last = _last_number(store, name)
    if not last:
        raise RunBusy(f"name={name!r}: somebody has just deleted the run of that name; try again")
    store.create(keys.adopted(name, last + 1), b"[]")  # before there is such a driver: it never adopts anything
    _become(store, name, last + 1)
    return last + 1


def claim_to_delete(store: Store, name: str, seen: Driver) -> int:
    """Become the last driver of a run, in order to delete it. Raises RunBusy if `seen` is not the last one."""
    _become(store, name, seen.number + 1, COLLECTS)
    return seen.number + 1


def unclaim(store: Store, name: str, number: int) -> None:
    """Let the driver of that number, which has committed nothing, never have been."""
    store.delete([keys.driver(name, number), keys.beat(name, number)])


def heard_at(store: Store, name: str, number: int, plan: Mapping[str, Any]) -> float | None:
    """When the driver of that number was last heard of, in seconds since 1970; None if that is not known."""
    beat = _beat(store, name, number).split()
    return float(beat[1]) if len(beat) == 2 else float(plan["started"]) if number == 0 else None


def _become(store: Store, name: str, number: int, how: str = "") -> None:
    """Take that number, and say since when."""
    say_alive(store, name, number, 0)
    if not store.create(keys.driver(name, number), (how + me()).encode()):
        raise RunBusy(f"name={name!r}: another process has just taken up that run")


def _who(owner: str) -> str:
    """A driver, for people."""
    host, pid, _ = owner.split(".")
    return f"process {pid}" if is_here(owner) else f"process {pid} on host {host}, which cannot be asked from here,"


def is_last(store: Store, name: str, number: int) -> bool:
    """Has nobody taken up the run after the driver of that number?"""
    return _last_number(store, name) == number


def say_alive(store: Store, name: str, number: int, beat: int) -> None:
    """What a driver says from time to time."""
    store.put(keys.beat(name, number), f"{beat} {time.time():.3f}".encode())


def committed(store: Store, name: str, digits: int | None = None) -> list[str]:
    """The keys of the parts that count, by stage, driver and chunk. `digits`: over which they are spread, if known."""
    if digits is None:
        digits = keys.digits_of(read_head(store, name) or {})[-1]
    return _those_that_count(store, name, lambda: _parts(store, name, digits))


def committed_hits(store: Store, name: str) -> list[str]:
    """The keys of what says which results of other runs count too."""
    return _those_that_count(store, name, lambda: _hits(store, name))


def _those_that_count(store: Store, name: str, there: Callable[[], list[str]]) -> list[str]:
    while True:
        number = _last_number(store, name)
        view = _View(number - 1, _adopted(store, name, number)[1])
        found = [key for key in there() if _counts(key, view)]
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


def _parts(store: Store, name: str, digits: int) -> list[str]:
    return list_all(store, keys.all_part_prefixes(name, digits))


def _hits(store: Store, name: str) -> list[str]:
    return list(store.list(keys.all_hits(name)))


def _last_number(store: Store, name: str) -> int:
    return max((int(key.rpartition(".")[2]) for key in store.list(keys.drivers(name))), default=0)


def _beat(store: Store, name: str, number: int) -> str:
    try:
        return store.get(keys.beat(name, number)).decode()
    except MissingKey:
        return ""
