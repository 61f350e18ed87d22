"""Note what a call in this very process prints and logs, while streams and loggers stay the objects that they are:
a debugger, readline and whoever looks at the terminal see no difference."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from fnmap.compute.child import Lines, text_of
from fnmap.worker import Worker

_ear = threading.local()  # .now: the worker whose call this thread runs, and its lines
_lock, _undo = threading.Lock(), ExitStack()
_calls = 0


@contextmanager
def overheard(worker: Worker) -> Iterator[None]:
    """Fill the worker's log with what its tasks say in this thread."""
    global _calls
    lines = Lines(1, worker.task, lambda _, task, text: worker.note(task, text))
    worker.end_lines = lines.end
    before, _ear.now = getattr(_ear, "now", None), (worker, lines)  # a task may map in its turn
    with _lock:
        if not _calls:
            _listen()
        _calls += 1
    try:
        yield
    finally:
        _ear.now = before
        with _lock:
            _calls -= 1
            if not _calls:
                _undo.close()


def _listen() -> None:
    for stream in {id(s): s for s in (sys.stdout, sys.stderr)}.values():
        with suppress(AttributeError):  # there is none, or it allows nothing of the kind
            _tap(stream)
    made = logging.getLogRecordFactory()

    def noted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made(*args, **kwargs)
        if (now := getattr(_ear, "now", None)) is not None and record.name is not None:
            with suppress(Exception):  # arguments that do not fit are told by the handlers
                now[0].note(now[0].task(), f"{record.levelname}:{record.name}:{text_of(record)}\n")
        return record

    def forget() -> None:
        if logging.getLogRecordFactory() is noted:
            logging.setLogRecordFactory(made)

    logging.setLogRecordFactory(noted)  # a handler would keep basicConfig and the handler of last resort from working
    _undo.callback(forget)


def _tap(stream: Any) -> None:
    write, own = stream.write, "write" in getattr(stream, "__dict__", ())

    def tapped(text: str) -> Any:
        written = write(text)
        if (now := getattr(_ear, "now", None)) is not None and sys._getframe(1).f_globals.get("__name__") != "logging":
            now[1].write(text)  # what a handler writes was noted as a record
        return written

    def untap() -> None:
        if stream.write is tapped:
            if own:
                stream.write = write
            else:
                del stream.write

    stream.write = tapped
    _undo.callback(untap)
