"""What workers free is theirs to use again, and the programs that tasks start know nothing of it."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

import numpy as np
import pytest

import fnmap
from fnmap.compute.child import MEMORY

if platform.libc_ver()[0] != "glibc":
    pytest.skip("another allocator", allow_module_level=True)


def faults_of_a_task(megabytes: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(1 << 17) for _ in range(megabytes)]
    del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_the_pages_that_a_task_frees_are_there_for_the_next():
    with fnmap.Session(workers=1) as session:
        first, *later = session.map(faults_of_a_task, [48] * 3, chunksize=1)
    assert max(later) < first / 10


def test_arrays_that_are_larger_go_back_to_the_system_at_once():
    with fnmap.Session(workers=1) as session:
        resident = session.submit(resident_bytes).result()
        session.submit(make_and_drop, 300 << 20).result()
        assert session.submit(resident_bytes).result() < resident + (100 << 20)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def make_and_drop(nbytes: int) -> None:
    np.ones(nbytes, np.uint8)
    small = [np.ones(1 << 20, np.uint8) for _ in range(nbytes >> 20)]
    del small


def test_what_the_allocator_is_told_stays_out_of_the_environment(monkeypatch):
    name, other = MEMORY
    monkeypatch.setenv(name, "123456")
    monkeypatch.delenv(other, raising=False)
    with fnmap.Session(workers=1) as session:
        found = session.submit(lambda: {n: v for n, v in os.environ.items() if n.startswith("MALLOC_")}).result()
    assert found == {name: "123456"}
