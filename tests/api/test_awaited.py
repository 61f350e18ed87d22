"""Futures and runs as arguments: they are waited for in the background."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future

import pytest
from gates import say_at, wait_at

import fnmap
from fnmap.errors import NotPicklable, RunError


def square(x):
    return x * x


def fails(x):
    raise KeyError(f"no {x}")


def odd_fails(x):
    if x % 2:
        raise ValueError(f"odd: {x}")
    return x


def held(x, *, path):
    wait_at(path)
    return x


# -- submit ------------------------------------------------------------------------------------------


def test_a_call_takes_the_results_of_others(session):
    two, three = session.submit(abs, -2), session.submit(abs, -3)
    assert session.submit(pow, two, three).result() == 8
    assert session.submit(dict, x=two, y=1, z=session.submit(square, three)).result() == {"x": 2, "y": 1, "z": 9}


def test_a_call_takes_the_results_of_a_run(session):
    run = session.map(square, range(4))
    assert session.submit(sum, run).result() == 14
    assert session.submit(dict, a=run, b=run).result() == {"a": [0, 1, 4, 9], "b": [0, 1, 4, 9]}


def test_a_call_takes_the_result_of_a_plan_and_of_a_reduction(session):
    with fnmap.plan() as p:
        p.gather(sum, p.map(square, range(4)))
    assert session.submit(square, session.run_plan(p)).result() == 196
    assert session.submit(square, session.map_reduce(square, range(4), sum)).result() == 196


def test_a_run_over_an_iterator_is_taken_whole(session):
    assert session.submit(len, session.map(square, iter(range(5000)), buffersize=10)).result() == 5000


def test_a_run_whose_bar_is_shown_is_waited_for_too(local):
    assert local.submit(sum, local.map(square, range(4), progress=True)).result() == 14


def test_submit_does_not_wait_for_what_it_is_given(local, gate):
    first = local.submit(held, 3, path=gate.path)
    last = local.submit(square, local.submit(square, first))
    assert not last.done()
    assert not last.running()
    gate.open()
    assert last.result() == 81


def test_a_future_of_others_is_waited_for_as_well(local):
    foreign = Future()
    call = local.submit(square, foreign)
    foreign.set_result(5)
    assert call.result() == 25


def test_what_takes_a_failed_result_fails_with_its_error(session):
    error = session.submit(square, session.submit(fails, 1)).exception()
    assert isinstance(error, KeyError)
    run = session.map(odd_fails, range(4))
    assert isinstance(session.submit(sum, x=run).exception(), ValueError)


def test_it_fails_though_others_are_not_there_yet(local):
    assert isinstance(local.submit(pow, Future(), local.submit(fails, 1)).exception(), KeyError)


def test_what_takes_a_cancelled_result_fails(local):
    foreign = Future()
    call = local.submit(square, foreign)
    foreign.cancel()
    with pytest.raises(CancelledError):
        call.result()


def test_a_call_that_waits_for_another_can_be_cancelled(local):
    foreign = Future()
    call = local.submit(square, foreign)
    assert call.cancel()
    foreign.set_result(3)
    assert call.cancelled()
    assert not local.later


def test_a_call_that_has_what_it_takes_is_cancelled_as_any_other(gate, begun):
    with fnmap.Session(workers=1) as session:
        busy = session.submit(lambda a, b: (say_at(a), wait_at(b)), begun.path, gate.path)
        begun.heard()
        foreign = Future()
        call = session.submit(square, foreign)
        foreign.set_result(3)
        assert call.cancel()
        gate.open()
        busy.result()


def test_a_result_that_cannot_travel_fails_the_call(local):
    foreign = Future()
    foreign.set_result(threading.Lock())
    with pytest.raises(NotPicklable):
        local.submit(type, foreign).result()


def test_a_session_waits_for_calls_that_wait(gate):
    with fnmap.Session(workers=1) as session:
        call = session.submit(square, session.submit(held, 3, path=gate.path))
        gate.open()
    assert call.result() == 9


def test_a_session_that_is_closed_fails_calls_that_wait():
    session = fnmap.Session(workers=1)
    call = session.submit(square, Future())
    session.close()
    with pytest.raises(RunError, match="closed before what this call takes"):
        call.result()


def test_an_executor_takes_futures_too():
    with fnmap.Executor(workers=1) as executor:
        call = executor.submit(square, executor.submit(abs, -3))
    assert call.result() == 9


# -- map -----------------------------------------------------------------------------------------------


def test_a_map_over_a_run_does_not_wait_for_it(local, gate):
    inner = local.map(held, [1, 2], kwargs={"path": gate.path}, chunksize=1, ordered=False)
    run = local.map(square, local.map(square, inner))
    assert run.status.done == 0
    gate.open()
    assert next(iter(run)) in (1, 16)
    gate.open()
    assert sorted(run) == [1, 16]


def test_what_was_drawn_from_a_run_is_kept_as_that_of_a_list(session):
    run = session.map(square, session.map(square, range(500)))
    assert list(run) == list(run) == [x**4 for x in range(500)]
    assert run[3] == 81


def test_runs_and_lists_are_mapped_side_by_side(session):
    one = session.map(square, range(5))
    assert list(session.map(pow, one, [2] * 5)) == [x**4 for x in range(5)]
    assert list(session.starmap(pow, session.map(lambda x: (x, 2), range(5)))) == [x**2 for x in range(5)]


def test_a_failure_of_the_run_ends_what_is_mapped_over_it(local):
    run = local.map(square, local.map(odd_fails, range(4)))
    with pytest.raises(ValueError, match="odd"):
        list(run)
    assert run.status.state == "failed"


def test_failures_that_are_returned_are_items_and_those_that_are_skipped_are_none(session):
    returned = session.map(odd_fails, range(4), errors="return")
    assert list(session.map(lambda x: type(x).__name__, returned)) == ["int", "TaskError", "int", "TaskError"]
    assert list(session.map(square, session.map(odd_fails, range(4), errors="skip"))) == [0, 4]


def test_what_failed_over_a_run_can_be_tried_again(local, tmp_path):
    def picky(x, *, mark=tmp_path):
        if x == 4 and not (mark / "mended").exists():
            raise OSError("not yet")
        return x

    run = local.map(picky, local.map(square, range(5)), errors="return")
    run.wait()
    assert list(run.errors) == [2]
    (tmp_path / "mended").touch()
    assert list(run.retry()) == [0, 1, 4, 9, 16]


def test_a_map_over_a_run_is_cancelled_without_it(local, gate):
    inner = local.map(held, [1, 2], kwargs={"path": gate.path})
    run = local.map(square, inner)
    run.cancel()
    assert run.status.state == "cancelled"
    gate.open(2)
    assert list(inner) == [1, 2]


def test_futures_are_items_in_their_order(session):
    calls = [session.submit(square, x) for x in range(4)]
    assert list(session.map(abs, [*calls, -5])) == [0, 1, 4, 9, 5]
    assert list(session.map(pow, calls, [2] * 4)) == [0, 1, 16, 81]


def test_futures_among_items_do_not_hold_up_the_caller(local):
    foreign = Future()
    run = local.map(square, [3, foreign, 4])
    assert next(iter(run)) == 9
    foreign.set_result(5)
    assert list(run) == [9, 25, 16]


def test_a_future_that_fails_among_items_ends_the_run_with_its_error(local):
    with pytest.raises(KeyError):
        list(local.map(square, [3, local.submit(fails, 1)]))


def test_keywords_that_are_on_their_way_are_waited_for_in_the_background(local):
    foreign = Future()
    run = local.map(pow, range(4), kwargs={"exp": foreign, "mod": local.submit(abs, -5)})
    with pytest.raises(TimeoutError):
        run.result(timeout=0)
    foreign.set_result(2)
    assert list(run) == [0, 1, 4, 4]
    assert list(local.map(pow, range(4), kwargs={"exp": 2})) == [0, 1, 4, 9]


def test_items_are_those_at_the_call_while_keywords_are_on_their_way(local):
    foreign, items = Future(), [2, 3]
    run = local.map(pow, items, kwargs={"exp": foreign})
    items[:] = [7]
    foreign.set_result(2)
    assert list(run) == [4, 9]


def test_keywords_of_calls_in_this_process_are_waited_for_there(inline, local):
    assert list(inline.map(pow, range(3), kwargs={"exp": local.submit(abs, -2)})) == [0, 1, 4]


def test_a_keyword_that_fails_ends_the_run_with_its_error(local):
    with pytest.raises(KeyError):
        list(local.map(pow, range(4), kwargs={"exp": local.submit(fails, 1)}))


def test_a_named_run_has_all_items_first(tmp_path):
    with fnmap.Session(workers=1, store=tmp_path) as session:
        items = session.map(square, range(3))
        calls = [session.submit(square, 3)]
        assert list(session.map(square, items, name="n", kwargs={})) == [0, 1, 16]
        assert list(session.map(square, calls, name="m")) == [81]
        assert list(session.map(pow, [2], name="k", kwargs={"exp": calls[0]})) == [512]
        assert session.attach("n").result() == [0, 1, 16]


def test_a_cached_map_has_all_items_first(tmp_path):
    with fnmap.Session(workers=1, store=tmp_path) as session:
        assert list(session.map(square, session.map(square, range(3)), cache=True)) == [0, 1, 16]
        assert list(session.map(square, [session.submit(square, 2)], cache=True)) == [16]
        assert list(session.map(pow, [2], kwargs={"exp": session.submit(abs, -3)}, cache=True)) == [8]
