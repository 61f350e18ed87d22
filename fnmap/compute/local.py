"""Calls run on the cores of this machine, in interpreters of their own that stay warm between maps."""

from __future__ import annotations

import ast
import contextlib
import heapq
import logging
import math
import mmap
import os
import select
import struct
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from fnmap.chores import Chores
from fnmap.compute.base import Limits, cores
from fnmap.compute.child import LOGGED, MEMORY, PAGE, REPORT, SAID, THREADS
from fnmap.compute.process import Process
from fnmap.errors import CallTimeout, ComputeError, WorkerLost
from fnmap.format.call import Call, Job, Report
from fnmap.format.payload import Buffer, Values
from fnmap.options import count

INLINE_BYTES = 256 << 10  # a larger message costs less through a file that is mapped than through a pipe
CHUNK_S = 0.25  # each call costs the cores of this machine 1 ms beside its tasks, whose caches are cold by then
QUICK_S = 0.3  # a call may wait in line behind one that takes no longer: a worker that is free takes it over
FAILED_STARTS = 3
LONG_S = 1e6  # what poll() can be told to wait
IDLE_MS = 3  # after so long without an answer there is time for chores

Hear = Callable[[str, Sequence[Any]], None]

log = logging.getLogger(__name__)


class LocalCompute:
    """`on="local"`: one worker process per slot, started when first needed.

    One thread reads what the workers answer, and sleeps when nothing happens. `submit` writes to an idle
    worker's pipe in the caller's thread. A worker that dies is replaced, one that runs over its time is
    killed with its children, and all die with this process, however it ends. `hear` is told what tasks print and log,
    which is shown unless somebody hears it.
    """

    def __init__(self, workers: int | None = None, *, hear: Hear | None = None) -> None:
        self._hear = hear or show
        slots = cores() if workers is None else count(workers, 1, "workers must be an int >= 1")
        self.limits = Limits(slots=slots, payload_bytes=INLINE_BYTES, chunk_s=CHUNK_S, ahead=2 * slots)
        self._lock = threading.RLock()
        self._processes: dict[int, Process] = {}  # by slot
        self._idle: list[Process] = []
        self._queue: deque[tuple[Call, Future[Report]]] = deque()
        self._timers: list[tuple[float, int, Process, int]] = []
        self._last = "", 0.0  # of the latest call to be answered: its job, and how long that took
        self._failed_starts = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self.chores = Chores()
        self._poll = select.poll()
        self._watched: dict[int, tuple[str, Process]] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._poll.register(self._wake_read, select.POLLIN)
        with tempfile.TemporaryFile() as page:
            page.truncate(slots * PAGE.size)
            self._page_fd = os.dup(page.fileno())
        self._page = mmap.mmap(self._page_fd, 0)
        _computes.add(self)

    # -- from any thread -------------------------------------------------------------------------------

    def submit(self, call: Call) -> Future[Report]:
        """Start the call on an idle worker, or queue it."""
        future: Future[Report] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._closed:
                raise ComputeError("this compute is closed; make a new Session")
            self._queue.append((call, future))
            self._dispatch()
        return future

    def start(self) -> None:
        """Start a worker now rather than with the first call."""
        with self._lock:
            self._start()

    def put_off(self, chore: Callable[[], object]) -> bool:
        """Have it done when a caller waits, or nothing has come from the workers for a while. Only what this compute's
        own thread was about to do can be put off."""
        if threading.current_thread() is not self._thread:
            return False
        self.chores.add(chore)
        return True

    def warm(self, job: Job, most: int) -> None:
        """Let up to `most` workers that have nothing to do load the job: what it imports takes a while."""
        with self._lock:
            free = len(self._idle) + self.limits.slots - len(self._processes)
            for _ in range(0 if self._queue or self._closed else min(free, most)):
                try:
                    self.submit(Call("", job, range(0), Values.of_plain([])))
                except Exception:  # as where no process can be started: the calls will meet it, and say so
                    log.debug("no worker could be warmed", exc_info=True)
                    self._queue.clear()
                    return

    def running(self, future: Future[Report]) -> range | None:
        """The positions that the call of this future is at; None if it does not run."""
        with self._lock:
            return next((self._running(p) for p in self._processes.values() if p.future is future), None)

    def kill(self, future: Future[Report]) -> None:
        """Kill the worker that runs the call of this future."""
        unsent = False
        with self._lock:
            for process in self._processes.values():
                if process.next is not None and process.next[1] is future and (back := process.take_back()):
                    self._queue.appendleft(back)
                if future in (process.future, process.next and process.next[1]):
                    process.killed_for = future, WorkerLost("the call was withdrawn while it ran")
                    process.kill()
            for waiting in [w for w in self._queue if w[1] is future]:
                self._queue.remove(waiting)
                unsent = True
        if unsent:  # told without the lock, for whoever hears of it may call this compute
            future.set_exception(WorkerLost("the call was withdrawn before it started"))

    def close(self) -> None:
        """Kill all workers and end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for process in self._processes.values():
                process.kill()
            thread = self._thread
            if thread is None:
                self._release()
            else:
                self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def pids(self) -> list[int]:
        """Process ids of the workers that live."""
        with self._lock:
            return [p.pid for p in self._processes.values()]

    # -- under the lock --------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while not self._closed and (self._queue or (self._idle and self._take_back())):
            if not self._idle and not self._start():
                self._send_ahead()
                return
            call, future = self._queue.popleft()
            process = self._idle.pop()
            process.send(call, future)
            if call.job.timeout_s is not None:
                self._set_timer(process, time.monotonic() + call.job.timeout_s)

    def _send_ahead(self) -> None:
        """Calls as short as the one before wait in the pipe of a busy worker, which goes on to them at once. As many as
        there are workers stay here, for whoever is free first."""
        for process in self._processes.values():
            if len(self._queue) <= self.limits.slots:
                return
            call, future = self._queue[0]
            if process.next is None and self._is_quick(call, process) and process.send_ahead(call, future):
                self._queue.popleft()

    def _take_back(self) -> bool:
        """A call in the pipe of a worker whose call is not so short after all is for one that has nothing to do."""
        self._queue.extend(back for process in self._processes.values() if (back := process.take_back()))
        return bool(self._queue)

    def _is_quick(self, call: Call, process: Process) -> bool:
        job, seconds = self._last
        same = process.call is not None and process.call.job.key == call.job.key == job
        return same and seconds < QUICK_S and call.job.timeout_s is None

    def _start(self) -> bool:
        slot = next((s for s in range(self.limits.slots) if s not in self._processes), None)
        if slot is None:
            return False
        if self._thread is None:
            self._thread = self._started()
        PAGE.pack_into(self._page, slot * PAGE.size, 0, 0, 0, 0.0)
        process = Process(slot, self._page_fd, self._environment())
        self._processes[slot] = process
        self._idle.append(process)
        for fd, what in ((process.answers, "answers"), (process.output, "output"), (process.pidfd, "ended")):
            if fd is not None:
                self._watched[fd] = what, process
                self._poll.register(fd, select.POLLIN)
        self._wake()
        return True

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._serve, name="fnmap-local", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # Python 3.12, while threads outlive the main one
            raise ComputeError(f"no worker can be started: {error}; map once before the main thread ends") from error
        return thread

    def _environment(self) -> dict[str, str]:
        """One thread a worker for the libraries that would otherwise each take all cores; and memory that is kept."""
        share = str(max(1, cores() // self.limits.slots))
        return {**dict.fromkeys(THREADS, share), **MEMORY, **os.environ}

    def _set_timer(self, process: Process, at: float) -> None:
        heapq.heappush(self._timers, (at, process.pid, process, process.number))
        if self._timers[0][0] == at:
            self._wake()

    def _wake(self) -> None:
        if self._thread is not threading.current_thread():
            os.write(self._wake_write, b"!")

    # -- the thread ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._closed or self._processes:
            timeout = None
            if self._timers:
                with self._lock:
                    timeout = math.ceil(1e3 * min(LONG_S, max(0.0, self._timers[0][0] - time.monotonic())))
            if self.chores:
                timeout = IDLE_MS if timeout is None else min(timeout, IDLE_MS)
            ready = [(fd, self._watched.get(fd)) for fd, _ in self._poll.poll(timeout)]
            for fd, watched in ready:
                if fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(fd, 4096)
                elif watched is not None and self._watched.get(fd) is watched:
                    # else a process was reaped in this very round, and the number may be another's by now
                    self._handle(*watched)
            if self._timers:
                self._enforce_limits()
            if self.chores and (not ready or self.chores.late):
                self.chores.do()
        with self._lock:
            left, self._queue = self._queue, deque()
        for _, future in left:
            future.set_exception(WorkerLost("the session was closed before the call began"))
        self.chores.do()
        self._release()

    def _release(self) -> None:
        """All workers are gone."""
        for fd in (self._wake_read, self._wake_write, self._page_fd):
            os.close(fd)
        self._page.close()

    def _handle(self, what: str, process: Process) -> None:
        try:
            self._event(what, process)
        except Exception as error:  # a worker that talks nonsense, or a listener that raises: nobody may wait for ever
            log.exception("worker %d is given up", process.pid)
            process.kill()
            with self._lock:
                future, process.future = process.future, None
            if future is not None:
                future.set_exception(error)

    def _event(self, what: str, process: Process) -> None:
        if what == "output":
            self._echo(process)
        elif what == "answers":
            self._read(process)
            if process.pidfd is None and process.popen.poll() is not None:
                self._reap(process)
        else:
            self._reap(process)

    def _read(self, process: Process) -> None:
        for kind, body in process.messages():
            if kind == REPORT:
                self._answered(process, body)
            elif kind == SAID:
                stream, task = struct.unpack_from("<bq", body)
                text = str(body[9:], "utf-8")
                process.tail.extend(text.splitlines(keepends=True))
                self._hear("said", (stream, task, text))
            elif kind == LOGGED:
                record = ast.literal_eval(str(body, "utf-8"))
                process.tail.append(line_of(*record))
                self._hear("logged", record)

    def _answered(self, process: Process, body: Buffer) -> None:
        with self._lock:
            future, call = process.future, process.call
            if call is not None:
                self._last = call.job.key, time.monotonic() - process.began
            process.advance()
            process.tail.clear()
            process.served += 1
            self._failed_starts = 0
            if process.call is None:
                self._idle.append(process)
            self._dispatch()
        if future is not None and call is not None:
            try:
                report = Report.from_message(body, arrow=call.job.arrow)
            except Exception as error:  # a user's class may raise anything when it is read
                future.set_exception(error)
            else:
                future.set_result(report)

    def _echo(self, process: Process) -> None:
        text = process.read_output()
        if text:
            self._hear("said", (2, -1, text))
        elif text is None and process.output in self._watched:  # it and its children have closed theirs
            self._poll.unregister(process.output)
            del self._watched[process.output]

    def _reap(self, process: Process) -> None:
        self._read(process)  # it may have answered with its last breath
        self._echo(process)
        with self._lock:
            for fd in (process.answers, process.output, process.pidfd):
                if fd in self._watched:
                    self._poll.unregister(fd)
                    del self._watched[fd]
            begun, at = self._status(process)[0] == process.number, self._running(process)
            how = process.wait()
            del self._processes[process.slot]
            if process in self._idle:
                self._idle.remove(process)
            call, future = process.call, process.future
            if process.next is not None:  # it never saw this one
                self._queue.appendleft(process.next)
            wanted, why = process.killed_for or (None, None)
            if call and future and process.served and not begun and future is not wanted:  # nor this one
                self._queue.appendleft((call, future))
                future = None
            if future is None and process.served == 0 and not self._closed:
                self._failed_starts += 1
            error = why if why and future in (wanted, None) else self._lost(process, how, at)
            self._dispatch()
        if future is not None:
            future.set_exception(error)

    def _lost(self, process: Process, how: str, at: range | None) -> BaseException:
        text = "".join(process.tail)
        if self._closed:
            return WorkerLost("the session was closed while the call ran", log=text)
        if process.served == 0 and at is None:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS:
                return ComputeError(f"worker processes do not start ({how}); the last one said:\n{text or '(nothing)'}")
        log.warning("worker %d died (%s); it is replaced and its call is tried again", process.pid, how)
        return WorkerLost(f"worker {process.pid} died ({how})", at=at, log=text)

    def _running(self, process: Process) -> range | None:
        """The positions that the worker's call was at, as its status page says."""
        number, first, count, _ = self._status(process)
        return range(first, first + count) if number == process.number and count else None

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        with self._lock:
            while self._timers and self._timers[0][0] <= now:
                _, _, process, number = heapq.heappop(self._timers)
                if process.number != number or process.call is None or process.killed_for is not None:
                    continue  # that call is over
                limit = process.call.job.timeout_s or 0.0
                at, begun = self._running(process), self._status(process)[3]
                if at is not None and begun + limit <= now:
                    message = f"ran for over {limit:g} s"
                    error = CallTimeout(message, at=at.start, log="".join(process.tail))
                    process.killed_for = process.future, error
                    process.kill()
                else:  # not yet started, or at a later task by now
                    self._set_timer(process, (begun if at is not None else now) + limit)

    def _status(self, process: Process) -> tuple[int, int, int, float]:
        return PAGE.unpack_from(self._page, process.slot * PAGE.size)

    def _forked(self) -> None:
        """In a forked child: the workers are the parent's."""
        self._closed, self._lock = True, threading.RLock()
        self.chores.forget()
        for process in self._processes.values():
            process.let_go()
        self._processes, self._thread = {}, None


_computes: weakref.WeakSet[LocalCompute] = weakref.WeakSet()


def _let_go() -> None:
    for compute in list(_computes):
        compute._forked()


os.register_at_fork(after_in_child=_let_go)


def say(stream: int, task: int, text: str) -> None:
    """Show lines that a task printed, each marked with the task."""
    mark = f"[task {task}] " if task >= 0 else "[worker] "
    marked = "".join(mark + line for line in text.splitlines(keepends=True))
    show_lines(marked if marked.endswith("\n") else marked + "\n", sys.stdout if stream == 1 else sys.stderr)


def show_lines(text: str, stream: Any) -> None:
    """Write whole lines to the caller's terminal, without tearing a progress bar that may be on it."""
    bars = sys.modules.get("tqdm.std")
    guard = bars.tqdm.external_write_mode(file=stream) if bars is not None else contextlib.nullcontext()
    try:
        with guard:
            stream.write(text)
            stream.flush()
    except (ValueError, OSError, AttributeError):  # the caller has closed or removed the stream
        log.debug("could not show: %s", text)


def show(kind: str, what: Sequence[Any]) -> None:
    """Show what a worker has "said" or "logged"."""
    if kind == "said":
        say(*what)
    else:
        relog(*what)


def line_of(_task: int, name: str, level: int, _path: str, _line: int, _created: float, text: str) -> str:
    """A worker's log record as a line."""
    return f"{logging.getLevelName(level)}:{name}:{text}\n"


def relog(task: int, name: str, level: int, path: str, line: int, created: float, text: str) -> None:
    """Handle a worker's log record by the caller's own loggers."""
    logger = logging.getLogger(name)
    marked = f"[task {task}] {text}" if task >= 0 else text
    if logger.isEnabledFor(level):
        record = logger.makeRecord(name, level, path, line, marked, (), None)
        record.created = created
        logger.handle(record)
