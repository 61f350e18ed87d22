"""Results that are instances of the user's own classes: of those very classes, whoever reads them, whenever."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULE = """
from dataclasses import dataclass
from typing import NamedTuple

@dataclass(frozen=True)
class Data:
    x: int

class Row(NamedTuple):
    x: int

class Plain:
    def __init__(self, x):
        self.x = x

    class Inner:
        def __init__(self, x):
            self.x = x

KINDS = [Data, Row, Plain, Plain.Inner]

def data(x): return Data(x)
def row(x): return Row(x)
def plain(x): return Plain(x)
def inner(x): return Plain.Inner(x)
def known(x, again): return isinstance(x, tuple(KINDS))

MADE = [data, row, plain, inner]
"""

CHECK = """
import os
import sys
import fnmap

def told(own, made, kinds, known):
    with fnmap.Session(on=sys.argv[1], store=sys.argv[2], progress=False) as session:
        for fn, kind in zip(made, kinds):
            assert type(list(session.map(fn, [1], cache=True))[0]) is kind, ("cached", kind)
            assert type(list(session.map(fn, [1], name=f"{own}-{kind.__name__}"))[0]) is kind, ("named", kind)
            assert type(session.attach(f"{own}-{kind.__name__}")[0]) is kind, ("attached", kind)
            plan = fnmap.plan("two")
            plan.map(known, plan.map(fn, [1]), kwargs={"again": os.getpid()})
            run = session.run_plan(plan, cache=True)
            assert list(run.last) == [True], ("as an argument", kind)
"""

AS_MODULE = "import mine\n" + CHECK + "told('module', mine.MADE, mine.KINDS, mine.known)\nprint('fine')\n"
AS_MAIN = MODULE + CHECK + "told('main', MADE, KINDS, known)\nprint('fine')\n"


@pytest.fixture
def folder(tmp_path):
    """A program with a module of its own."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "as_module.py").write_text(AS_MODULE)
    (tmp_path / "as_main.py").write_text(AS_MAIN)
    return tmp_path


def run(folder, program, on="local"):
    words = [sys.executable, str(folder / f"{program}.py"), on, str(folder / "store")]
    done = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, cwd="/", check=False)
    assert done.stdout == "fine\n", done.stderr[-2000:]


@pytest.mark.parametrize("program", ["as_module", "as_main"])
def test_results_are_of_the_readers_classes_fresh_and_from_the_cache_and_in_another_process(program, folder):
    for _ in range(2):
        run(folder, program)


def test_what_workers_have_made_is_read_without_workers_and_the_other_way_round(folder):
    run(folder, "as_main", "inline")
    run(folder, "as_main", "local")
    run(folder, "as_main", "inline")


def test_a_program_without_that_class_reads_what_was_written(folder):
    """Nor does it take another class of that name for it."""
    run(folder, "as_main")
    other = (
        "import sys, fnmap\n"
        "class Data:\n    y: str\n"
        "with fnmap.Session(on='inline', store=sys.argv[2], progress=False) as session:\n"
        "    one, two = session.attach('main-Data')[0], session.attach('main-Plain')[0]\n"
        "assert (one.x, two.x) == (1, 1) and type(one) is not Data\n"
        "print('fine')\n"
    )
    (folder / "other.py").write_text(other)
    run(folder, "other")
