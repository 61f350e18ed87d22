"""The alarm clock of a session."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from queue import SimpleQueue

import pytest

import fnmap
from fnmap.alarm import Alarm

SOON_S = 10  # what must happen at once has this long


def watchers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "fnmap-alarm"}


@pytest.fixture
def alarm():
    alarm = Alarm()
    yield alarm
    alarm.close()


@pytest.fixture
def heard() -> SimpleQueue[object]:
    return SimpleQueue()


def test_it_rings_once_from_a_thread_of_its_own(alarm, heard):
    alarm.set(0.0, lambda: heard.put(threading.current_thread()))
    assert heard.get(timeout=SOON_S) in watchers()
    alarm.set(0.0, lambda: heard.put("next"))
    assert (heard.get(timeout=SOON_S), heard.empty()) == ("next", True)


@pytest.mark.parametrize("far", [1e6, 1e300, float("inf")], ids=str)
def test_the_earliest_time_rings_whatever_was_set_before(alarm, heard, far):
    alarm.set(far, lambda: heard.put("far"))
    alarm.set(0.0, lambda: heard.put("near"))
    assert heard.get(timeout=SOON_S) == "near"


def test_a_later_time_does_not_put_an_earlier_one_off(alarm, heard):
    alarm.set(time.monotonic() + 0.01, lambda: heard.put("near"))
    alarm.set(1e9, lambda: heard.put("far"))
    assert heard.get(timeout=SOON_S) == "near"


def test_it_does_not_ring_early(alarm, heard):
    at = time.monotonic() + 0.02
    alarm.set(at, lambda: heard.put(time.monotonic()))
    assert heard.get(timeout=SOON_S) >= at


def test_one_thread_serves_all_times(alarm, heard):
    threads = set()
    for _ in range(3):
        alarm.set(0.0, lambda: heard.put(threading.get_ident()))
        threads.add(heard.get(timeout=SOON_S))
    assert len(threads) == 1


@pytest.mark.parametrize("end", [lambda held: held[0].close(), list.clear], ids=["closed", "garbage"])
def test_its_thread_ends_with_it(end):
    before, held = watchers(), [Alarm()]
    held[0].start()
    (watcher,) = watchers() - before
    end(held)
    watcher.join(SOON_S)
    assert not watcher.is_alive()


def test_it_lets_go_of_what_it_has_called(alarm, heard):
    class Listener:
        def ring(self):
            heard.put("rung")

    listener = Listener()
    alarm.set(0.0, listener.ring)
    heard.get(timeout=SOON_S)
    alarm.set(0.0, lambda: heard.put("after"))
    heard.get(timeout=SOON_S)
    gone = weakref.ref(listener)
    del listener
    assert gone() is None


def test_a_session_has_such_a_thread_only_if_something_may_be_tried_again():
    before = watchers()
    with fnmap.Session(on="inline") as session:
        assert list(session.map(abs, [1])) == [1]
        assert not watchers() - before
        assert list(session.map(abs, [1], retries=1)) == [1]
        assert list(session.map(abs, [1], retries=1)) == [1]
        (watcher,) = watchers() - before
    watcher.join(SOON_S)
    assert not watcher.is_alive()


def test_the_thread_of_a_session_that_is_garbage_ends():
    before, session = watchers(), fnmap.Session(on="inline")
    assert list(session.map(abs, [1], retries=1)) == [1]
    (watcher,) = watchers() - before
    del session
    gc.collect()
    watcher.join(SOON_S)
    assert not watcher.is_alive()


def test_a_session_nobody_holds_goes_on_while_a_retry_waits(tmp_path, heard):
    def need(path):
        if not path.exists():
            path.touch()
            raise ValueError("not yet")
        heard.put("done")

    fnmap.Session(on="inline").map(need, [tmp_path / "tried"], retries=fnmap.Retry(1, backoff_s=0.01))
    gc.collect()
    assert heard.get(timeout=SOON_S) == "done"
