"""What tasks print and log reaches the caller: whole lines, each marked with its task."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading

import pytest

import fnmap


def after(session) -> None:
    """What was printed before this call has arrived when it returns."""
    session.submit(abs, 0).result()


@pytest.fixture(scope="module")
def one():
    session = fnmap.Session(workers=1)
    yield session
    session.close()


def test_lines_are_marked_with_their_task(one, capsys):
    list(one.map(lambda x: print(f"hello {x}"), range(3)))
    after(one)
    assert capsys.readouterr().out == "[task 0] hello 0\n[task 1] hello 1\n[task 2] hello 2\n"


def test_errors_go_to_standard_error(one, capsys):
    list(one.map(lambda x: print("oh", file=sys.stderr), [1]))
    after(one)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "[task 0] oh\n")


def test_lines_of_many_tasks_do_not_interleave(local, capsys):
    def talk(x):
        for _ in range(20):
            print(x, end="")
            print("-" * 50, end="")
            print(x)

    list(local.map(talk, range(10), chunksize=1))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 200
    assert all(re.fullmatch(r"\[task (\d)\] \1-{50}\1", line) for line in lines)


def test_a_line_without_an_end_is_ended_with_its_task(one, capsys):
    list(one.map(lambda x: print(x, end=""), range(2)))
    after(one)
    assert capsys.readouterr().out == "[task 0] 0\n[task 1] 1\n"


def test_several_lines_at_once_are_each_marked(one, capsys):
    list(one.map(lambda x: print("a\nb"), [1]))
    after(one)
    assert capsys.readouterr().out == "[task 0] a\n[task 0] b\n"


def test_what_programs_write_themselves_arrives_too(one, capfd):
    def shout(x):
        os.write(1, b"raw\n")
        subprocess.run(["echo", "program"], check=True)
        sys.stdout.buffer.write(b"buffer\n")

    list(one.map(shout, [1]))
    one.close()  # its pipe is read to the end
    out = "".join(capfd.readouterr())
    assert all(f"[worker] {word}\n" in out for word in ("raw", "program", "buffer"))


def test_any_text_survives():
    with fnmap.Session(workers=1) as session:
        (error,) = session.map(lambda x: (print("é ☃ \ud800"), 1 / 0), [1], errors="return")
    assert error.log.startswith("é ☃ ")


def test_log_records_are_handled_by_the_caller_s_own_loggers(local, caplog):
    with caplog.at_level(logging.INFO):
        list(local.map(lambda x: logging.getLogger("deals").info("priced %d", x), [7]))
    found = [(r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name == "deals"]
    assert found == [("deals", "INFO", "[task 0] priced 7")]


def test_records_below_the_caller_s_level_stay_where_they_are(local, caplog):
    with caplog.at_level(logging.ERROR):
        list(local.map(lambda x: logging.getLogger("deals").info("priced %d", x), [7]))
    assert not [r for r in caplog.records if r.name == "deals"]


@pytest.fixture
def level(caplog):
    """Set the level of a logger until the test ends; caplog itself would also open its own handler to all."""
    before = {}

    def set_level(name, level):
        logger = logging.getLogger(name)
        before.setdefault(logger, logger.level)
        logger.setLevel(level)

    yield set_level
    for logger, was in before.items():
        logger.setLevel(was)


def heard(session, caplog, *names) -> list[str]:
    """The loggers whose debug records arrive, sorted."""
    caplog.clear()
    list(session.map(lambda name: logging.getLogger(name).debug("said"), names))
    return sorted(r.name for r in caplog.records if r.getMessage().endswith("said"))


def test_a_logger_with_a_level_of_its_own_is_heard_as_it_would_be_here(local, caplog, level):
    assert heard(local, caplog, "mine", "mine.part", "other") == []
    level("mine", logging.DEBUG)
    assert heard(local, caplog, "mine", "mine.part", "other") == ["mine", "mine.part"]
    level("mine", logging.NOTSET)
    assert heard(local, caplog, "mine", "mine.part", "other") == []


def test_a_record_that_nobody_here_would_hear_does_not_travel(local, level):
    def enabled(name):
        return logging.getLogger(name).isEnabledFor(logging.INFO)

    level("", logging.DEBUG)
    level("noisy", logging.ERROR)
    assert list(local.map(enabled, ["noisy", "other"])) == [False, True]


def test_levels_that_a_task_has_set_are_the_caller_s_again_in_the_next_call(level):
    level("mine", logging.ERROR)
    with fnmap.Session(workers=1) as session:
        list(session.map(lambda name: logging.getLogger(name).setLevel(logging.DEBUG), ["mine", ""]))
        found = list(session.map(lambda name: logging.getLogger(name).level, ["mine", ""]))
    assert found == [logging.ERROR, logging.getLogger().level]


def test_a_logged_exception_comes_with_its_traceback(local, caplog):
    def log(x):
        try:
            return 1 / x
        except ZeroDivisionError:
            logging.getLogger("deals").exception("bad deal")

    list(local.map(log, [0]))
    assert "ZeroDivisionError" in caplog.text


def test_the_log_in_an_error_is_of_that_task_alone(session):
    def talk(x):
        print(f"about {x}")
        return 1 / x

    (_, error, _) = session.map(talk, [1, 0, 2], chunksize=3, errors="return")
    assert error.log == "about 0\n"


def test_threads_of_a_task_may_print(one, capsys):
    def talk(x):
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()

    with fnmap.Session(workers=1) as session:
        list(session.map(talk, [1]))
        after(session)
    assert "[task 0] from a thread\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "spoil",
    [
        "sys.stdout.close()", "sys.stdout = sys.stderr = None", "logging.shutdown()", "os.chdir('/')",
        "logging.disable()", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "sys.setrecursionlimit(60)",
        "sys.path.clear()", "gc.disable()", "random.seed(1)", "threading.Thread(target=print).start()",
        "os.environ.clear()", "sys.settrace(None)", "import builtins; builtins.list = None", "os.umask(0)",
        "import time; time.perf_counter = time.monotonic = None", "warnings.simplefilter('error')",
    ],
)  # fmt: skip
def test_what_a_task_does_to_its_interpreter_spoils_no_later_task(spoil):
    def run(x):
        exec(f"import sys, os, logging, signal, gc, random, threading, warnings\n{spoil}")
        return x

    with fnmap.Session(workers=1) as session:
        list(session.map(run, [1], errors="return"))
        assert list(session.map(lambda x: (print("still there"), x)[1], [-1, -2])) == [-1, -2]


def test_a_caller_without_standard_output_is_no_problem(start):
    script = start("import sys, fnmap\nsys.stdout = None\nassert list(fnmap.map(lambda x: print(x), [1])) == [None]")
    assert script.wait(10) == 0


def test_a_caller_that_has_closed_its_output_is_no_problem(start):
    script = start("import sys, fnmap\nsys.stdout.close()\nassert list(fnmap.map(lambda x: print(x), [1])) == [None]")
    assert script.wait(10) in (0, 120)  # 120: Python itself could not flush what is closed


def test_the_bar_knows_the_total(capsys):
    import time

    with fnmap.Session(workers=1) as session:
        list(session.map(time.sleep, [0.02] * 40, chunksize=1, progress=True))
    assert "/40" in capsys.readouterr().err
