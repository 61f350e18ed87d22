"""Calls in this very process: what tasks say is noted, and everything stays what it is for a debugger."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

import fnmap
from fnmap.errors import TaskTimeout


def test_streams_and_loggers_are_the_caller_s_own_while_a_task_runs(inline):
    def look(_):
        handlers = logging.getLogger().handlers
        return [id(thing) for thing in (sys.stdout, sys.stderr, sys.stdin, *handlers)], sys.stdout.isatty()

    assert list(inline.map(look, [1])) == [look(1)]


def test_nothing_of_the_noting_is_left(inline):
    before = sys.stdout.write, logging.getLogRecordFactory()
    list(inline.map(print, [1]))
    assert (sys.stdout.write, logging.getLogRecordFactory()) == before
    assert "write" not in vars(sys.stdout)


def test_what_is_printed_goes_where_prints_go(inline, capsys):
    list(inline.map(lambda x: (print(x), print("oh", file=sys.stderr)), [1]))
    assert tuple(capsys.readouterr()) == ("1\n", "oh\n")


def test_a_debugger_works_in_a_task_and_in_what_that_maps(start):
    script = start(
        "import fnmap\n"
        "s = fnmap.Session(on='inline')\n"
        "def inner(y):\n    breakpoint()\n    return y\n"
        "def outer(x):\n    breakpoint()\n    return list(s.map(inner, [x + 1]))\n"
        "print(list(s.map(outer, [5])))\n",
        stdin=subprocess.PIPE,
    )
    out, err = script.communicate("p 'x is', x\nc\np 'y is', y\nc\n")
    assert ("('x is', 5)" in out, "('y is', 6)" in out, out.endswith("[[6]]\n")) == (True, True, True), err


def test_a_task_that_maps_keeps_its_own_log(inline):
    def inner(y):
        print("inner")
        return y

    def outer(x):
        print("before")
        list(inline.map(inner, [x]))
        print("after")
        raise ValueError

    (error,) = inline.map(outer, [1], errors="return")
    assert error.log == "before\nafter\n"


def test_other_threads_are_not_taken_for_the_task(inline, capsys):
    def talk(x):
        thread = threading.Thread(target=print, args=("elsewhere",))
        thread.start()
        thread.join()
        print("here")
        raise ValueError

    (error,) = inline.map(talk, [1], errors="return")
    assert error.log == "here\n"
    assert capsys.readouterr().out == "elsewhere\nhere\n"


def test_two_sessions_in_two_threads_keep_their_logs_apart():
    meet = threading.Barrier(2)

    def talk(x):
        for _ in range(3):
            meet.wait()
            print(x)
        raise ValueError

    def run(x):
        with fnmap.Session(on="inline") as session:
            (error,) = session.map(talk, [x], errors="return")
            logs[x] = error.log

    logs = {}
    threads = [threading.Thread(target=run, args=(x,)) for x in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logs == {0: "0\n" * 3, 1: "1\n" * 3}
    assert "write" not in vars(sys.stdout)


@pytest.mark.parametrize(
    "handler", ["logging.basicConfig(format='%(message)s')", "pass"], ids=["configured", "last resort"]
)
def test_a_log_record_is_shown_and_noted_once(start, handler):
    script = start(
        "import fnmap, logging, sys\n"
        f"def fail(x):\n    {handler}\n    logging.getLogger('mine').warning('oh %d', x)\n    return 1 / 0\n"
        "(error,) = fnmap.map(fail, [7], on='inline', errors='return')\n"
        "print(error.log, end='')\n"
    )
    assert script.communicate() == ("WARNING:mine:oh 7\n", "oh 7\n")


def test_a_task_over_its_time_tells_its_last_words(inline):
    def slow(x):
        print("begun")
        threading.Event().wait(0.02)

    (error,) = inline.map(slow, [1], timeout=0.01, errors="return")
    assert (type(error), error.log) == (TaskTimeout, "begun\n")
