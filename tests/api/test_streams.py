"""Items out of iterators: no faster than results are taken, and no more memory than needed."""

from __future__ import annotations

import gc
import itertools
import threading

import pytest
from tqdm import tqdm

import fnmap
from fnmap.errors import ResultsReleased, RunCancelled
from fnmap.source import Stream


class Drawn:
    """An iterator that counts what was drawn."""

    def __init__(self, items=None):
        self.count, self._items = 0, itertools.count() if items is None else iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self._items)
        self.count += 1
        return item


def test_an_iterator_is_mapped_like_a_list(session):
    assert list(session.map(abs, iter(range(1000)))) == list(range(1000))


def test_iterators_are_zipped(session):
    assert list(session.map(pow, itertools.count(), iter([2, 2, 2]), strict=False)) == [0, 1, 4]


def test_an_infinite_iterator_gives_as_many_results_as_one_takes(session):
    run = session.map(abs, itertools.count())
    assert list(itertools.islice(run, 500)) == list(range(500))
    run.cancel()
    assert run.wait()


@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_is_drawn_than_the_buffer_allows(session, ordered):
    source = Drawn()
    run = session.map(abs, source, buffersize=10, ordered=ordered)
    for taken, _ in enumerate(itertools.islice(run, 200)):
        assert source.count <= taken + 1 + 10
    run.cancel()


def test_as_completed_does_not_run_ahead_of_the_caller_either(session):
    source = Drawn()
    run = session.map(abs, source, buffersize=10)
    for taken, _ in enumerate(itertools.islice(run.as_completed(), 200)):
        assert source.count <= taken + 1 + 10
    run.cancel()


def test_without_a_buffer_size_it_does_not_run_away_either(session):
    source = Drawn()
    run = session.map(abs, source)
    next(iter(run))
    assert source.count <= 20_000 * session.compute.limits.slots
    run.cancel()


class Item:
    alive = 0

    def __init__(self, number):
        self.number = number
        Item.alive += 1

    def __del__(self):
        Item.alive -= 1

    def __reduce__(self):
        return int, (self.number,)


def test_memory_stays_flat(local):
    most, run = 0, local.map(abs, map(Item, itertools.count()), buffersize=50)
    for taken, result in enumerate(itertools.islice(run, 3000)):
        assert result == taken
        most = max(most, Item.alive)
    assert most <= 100
    run.cancel()


@pytest.mark.parametrize("errors", ["return", "skip"])
def test_memory_stays_flat_when_tasks_fail(local, errors):
    most, run = 0, local.map(lambda x: 1 // (x % 2), map(Item, range(2000)), buffersize=50, errors=errors)
    for _ in run:
        most = max(most, Item.alive)
    assert most <= 100


def test_each_result_of_a_stream_is_given_once(session):
    run = session.map(abs, iter(range(3)))
    assert [x for x in run] == [0, 1, 2]  # noqa: C416 - list() would ask for all at once
    with pytest.raises(ResultsReleased):
        next(iter(run))


def test_asking_for_all_results_keeps_them(session):
    run = session.map(abs, iter(range(50)))
    assert list(run) == list(run) == list(range(50))
    assert len(run) == 50
    assert run[-1] == 49


def test_an_iterator_that_raises_midway_is_told_after_the_results_before(session):
    def broken():
        yield from range(5)
        raise LookupError("no more deals")

    results = iter(session.map(abs, broken()))
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(LookupError, match="no more deals"):
        next(results)


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_iterator_may_raise_anything_and_nobody_waits_forever(local, leave):
    def broken():
        yield 1
        raise leave

    with pytest.raises(leave):
        list(local.map(abs, broken()))


def test_strict_iterators_of_unequal_length_are_an_error_where_the_shorter_ends(session):
    results = iter(session.map(pow, iter([1, 2, 3]), [1, 2]))
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(fnmap.errors.UsageError, match="one ended after 2"):
        next(results)


@pytest.mark.parametrize("items", [itertools.count, lambda: iter(range(200_000))], ids=["infinite", "long"])
def test_a_failure_ends_a_list_of_a_stream(session, items):
    with pytest.raises(ZeroDivisionError):
        list(session.map(lambda x: 1 // x, items()))


def test_a_cancelled_stream_ends_a_list_of_it(session):
    run = session.map(abs, itertools.count(), buffersize=10)
    run.cancel()
    with pytest.raises(RunCancelled):
        list(run)


def test_an_iterator_is_left_when_its_run_is_cancelled(local):
    left = threading.Event()

    def items():
        try:
            yield from itertools.count()
        finally:
            left.set()

    run = local.map(abs, items(), buffersize=10)
    next(iter(run))
    run.cancel()
    run.wait()
    del run
    gc.collect()
    assert left.wait(5)


def test_a_timed_out_task_of_a_stream_is_named_and_the_rest_goes_on(local):
    import time

    run = local.map(lambda x: time.sleep(300 * (x == 3)), iter(range(200)), timeout=0.2, errors="return")
    assert [i for i, r in enumerate(run) if r is not None] == [3]


def test_an_item_of_a_stream_that_cannot_be_pickled_is_named(local):
    with pytest.raises(fnmap.errors.NotPicklable, match="item 2 "):
        list(local.map(type, iter([0, 1, threading.Lock()])))


def test_a_map_over_a_map_is_a_pipeline(session):
    inner = session.map(lambda x: -x, range(100))
    assert list(session.map(abs, inner)) == list(range(100))


def test_an_iterator_that_waits_for_results_gets_them(local):
    done = threading.Event()

    def feedback():
        yield 1
        done.wait()
        yield 2

    results = iter(local.map(abs, feedback()))
    assert next(results) == 1
    done.set()
    assert list(results) == [2]


def test_a_run_over_an_endless_iterator_is_true_and_has_no_length(session):
    run = session.map(abs, itertools.count(), buffersize=10)
    assert run
    with pytest.raises(TypeError, match="no length before all items are drawn"):
        len(run)
    assert list(itertools.islice(tqdm(run, disable=True), 3)) == [0, 1, 2]
    run.cancel()


def test_a_run_over_a_long_iterator_keeps_nothing_for_a_bar_or_a_truth(session):
    run = session.map(abs, iter(range(1000)), buffersize=10)
    assert run
    assert sum(tqdm(run, disable=True)) == sum(range(1000))
    with pytest.raises(ResultsReleased):
        next(iter(run))
    assert len(run) == 1000


def test_a_map_over_a_run_that_does_not_end_is_a_pipeline_too(session):
    inner = session.map(lambda x: -x, itertools.count(), buffersize=10)
    run = session.map(abs, inner, buffersize=10)
    assert list(itertools.islice(run, 50)) == list(range(50))
    run.cancel()
    inner.cancel()


def test_an_empty_iterator_is_an_empty_run(session):
    assert list(session.map(abs, iter(()))) == []


def test_a_stream_is_stopped_while_it_looks_for_room():
    looks, lock = threading.Event(), threading.Lock()

    def room():
        looks.set()
        with lock:  # as the look of a run takes the session's lock, which who stops the stream holds
            return 0

    stream = Stream(iter([1]), room=room, hungry=bool, add=print, end=print)
    with lock:
        stream.start(threaded=True)
        looks.wait()
        stream.stop()
