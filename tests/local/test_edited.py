"""Modules that a function imports inside its body: an edit is seen by the next run, and by no earlier one."""

from __future__ import annotations

import os

import pytest
from gates import say_at, wait_at

import fnmap


@pytest.fixture
def far(tmp_path, monkeypatch):
    """A session with one worker, which finds modules in the folder of the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    with fnmap.Session(workers=1) as session:
        yield session


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str, *, old: bool = False) -> None:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        if old:
            os.utime(path, (1e9, 1e9))

    return write


def constant(x):
    import helpers

    return helpers.K


def test_an_edit_is_seen_by_the_next_run(far, write):
    for k in (1, 2, 3):  # within one second and of one size, which Python's own cache does not tell apart
        write("helpers", f"K = {k}")
        assert list(far.map(constant, [0])) == [k]
        assert far.submit(constant, 0).result() == k


def test_so_is_one_of_a_module_that_it_imports_in_its_turn(far, write):
    write("helpers", "from deeper import K")
    for k in (1, 2):
        write("deeper", f"K = {k}")
        assert list(far.map(constant, [0])) == [k]


def test_so_is_one_of_a_module_in_a_package_without_an_init(far, write):
    def use(x):
        from loose import part

        return part.K

    for k in (1, 2):
        write("loose.part", f"K = {k}")
        assert list(far.map(use, [0])) == [k]


def test_so_is_an_edit_that_was_made_while_the_call_ran(far, write, gate, begun):
    pipe, here = gate.path, begun.path

    def use(x):
        k = constant(x)
        say_at(here)
        wait_at(pipe)
        return k

    write("helpers", "K = 1")
    run = far.map(use, [0])
    begun.heard()
    write("helpers", "K = 2")
    gate.open()
    assert list(run) == [1]
    assert list(far.map(constant, [0])) == [2]


def test_one_run_sees_one_state(far, write, gate, begun):
    pipe, here = gate.path, begun.path

    def use(x):
        say_at(here)
        wait_at(pipe)
        return constant(x)

    write("helpers", "K = 1")
    run = far.map(use, range(2), chunksize=1)
    begun.heard()
    gate.open()
    begun.heard()
    write("helpers", "K = 2")
    gate.open()
    assert list(run) == [1, 1]


def test_a_module_that_was_not_edited_keeps_what_it_holds(far, write):
    def count(x):
        import counter

        counter.n += 1
        return counter.n

    write("counter", "n = 0", old=True)
    assert [far.submit(count, 0).result() for _ in range(3)] == [1, 2, 3]


def test_a_module_that_would_be_imported_at_the_first_touch_is_left_alone(far, write):
    def lazy(x):
        import importlib.util as iu
        import sys

        spec = iu.find_spec("broken")
        loader = spec.loader = iu.LazyLoader(spec.loader)
        sys.modules["broken"] = module = iu.module_from_spec(spec)
        loader.exec_module(module)

    write("broken", "raise ValueError")
    assert (list(far.map(lazy, [0])), list(far.map(abs, [-1]))) == ([None], [1])


def test_a_module_that_is_gone_is_missed(far, write, tmp_path):
    write("helpers", "K = 1")
    assert list(far.map(constant, [0])) == [1]
    (tmp_path / "helpers.py").unlink()
    with pytest.raises(ModuleNotFoundError):
        list(far.map(constant, [0]))
