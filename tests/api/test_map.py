"""map and starmap: what comes back, of whatever goes in."""

from __future__ import annotations

import datetime
import functools
import operator
import threading
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from gates import say_at, wait_at

import fnmap


def test_a_map_gives_what_the_builtin_gives(session):
    assert list(session.map(abs, [1, -2, 3])) == [1, 2, 3]


def test_several_iterables_give_several_arguments(session):
    assert list(session.map(pow, [2, 3], (3, 2))) == [8, 9]


def test_an_item_is_never_unpacked(session):
    assert list(session.map(type, [(1, 2), [3], {"a": 4}])) == [tuple, list, dict]


def test_starmap_unpacks_each_item(session):
    assert list(session.starmap(pow, [(2, 3), [3, 2]])) == [8, 9]


def test_keywords_of_the_function_never_collide_with_options(session):
    def join(x, *, timeout, name):
        return f"{x}{timeout}{name}"

    assert list(session.map(join, "ab", kwargs={"timeout": 1, "name": 2})) == ["a12", "b12"]


@pytest.mark.parametrize(
    "items",
    [
        range(3), (1, 2), {"a": 1, "b": 2}, {3}, "abc", b"abc", np.arange(3), np.eye(2), pd.Series([1.5, 2.5]),
        pd.DataFrame({"a": [1], "b": [2]}), {"a": 1}.items(), Counter("aab"), [], "",
    ],
    ids=lambda items: type(items).__name__,
)  # fmt: skip
def test_whatever_can_be_iterated_can_be_mapped(session, items):
    assert list(map(repr, session.map(lambda x: x, items))) == [repr(x) for x in items]


def test_strict_refuses_unequal_lengths_before_anything_starts(session, tmp_path):
    with pytest.raises(fnmap.errors.UsageError, match=r"equal lengths.*\[2, 1\]"):
        session.map(lambda *_: (tmp_path / "ran").touch(), [1, 2], [3])
    assert not (tmp_path / "ran").exists()


def test_without_strict_the_shortest_ends_the_map(session):
    assert list(session.map(pow, [2, 3, 4], [2], strict=False)) == [4]
    assert list(session.map(pow, iter([2, 3, 4]), [2], strict=False)) == [4]


def test_a_map_returns_before_its_tasks_have_run(local, gate):
    pipe = gate.path
    run = local.map(lambda _: wait_at(pipe), range(2))
    assert run.status.state == "running"
    gate.open(2)
    assert list(run) == [None, None]


def test_tasks_of_one_map_run_at_the_same_time(local, gate, begun):
    pipe, other = gate.path, begun.path

    def meet(x):
        say_at(other)
        wait_at(pipe)

    run = local.map(meet, range(2))
    assert len(begun.heard(2)) == 2
    gate.open(2)
    assert run.wait()


@pytest.mark.parametrize("count", [10, 20_000])
def test_items_are_those_at_the_call_whatever_becomes_of_the_list(local, gate, count):
    items, pipe = list(range(count)), gate.path
    run = local.map(lambda x: (wait_at(pipe), x)[1] if x == 0 else x, items, chunksize=count // 5)
    items[:] = [None] * count
    gate.open(1)
    assert list(run) == list(range(count))


def test_results_that_are_there_out_of_turn_come_in_turn(local, gate):
    pipe = gate.path
    run = local.map(lambda x: wait_at(pipe) if x == 0 else x, range(10), chunksize=1)
    with ThreadPoolExecutor(1) as pool:
        in_turn = pool.submit(list, run)
        first = dict(islice(run.as_completed(), 9))
        gate.open(1)
        assert in_turn.result() == [None, *range(1, 10)]
    assert 0 not in first


def test_the_chunk_size_changes_nothing(session):
    expected = [x * x for x in range(50)]
    assert all(list(session.map(lambda x: x * x, range(50), chunksize=n)) == expected for n in (1, 7, 50, 1000))


def test_costs_change_the_order_of_work_but_not_of_results(local):
    costs = [1.0] * 30
    assert list(local.map(abs, range(30), cost=lambda x: x)) == list(range(30))
    assert list(local.map(abs, range(30), cost=costs)) == list(range(30))


def test_the_inline_session_runs_in_this_very_thread(inline):
    assert list(inline.map(lambda _: threading.get_ident(), [1])) == [threading.get_ident()]


Point = namedtuple("Point", "x y")


@dataclass
class Deal:
    limit: float
    kind: Colour


class Colour(Enum):
    RED = 1


class Adder:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return x + self.n

    def add(self, x):
        return x + self.n


@pytest.mark.parametrize(
    "fn",
    [Adder(1), Adder(1).add, functools.partial(operator.add, 1), lambda x: x + 1, functools.lru_cache(lambda x: x + 1)],
    ids=["callable", "method", "partial", "lambda", "cached"],
)
def test_every_kind_of_callable_travels(session, fn):
    assert list(session.map(fn, [1, 2])) == [2, 3]


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2), Deal(1.0, Colour.RED), Colour.RED, Decimal("1.10"), datetime.date(2026, 11, 22), 1 + 2j, None,
        ..., frozenset({1}), bytearray(b"x"), float("inf"), 10**30, range(3), (1, [2, {"a": (3,)}]), abs,
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), Deal, np.float32(1.5), slice(1, 2), "\ud800", -0.0, True,
    ],
    ids=repr,
)  # fmt: skip
def test_values_come_back_as_they_are(session, value):
    (back,) = session.map(lambda x: x, [value])
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value)


def test_an_enum_member_is_itself_on_the_worker(session):
    assert list(session.map(lambda c: c is Colour.RED, [Colour.RED])) == [True]


def test_large_arrays_may_be_written_by_the_task_and_by_the_caller(session):
    def mark(a):
        a[0] = 7.0
        return a

    for back in session.map(mark, [np.zeros(n) for n in (10, 5_000, 400_000)]):
        back[1] = 3.0
        assert (back[0], back[1], back.sum()) == (7.0, 3.0, 10.0)


def test_a_large_array_that_all_items_refer_to_reaches_each(local):
    big = np.arange(400_000)
    assert list(local.map(lambda i: int(big[i]), [0, 399_999])) == [0, 399_999]
    assert list(local.map(lambda i, a: int(a[i]), [1, 2], [big, big])) == [1, 2]
    assert list(local.map(lambda i, a: int(a[i]), [1, 2], kwargs={"a": big})) == [1, 2]


def test_a_shared_array_is_stored_once(local):
    big = np.zeros(400_000)
    run = local.map(first_of, [big] * 20)
    stored = [k for k in local.scratch.list("tmp/") if run.id in k and "shared" in k]
    assert len(stored) <= 1
    assert list(run) == [0.0] * 20


def first_of(a):
    return float(a[0])


def test_a_nested_map_works(session):
    with fnmap.use(on="inline") if session.on == "inline" else fnmap.use(on="local", workers=2):
        assert list(fnmap.map(lambda n: sum(fnmap.map(abs, range(n))), range(4))) == [0, 0, 1, 3]


def test_a_map_nested_twice_works(local):
    def inner(n):
        return sum(fnmap.map(lambda x: x, range(n)))

    assert list(local.map(lambda n: sum(fnmap.map(inner, range(n))), range(5))) == [0, 0, 0, 1, 4]


def test_maps_of_many_threads_do_not_mix(local):
    results = {}

    def work(k):
        results[k] = list(local.map(lambda x: x * k, range(50)))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {k: [x * k for x in range(50)] for k in range(6)}
