"""One program, run to its end: in a process group of its own, which is killed as a whole whatever happens."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fnmap.errors import CommandFailed

_SET_SIGNAL = getattr(fcntl, "F_SETSIG", 10 if sys.platform == "linux" else None)


class OverTime(Exception):
    """It ran longer than it may, and was killed."""


def run(
    words: Sequence[str], *, folder: Path, env: Mapping[str, str], stdin: Path, limit_s: float | None = None
) -> int:
    """The exit code, negative for a signal. What it prints lies in the files `stdout` and `stderr` beside its folder.

    Nothing of its process group outlives this call, nor this process: the group holds a pipe whose end makes the kernel
    kill it. Raises CommandFailed if it cannot be started, OverTime.
    """
    said, complained = folder.parent / "stdout", folder.parent / "stderr"
    held, ours = os.pipe()
    try:
        with stdin.open("rb") as source, said.open("wb") as out, complained.open("wb") as err:
            child = subprocess.Popen(
                words, cwd=folder, env=env, stdin=source, stdout=out, stderr=err, process_group=0, pass_fds=[held]
            )
        try:
            _die_with_us(held, child.pid)
            _wait(child, limit_s)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)  # the dead leader is not reaped yet: the number is still its own
            code = child.wait()
    except OSError as error:
        raise CommandFailed(f"{words[0]} cannot be started: {_why(error, words[0])}") from error
    finally:
        os.close(held)
        os.close(ours)
    return code


def _die_with_us(held: int, group: int) -> None:
    """Let the kernel kill the group when the last end to write to its pipe closes, which this process has."""
    if _SET_SIGNAL is None:
        return
    fcntl.fcntl(held, fcntl.F_SETOWN, -group)
    fcntl.fcntl(held, _SET_SIGNAL, signal.SIGKILL)
    fcntl.fcntl(held, fcntl.F_SETFL, fcntl.fcntl(held, fcntl.F_GETFL) | os.O_ASYNC)


def _wait(child: subprocess.Popen[bytes], limit_s: float | None) -> None:
    """Until it has ended, without reaping it where that can be told. Raises OverTime."""
    if not hasattr(os, "pidfd_open"):
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise OverTime from error
        return
    fd = os.pidfd_open(child.pid)
    try:
        watch = select.poll()
        watch.register(fd, select.POLLIN)
        if not watch.poll(None if limit_s is None else limit_s * 1000):
            raise OverTime
    finally:
        os.close(fd)


def _why(error: OSError, program: str) -> str:
    if error.errno == errno.ENOENT and "/" in program:
        return "the loader or interpreter that it names is not on this machine"
    if error.errno == errno.ENOENT:
        return "there is no such program on this machine; name it by a path and it is sent along"
    if error.errno == errno.ENOEXEC:
        return "it is neither a program of this machine nor a script that begins with #!"
    if error.errno == errno.EACCES:
        return "permission denied; is the temporary folder mounted noexec? FNMAP_SCRATCH names another"
    return error.strerror or repr(error)
