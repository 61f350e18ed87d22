"""The main program of a local worker process: read a call, run it, answer, until the pipe closes."""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import mmap
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from fnmap.compute.edited import Sources
from fnmap.format import levels
from fnmap.format.call import Call
from fnmap.format.payload import Buffer
from fnmap.worker import Worker

FRAME = struct.Struct("<cxxxI q")  # kind, number of a call that was laid ahead, bytes that follow
CALL, AHEAD, WORLD = b"C", b"A", b"W"
REPORT, SAID, LOGGED = b"R", b"S", b"L"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS")
OURS = ("FNMAP_WORKER", *THREADS)
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""What glibc's allocator comes to of itself once an array of 32 MB was freed, from the start: what tasks free is used
again, where it else goes back to the kernel task by task, and is cleared and faulted in page by page. Larger arrays go
back at once, and so does what is free at the end of the heap beyond 64 MB."""
TURN = struct.Struct("<I")  # a call that was laid ahead: whoever takes its number has it
PAGE = struct.Struct("<qqqd")  # call number, first position, count, when they began (monotonic seconds)


def main(calls: int, answers: int, lifeline: int, page: int, turns: int, slot: int) -> None:
    """Serve until the parent closes its end. The arguments are inherited file descriptors, and the
    place of this worker on the status page."""
    for fd in (calls, answers, lifeline, page, turns):
        os.set_inheritable(fd, False)
    die_with_parent(lifeline)
    for name in [name for name, value in MEMORY.items() if os.environ.get(name) == value]:
        del os.environ[name]  # the allocator has read it, and programs that tasks start are none of ours
    status = mmap.mmap(page, 0)
    at, number = slot * PAGE.size, 0

    def mark(first: int, count: int) -> None:
        PAGE.pack_into(status, at, number, first, count, time.monotonic())

    worker = Worker(mark=mark)
    speak(worker, lambda kind, body: send(answers, kind, [body]))
    os.environ["FNMAP_WORKER"] = "1"
    reader, sources, turn = io.FileIO(calls, "r"), Sources(), 0
    while head := _read(reader, FRAME.size):
        kind, laid, length = FRAME.unpack(head)
        message = _read(reader, length)
        if kind == WORLD:
            follow(*pickle.loads(message))
            continue
        if kind == AHEAD:
            turn = turn if turn >= laid else _take_turn(turns)
            if turn != laid:
                continue  # another worker has it
        number += 1
        PAGE.pack_into(status, at, number, 0, 0, time.monotonic())
        call = Call.from_message(message, worker.jobs)
        levels.follow(call.job.log_levels)
        sources.before(call.run)
        answer = worker.run(call).to_message()
        worker.end_lines()
        worker.tasks, worker.position = (), _nowhere
        sources.after()
        send(answers, REPORT, answer)
        del message, call, answer  # an idle worker holds no payload


def follow(folder: str, path: list[str], environment: dict[bytes, bytes]) -> None:
    """Be where the parent is by now, and see what it sees."""
    if folder:
        with contextlib.suppress(OSError):  # gone since; who needs it will say so
            os.chdir(folder)
    sys.path[:] = path
    mine = {name: value for name, value in os.environ.items() if name in OURS}
    os.environb.clear()
    os.environ.update(mine)
    os.environb.update(environment)


def _nowhere() -> None:
    return None


def die_with_parent(lifeline: int) -> None:
    """Let the kernel kill this process and its children when the parent's end of the pipe closes, however
    the parent came to its end. Where it cannot, a thread waits for that."""
    os.setpgid(0, 0) if os.getpgrp() != os.getpid() else None
    set_signal = getattr(fcntl, "F_SETSIG", 10 if sys.platform == "linux" else None)
    if set_signal is None:
        threading.Thread(target=_wait_and_die, args=(lifeline,), daemon=True).start()
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, set_signal, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    watch = select.poll()
    watch.register(lifeline, select.POLLIN)
    if watch.poll(0):  # it died before that
        os.killpg(0, signal.SIGKILL)


def _wait_and_die(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def _read(reader: io.FileIO, length: int) -> bytearray:
    """Exactly so many bytes, in memory that may be written to; empty at the end of the pipe."""
    body = bytearray(length)
    view, got = memoryview(body), 0
    while got < length:
        n = reader.readinto(view[got:])
        if not n:
            return bytearray()
        got += n
    return body


def _take_turn(turns: int) -> int:
    """The number of the call that is laid ahead; 0 if that was taken back."""
    try:
        return int(TURN.unpack(os.read(turns, TURN.size))[0])
    except BlockingIOError:
        return 0


def send(fd: int, kind: bytes, parts: list[Buffer], laid: int = 0) -> None:
    """Write one frame."""
    views = [memoryview(part).cast("B") for part in parts]
    total = sum(map(len, views))
    views.insert(0, memoryview(FRAME.pack(kind, laid, total)))
    left = total + FRAME.size
    while left:
        written = os.writev(fd, views[:512])
        left -= written
        while left and written >= len(views[0]):
            written -= len(views.pop(0))
        if left:
            views[0] = views[0][written:]


def speak(worker: Worker, emit: Callable[[bytes, bytes], None]) -> None:
    """Send what tasks print and log to the parent, whole lines at a time, with the task they belong to."""
    lock = threading.Lock()

    def said(stream: int, task: int, lines: str) -> None:
        worker.note(task, lines)
        with lock:
            emit(SAID, struct.pack("<bq", stream, task) + lines.encode(errors="replace"))

    def logged(record: logging.LogRecord) -> None:
        task, text = worker.task(), text_of(record)
        worker.note(task, f"{record.levelname}:{record.name}:{text}\n")
        fields = (task, record.name, record.levelno, record.pathname, record.lineno, record.created, text)
        with lock:
            emit(LOGGED, repr(fields).encode(errors="replace"))

    out, err = sys.stdout, sys.stderr = Lines(1, worker.task, said), Lines(2, worker.task, said)

    def end_lines() -> None:
        out.end()
        err.end()

    worker.end_lines = end_lines
    logging.getLogger().addHandler(_Forward(logged))


def text_of(record: logging.LogRecord) -> str:
    """What a record says, with the traceback that goes with it."""
    text = record.getMessage()
    return f"{text}\n{logging.Formatter().formatException(record.exc_info)}" if record.exc_info else text


class Lines(io.TextIOBase):
    """A text stream that hands on whole lines. Each thread completes its own."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, fd: int, where: Callable[[], int], said: Callable[[int, int, str], None]) -> None:
        self._fd, self._where, self._said, self._part = fd, where, said, threading.local()

    def write(self, text: str) -> int:
        task, kept = self._where(), getattr(self._part, "text", "")
        if kept and self._part.task != task:
            self.end()  # the task before left its last line open
            kept = ""
        whole, newline, self._part.text = (kept + text).rpartition("\n")
        self._part.task = task
        if newline:
            self._said(self._fd, task, whole + newline)
        return len(text)

    def end(self) -> None:
        """Send a last line that has no newline. Not done by flush(), which would split lines."""
        if rest := getattr(self._part, "text", ""):
            self._part.text = ""
            self._said(self._fd, self._part.task, rest + "\n")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    @property
    def buffer(self) -> Any:
        return io.FileIO(self._fd, "w", closefd=False)


class _Forward(logging.Handler):
    def __init__(self, logged: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._logged = logged

    def emit(self, record: logging.LogRecord) -> None:
        self._logged(record)
