"""Calls that lie in the pipe of a busy worker: whoever takes one has it, the worker or its parent."""

from __future__ import annotations

import os
import select
import signal
import tempfile
from concurrent.futures import Future

import pytest

from fnmap.compute.child import PAGE, REPORT
from fnmap.compute.process import Process
from fnmap.format.call import Report
from fnmap.storage.files import FileStore
from fnmap.testing.computes import make_call


@pytest.fixture
def worker():
    with tempfile.TemporaryFile() as page:
        page.truncate(PAGE.size)
        worker = Process(0, page.fileno(), os.environ)
        yield worker
        worker.kill()
        worker.wait()


def answer(worker):
    """The next answer of the worker, which was to the call that it runs by its parent's book."""
    while True:
        for kind, body in worker.messages():
            if kind == REPORT:
                asked = list(worker.call.items)
                worker.advance()
                return asked, list(Report.from_message(body).values)
        select.select([worker.answers], [], [])


def test_each_call_is_run_by_who_took_it_and_answers_are_of_their_calls(worker, tmp_path):
    scratch = FileStore(tmp_path)
    a, b, c, d, e = [(make_call(abs, [-x], scratch), Future()) for x in range(5)]
    worker.send(*a)
    assert answer(worker) == ([0], [0])
    os.kill(worker.pid, signal.SIGSTOP)
    worker.call, worker.future = a  # as if its answer were still to come
    assert worker.send_ahead(*b)
    worker.advance()
    assert worker.send_ahead(*c)
    assert worker.take_back() == b  # the first that the worker has not begun
    assert (worker.call, worker.future) == c
    assert worker.take_back() is None
    assert not worker.send_ahead(*d)  # what was taken back may still fill the pipe
    os.kill(worker.pid, signal.SIGCONT)
    assert answer(worker) == ([-2], [2])
    worker.send(*d)
    assert worker.send_ahead(*e)
    assert answer(worker) == ([-3], [3])
    assert answer(worker) == ([-4], [4])
    assert worker.number == 4  # the worker counts those that it ran
