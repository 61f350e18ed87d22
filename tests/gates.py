"""What tests and their tasks meet at: named pipes, and the end of processes."""

from __future__ import annotations

import os
import select
from pathlib import Path


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


def gone(pid: int) -> bool:
    """Wait until the process, which need not be our child, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = bool(select.select([fd], [], [], 5)[0])
    os.close(fd)
    return ended
