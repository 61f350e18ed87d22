"""Where workers come from, that they cost nothing, and that they go: scripts, REPLs, threads, forks, signals."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from gates import gone, wait_at

import fnmap
from fnmap.errors import RunError

STUCK = """
import sys, fnmap, subprocess
begun = sys.argv[1]
def stuck(x):
    import os, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    with open(begun, "wb", buffering=0) as pipe: pipe.write(f"{os.getpid()} {child.pid}\\n".encode())
    time.sleep(300)
def begin():
    return fnmap.map(stuck, range(2), chunksize=1)
"""

WAITS = {
    "a list of the run": "list(begin())",
    "run.result()": "begin().result()",
    "run.wait()": "begin().wait()",
    "one result": "begin()[1]",
    "the body of a loop": "run = begin(); import time; time.sleep(300)",
    "a future": "[fnmap.submit(stuck, x) for x in range(2)][0].result()",
    "a reduction": "fnmap.map_reduce(stuck, range(2), sum, chunksize=1).result()",
    "an executor": "with fnmap.Executor() as e: list(e.map(stuck, range(2)))",
    "a session": "with fnmap.Session() as s: list(s.map(stuck, range(2), chunksize=1))",
    "a stream": "import itertools; [x for x in fnmap.map(stuck, itertools.count(), chunksize=1)]",
    "a loop of asyncio": "import asyncio\nasync def main(): await begin()\nasyncio.run(main())",
    "the end of the script": "begin()",
}


@pytest.mark.parametrize("waiting", WAITS.values(), ids=WAITS)
def test_ctrl_c_stops_promptly_and_leaves_no_orphan(start, begun, waiting):
    script = start(STUCK + waiting, begun.path)
    pids = [int(pid) for line in begun.heard(min(2, os.cpu_count() or 1)) for pid in line.split()]
    script.send_signal(signal.SIGINT)
    script.wait(5)
    assert all(gone(pid) for pid in pids)


def test_ctrl_c_of_a_second_kind_is_no_harder(start, begun):
    script = start(STUCK + "list(begin())", begun.path)
    pids = [int(pid) for pid in begun.heard()[0].split()]
    script.terminate()
    script.wait(5)
    assert all(gone(pid) for pid in pids)


def test_workers_and_their_children_die_with_a_killed_parent(start, begun):
    script = start(STUCK + "list(begin())", begun.path)
    pids = [int(pid) for pid in begun.heard()[0].split()]
    script.kill()
    assert all(gone(pid) for pid in pids)


def test_workers_of_a_parent_that_is_killed_at_once_do_not_outlive_it(start, begun):
    script = start(STUCK + "begin(); import os; os.kill(os.getpid(), 9)", begun.path, start_new_session=True)
    script.wait()
    left = leftover(script.pid)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def leftover(session_id: int) -> list[int]:
    """Processes of that session that do not end by themselves."""
    pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    mine = [pid for pid in pids if _session(pid) == session_id]
    return [pid for pid in mine if not gone(pid)]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def test_workers_die_with_a_killed_parent_though_a_fork_of_it_lives(start, begun):
    fork = "import os, time\nbegin()\nif os.fork() == 0: time.sleep(300)\nelse: time.sleep(300)"
    script = start(STUCK + fork, begun.path, start_new_session=True)
    pids = [int(pid) for pid in begun.heard()[0].split()]
    script.kill()
    try:
        assert all(gone(pid) for pid in pids)
    finally:
        os.killpg(script.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["with", "close", "exit"])
def test_workers_go_with_their_session(start, how):
    body = {
        "with": "with fnmap.Session(workers=2) as s: print(*s.map(pid, range(2)), flush=True)",
        "close": "s = fnmap.Session(workers=2); print(*s.map(pid, range(2)), flush=True); s.close()",
        "exit": "print(*fnmap.map(pid, range(2)), flush=True)",
    }[how]
    script = start("import fnmap, os\ndef pid(_): return os.getpid()\n" + body)
    out, err = script.communicate()
    assert (script.returncode, err) == (0, "")
    assert all(gone(int(pid)) for pid in out.split())


def test_workers_stay_warm_between_maps(local):
    first = set(local.map(lambda _: os.getpid(), range(20), chunksize=1))
    assert first & set(local.map(lambda _: os.getpid(), range(20), chunksize=1))


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_lets_go_of_a_large_array_with_the_run_that_had_it():
    array = np.ones(1 << 18)

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("fnmap-scratch")

    with fnmap.Session(workers=1) as session:
        run = session.map(lambda at: array[at], range(2))
        assert list(run) == [1, 1]
        assert session.submit(mapped).result() == 1
        del run
        gc.collect()
        assert session.submit(mapped).result() == 0


def test_idle_workers_use_no_processor(local):
    list(local.map(abs, range(100)))
    pids = local.compute.pids()
    before = [cpu_ticks(pid) for pid in pids]
    with fnmap.Session(workers=1) as other:  # some time goes by
        assert other.submit(sum, range(1000)).result()
    assert sum(cpu_ticks(pid) for pid in pids) - sum(before) <= 1


def test_a_script_needs_no_main_guard(start):
    script = start("import fnmap\ndef double(x): return 2 * x\nprint(list(fnmap.map(double, range(4))))")
    assert script.communicate() == ("[0, 2, 4, 6]\n", "")


def test_a_script_s_own_classes_are_the_same_going_and_coming(start):
    script = start(
        "import fnmap, dataclasses, enum\n"
        "class Kind(enum.Enum): A = 1\n"
        "@dataclasses.dataclass\n"
        "class Deal:\n    n: int\n    kind: Kind = Kind.A\n"
        "class Mine(Exception): pass\n"
        "def grow(d):\n"
        "    if d.n == 2: raise Mine(d)\n"
        "    return Deal(d.n + 1), isinstance(d, Deal), d.kind is Kind.A\n"
        "print(list(fnmap.map(grow, [Deal(1)])) == [(Deal(2), True, True)])\n"
        "try: list(fnmap.map(grow, [Deal(2)]))\n"
        "except Mine as e: print(e.args == (Deal(2),))\n"
    )
    assert script.communicate()[0] == "True\nTrue\n"


@pytest.mark.parametrize("flags", [["-i"], ["-i", "-q", "-X", "utf8"], ["-"]], ids=" ".join)
def test_a_repl_works(flags):
    lines = "import fnmap\nf = lambda x: x + 1\nprint(list(fnmap.map(f, [1, 2])))\n"
    done = subprocess.run([sys.executable, *flags], input=lines, capture_output=True, text=True, timeout=15, check=True)
    assert "[2, 3]" in done.stdout


def test_a_command_given_on_the_command_line_works():
    code = "import fnmap; print(list(fnmap.map(lambda x: x + 1, [1, 2])))"
    done = subprocess.run(
        [sys.executable, "-c", code, "--flag"], capture_output=True, text=True, timeout=15, check=True
    )
    assert done.stdout == "[2, 3]\n"


def test_arguments_and_path_of_the_script_are_there_on_the_worker(start):
    script = start("import fnmap, sys\nprint(list(fnmap.map(lambda _: sys.argv[1:], [0])))", "-x", "two words")
    assert script.communicate() == ("[['-x', 'two words']]\n", "")


@pytest.mark.parametrize("odd", ["sys.path.insert(0, pathlib.Path('.'))", "sys.argv[:] = []"])
def test_odd_settings_of_the_interpreter_do_no_harm(start, odd):
    script = start(f"import fnmap, sys, pathlib\n{odd}\nprint(list(fnmap.map(abs, [-1])))")
    assert script.communicate() == ("[1]\n", "")


@pytest.mark.parametrize("executable", ["''", "None"])
def test_an_embedding_program_without_an_executable_works(start, executable):
    script = start(f"import fnmap, sys\nsys.executable = {executable}\nprint(list(fnmap.map(abs, [-1])))")
    assert script.communicate()[0] == "[1]\n"


def test_a_map_of_a_thread_works_also_when_the_main_thread_is_done(start):
    script = start(
        "import fnmap, threading\n"
        "threading.Thread(target=lambda: print(list(fnmap.map(lambda x: x + 1, [1, 2])))).start()\n"
    )
    if sys.version_info[:2] == (3, 12):  # it starts no thread then
        assert "map once before the main thread ends" in script.communicate()[1]
    else:
        assert script.communicate() == ("[2, 3]\n", "")


def in_child(body) -> int:
    """Run this in a forked child; its exit code, or -9 if it hangs."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        try:
            os._exit(0 if body() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_has_workers_of_its_own():
    with fnmap.use(on="local", workers=1):
        mine = fnmap.submit(os.getpid).result()
        assert in_child(lambda: fnmap.submit(os.getpid).result() != mine) == 0
        assert fnmap.submit(os.getpid).result() == mine


def test_a_forked_child_of_the_default_session_works(start):
    script = start(
        "import fnmap, os\n"
        "print(list(fnmap.map(abs, [-1])), flush=True)\n"
        "if os.fork() == 0:\n    print(list(fnmap.map(abs, [-2])), flush=True)\n    os._exit(0)\n"
        "os.wait()\nprint(list(fnmap.map(abs, [-3])))"
    )
    assert script.communicate()[0] == "[1]\n[2]\n[3]\n"


def test_a_session_that_a_forked_child_inherits_is_refused_there_and_unharmed_here():
    with fnmap.Session(workers=1) as session:
        mine = session.submit(os.getpid).result()

        def use_it():
            try:
                return session.submit(abs, -1).result(3) == 1
            except fnmap.FnmapError:
                return True

        assert in_child(use_it) == 0
        assert in_child(lambda: session.close() is None) == 0
        assert session.submit(os.getpid).result() == mine


def test_live_runs_end_before_the_script_does(start, tmp_path):
    script = start(
        "import fnmap, pathlib, sys\ndef touch(x): pathlib.Path(sys.argv[1], str(x)).touch()\n"
        "fnmap.map(touch, range(5), chunksize=1)",
        tmp_path / ".",
    )
    assert script.wait(10) == 0
    assert {str(x) for x in range(5)} <= {p.name for p in tmp_path.iterdir()}


def test_a_retry_that_waits_at_the_end_of_the_script_is_made(start, tmp_path):
    script = start(
        "import fnmap, pathlib, sys\n"
        "def flaky(x):\n"
        "    with open(sys.argv[1], 'a') as f: f.write('x')\n"
        "    if len(open(sys.argv[1]).read()) < 3: raise OSError\n"
        "fnmap.map(flaky, [1], retries=fnmap.Retry(5, backoff_s=0.05))",
        tmp_path / "tries",
    )
    assert script.wait(10) == 0
    assert (tmp_path / "tries").read_text() == "xxx"


def test_a_retry_that_waits_at_exit_needs_no_new_thread(start, gate, tmp_path):
    script = start(
        "import atexit, fnmap, pathlib, sys, threading\n"
        "gate, tried = map(pathlib.Path, sys.argv[1:])\n"
        "def flaky(x):\n"
        "    with gate.open('rb', buffering=0) as pipe: pipe.read(1)\n"
        "    with tried.open('a') as file: file.write('x')\n"
        "    if len(tried.read_text()) < 2: raise OSError\n"
        "fnmap.map(flaky, [1], retries=fnmap.Retry(5, backoff_s=0.05))\n"
        "def end():\n"
        "    def refuse(thread): raise RuntimeError('as of Python 3.12')\n"
        "    threading.Thread.start = refuse\n"
        "    with gate.open('wb', buffering=0) as pipe: pipe.write(b'..')\n"
        "atexit.register(end)",
        gate.path,
        tmp_path / "tried",
    )
    assert script.wait(5) == 0
    assert (tmp_path / "tried").read_text() == "xx"


def test_nothing_is_left_in_the_scratch_folder(start, tmp_path):
    (tmp_path / "scratch").mkdir()
    code = "import fnmap, numpy as np\na = np.zeros(500_000)\n{}\nprint(list(s.map(lambda i: a[i] + a, [1]))[0].size)"
    for session in ("s = fnmap", "s = fnmap.Session(workers=1)"):
        env = os.environ | {"FNMAP_SCRATCH": str(tmp_path / "scratch")}
        script = start(code.format(session), env=env)
        assert script.communicate()[0] == "500000\n"
        assert list((tmp_path / "scratch").iterdir()) == []


def test_threads_of_a_closed_session_are_gone():
    import itertools

    before = set(threading.enumerate())
    session = fnmap.Session(workers=1)
    run = session.map(abs, itertools.count(), buffersize=5)
    next(iter(run))
    session.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before


def test_calls_that_wait_in_line_end_with_their_session(gate):
    session, here = fnmap.Session(workers=1), gate.path
    list(session.map(abs, range(4)))
    run = session.map(lambda x: wait_at(here) if x == 9 else x, range(60), chunksize=1)
    assert run[8] == 8
    session.close()
    with pytest.raises(RunError, match="closed"):
        list(run)


def test_whoever_hears_of_a_result_may_close_the_session():
    session = fnmap.Session(workers=2)
    futures = [session.submit(abs, x) for x in range(20)]
    thread = session.compute._thread
    futures[0].add_done_callback(lambda _: session.close())
    assert all(future.exception() is None or "closed" in str(future.exception()) for future in futures)
    thread.join(5)
    assert not thread.is_alive()


def test_a_session_that_was_never_used_leaves_no_file_open():
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(10):
        fnmap.Session(workers=2).close()
    assert len([*Path("/proc/self/fd").iterdir()]) < before + 10


def test_who_hears_that_a_call_is_withdrawn_may_wait_for_another_thread(gate):
    session, here = fnmap.Session(workers=1), gate.path
    run = session.map(lambda x: wait_at(here) if x == 9 else x, range(60), chunksize=1)
    assert run[8] == 8
    asked = []
    waiting = [future for _, future in list(run.ledger.stage.running.values())]

    def ask(_):
        thread = threading.Thread(target=session.compute.pids)
        thread.start()
        thread.join(3)
        asked.append(not thread.is_alive())

    for future in waiting:
        future.add_done_callback(ask)
    run.cancel()
    session.close()
    assert all(asked)
    assert len(asked) == len(waiting) > 1
