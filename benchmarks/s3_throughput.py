"""How fast do workers write objects to S3 and read them, and is that what the client gives without fnmap?

After Jonas et al. (2017), "Occupy the Cloud", section 3.2, and the benchmark that came with PyWren.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from typing import Any, NamedTuple
from unittest.mock import patch
from zlib import crc32

from benchmarks.histogram import by_worker
from benchmarks.peers import Fnmap, Pool, System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check

ROOMY = "-master.volumeSizeLimitMB=8192"  # a new volume takes the server 0.2 to 1 s, and those of tests are of 64 MB


class Moved(NamedTuple):
    """One object, as the task that moved it saw it. `begin`, `end`: seconds of the machine's clock."""

    worker: int
    begin: float
    end: float
    crc: int


def body(task: int, size: int) -> bytes:
    """The object of a task."""
    return task.to_bytes(8, "little") * (size // 8)


def write(url: str, size: int, task: int) -> Moved:
    """Write the object of the task."""
    store, mine = _store(url), body(task, size)
    begin = time.monotonic()
    store.put(f"o/{task}", mine)
    return Moved(os.getpid(), begin, time.monotonic(), crc32(mine))


def read(url: str, size: int, task: int) -> Moved:  # noqa: ARG001 - as `write`
    """Read it."""
    store = _store(url)
    begin = time.monotonic()
    got = store.get(f"o/{task}")
    return Moved(os.getpid(), begin, time.monotonic(), crc32(got))


def _store(url: str) -> Any:
    """fnmap's store, or the bare client below it."""
    if url.startswith("s3:"):
        from fnmap.storage.open import open_store

        return open_store(url)
    name, _, bucket = url.partition(":s3://")
    return _raw(bucket, checked=name == RawChecked.name)


@lru_cache
def _raw(bucket: str, *, checked: bool) -> Any:
    return _Raw(bucket, checked=checked)


class _Raw:
    """obstore as its manual shows it. `checked`: the server compares each body with a checksum, as for fnmap."""

    def __init__(self, bucket: str, *, checked: bool) -> None:
        from obstore.store import S3Store

        config: Any = {"checksum_algorithm": "CRC64NVME"} if checked else {}
        self.store = S3Store(bucket, config=config, client_options={"allow_http": True})

    def put(self, key: str, body: bytes) -> None:
        import obstore

        obstore.put(self.store, key, body)

    def get(self, key: str) -> bytes:
        import obstore

        return bytes(obstore.get(self.store, key).bytes())


class Raw(Pool):
    """Processes that use the client by themselves."""

    name, module = "raw", "obstore"
    chunksize = 1


class RawChecked(Raw):
    """With the checksum of each body compared by the server: on this machine it shares the cores with the workers."""

    name = "raw-checked"


def measure(system: System, objects: int, megabytes: int) -> Iterator[Metrics]:
    """MB/s of all workers together, and of the slowest, the median and the fastest of them."""
    from fnmap.testing.servers import s3_server

    with ExitStack() as stack:
        server = stack.enter_context(s3_server(arguments=[ROOMY]))
        stack.enter_context(patch.dict(os.environ, server.env))
        url, size = f"s3://{server.make_bucket()}", megabytes << 20
        url = f"{system.name}:{url}" if isinstance(system, Raw) else url
        stack.enter_context(system)
        system.map(partial(write, url, 8), range(objects, objects + 4 * system.workers))  # makes room, and warms up
        for key, fn in (("write", write), ("read", read)):
            moved = system.map(partial(fn, url, size), range(objects))
            right = [crc32(body(task, size)) for task in range(objects)]
            check([each.crc for each in moved] == right, f"{key}: wrong objects")
            yield {f"{key}_{name}": rate for name, rate in rates(moved, size).items()}


def rates(moved: Sequence[Moved], size: int) -> Metrics:
    """MB/s while anything moved; and of each worker while it moved something, and with each object."""
    busy = defaultdict[int, list[float]](list)
    for each in moved:
        busy[each.worker].append(each.end - each.begin)
    own = [len(seconds) * size / 1e6 / sum(seconds) for seconds in busy.values()]
    whole_s = max(each.end for each in moved) - min(each.begin for each in moved)
    shares = {"low_mb": min(own), "mid_mb": statistics.median(own), "high_mb": max(own)}
    tasks = by_worker((one.worker, size / 1e6 / (one.end - one.begin)) for one in moved)
    return {"mb": len(moved) * size / 1e6 / whole_s, **shares, "each_mb": tasks}


KEYS = tuple(f"{way}_{name}" for way in ("write", "read") for name in ("mb", "low_mb", "mid_mb", "high_mb"))

QUESTION = Question(
    name="s3_throughput",
    asks=(__doc__ or "").partition("\n\n")[0],
    measure=measure,
    parts=(Part(KEYS),),
    columns=(
        Column("write_mb", "written a second", "MB"),
        Column("write_low_mb", "slowest worker", "MB"),
        Column("write_high_mb", "fastest", "MB"),
        Column("read_mb", "read a second", "MB"),
        Column("read_low_mb", "slowest worker", "MB"),
        Column("read_high_mb", "fastest", "MB"),
    ),
    histograms=(
        Column("write_each_mb", "MB/s of a worker's writes", "MB/s"),
        Column("read_each_mb", "MB/s of a worker's reads", "MB/s"),
    ),
    systems=("fnmap", "raw", "raw-checked"),
    toy_systems=("fnmap", "raw", "raw-checked"),
    full={"objects": 48, "megabytes": 8},
    toy={"objects": 4, "megabytes": 1},
    goals=(
        Goal("writes against the raw client", "fnmap", "write_mb", 0.9, against="raw", at_least=True),
        Goal(
            "writes against one that has them checked", "fnmap", "write_mb", 0.9, against="raw-checked", at_least=True
        ),
        Goal("reads against the raw client", "fnmap", "read_mb", 0.9, against="raw", at_least=True),
    ),
    own=(Fnmap, Raw, RawChecked),
    reference="raw",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
