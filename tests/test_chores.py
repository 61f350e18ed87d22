"""Work that nobody waits for."""

from __future__ import annotations

import subprocess
import sys
import threading

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
