"""The rate at which a store is asked, in virtual time."""

from __future__ import annotations

import heapq
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnmap.errors import StoreThrottled
from fnmap.storage.memory import MemoryStore
from fnmap.storage.pace import DEAF_S, FREE, LEAST, Pace
from fnmap.storage.retrying import Retrying

steps = st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), min_size=1, max_size=200)


def served(capacity, clients, seconds):
    """Clients that ask again 20 ms after an answer, of a server that takes so many requests a second: how many it took
    and refused."""
    pace, fared, in_second = Pace(), Counter(), Counter()
    asks = [(0.001 * n, n, False) for n in range(clients)]
    while asks[0][0] < seconds:
        now, who, has_turn = heapq.heappop(asks)
        if not has_turn and (wait := pace.wait_s(now)):
            heapq.heappush(asks, (now + wait, who, True))
            continue
        in_second[int(now)] += 1
        taken = in_second[int(now)] <= capacity
        fared[taken] += 1
        if not taken:
            pace.slowed(now)
        heapq.heappush(asks, (now + 0.02, who, False))
    return fared[True], fared[False]


def test_without_a_complaint_nobody_waits():
    pace = Pace()
    assert [pace.wait_s(n / 1000) for n in range(5000)] == [0.0] * 5000
    assert pace.rate(5.0) is None


def test_a_complaint_cuts_the_rate_to_less_than_was_asked():
    pace = Pace()
    for n in range(1000):
        pace.wait_s(n / 100)  # 100 a second
    pace.slowed(10.0)
    assert 50 < pace.rate(10.0) < 80
    turns = [10.0 + pace.wait_s(10.0) for _ in range(10)]
    assert turns == pytest.approx([10.0 + n / pace.rate(10.0) for n in range(10)])


def test_the_complaints_of_one_moment_count_once():
    pace = Pace()
    for n in range(1000):
        pace.wait_s(n / 100)
    for n in range(20):
        pace.slowed(10.0 + n * DEAF_S / 21)
    assert pace.rate(10.0 + DEAF_S) > 50


def test_the_rate_recovers_and_is_given_up():
    pace = Pace()
    for n in range(1000):
        pace.wait_s(n / 100)
    pace.slowed(10.0)
    rates = [pace.rate(10.0 + s) for s in range(40)]
    limited = [rate for rate in rates if rate is not None]
    assert limited == sorted(limited)
    assert limited[-1] < FREE * 110
    assert rates[-1] is None


@given(steps)
def test_the_rate_is_never_nothing_and_turns_never_go_back(steps):
    pace, now, last = Pace(), 0.0, 0.0
    for passed, slow in steps:
        now += passed
        if slow:
            pace.slowed(now)
        wait = pace.wait_s(now)
        assert wait >= 0
        if wait:
            assert now + wait >= last
            last = now + wait
        rate = pace.rate(now)
        assert rate is None or rate >= LEAST


@given(steps)
def test_it_recovers_from_whatever_happened(steps):
    pace, now = Pace(), 0.0
    for passed, slow in steps:
        now += passed
        pace.wait_s(now)
        if slow:
            pace.slowed(now)
    assert pace.rate(now + 60) is None


def test_most_of_what_a_server_takes_is_used_and_few_requests_are_refused():
    took, refused = served(capacity=100, clients=32, seconds=60)
    assert took > 0.6 * 100 * 60
    assert refused < 0.1 * took


def test_waiting_clients_share_a_pace_that_falls_and_rises():
    pace, slept, clock = Pace(), [], [0.0]

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    class Throttled(MemoryStore):
        left = 3

        def put(self, key, body):
            if self.left:
                self.left -= 1
                raise StoreThrottled("slow down")
            super().put(key, body)

    store = Retrying(Throttled(), sleep=sleep, pace=pace, now=lambda: clock[0])
    store.put("a", b"")
    assert pace.rate(clock[0]) is not None
    assert len(slept) >= 3
    clock[0] += 60
    before = len(slept)
    store.put("a", b"")
    assert len(slept) == before
