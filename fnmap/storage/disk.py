# Not pathlib: it costs more than the system calls it wraps, and this is the path of every commit.
# Nor contextlib.suppress, for the same reason.
# ruff: noqa: PTH102, PTH108, PTH116, PTH120, PTH208, SIM105
"""Files as a store needs them: written aside until whole, durable when asked, swept after a crash.

A process killed while it writes leaves its temporary file behind. The name tells a later process
whether the writer still lives: `<owner>.<number>`, with the owner of `fnmap.storage.owner`.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from itertools import count

from fnmap.storage import owner
from fnmap.storage.base import Buffer
from fnmap.storage.checks import flat

ABANDONED_S = 7 * 86_400.0
"""Age at which a temporary file of another host, whose processes cannot be asked, is an orphan."""
TOGETHER_BYTES = 64 << 10

_numbers = count()


def write_aside(folder: str, parts: Iterable[Buffer], *, sync: bool) -> str:
    """Write the parts one after another to a new file in `folder`: its path. On failure it is gone."""
    path, fd = _open_new(folder, sync=sync)
    try:
        try:
            for body in _gathered(parts):
                _write_all(fd, body)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)  # its error counts too: a network file system may tell only here that it is full
    except BaseException:
        discard(path)
        raise
    return path


def discard(path: str) -> None:
    """Remove a temporary file, if that can be done: a sweep may find what remains."""
    try:
        os.unlink(path)
    except OSError:
        pass


def sweep(folder: str) -> int:
    """Remove the temporary files in `folder` whose writers are gone: how many."""
    removed = 0
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    for name in names:
        path = f"{folder}/{name}"
        with suppress(OSError, ValueError):  # another was quicker, or we may not, or it is no name of ours
            if _is_orphan(name, path):
                os.unlink(path)
                removed += 1
    return removed


def make_folder(path: str, *, sync: bool) -> None:
    """Make the folder and those above it that are missing."""
    try:
        os.mkdir(path)
    except FileExistsError:  # if it is a file, the next call on it tells
        pass
    except FileNotFoundError:
        make_folder(os.path.dirname(path), sync=sync)
        with suppress(FileExistsError):
            os.mkdir(path)
    if sync:
        sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Make the names in a folder durable, where the file system can."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # emptied and removed meanwhile: no name of ours is left in it
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # such a file system orders its names itself
            raise
    finally:
        os.close(fd)


def mapped(file: FileIO) -> memoryview:
    """A whole open file as private copy-on-write memory."""
    import mmap

    fd = file.fileno()
    if os.fstat(fd).st_size == 0:  # the system maps no empty file
        return memoryview(bytearray())
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_COPY, trackfd=False))
    if _files_run_short(fd):
        return memoryview(bytearray(file.read()))
    return memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_COPY))


def _files_run_short(fd: int) -> bool:
    """Whether half of the files this process may open are open: before 3.13 each mapping holds one."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(fd)
    os.close(lowest_free)
    return 0 < limit // 2 < lowest_free


def _open_new(folder: str, *, sync: bool) -> tuple[str, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    while True:
        path = f"{folder}/{owner.me()}.{next(_numbers)}"
        try:
            return path, os.open(path, flags, 0o666)
        except FileNotFoundError:
            make_folder(folder, sync=sync)
        except FileExistsError:  # two containers that cannot tell each other apart
            continue


def _gathered(parts: Iterable[Buffer]) -> Iterator[bytes | memoryview]:
    """The parts as they are written: small ones together, since a copy costs less than a system call."""
    held: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        body = part if type(part) is bytes else flat(part)
        if held and size + len(body) > TOGETHER_BYTES:
            yield b"".join(held)
            held, size = [], 0
        if len(body) > TOGETHER_BYTES:
            yield body
        else:
            held.append(body)
            size += len(body)
    if held:
        yield b"".join(held)


def _write_all(fd: int, body: bytes | memoryview) -> None:
    written = os.write(fd, body)
    if written < len(body):  # Linux writes 2 GB at most in one call
        rest = memoryview(body)
        while written < len(body):
            written += os.write(fd, rest[written:])


def _is_orphan(name: str, path: str) -> bool:
    writer = name.rpartition(".")[0]
    if writer.count(".") != 2:  # not one of ours
        return False
    if owner.is_here(writer):
        return not owner.may_live(writer)
    return time.time() - os.stat(path).st_mtime > ABANDONED_S
