"""Workers are killed in every way; nothing is lost, and whoever kills them is named."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys

import pytest
from gates import gone, say_at, wait_at

import fnmap
from fnmap.compute.local import LocalCompute
from fnmap.compute.process import Process
from fnmap.errors import TaskPoisoned, TaskTimeout
from fnmap.storage.files import FileStore
from fnmap.testing.computes import make_call


def kill_self(x):
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(x):
    import ctypes

    return ctypes.string_at(0)


def leave(x):
    os._exit(0)


def abort(x):
    os.abort()


def close_all(x):
    os.closerange(0, 200)
    return x


@pytest.fixture
def sent_ahead(monkeypatch):
    """How many calls went into the pipe of a worker that was busy with another."""
    sent, send_ahead = [], Process.send_ahead

    def spy(self, call, future):
        went = send_ahead(self, call, future)
        if went:
            sent.append(call.id)
        return went

    monkeypatch.setattr(Process, "send_ahead", spy)
    return sent


def test_calls_in_the_pipe_of_a_worker_that_dies_are_neither_lost_nor_blamed(local, sent_ahead):
    run = local.map(lambda x: kill_self(x) if x == 300 else x, range(600), chunksize=1, errors="return")
    results = list(run)
    assert [i for i, r in enumerate(results) if r != i] == [300]
    assert results[300].attempts == 4
    assert len(sent_ahead) > 100


def test_calls_in_the_pipe_are_withdrawn_with_their_run(local, sent_ahead):
    run = local.map(abs, range(10_000), chunksize=1)
    assert run[100] == 100
    run.cancel()
    assert run.wait(60)
    assert run.status.state == "cancelled"
    assert list(local.map(abs, range(1000), chunksize=1)) == list(range(1000))
    assert sent_ahead


def test_no_call_waits_behind_a_long_one_while_another_worker_is_idle(local, gate, sent_ahead):
    here = gate.path
    run = local.map(lambda x: wait_at(here) if x == 100 else x, range(200), chunksize=1)
    arriving = run.as_completed()
    assert {next(arriving)[0] for _ in range(199)} == set(range(200)) - {100}
    gate.open()
    assert list(arriving) == [(100, None)]
    assert sent_ahead


@pytest.mark.parametrize("ends", ["dies", "is killed for a task that has just ended"])
def test_a_call_that_a_dying_worker_never_began_is_not_blamed(ends, monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "fnmap.compute.local")  # the function on Lambda raises it for its process
    compute, answered = LocalCompute(workers=1), LocalCompute._answered

    def end_first(self, process, body):
        monkeypatch.undo()
        if ends == "dies":
            os.kill(process.pid, signal.SIGKILL)
        else:
            compute.kill(process.future)
        assert gone(process.pid)
        answered(self, process, body)

    monkeypatch.setattr(LocalCompute, "_answered", end_first)
    scratch = FileStore(tmp_path)
    with contextlib.closing(compute):
        calls = [make_call(abs, [x], scratch) for x in (-1, -2)]
        answers = [compute.submit(call) for call in calls]
        assert [list(answer.result().values) for answer in answers] == [[1], [2]]
    assert ("died" in caplog.text) == (ends == "dies")


@pytest.mark.parametrize("die", [kill_self, segfault, leave, abort, close_all])
def test_a_poison_item_is_isolated_and_named_and_its_mates_are_done(local, die):
    run = local.map(lambda x: die(x) if x == 13 else x, range(100), chunksize=50, errors="return")
    results = list(run)
    assert [i for i, r in enumerate(results) if r != i] == [13]
    assert isinstance(results[13], TaskPoisoned)
    assert (results[13].index, results[13].item, results[13].attempts) == (13, "13", 4)
    assert list(local.map(abs, [-1])) == [1]


def test_the_poison_is_named_when_it_is_raised(local):
    with pytest.raises(TaskPoisoned, match=r"task 3 of .*SIGKILL.*(?s:.*)with the item 3"):
        list(local.map(lambda x: kill_self(x) if x == 3 else x, range(5)))


def test_what_the_worker_said_last_is_in_the_error(local):
    def talk(x):
        print("last words")
        os.write(2, b"to the system\n")
        leave(x)

    (error,) = local.map(talk, [1], errors="return")
    assert "last words" in error.log
    assert "to the system" in error.log


def test_a_worker_killed_from_outside_costs_the_task_nothing(local, gate, begun):
    pipe, here = gate.path, begun.path
    run = local.map(lambda x: (say_at(here, os.getpid()), wait_at(pipe), x)[2], range(2), chunksize=1)
    for pid in map(int, begun.heard(2)):
        os.kill(pid, signal.SIGKILL)
    begun.heard(2)
    gate.open(2)
    assert list(run) == [0, 1]


def test_a_worker_that_is_killed_while_idle_is_replaced(local):
    (pid,) = local.map(lambda _: os.getpid(), [1])
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert list(local.map(abs, range(10))) == list(range(10))
    assert pid not in local.compute.pids()


def test_every_worker_may_die_many_times(local, tmp_path):
    def die_at_first(x):
        try:
            (tmp_path / str(x)).touch(exist_ok=False)
            kill_self(x)
        except FileExistsError:
            pass
        return x

    assert list(local.map(die_at_first, range(12), chunksize=4)) == list(range(12))


def test_a_time_out_kills_the_task_and_its_children(local, begun):
    here = begun.path

    def with_children(x):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        say_at(here, f"{os.getpid()} {child.pid}")
        child.wait()

    (error,) = local.map(with_children, [1], timeout=0.5, errors="return")
    assert isinstance(error, TaskTimeout)
    assert isinstance(error, TimeoutError)
    assert all(gone(int(pid)) for pid in begun.heard()[0].split())


def test_a_time_out_kills_what_no_signal_handler_could_stop(local):
    def deaf(x):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            pass

    with pytest.raises(TaskTimeout, match=r"ran for over 0\.3 s"):
        list(local.map(deaf, [1], timeout=0.3))


def test_only_the_slow_task_is_charged_with_the_time_out(local, gate):
    pipe = gate.path
    run = local.map(lambda x: wait_at(pipe) if x == 5 else x, range(10), timeout=0.3, chunksize=10, errors="return")
    assert [i for i, r in enumerate(run) if r != i] == [5]


def test_a_timed_out_task_may_be_tried_again(local, tmp_path, gate):
    pipe = gate.path

    def slow_once(x):
        try:
            (tmp_path / "once").touch(exist_ok=False)
        except FileExistsError:
            return x
        return wait_at(pipe)

    assert list(local.map(slow_once, [7], timeout=0.3, retries=fnmap.Retry(1, backoff_s=0.01))) == [7]


def test_a_timed_out_task_with_a_shared_array_is_named(local, gate):
    import numpy as np

    pipe, items = gate.path, [np.full(300_000, float(i)) for i in range(3)]
    timeout = 1.0  # a new worker imports numpy meanwhile
    run = local.map(lambda a: wait_at(pipe) if a[0] == 1 else a[0], items, timeout=timeout, errors="return")
    results = list(run)
    assert (results[0], results[2]) == (0.0, 2.0)
    assert isinstance(results[1], TaskTimeout)


def test_a_poison_with_a_shared_array_is_named(local):
    import numpy as np

    items = [np.full(300_000, float(i)) for i in range(3)]
    results = list(local.map(lambda a: leave(a) if a[0] == 1 else a[0], items, errors="return"))
    assert (results[0], results[2]) == (0.0, 2.0)
    assert isinstance(results[1], TaskPoisoned)


def test_cancelling_kills_the_children_too(local, begun):
    here = begun.path

    def with_children(x):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        say_at(here, f"{os.getpid()} {child.pid}")
        child.wait()

    run = local.map(with_children, [1])
    (line,) = begun.heard()
    run.cancel()
    assert run.wait()
    assert all(gone(int(pid)) for pid in line.split())


def test_a_worker_that_closes_its_output_keeps_nobody_busy(monkeypatch):
    ends, read = [], Process.read_output

    def counting(process):
        if (text := read(process)) is None:
            ends.append(process)
        return text

    def mute(x):
        for fd in (1, 2):
            os.close(fd)
        return x

    monkeypatch.setattr(Process, "read_output", counting)
    with fnmap.Session(workers=1) as session:
        assert list(session.map(mute, [1])) == [1]
        for _ in range(10):  # each answer wakes the thread, and a pipe at its end is ready whenever that looks
            assert session.submit(abs, -1).result() == 1
        assert len(ends) == 1
