"""Delete named runs that nobody will ask for again.

Why no data of a run that somebody wants is lost, whatever happens at the same time:

- The driver is looked at first, its last sign of life next. Then the run is claimed as any new driver claims it, by the
  exclusive creation of the number after the one that was looked at. If somebody took it up in between, that number is
  his, and the run stays. From the claim on, nobody else can take it up while this process lives.
- A driver can drive again, without a new number, a run that had ended. It says first that it lives and looks then for a
  number after its own; here the number is taken first and its sign of life read then. One sees the other, at least.
- `end` goes first, so that what is half deleted never looks done; the parts before what says which of them count; the
  plan last. If this process dies on the way, the run is an interrupted one: to be finished by `retry`, which does
  again what is gone, or to be deleted by the next collection.
- In the place of the plan, the number stays behind. A new run of the name takes a larger one, so that no late commit of
  a worker or driver of the old run, which was thought dead, has a key that counts. Nothing stays of names that
  are never used again: those that were made up for runs which are kept for the cache.
- Parts are asked for in the cache after the claim, so that those are spared that were entered until then. The cache
  looks whether a part is there before it uses it.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fnmap.cache import parts_in_use
from fnmap.durable import live_here
from fnmap.errors import NotAuthentic, RunBusy, StoreError, UsageError
from fnmap.format import keys
from fnmap.format.payload import pack
from fnmap.lease import DEAD_S, DELETED, Driver, claim_to_delete, heard_at, last_driver, read_end, read_head, unclaim
from fnmap.storage.base import Store
from fnmap.storage.many import list_all
from fnmap.storage.owner import is_here, may_live

ELSEWHERE_S = 10 * DEAD_S  # a driver that cannot be asked is given so long at least; clocks differ
log = logging.getLogger(__name__)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class Collected:
    """What was deleted, or would be: runs by name, and how many parts of theirs. `kept_parts`: of these runs, those in
    which cached results are. `queues`: what clients of the compute had left that are gone."""

    runs: tuple[str, ...]
    parts: int
    kept_parts: int = 0
    queues: tuple[str, ...] = ()


def collect(store: Store, older_than: str | float | timedelta, *, dry_run: bool = False) -> Collected:
    """Delete the runs that ended, or were last heard of, before that time."""
    before = time.time() - age_s(older_than)
    claimed, gone, digits = dict[str, int](), dict[str, int](), dict[str, tuple[int, ...]]()
    for name in sorted({keys.run_of(key) for key in store.list("run/")}):
        try:
            head = read_head(store, name)
            digits[name] = keys.digits_of(head or {})
            if head is not None and head["form"] == DELETED:
                gone[name] = head["number"]
            elif head is not None and (seen := _expired(store, name, head, before)) is not None:
                claimed[name] = seen.number if dry_run else _claim(store, name, seen, head, before)
        except RunBusy:
            continue
        except NotAuthentic as error:  # it is of others, or forged
            log.warning("the run %s stays: %s", name, error)
    in_use = parts_in_use(store) if claimed or gone else set()
    parts = {name: _parts_of(store, name, n, digits[name], in_use) for name, n in {**claimed, **gone}.items()}
    for name, (free, kept) in () if dry_run else parts.items():
        forget = not kept and keys.is_made_up(name)
        if name in claimed:
            _delete(store, name, claimed[name], digits[name], free, forget=forget)
        else:
            store.delete(free)
            store.delete([keys.plan(name), keys.driver(name, gone[name])] if forget else [])
    return Collected(tuple(claimed), sum(len(free) for free, _ in parts.values()), sum(n for _, n in parts.values()))


def age_s(older_than: Any) -> float:
    """An age in seconds, from what users may say."""
    if isinstance(older_than, timedelta):
        seconds = older_than.total_seconds()
    elif isinstance(older_than, str) and (said := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", older_than)):
        seconds = float(said[1]) * _UNITS[said[2]]
    elif isinstance(older_than, (int, float)) and not isinstance(older_than, bool):
        seconds = float(older_than)
    else:
        seconds = -1.0
    if not seconds >= 0:
        raise UsageError(f'older_than must be seconds >= 0, a timedelta, or a text such as "7d"; got {older_than!r}')
    return seconds


def _expired(store: Store, name: str, plan: Mapping[str, Any], before: float) -> Driver | None:
    """The last driver of a run that may go; None if the run is to stay."""
    seen = last_driver(store, name, plan)
    end, heard = read_end(store, name, seen.number), heard_at(store, name, seen.number, plan)
    if heard is None or live_here(store, name) is not None:
        return None
    if end is not None:
        return seen if max(end["at"], heard) < before else None
    if is_here(seen.owner):
        return seen if not may_live(seen.owner) and heard < before else None
    return seen if heard < min(before, time.time() - ELSEWHERE_S) else None


def _claim(store: Store, name: str, seen: Driver, plan: Mapping[str, Any], before: float) -> int:
    """The number under which the run is deleted. Raises RunBusy if somebody drives it after all."""
    number = claim_to_delete(store, name, seen)
    if live_here(store, name) is None and (heard_at(store, name, seen.number, plan) or 0) < before:
        return number
    unclaim(store, name, number)
    raise RunBusy(f"name={name!r}: its driver has just been heard of")


def _delete(store: Store, name: str, number: int, digits: Sequence[int], free: list[str], *, forget: bool) -> None:
    """Delete a run that was claimed under this number."""
    plan, own = keys.plan(name), keys.driver(name, number)
    try:
        store.delete([keys.end(name, driver) for driver in range(number)])
        store.delete(free)
        store.delete([key for key in store.list(f"run/{name}/") if key not in (plan, own)])
        if not forget:
            head = {"form": DELETED, "number": number, "digits": digits}
            store.put(plan, b"".join(pack([json.dumps(head).encode()])))
        store.delete([plan, own] if forget else [])
    except StoreError:
        unclaim(store, name, number)  # the next collection goes on
        raise


def _parts_of(
    store: Store, name: str, number: int, digits: Sequence[int], in_use: Collection[str]
) -> tuple[list[str], int]:
    """The parts of a run that may go, and how many are in use. Those of a new run of the name are not among them."""
    found = list_all(store, keys.all_part_prefixes(name, *digits))
    parts = [key for key in found if keys.place_of_part(key)[1] <= number]
    free = [part for part in parts if part not in in_use]
    return free, len(parts) - len(free)
