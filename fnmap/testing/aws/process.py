"""An environment that is a process: the genuine runtime client on the unpacked zip, watched from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple

from fnmap.testing.aws import invocation as made
from fnmap.testing.aws.functions import Config
from fnmap.testing.aws.invocation import Invocation, Outcome
from fnmap.testing.aws.runtime_api import RuntimeApi
from fnmap.testing.aws.settings import RESPONSE_BYTES, Settings
from fnmap.testing.aws.variables import environ

LAUNCHER = Path(__file__).with_name("launcher.py")
LOG_BYTES = 1 << 18  # of one invocation, from its end


class End(NamedTuple):
    """How the start of an environment, or an invocation, ended."""

    kind: Literal["ready", "response", "error", "too large", "exit", "timeout", "memory"]
    payload: bytes = b""
    status: int = 0


class ProcessEnvironment:
    """Runs one invocation at a time. All its methods are called in the service's loop."""

    def __init__(self, number: int, config: Config, settings: Settings, starts: asyncio.Semaphore) -> None:
        self.number, self.config, self.settings = number, config, settings
        self.dead = self.busy = False
        self.folder = settings.root / "environments" / str(number)
        self._loop, self._starts = asyncio.get_running_loop(), starts
        self._api = RuntimeApi(self._settle)
        self._child: _Child | None = None
        self._end: asyncio.Future[End] | None = None
        self._said = bytearray()
        self._init_s: float | None = None

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._child.process.pid if self._child else None

    async def run(self, invocation: Invocation) -> Outcome:
        """One invocation, with the start before it if this is the first."""
        cold = self._child is None
        if cold and (failed := await self._begin()):
            return self._outcome(invocation, failed, 0.0, cold=True)
        if self.settings.freeze and self._child:
            self._child.send(signal.SIGCONT)
        begun = time.perf_counter()
        end = await self._phase(self.config.timeout_s, invocation)
        took = time.perf_counter() - begun
        return self._outcome(invocation, end, took, cold=cold)

    def freeze(self) -> None:
        """Stop between invocations."""
        if self.settings.freeze and self._child:
            self._child.send(signal.SIGSTOP)

    def kill(self) -> None:
        """End the process and what it has started; an invocation that runs fails."""
        if self._child:
            self._child.send(signal.SIGKILL)

    def close(self) -> None:
        """End it all, and leave nothing behind."""
        self.dead = True
        self.kill()
        self._settle(End("exit", status=-signal.SIGKILL))
        if self._child:
            self._child.close()
            self._child = None
        self._api.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def watch_memory(self) -> None:
        """Where processes have more than the function's memory, kill the one that the kernel would: if that is the
        runtime, the environment ends with it."""
        if self._child is None:
            return
        resident = _resident_mb(main := self._child.process.pid)
        if sum(resident.values()) <= self.config.memory_mb:
            return
        worst = max(resident, key=lambda pid: (_badness(pid), resident[pid]))
        if worst == main:
            self._settle(End("memory"))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worst, signal.SIGKILL)

    def peak_mb(self) -> int:
        """The most memory that the process ever had."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            status = Path(f"/proc/{self.pid}/status").read_bytes()
            return int(status.split(b"VmHWM:")[1].split(None, 1)[0]) >> 10
        return 0

    async def _begin(self) -> End | None:
        if self.settings.cold_s:
            await asyncio.sleep(self.settings.cold_s)
        async with self._starts:
            if self.dead:  # it was closed while it waited
                return End("exit", status=-signal.SIGKILL)
            await self._api.open()
            return await self._start()

    async def _start(self) -> End | None:
        """Start within the time for that; what fails is tried once more, as part of the invocation."""
        begun = time.perf_counter()
        end = End("exit")
        for within in (self.settings.init_s, self.config.timeout_s):
            self._spawn()
            end = await self._phase(within, None)
            if end.kind == "ready":
                self._init_s = time.perf_counter() - begun
                return None
            self._stop()
        return end

    def _spawn(self) -> None:
        tmp = self.folder / "tmp"
        tmp.mkdir(parents=True, exist_ok=True)
        self._api.renew(self.config)
        self._child = _Child(self, environ(self.config, self.settings, self.number, tmp, f"127.0.0.1:{self._api.port}"))

    def _stop(self) -> None:
        if self._child:
            self._child.send(signal.SIGKILL)
            self._child.close()
            self._child = None

    async def _phase(self, seconds: float, invocation: Invocation | None) -> End:
        self._end = self._loop.create_future()
        if invocation is not None:
            if self._child is None or self._child.ended is not None:
                return End("exit", status=self._child.ended if self._child and self._child.ended else 0)
            self._api.give(invocation, time.time() + seconds)
        timer = self._loop.call_later(seconds, self._settle, End("timeout"))
        try:
            return await self._end
        finally:
            timer.cancel()
            self._end = None
            if self._child:
                self._child.hear()

    def _settle(self, end: End) -> bool:
        """The first word counts. Says whether this was it."""
        if self._end is None or self._end.done():
            return False
        self._end.set_result(end)
        return True

    def _outcome(self, invocation: Invocation, end: End, took: float, *, cold: bool) -> Outcome:
        peak = self.peak_mb()
        if end.kind in ("response", "error") and self._child and peak > self.config.memory_mb:
            end = End("memory")
        request, payload, failed = invocation.request_id, end.payload, end.kind != "response"
        if end.kind == "exit":
            payload = made.exit_json(request, end.status)
        elif end.kind == "memory":
            payload = made.exit_json(request, -signal.SIGKILL, "Runtime.OutOfMemory")
        elif end.kind == "timeout":
            payload = made.timeout_json(request, self.config.timeout_s)
            self._said += b"%b %b Task timed out after %.2f seconds\n" % (
                time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode(),
                request.encode(),
                self.config.timeout_s,
            )
        elif end.kind == "too large":
            payload = made.size_json(RESPONSE_BYTES)
        if end.kind not in ("response", "error") or self._child is None:  # the runtime ends where its answer is refused
            self.dead = True
        said, self._said = bytes(self._said[-LOG_BYTES:]), bytearray()
        init_s = self._init_s if cold else None
        log = made.framed(invocation, self.config, said, took, init_s=init_s, peak_mb=peak)
        return Outcome(payload, failed, log)

    def said(self, text: bytes) -> None:
        """The process wrote to its standard output or error."""
        self._said += text
        if len(self._said) > 2 * LOG_BYTES:
            del self._said[:-LOG_BYTES]

    def exited(self, status: int) -> None:
        """The process ended."""
        if not self._settle(End("exit", status=status)):
            self.dead = True


class _Child:
    """The process of an environment: its pipes, and the news of its end."""

    def __init__(self, owner: ProcessEnvironment, environ: dict[str, str]) -> None:
        self._owner, self._loop = owner, asyncio.get_running_loop()
        self.ended: int | None = None
        lifeline, self._lifeline = os.pipe()
        self._log, log = os.pipe()
        os.set_blocking(self._log, False)
        bare = ["-S"] if owner.settings.isolated else []
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", *bare, str(LAUNCHER), str(lifeline), owner.config.fields["Handler"]],
                cwd=owner.config.code.root,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lifeline,),
                process_group=0,
            )
        finally:
            os.close(lifeline)
            os.close(log)
        self._pidfd = os.pidfd_open(self.process.pid)
        self._loop.add_reader(self._pidfd, self._over)
        self._loop.add_reader(self._log, self.hear)

    def hear(self) -> None:
        """Take what was written so far."""
        with contextlib.suppress(OSError):  # nothing more for now, or closed
            while self._log >= 0 and (text := os.read(self._log, 1 << 16)):
                self._owner.said(text)
            if self._log >= 0:
                self._loop.remove_reader(self._log)  # the end: a reader would spin

    def send(self, number: int) -> None:
        """A signal for the process and what it has started."""
        if self.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def _over(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.ended = self.process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what it has started goes with it
        self.hear()
        self._owner.exited(self.ended)

    def close(self) -> None:
        """Wait for the end, which was ordered, and let go of the pipes."""
        self._loop.remove_reader(self._pidfd)
        self._loop.remove_reader(self._log)
        if self.ended is None:
            self.ended = self.process.wait()
        self.hear()
        for fd in (self._pidfd, self._log, self._lifeline):
            os.close(fd)
        self._pidfd = self._log = -1


def _resident_mb(pid: int) -> dict[int, float]:
    """What a process and its descendants hold, each; what they share counts for each."""
    found, left, page = dict[int, float](), [pid], os.sysconf("SC_PAGE_SIZE")
    while left:
        pid = left.pop()
        with contextlib.suppress(OSError, IndexError):
            found[pid] = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * page / (1 << 20)
            for thread in Path(f"/proc/{pid}/task").iterdir():
                left += map(int, (thread / "children").read_bytes().split())
    return found


def _badness(pid: int) -> int:
    """The kernel's own figure of how well the end of this process would help."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/oom_score").read_bytes())
    return 0
