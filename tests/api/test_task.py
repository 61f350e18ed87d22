"""fnmap.task: a function that carries its options."""

from __future__ import annotations

import os
import pickle
import threading

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


def twice(path):
    """A function that raises the first time."""

    def need(x, one=1):
        if not path.exists():
            path.touch()
            raise ValueError("not yet")
        return one / x

    return need


@pytest.mark.parametrize(
    "read",
    [
        lambda s, task: list(s.map(task, [2])),
        lambda s, task: list(s.starmap(task, [(2,)])),
        lambda s, task: s.map_reduce(task, [2], list).result(),
        lambda s, task: [s.submit(task, 2).result()],
    ],
    ids=["map", "starmap", "map_reduce", "submit"],
)
def test_its_options_hold_wherever_it_is_mapped(inline, tmp_path, read):
    retry = fnmap.Retry(1, backoff_s=0.001)
    task = fnmap.task(retries=retry, kwargs={"one": 3}, strict=True, ordered=True)(twice(tmp_path / "tried"))
    assert read(inline, task) == [1.5]


def test_the_verbs_go_where_it_says():
    here = fnmap.task(on="inline")(lambda x: threading.get_ident())
    me = threading.get_ident()
    assert [*fnmap.map(here, [1]), *fnmap.starmap(here, [(1,)]), fnmap.submit(here, 1).result()] == [me] * 3
    assert fnmap.map_reduce(here, [1], list).result() == [me]


def test_what_a_map_says_overrules_them(inline):
    assert list(inline.map(inverse, [1, 0])) == [1.0]
    with pytest.raises(ZeroDivisionError):
        list(inline.map(inverse, [0], errors="raise"))


def test_a_call_of_a_task_is_tried_again_and_has_its_limit_of_time(local, tmp_path):
    retry = fnmap.Retry(1, backoff_s=0.001)
    assert local.submit(fnmap.task(retries=retry)(twice(tmp_path / "tried")), 2).result() == 0.5
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(TimeoutError):
        local.submit(fnmap.task(timeout=0.1)(pipe.read_text)).result()


def test_a_task_of_a_task_has_the_options_of_both():
    both = fnmap.task(timeout=5)(inverse)
    assert both.options == {"errors": "skip", "on": "inline", "timeout": 5}
    assert both.fn is inverse.fn


class Book:
    rate = 10

    @fnmap.task(on="inline", errors="skip")
    def price(self, x):
        """The price."""
        return self.rate / x

    @fnmap.task(on="inline")
    @staticmethod
    def name(x):
        return "Book " + x


def test_a_method_may_be_a_task(session):
    book = Book()
    assert (book.price(2), Book.price(book, 5), Book.price.__doc__) == (5.0, 2.0, "The price.")
    assert list(book.price.map([1, 0, 2])) == list(session.map(book.price, [1, 0, 2])) == [10.0, 5.0]
    assert list(fnmap.map(lambda f: f(4), [book.price], on="inline")) == [2.5]
    assert list(Book.name.map("ab")) == ["Book a", "Book b"]


@pytest.mark.parametrize("options", [{"chunksize": 0}, {"retries": -1}, {"errors": "ignore"}, {"timeout": 0}], ids=repr)
def test_an_option_that_is_wrong_is_refused_where_the_function_is_decorated(options):
    with pytest.raises(UsageError, match=f"{next(iter(options))} must be"):
        fnmap.task(**options)
