"""Programs in runs: cached by content, and dead when their worker, their client or their time is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from gates import gone

import fnmap
from fnmap.errors import TaskTimeout


@pytest.fixture
def kept(tmp_path):
    with fnmap.Session(on="inline", store=tmp_path / "store") as session:
        yield session


@pytest.fixture
def local():
    """Workers that have seen no other scratch directory."""
    with fnmap.Session(workers=1) as session:
        yield session


def ran(run) -> int:
    run.wait()
    return len(run) - run.report()["cached"]


def test_the_cache_knows_a_program_by_its_content(kept, program):
    def run(text="echo $1", name="program", template=" {x}", **options):
        return ran(kept.map(fnmap.command(program(text, name) + template, **options), range(3), cache=True))

    assert run() == 3
    assert run() == 0
    assert run("echo $1 again") == 3
    assert run() == 0
    assert run(template=" -v {x}") == 3
    assert run(env={"SEED": "1"}) == 3
    assert run(files={"data": b"1"}) == 3
    assert run(files={"data": b"2"}) == 3
    assert run(files={"data": b"1"}) == 0


def test_where_a_program_lies_does_not_matter_to_the_cache(kept, here, program):
    (here / "other").mkdir()
    assert ran(kept.map(fnmap.command(program("echo $1") + " {x}"), range(3), cache=True)) == 3
    program("echo $1", name="other/program")
    assert ran(kept.map(fnmap.command("other/program {x}"), range(3), cache=True)) == 0


def test_bytes_are_known_by_content_and_stored_objects_by_name(kept, tmp_path):
    read = fnmap.command("cat {x}")
    stored = [fnmap.inputs.Stored(str(tmp_path / "store"), key) for key in ("a", "b")]
    for one in stored:
        one.write(b"1")
    assert ran(kept.map(read, [b"1", b"2"], cache=True)) == 2
    assert ran(kept.map(read, [bytes([49]), b"3"], cache=True)) == 1
    assert ran(kept.map(read, stored, cache=True)) == 2
    assert ran(kept.map(read, stored, cache=True)) == 0


def test_a_named_run_of_a_program_is_kept_and_taken_up(kept, program, tmp_path):
    say = program('test $1 -lt 2 -o -e "$2" || exit 1; echo $1') + " {x} {go}"
    items = [{"x": x, "go": str(tmp_path / "go")} for x in range(3)]
    assert len(kept.map(fnmap.command(say), items, name="say", errors="skip").errors) == 1
    (tmp_path / "go").touch()
    assert list(kept.map(fnmap.command(say), items, name="say", errors="skip")) == ["0\n", "1\n", "2\n"]


def test_a_task_over_its_time_is_killed_with_all_that_its_program_started(local, program, begun, scratch):
    hang = fnmap.command(program('tail -f /dev/null & echo "$! $$" > $1; wait') + " {begun}")
    with pytest.raises(TaskTimeout):
        list(local.map(hang, [begun.path], timeout=0.3))
    assert all(gone(int(pid)) for pid in begun.heard()[0].split())
    assert list(local.map(abs, [-1])) == [1]
    assert not [p for p in scratch.glob("fnmap-folders-*/*") if (p / "work").exists()]


def test_a_killed_worker_takes_its_program_along_and_leaves_no_directory(local, program, gate, begun, scratch):
    wait = program(
        'if test -e "$3"; then echo done; exit; fi; touch $3; tail -f /dev/null & echo "$! $$ $PPID" > $1; wait'
    )
    run = local.map(fnmap.command(wait + " {begun} x {mark}"), [{"begun": begun.path, "mark": str(scratch / "mark")}])
    child, leader, worker = map(int, begun.heard()[0].split())
    os.kill(worker, signal.SIGKILL)
    assert gone(leader)
    assert gone(child)
    assert list(run) == ["done\n"]
    assert not [p for p in scratch.glob("fnmap-folders-*/*") if f".{worker}." in p.name]


def test_a_killed_client_takes_programs_along(start, program, begun):
    path = program('tail -f /dev/null & echo "$! $$" > $1; wait')
    client = start(
        "import fnmap, sys\nlist(fnmap.map(fnmap.command(sys.argv[1] + ' {x}'), sys.argv[2:], progress=False))",
        path,
        begun.path,
    )
    pids = [int(pid) for pid in begun.heard()[0].split()]
    client.kill()
    assert all(gone(pid) for pid in pids)


def wait_until_it_would_die_with(client):
    """The kernel is told right after the start of a program whom it shall not outlive."""
    asks = Path(f"/proc/{client.pid}/fdinfo")
    until = time.monotonic() + 10
    while not any(int(file.read_text().split()[3], 8) & os.O_ASYNC for file in asks.iterdir()):
        assert time.monotonic() < until


def test_what_a_killed_process_has_left_is_removed_by_the_next(start, program, begun, scratch):
    path = program('echo "$$" > $1; tail -f /dev/null')
    client = start("import fnmap, sys\nfnmap.command(sys.argv[1] + ' {x}')(sys.argv[2])", path, begun.path)
    leader = int(begun.heard()[0])
    wait_until_it_would_die_with(client)
    client.kill()
    assert gone(leader)
    client.wait()
    assert [p for p in scratch.glob("fnmap-folders-*/*") if (p / "work").exists()]
    assert fnmap.command("echo next")() == "next\n"
    assert not [p for p in scratch.glob("fnmap-folders-*/*") if f".{client.pid}." in p.name]


def test_programs_travel_to_lithops(program):
    pytest.importorskip("lithops", reason='Lithops is an extra: pip install "fnmap[lithops]"')
    with fnmap.Session(on="lithops", workers=1) as session:
        run = session.map(fnmap.command(program("cat $1 $2") + " {a} big", files={"big": b"b" * (2 << 20)}), [b"x"])
        assert list(run) == ["x" + "b" * (2 << 20)]
