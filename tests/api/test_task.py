"""fnmap.task: a function that carries its options."""

from __future__ import annotations

import pickle

import pytest

import fnmap
from fnmap.errors import NotCallable, UsageError


@fnmap.task(errors="skip", on="inline")
def inverse(x, one=1):
    """One over x."""
    return one / x


def test_a_task_is_still_the_function():
    assert inverse(2) == 0.5
    assert (inverse.__name__, inverse.__doc__) == ("inverse", "One over x.")


def test_its_options_hold_when_it_is_mapped():
    assert list(inverse.map([1, 0, 2])) == [1.0, 0.5]
    assert list(inverse.starmap([(1,), (0,), (2, 4)])) == [1.0, 2.0]
    assert inverse.submit(4).result() == 0.25


def test_options_of_the_call_overrule_them():
    with pytest.raises(ZeroDivisionError):
        list(inverse.map([0], errors="raise"))


def test_a_task_without_options_is_a_task_as_well():
    assert list(fnmap.task(abs).map([-1], on="inline")) == [1]


def test_a_task_travels(session):
    assert list(session.map(inverse, [2, 4])) == [0.5, 0.25]
    assert list(session.map(lambda x: inverse(x), [2])) == [0.5]  # noqa: PLW0108 - the closure is the point
    assert pickle.loads(pickle.dumps(fnmap.task(abs)))(-1) == 1


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"\['chunk_size'\]; it takes .*chunksize"):
        fnmap.task(chunk_size=1)


def test_only_functions_are_decorated():
    with pytest.raises(NotCallable):
        fnmap.task(errors="skip")(3)
