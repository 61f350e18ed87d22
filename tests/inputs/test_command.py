"""A program as a function: what it is given, what it gives back, and what becomes of a wrong one."""

from __future__ import annotations

import pickle
import shutil
import struct
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fnmap
from fnmap.errors import CommandFailed, CommandTimeout, UsageError
from fnmap.inputs import Stored
from fnmap.storage.files import FileStore


def left_in(scratch: Path) -> list[str]:
    """What is there of calls: the files that a command took along stay as long as the process."""
    return [p.name for p in scratch.glob("fnmap-folders-*/*") if (p / "work").exists()]


def test_an_item_fills_in_the_words_and_the_program_runs_in_a_worker(local, program):
    add = fnmap.command(program("echo $(($1 + $2))") + " {a} {b}")
    items = [{"a": i, "b": 10} for i in range(5)]
    assert list(local.map(add, items)) == [f"{i + 10}\n" for i in range(5)]


@pytest.mark.parametrize(
    "call", [((7, "x"), {}), ((), {"n": 7, "t": "x"}), ((7,), {"t": "x"}), (({"n": 7, "t": "x"},), {})]
)
def test_arguments_go_by_name_or_in_order(program, call):
    args, kwargs = call
    assert fnmap.command(program('echo "$@"') + " {n:03d} {t}")(*args, **kwargs) == "007 x\n"


def test_a_word_stays_one_word_and_no_shell_reads_it(program):
    say = fnmap.command(program('for word; do echo "[$word]"; done') + " 'a b' --to={x} {{y}}")
    assert say("$(boom); c") == "[a b]\n[--to=$(boom); c]\n[{y}]\n"


def test_bytes_paths_and_objects_of_a_store_are_files_to_the_program(program, tmp_path):
    (tmp_path / "track").write_bytes(b"from a path")
    FileStore(tmp_path / "store").put("a/track", b"from a store")
    read = fnmap.command(program("echo ${1##*.}; cat $1") + " {track:.csv}")
    assert read(b"from bytes") == "csv\nfrom bytes"
    assert read(Stored(str(tmp_path / "store"), "a/track")) == "csv\nfrom a store"
    assert fnmap.command("cat {track}")(tmp_path / "track") == "from a path"
    assert fnmap.command("cat {track}")(Path("../track")) == "from a path"


@pytest.mark.parametrize("given", [b"text", "text", Path("deck"), Stored("store", "deck")])
def test_standard_input_is_one_of_the_arguments(here, given):
    (here / "deck").write_text("text")
    FileStore("store").put("deck", b"text")
    assert fnmap.command("cat", stdin="deck")(given) == "text"


def test_standard_input_is_empty_unless_it_is_given():
    assert fnmap.command("cat")() == ""


def test_one_output_is_the_result_and_several_are_a_dict(program):
    make = program("printf one > $1; printf two > plain; echo three; echo four >&2") + " {out}"
    assert fnmap.command(make, outputs={"out": "bytes"})() == b"one"
    both = fnmap.command(make, outputs={"out": "bytes", "plain": "text", "stdout": "text", "stderr": "bytes"})
    assert both() == {"out": b"one", "plain": "two", "stdout": "three\n", "stderr": b"four\n"}


def test_a_parquet_file_comes_home_as_a_table(here):
    pq.write_table(pa.table({"x": [1, 2]}), here / "in.parquet")
    copy = fnmap.command("cp in.parquet {out:.parquet}", files=["in.parquet"], outputs={"out": "table"})
    assert copy().to_pydict() == {"x": [1, 2]}


def test_outputs_are_moved_to_paths_or_kept_in_a_store(session, tmp_path, program):
    write = program("printf $1 > $2; printf $1 > kept") + " {event} {out}"
    outputs = {"out": tmp_path / "maps/{event:02d}.txt", "kept": Stored(str(tmp_path / "store"), "foot/{event}")}
    results = list(session.map(fnmap.command(write, outputs=outputs), [{"event": 1}, {"event": 2}]))
    assert [r["out"].read_text() for r in results] == ["1", "2"]
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["01.txt", "02.txt"]
    assert [bytes(r["kept"].view()) for r in results] == [b"1", b"2"]


def test_what_one_program_has_kept_is_a_file_to_the_next(local, tmp_path):
    keep = fnmap.command("cp {a} {out}", outputs={"out": Stored(str(tmp_path / "store"), "x/{n}")})
    with fnmap.plan() as plan:
        kept = plan.map(lambda n: keep(a=str(n).encode(), n=n), range(3), name="keep")
        plan.map(fnmap.command("cat {a}"), kept)
    run = local.run_plan(plan)
    assert (list(run["cat"]), plan.stages[1].name) == (["0", "1", "2"], "cat")


def test_the_environment_is_added_to_and_filled_in(monkeypatch, program):
    monkeypatch.setenv("KEPT", "kept")
    say = fnmap.command(program("echo $KEPT $SEED $1") + " {n}", env={"SEED": "s{n}{more}"})
    assert say(n=1, more="x") == "kept s1x 1\n"


def test_files_go_along_with_their_run_bits_and_folders_whole(session, here, program):
    (here / "data").mkdir()
    (here / "data/a.txt").write_text("A")
    program("cat data/a.txt $1", name="helper")
    main = program("./helper b.txt; test -w b.txt -o -x b.txt || echo read only", name="main")
    run = fnmap.command(main, files={"data": "data", "helper": here / "helper", "b.txt": b"B"})
    shutil.rmtree(here / "data")
    for left in here.iterdir():
        left.unlink()
    if not is_root():
        assert session.submit(run).result() == "ABread only\n"
    assert session.submit(run).result().startswith("AB")


def is_root() -> bool:
    import os

    return os.getuid() == 0


def test_a_program_may_be_given_as_bytes():
    assert fnmap.command("./run {x}", files={"run": b'#!/bin/sh\necho "got $1"\n'})(5) == "got 5\n"


def test_a_compiled_program_runs(session, here):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler here")
    (here / "twice.c").write_text('#include <stdio.h>\nint main(void){int n;scanf("%d",&n);printf("%d",2*n);return 0;}')
    subprocess.run(["cc", "-o", "twice", "twice.c"], check=True)
    assert list(session.map(fnmap.command("./twice", stdin="n"), [1, 21])) == ["2", "42"]


def test_a_failure_says_exit_code_and_what_was_complained_of(session, program):
    fail = fnmap.command(program("echo said; echo 'no such storm' >&2; exit $1") + " {code}")
    fine, bad = session.map(fail, [0, 3], errors="return")
    error = bad.exception
    assert fine == "said\n"
    assert type(error) is CommandFailed
    assert str(error) == "./program 3: exit code 3\nno such storm"
    assert (error.returncode, error.stdout, error.stderr) == (3, "said\n", "no such storm\n")


def test_only_the_tail_of_a_flood_is_kept(program):
    flood = fnmap.command(program("seq 100000 >&2; exit 1"))
    with pytest.raises(CommandFailed) as caught:
        flood()
    assert caught.value.stderr.endswith("\n99999\n100000\n")
    assert len(caught.value.stderr) <= 8 << 10
    assert len(str(caught.value).splitlines()) == 21


def test_a_signal_is_named(program):
    with pytest.raises(CommandFailed, match="killed by SIGSEGV") as caught:
        fnmap.command(program("kill -SEGV $$"))()
    assert caught.value.returncode == -11


def test_a_program_that_writes_nothing_has_failed(program):
    with pytest.raises(CommandFailed, match=r"wrote no file 'out'; there are \['other'\]\nwhat a pity") as caught:
        fnmap.command(program("touch other; echo what a pity >&2") + " {out}", outputs={"out": "bytes"})()
    assert caught.value.returncode == 0


def test_what_it_prints_beside_its_result_is_shown(program, capsys):
    fnmap.command(program("echo hello; printf warning >&2; touch out"), outputs={"out": "bytes"})()
    assert capsys.readouterr() == ("hello\n", "warning\n")


def test_the_scratch_directory_goes_whatever_happens(program, scratch):
    leave = program("mkdir -p d/e; touch d/e/f; chmod 500 d; exit $1") + " {code}"
    run = fnmap.command(leave, outputs={"d/e/f": "bytes"})
    assert run(0) == b""
    with pytest.raises(CommandFailed):
        run(1)
    assert left_in(scratch) == []


def test_a_limit_kills_the_program_and_what_it_has_started(program, begun, scratch, monkeypatch):
    from gates import gone

    hang = program('tail -f /dev/null & echo "$! $$" > $1; wait') + " {begun}"
    with pytest.raises(CommandTimeout, match=r"ran over its limit of 0\.2 s") as caught:
        fnmap.command(hang, timeout_s=0.2)(begun.path)
    assert isinstance(caught.value, TimeoutError)
    assert all(gone(int(pid)) for pid in begun.heard()[0].split())
    assert left_in(scratch) == []


def test_what_a_program_leaves_running_is_killed_when_it_ends(program, begun):
    from gates import gone

    fnmap.command(program("tail -f /dev/null & echo $! > $1") + " {begun}")(begun.path)
    assert gone(int(begun.heard()[0]))


def test_a_program_for_another_machine_is_told_from_a_broken_one(here):
    elf = bytearray(Path(shutil.which("true")).resolve().read_bytes())
    struct.pack_into("<H", elf, 18, 22)
    with pytest.raises(CommandFailed, match=r"run is a program for s390x, and this worker is .*: compile it for that"):
        fnmap.command("./run", files={"run": bytes(elf)})()
    with pytest.raises(CommandFailed, match="neither a program of this machine nor a script that begins with #!"):
        fnmap.command("./run", files={"run": b"\x7fELFrubbish"})()
    with pytest.raises(CommandFailed, match="interpreter that it names is not on this machine"):
        fnmap.command("./run", files={"run": b"#!/no/such/shell\n"})()
    with pytest.raises(CommandFailed, match="there is no such program on this machine"):
        fnmap.command("no-such-program")()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "its template is empty"),
        ((5,), "a command is a text"),
        (("cat 'x",), "No closing quotation"),
        (("cat {x",), "a brace that is meant is written twice"),
        (("cat {0}",), "must be a plain name"),
        (("cat {x.y}",), "must be a plain name"),
        (("cat {x:a} {x:b}", {"outputs": {"x": "bytes"}}), "the file {x} stands there with the suffixes"),
        (("{program} x",), "the program itself cannot be filled in"),
        (("./absent",), r"the program './absent' cannot be read: No such file"),
        (("./plain",), r"may not be run: chmod \+x ./plain"),
        (("./plain", {"files": ["plain"]}), r"may not be run: chmod \+x plain"),
        (("cat", {"files": ["absent"]}), "the file 'absent' cannot be read"),
        (("cat", {"files": ["plain", "./plain"]}), "two of them are called 'plain'"),
        (("cat", {"files": {"../x": b""}}), "must be a name below the working directory"),
        (("cat", {"files": [5]}), "files must be paths"),
        (("cat {plain}", {"files": ["plain"]}), "have one name; choose others"),
        (("cat", {"outputs": {}}), "outputs must be a dict"),
        (("cat", {"outputs": {"out": "parquet"}}), "must be one of"),
        (("cat", {"outputs": {"/etc/x": "bytes"}}), "must be a name of the template or of a file"),
        (("cat", {"env": {"X": None}}), "env must have texts"),
        (("cat", {"timeout_s": 0}), "timeout_s must be a number > 0"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_refused_when_it_is_made(here, arguments, message):
    (here / "plain").write_text("no program")
    template, *options = arguments
    with pytest.raises(UsageError, match=message):
        fnmap.command(template, **(options[0] if options else {}))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), r"lacks \['a', 'b'\]"),
        (({"a": 1},), r"lacks \['b'\]"),
        (({"a": 1, "b": 2, "c": 3},), r"does not know \['c'\]"),
        ((1, 2, 3), "has 2 arguments to fill in"),
        ((None, 2), "argument 'a' is a NoneType"),
        (("x", 2), "cannot be filled in"),
    ],
)
def test_a_wrong_item_is_named(args, message):
    with pytest.raises(UsageError, match=message):
        fnmap.command("echo {a:d} {b}")(*args)


def test_a_missing_file_of_an_argument_is_the_programs_to_tell(here):
    with pytest.raises(CommandFailed, match="there is no file 'absent' on this machine"):
        fnmap.command("cat", stdin="x")(Path("absent"))


def test_a_large_program_is_stored_beside_the_pickle(here):
    from fnmap.format.payload import Ref, dump, load
    from fnmap.format.travel import whole

    stored = []
    run = fnmap.command("cat big", files={"big": bytes(3 << 20)})
    frames = dump(run, whole, lambda raw: (stored.append(raw), Ref("key"))[1] if raw.nbytes >= 1 << 20 else None)
    assert [raw.nbytes for raw in stored] == [3 << 20]
    assert len(frames[0]) < 2000
    again = load(frames, lambda key: stored[0])
    assert again().encode() == bytes(3 << 20)
    assert pickle.loads(pickle.dumps(run))().encode() == bytes(3 << 20)


def test_its_files_are_laid_down_once_a_process(scratch):
    run = fnmap.command("readlink data", files={"data": b"x"})
    assert run() == run() == pickle.loads(pickle.dumps(run))()
