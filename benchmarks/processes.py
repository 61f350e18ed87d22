"""Trees of processes on Linux: run one to its end, count its CPU, watch its memory."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import ROOT

PR_SET_CHILD_SUBREAPER = 36
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MOST_BYTES = 8 << 30  # a system that takes more of the machine's memory than this is cut
TICK_S = 0.25
GRACE_S = 2.0  # for a process to end by itself


@dataclass
class Outcome:
    """What a child told: its figures, and why there are no more of them if it did not end well."""

    metrics: dict[str, Any] = field(default_factory=dict)
    cut: str = ""
    error: str = ""
    output: str = ""
    seconds: float = 0.0


def run_alone(order: Mapping[str, Any], limit_s: float, folder: str) -> Outcome:
    """Run `benchmarks.child` with this order, and see to it that nothing of it is left but files in `folder`.

    All orphans of this process become its children and are killed: not for a process with others.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    begun, outcome = time.perf_counter(), Outcome()
    with tempfile.TemporaryFile() as output:
        read, write = os.pipe()
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", json.dumps(order), str(write)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": folder, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[write],
        )
        os.close(write)
        try:
            _listen(child, read, limit_s, outcome)
        finally:
            os.close(read)
            _bury(child)
        output.seek(0)
        outcome.output = output.read().decode(errors="replace")
    outcome.seconds = time.perf_counter() - begun
    return outcome


def _listen(child: subprocess.Popen[bytes], read: int, limit_s: float, outcome: Outcome) -> None:
    """Take in what the child tells until its end, or until it has been silent or greedy for too long."""
    kept, deadline, memory = b"", time.monotonic() + limit_s, available_bytes()
    while True:
        dead = child.poll() is not None
        if select.select([read], [], [], 0 if dead else TICK_S)[0] and (got := os.read(read, 1 << 16)):
            *lines, kept = (kept + got).split(b"\n")
            for said in map(json.loads, lines):
                outcome.metrics |= said.get("metrics", {})
                outcome.error = said.get("error", outcome.error)
                deadline = time.monotonic() + limit_s
                if "end" in said:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(GRACE_S)
                    return
        elif dead:
            outcome.error = outcome.error or f"its process ended with code {child.returncode}"
            return
        if time.monotonic() > deadline:
            outcome.cut = f"> {limit_s:g} s"
            return
        if memory - available_bytes() > MOST_BYTES:
            outcome.cut = f"> {MOST_BYTES >> 30} GB"
            return


def _bury(child: subprocess.Popen[bytes]) -> None:
    """See the child and all that it has started to their end: their orphans are ours.

    Those who keep track of what lies in shared memory come last, as they remove what the others leave.
    """
    child.kill()
    child.wait()
    _wait_for(_children(), GRACE_S)
    _kill_while(lambda: [pid for pid in _children() if b"resource_tracker" not in _command(pid)])
    _wait_for(_children(), GRACE_S)
    _kill_while(_children)


def _kill_while(found: Callable[[], list[int]]) -> None:
    while pids := found():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _wait_for(pids: list[int], seconds: float) -> None:
    """Wait until these children have ended, at most so many seconds for all."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        ends = os.pidfd_open(pid)
        if select.select([ends], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.waitpid(pid, 0)
        os.close(ends)


def _children() -> list[int]:
    return [pid for pid, parent in parents().items() if parent == os.getpid()]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def parents() -> dict[int, int]:
    """The parent of each process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(folder.name)] = int(_stat(folder)[1])
    return found


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def tree_cpu_s(root: int) -> float:
    """CPU seconds of the process, its live descendants, and the dead ones that have been waited for."""
    total = 0.0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            total += time.clock_gettime((~pid << 3) | 2)  # the process' own clock, to the nanosecond
            total += sum(map(int, _stat(Path(f"/proc/{pid}"))[13:15])) / TICKS_PER_S  # its dead children
    return total


def peak_bytes() -> int:
    """The most memory that this process has held. Its ru_maxrss starts with that of whoever started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def available_bytes() -> int:
    """Memory of the machine that is free to be used."""
    return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) << 10


def tree_pss_bytes(root: int, *, without: int = 0) -> int:
    """Memory of the process and its descendants, what is shared among them counted once."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError, IndexError):
            if pid != without:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(rollup.split("\nPss:")[1].split()[0]) << 10
    return total


@contextlib.contextmanager
def watching_pss() -> Iterator[list[int]]:
    """Watch this process and its descendants from a process apart; then the list holds their peak."""
    found: list[int] = []
    watcher = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.processes", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert watcher.stdout is not None
    watcher.stdout.readline()  # it has looked once
    try:
        yield found
    finally:
        said, _ = watcher.communicate()
        found.append(int(said))


def _watch(root: int) -> None:
    peak = tree_pss_bytes(root, without=os.getpid())
    sys.stdout.write("\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        peak = max(peak, tree_pss_bytes(root, without=os.getpid()))
    sys.stdout.write(str(peak))


def _stat(folder: Path) -> list[str]:
    """The fields of a process' stat after its name: state, parent, …"""
    return (folder / "stat").read_text().rpartition(")")[2].split()


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
