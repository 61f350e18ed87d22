"""map_reduce: the same tree whatever happens, and results in the order of the items."""

from __future__ import annotations

import functools
import operator

import pytest
from gates import wait_at
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fnmap


def join(parts):
    return functools.reduce(operator.add, parts)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 60), st.integers(2, 7), st.sampled_from(["auto", 1, 5]))
def test_parts_are_combined_in_the_order_of_the_items(session, count, fan_in, chunksize):
    future = session.map_reduce(lambda x: [x], range(count), join, fan_in=fan_in, chunksize=chunksize)
    assert future.result() == list(range(count))


def test_the_shape_of_the_tree_depends_on_the_count_alone(session):
    shape = session.map_reduce(str, range(7), lambda parts: f"({' '.join(parts)})", fan_in=3).result()
    assert shape == "((0 1 2) (3 4 5) (6))"


def test_a_key_gives_a_dict_in_order_of_first_appearance(session):
    found = session.map_reduce(lambda x: x, [5, 2, 3, 4], sum, by=lambda x: "odd" if x % 2 else "even").result()
    assert list(found.items()) == [("odd", 8), ("even", 6)]


def test_nothing_reduces_to_what_the_function_makes_of_nothing(session):
    assert session.map_reduce(abs, [], sum).result() == 0
    assert session.map_reduce(abs, [], sum, by=abs).result() == {}


def test_a_failure_of_either_function_is_the_future_s(session):
    for fn, reduce_fn in ((lambda x: 1 / x, sum), (abs, lambda parts: 1 / 0)):
        with pytest.raises(ZeroDivisionError):
            session.map_reduce(fn, range(3), reduce_fn).result()


def test_skipped_items_are_left_out(session):
    assert session.map_reduce(lambda x: 1 / x, [0, 1, 2, 0], sum, errors="skip").result() == 1.5
    assert session.map_reduce(lambda x: 1 / x, [0, 1, 0], sum, by=bool, errors="skip").result()[True] == 1.0


def test_an_iterator_and_a_large_count_reduce_as_well(local):
    assert local.map_reduce(lambda x: x, iter(range(2000)), sum, fan_in=10).result() == 1999 * 1000


def test_cancelling_the_future_cancels_the_map(local, gate):
    pipe = gate.path
    future = local.map_reduce(lambda _: wait_at(pipe), [1], sum)
    assert future.cancel()
    assert future.run.wait()
    assert future.run.status.state == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((abs, [1], 5), {}, "reduce_fn"),
        ((5, [1], sum), {}, "fn must be callable"),
        ((abs, [1], sum), {"by": 3}, "by must be"),
        ((abs, [1], sum), {"fan_in": 1}, "fan_in must be"),
        ((abs, [1], sum), {"name": "x"}, r"does not take \['name'\]"),
        ((abs, [1], sum), {"errors": "return"}, "errors must be"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(inline, arguments, options, match):
    with pytest.raises(fnmap.errors.UsageError, match=match):
        inline.map_reduce(*arguments, **options)
