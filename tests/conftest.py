"""What the tests share: warm sessions, gates to synchronise with tasks, and scripts in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fnmap

PATIENCE_S = 10  # a test of these folders that takes longer hangs


@pytest.fixture(autouse=True)
def patience(request):
    """Turn a hang into a failure."""
    if request.path.parent.name not in ("api", "local"):
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"hangs: over {PATIENCE_S} s"))
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def local() -> Iterator[fnmap.Session]:
    session = fnmap.Session(workers=2)
    yield session
    session.close()  # without waiting for what a test may have left behind


@pytest.fixture(scope="session")
def inline() -> Iterator[fnmap.Session]:
    session = fnmap.Session(on="inline")
    yield session
    session.close()


@pytest.fixture(params=["local", "inline"])
def session(request) -> fnmap.Session:
    return request.getfixturevalue(request.param)


class Gate:
    """A named pipe: tasks wait at it, or say through it that they have begun."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._fd = os.open(path, os.O_RDWR)

    def open(self, tasks: int = 1) -> None:
        """Let so many tasks pass."""
        os.write(self._fd, b"." * tasks)

    def heard(self, lines: int = 1) -> list[str]:
        """Wait until tasks have said so many lines."""
        text = b""
        while text.count(b"\n") < lines:
            text += os.read(self._fd, 1)
        return text.decode().splitlines()

    def free(self) -> None:
        """Let pass whoever comes late, or was forgotten; hence the pipe stays open."""
        self.open(64)


def wait_at(gate: str) -> None:
    """Called by a task."""
    with Path(gate).open("rb", buffering=0) as pipe:
        pipe.read(1)


def say_at(gate: str, text: object = "") -> None:
    """Called by a task."""
    with Path(gate).open("wb", buffering=0) as pipe:
        pipe.write(f"{text}\n".encode())


@pytest.fixture
def gate(tmp_path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.free()


@pytest.fixture
def begun(tmp_path) -> Gate:
    return Gate(tmp_path / "begun")


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python script in a process of its own; it is killed with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
        script = tmp_path / f"script{len(started)}.py"
        script.write_text(text)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, str(script), *map(str, arguments)], **(pipes | options)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def gone(pid: int) -> bool:
    """Wait until the process, which need not be our child, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    import select

    ended = bool(select.select([fd], [], [], 5)[0])
    os.close(fd)
    return ended
