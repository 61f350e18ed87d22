"""Every key in a store, in one place.

run/<run>/plan        what was asked for: a JSON head, the pickled function, the pickled items; of a run that was
                      deleted, a head that says so
run/<run>/driver.<n>  who took up the run for the n-th time after the first; created exclusively
run/<run>/adopted.<n> the parts of earlier drivers that this one took over (JSON)
run/<run>/beat.<n>    what it says while it lives, for those who cannot ask its host
run/<run>/hits/<stage>.<driver>.<n>.manifest  tasks whose results that driver found in the cache, and where these are
run/<run>/end.<n>     what became of it under that driver (JSON), rewritten when the run ends again
part/<h>/<run>/<stage>.<driver>.<chunk>.parquet     the one result of a chunk; <h>, as many hex digits as the head of
                      the plan says, spreads the keys
part/<h>/<run>/<stage>.<driver>.<chunk>.framed      the same of a plan without a name, where all who read it map it
cache/<h>/<identity>/<stamp>.<token>.<run>.<which>  keys of tasks and where their results are; <which> is
                      the first hex digit of the keys, <h> too, or "all" where there are few
tmp/...               what no reader needs after its call: spilled answers, shared objects
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Mapping
from typing import Any

from fnmap.errors import UsageError

SPREAD = "0123456789abcdef"
CACHE, PARTS = "cache/", "part/"
FRAMED = ".framed"
_MADE_UP = re.compile(r"cached-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> str:
    """A run's name, if it can be one."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"name must be 1-100 letters, digits, '.', '_' or '-', first a letter or digit; got {name!r}")
    return name


def is_made_up(name: str) -> bool:
    """Is this the name of a run that is kept for its cached results alone?"""
    return _MADE_UP.fullmatch(name) is not None


def plan(run: str) -> str:
    return f"run/{run}/plan"


def driver(run: str, number: int) -> str:
    return f"{drivers(run)}{number:06d}"


def drivers(run: str) -> str:
    """Where the drivers of a run are."""
    return f"run/{run}/driver."


def adopted(run: str, number: int) -> str:
    """What the driver of that number took over of those before."""
    return f"run/{run}/adopted.{number:06d}"


def beat(run: str, number: int) -> str:
    """What the driver of that number says while it lives."""
    return f"run/{run}/beat.{number:06d}"


def hits(run: str, driver_number: int, stage: int = 0) -> str:
    """What the driver of that number found in the cache for a stage."""
    return f"{all_hits(run)}{stage}.{driver_number:03d}.0.manifest"


def all_hits(run: str) -> str:
    """Where what was found in the cache is, of all stages of a run."""
    return f"run/{run}/hits/"


def place_of_part(key: str) -> tuple[int, int, int]:
    """The stage, driver and chunk of a part, by its key; hits count as one."""
    stage, driver_number, chunk, _ = key.rpartition("/")[2].split(".")
    return int(stage), int(driver_number), int(chunk)


def end(run: str, number: int) -> str:
    """What became of the run under the driver of that number."""
    return f"run/{run}/end.{number:06d}"


def run_of(key: str) -> str:
    """The run that a key under run/ belongs to."""
    return key.split("/")[1]


def digits_of(head: Mapping[str, Any]) -> tuple[int, ...]:
    """By the head of a run's plan, over how many hex digits its parts are spread: last; before it, those of runs of
    its name that were deleted, whose late parts may lie there."""
    return tuple(head.get("digits", (1,)))


def part(run: str, driver_number: int, chunk: int, stage: int = 0, digits: int = 1, *, framed: bool = False) -> str:
    name = f"{stage}.{driver_number:03d}.{chunk:08d}"
    spread = zlib.crc32(f"{run}/{name}".encode()) % 16**digits
    return f"{PARTS}{spread:0{digits}x}/{run}/{name}{FRAMED if framed else '.parquet'}"


def is_framed(part: str) -> bool:
    """Is the part at that key as `fnmap.format.framed` says, not Parquet?"""
    return part.endswith(FRAMED)


def run_of_part(key: str) -> str:
    """The run that a part belongs to."""
    return key.rpartition("/")[0].rpartition("/")[2]


def all_part_prefixes(run: str, *digits: int) -> list[str]:
    """Where the parts of all stages of a run are that are spread over so many hex digits, 1 unless said."""
    spread = ("".join(h) for n in digits or (1,) for h in itertools.product(SPREAD, repeat=n))
    return [f"{PARTS}{h}/{run}/" for h in spread]


def part_prefix(part: str) -> str:
    """Where the parts of the same stage are that share its spread."""
    return part[: part.index(".", part.rindex("/")) + 1]


def cached(identity: str, digit: str) -> str:
    """Where the manifests are whose keys begin with this hex digit."""
    return f"{CACHE}{digit}/{identity}/"


def cached_home(identity: str) -> str:
    """The digit under which manifests are that have keys of all digits."""
    return SPREAD[zlib.crc32(identity.encode()) & 15]


def spill(run: str, chunk: int, attempt: int) -> str:
    return f"tmp/{run}/{chunk:08d}.{attempt}"


def sent(run: str, chunk: int, attempt: int) -> str:
    return f"tmp/{run}/{chunk:08d}.{attempt}.items"


def shared(run: str, number: int) -> str:
    return f"tmp/{run}/shared.{number}"
