"""One local worker process, as its parent sees it: start it, send it a call, read what it says, kill it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

from fnmap.compute.child import AHEAD, CALL, FRAME, TURN, WORLD, send
from fnmap.format.call import Call, Job, Report
from fnmap.format.payload import Buffer, Ref, nbytes
from fnmap.storage.scratch import sweep_folders

PIPE_BYTES = 1 << 20  # what Linux lets anyone ask for; a message that fits never blocks its writer
READ_BYTES = 64 << 10
KEPT_JOBS = 32
OUTPUT_TAIL_LINES = 50

_START = (
    "import sys; sys.path[:] = eval(sys.argv.pop()); numbers = map(int, sys.argv.pop().split());"
    "from fnmap.compute.child import main; main(*numbers)"
)


def pipe() -> tuple[int, int]:
    """A pipe as roomy as the system allows."""
    read, write = os.pipe()
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or the user's quota of pipe memory is used up
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write


def pipe_bytes(fd: int) -> int:
    """How much fits into a pipe."""
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else 64 << 10


class Process:
    """A worker interpreter with its pipes.

    `future` and `call` are of the call that it runs, None when it is idle; `next` lies in its pipe meanwhile, and can
    be taken back until the worker has begun it. `number` counts its calls, as the worker does on the status page.
    `killed_for`: the call for whose sake it was killed, and what is said of that.
    """

    def __init__(self, slot: int, page_fd: int, env: Mapping[str, str]) -> None:
        self.slot, self.number = slot, 0
        self.future: Future[Report] | None = None
        self.call: Call | None = None
        self.next: tuple[Call, Future[Report]] | None = None
        self.began, self._written = 0.0, 0  # when the call was sent or its turn came; bytes of the latest message
        self.killed_for: tuple[Future[Report] | None, BaseException] | None = None
        self.tail: deque[str] = deque(maxlen=OUTPUT_TAIL_LINES)
        self.served = 0
        self._world = surroundings()
        self._jobs: OrderedDict[str, None] = OrderedDict()  # that the worker has, the latest last
        self._large: dict[str, weakref.ref[Job]] = {}  # those that hold stored buffers
        self._buffer, self._arrived = bytearray(), memoryview(bytearray(PIPE_BYTES))
        call_read, self._calls = pipe()
        self.answers, answer_write = pipe()
        life_read, self._lifeline = os.pipe()
        self.output, output_write = os.pipe()
        self._turns, self._give_turn = os.pipe()
        self._laid, self._taken_back = 0, False  # calls laid ahead so far; the last of them may still lie in the pipe
        theirs = [call_read, answer_write, life_read, page_fd, self._turns]
        numbers = " ".join(map(str, [*theirs, slot]))
        try:
            self.popen = subprocess.Popen(
                [interpreter(), *_flags(), "-c", _START, *sys.argv[1:], numbers, repr(import_path())],
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                pass_fds=theirs,
                env=env,
                process_group=0,
            )
        finally:
            for fd in (call_read, answer_write, life_read, output_write):
                os.close(fd)
        self.pid = self.popen.pid
        self.pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        self.room = pipe_bytes(self._calls)
        for fd in (self.answers, self.output, self._turns):
            os.set_blocking(fd, False)

    def send(self, call: Call, future: Future[Report]) -> None:
        """Hand over a call. The worker is idle, hence its pipe is empty and the message fits."""
        self.call, self.future, self.number, self.began = call, future, self.number + 1, time.monotonic()
        self._follow()
        fresh = call.job.key not in self._jobs
        self._write(call.to_message(with_job=fresh, forget=self._remember(call.job)))

    def send_ahead(self, call: Call, future: Future[Report]) -> bool:
        """Lay a call into the pipe, for when the worker has answered the one before. False if that might block."""
        if self._taken_back or call.job.key not in self._jobs or surroundings() != self._world:
            return False
        message = call.to_message(with_job=False)
        if sum(map(nbytes, message)) + self._written > self.room // 2:
            return False
        self.next, self._laid = (call, future), self._laid + 1
        os.write(self._give_turn, TURN.pack(self._laid))
        self._write(message, AHEAD, self._laid)
        return True

    def take_back(self) -> tuple[Call, Future[Report]] | None:
        """The first call in the pipe that the worker has not begun, which it will pass over. None if no call is
        laid ahead, or it has begun that."""
        taken = None if self.next is None else _read_some(self._turns, TURN.size)
        if taken is None or self.next is None:
            return None
        back, self.next, self._taken_back = self.next, None, True
        if taken != TURN.pack(self._laid) and self.call is not None and self.future is not None:
            # the one before was laid ahead as well, and is not begun either
            back, (self.call, self.future) = (self.call, self.future), back
        return back

    def advance(self) -> None:
        """The call is answered: the next one runs."""
        self.began, self._taken_back = time.monotonic(), False
        if self.next is None:
            self.future = self.call = None
        else:
            (self.call, self.future), self.next, self.number = self.next, None, self.number + 1

    def _write(self, message: list[Buffer], kind: bytes = CALL, laid: int = 0) -> None:
        self._written = sum(map(nbytes, message))
        with contextlib.suppress(BrokenPipeError):  # it died just now, and that is noticed by its pidfd
            send(self._calls, kind, message, laid)

    def _remember(self, job: Job) -> list[str]:
        """The worker has this job now. The jobs that it shall forget: the oldest when they are many, and those with
        stored buffers once their run is gone. No other run has these, and what they hold may be gigabytes."""
        self._jobs[job.key] = None
        self._jobs.move_to_end(job.key)
        if any(isinstance(frame, Ref) for frame in job.frames):
            self._large[job.key] = weakref.ref(job)
        forget = [key for key, large in self._large.items() if large() is None]
        if len(self._jobs) > KEPT_JOBS:
            forget.append(next(iter(self._jobs)))
        for key in forget:
            self._jobs.pop(key, None)
            self._large.pop(key, None)
        return forget

    def _follow(self) -> None:
        """Tell the worker what has changed around its parent since it started: folder, import path, environment."""
        world = surroundings()
        if world != self._world:
            self._world = world
            with contextlib.suppress(BrokenPipeError):
                send(self._calls, WORLD, [pickle.dumps(world)])

    def messages(self) -> Iterator[tuple[bytes, Buffer]]:
        """The whole frames that have arrived."""
        got = len(self._arrived)
        while got == len(self._arrived):
            try:
                got = os.readv(self.answers, [self._arrived])
            except BlockingIOError:
                break
            self._buffer += self._arrived[:got]
        while len(self._buffer) >= FRAME.size:
            kind, _, length = FRAME.unpack_from(self._buffer)
            end = FRAME.size + length
            if len(self._buffer) < end:
                return
            if len(self._buffer) == end:
                whole, self._buffer = self._buffer, bytearray()
            else:
                whole = self._buffer[:end]
                del self._buffer[:end]
            yield kind, _aligned(whole)

    def read_output(self) -> str | None:
        """What the process or its children wrote to their own standard output or error; None at its end."""
        raw = _read_some(self.output)
        if raw == b"":
            return None
        text = (raw or b"").decode(errors="replace")
        self.tail.extend(text.splitlines(keepends=True))
        return text

    def let_go(self) -> None:
        """In a forked child: hold nothing that the worker takes for a sign of its parent's life."""
        for fd in self._fds():
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def _fds(self) -> tuple[int | None, ...]:
        return self._calls, self._lifeline, self.answers, self.output, self.pidfd, self._turns, self._give_turn

    def kill(self) -> None:
        """Kill the process and its children, now; those too that have left its group."""
        strays = [pid for pid in descendants(self.pid) if pid != self.pid]
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def wait(self) -> str:
        """Reap a process that has ended; says how it ended."""
        code = self.popen.wait()
        self.kill()  # whatever its children were doing, they did it for a task that is over
        sweep_folders()
        for fd in self._fds():
            if fd is not None:
                os.close(fd)
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _aligned(frame: bytearray) -> memoryview:
    """The body of a frame. Its head is 16 bytes, so buffers inside stay as aligned as the allocation."""
    return memoryview(frame)[FRAME.size :]


def _read_some(fd: int, size: int = READ_BYTES) -> bytes | None:
    """What is there now: None if nothing, b"" at the end."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None


def descendants(pid: int) -> list[int]:
    """The process, its children and theirs, where Linux tells."""
    found = [pid]
    for parent in found:  # grows as it goes
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def surroundings() -> tuple[str, list[str], dict[bytes, bytes]]:
    """What a function may look at besides its arguments."""
    try:
        folder = os.getcwd()  # noqa: PTH109 - on the path of every call
    except FileNotFoundError:  # it was removed
        folder = ""
    raw = getattr(os.environ, "_data", None)  # the dict behind it: a copy of that costs 0.2 us, not 30
    return folder, import_path(), dict(raw if type(raw) is dict else os.environb)


def import_path() -> list[str]:
    """sys.path as text: some put Path objects into it."""
    return [str(entry) for entry in sys.path]


def interpreter() -> str:
    """The program to start workers with. An embedding program may be none, and says so by an empty name."""
    own = Path(sys.prefix, "bin", "python3")
    return sys.executable or (str(own) if own.exists() else str(getattr(sys, "_base_executable", "python3")))


def _flags() -> list[str]:
    return [f for f in subprocess._args_from_interpreter_flags() if f != "-i"]  # type: ignore[attr-defined]
