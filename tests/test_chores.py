"""Work that nobody waits for."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from gates import Gate, wait_at

import fnmap
from fnmap.chores import Chores
from fnmap.lease import read_end
from fnmap.storage.files import FileStore


def test_all_are_done_once_in_order_though_one_fails(caplog):
    done = []
    chores = Chores()
    for chore in (lambda: done.append(1), lambda: 1 / 0, lambda: done.append(2)):
        chores.add(chore)
    assert chores
    chores.do()
    assert (done, bool(chores)) == ([1, 2], False)
    assert "ZeroDivisionError" in caplog.text


def test_one_that_adds_another_is_followed_by_it():
    done = []
    chores = Chores()
    chores.add(lambda: chores.add(lambda: done.append(1)))
    chores.do()
    assert done == [1]


def test_a_run_that_nobody_waits_for_any_more_is_written_down_as_done(tmp_path, monkeypatch):
    """By the compute's thread, when it has nothing else to do."""
    store, written, put = FileStore(tmp_path), threading.Event(), FileStore.put

    def told(self, key, body):
        put(self, key, body)
        if "/end" in key:
            written.set()

    monkeypatch.setattr(FileStore, "put", told)
    with fnmap.Session(workers=1, store=store) as session:
        assert list(session.map(abs, [-1], name="n")) == [1]
        assert written.wait(20)
    assert read_end(store, "n", 0)["state"] == "done"


def test_a_program_that_ends_at_once_has_written_down_what_became_of_its_run(tmp_path):
    code = f"import fnmap; print(list(fnmap.map(abs, [-1], name='n', store={str(tmp_path)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[1]\n"
    assert read_end(FileStore(tmp_path), "n", 0)["state"] == "done"


@pytest.mark.parametrize(
    ("fn", "items", "state"),
    [(abs, iter([-1, 2]), "done"), (len, [3], "done"), (abs, [-1], None)],
    ids=["of an iterator", "with a failure", "complete, of a list"],
)
def test_only_what_attach_can_count_is_written_down_later(tmp_path, monkeypatch, fn, items, state):
    """What is put off is done by `do`, which does nothing here."""
    with fnmap.Session(workers=1, store=tmp_path) as session:
        with monkeypatch.context() as patched:
            patched.setattr(Chores, "do", lambda _: None)
            run = session.map(fn, items, name="n", errors="return")
            list(run)
            assert run.wait(20 if state else 0) is (state is not None)
            end = read_end(session.store, "n", 0)
        assert (end and end["state"]) == state


def test_who_waits_for_a_while_only_does_no_chore_that_may_take_longer(tmp_path):
    gate, did = Gate(tmp_path / "gate"), []
    with fnmap.Session(workers=1, store=tmp_path / "store") as session:
        run = session.map(wait_at, [gate.path], name="n")
        session.chores.add(lambda: did.append(threading.current_thread()))
        assert run.wait(0.01) is False
        assert threading.current_thread() not in did  # the compute's own thread may have had the time
        gate.open()
        assert list(run) == [None]
    assert len(did) == 1


def test_a_forked_child_waits_for_no_word_that_its_parent_gives(tmp_path):
    code = f"""
import os, fnmap
from fnmap.chores import Chores
do, Chores.do = Chores.do, lambda chores: None
session = fnmap.Session(workers=1, store={str(tmp_path)!r})
run = session.map(abs, [-1], name="n")
assert list(run) == [1]
while not session.chores: pass
child = os.fork()
if child == 0:
    assert not session.chores
    run.finish()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
Chores.do = do
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert read_end(FileStore(tmp_path), "n", 0)["state"] == "done"
