"""The options of a map: told once, shown by help(), refused by name."""

from __future__ import annotations

import inspect
from dataclasses import fields

import numpy as np
import pytest

import fnmap
from fnmap.errors import UsageError
from fnmap.options import MapOptions, Options, StageOptions

OPTIONS = Options.__optional_keys__


@pytest.mark.parametrize(
    ("verb", "but"),
    [
        (fnmap.map, set()),
        (fnmap.Session.map, set()),
        (fnmap.starmap, {"strict"}),
        (fnmap.Session.starmap, {"strict"}),
        (fnmap.map_reduce, {"strict", "ordered", "name"}),
        (fnmap.Session.map_reduce, {"strict", "ordered", "name"}),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_help_shows_each_option_and_its_default(verb, but):
    shown = {n: p.default for n, p in inspect.signature(verb).parameters.items() if n in OPTIONS}
    assert shown == {name: getattr(MapOptions(), name) for name in OPTIONS - but}
    assert not [p for p in inspect.signature(verb).parameters.values() if p.kind is p.VAR_KEYWORD]


@pytest.mark.parametrize("call", [fnmap.Session, fnmap.use, fnmap.Executor], ids=lambda call: call.__name__)
def test_help_shows_what_a_session_takes(call):
    options = ["workers", "progress", "listeners", "results", "spread"]
    assert [*inspect.signature(call).parameters] == ["on", "store", *options]


def test_each_option_that_users_may_pass_is_read_and_told_of():
    assert Options.__optional_keys__ | StageOptions.__optional_keys__ == {field.name for field in fields(MapOptions)}
    assert not [name for name in OPTIONS if f"`{name}`" not in fnmap.map.__doc__]


def test_numbers_of_numpy_are_numbers(inline):
    run = inline.map(
        abs, range(10), chunksize=np.int64(3), retries=np.uint8(1), buffersize=np.int32(5), timeout=np.float32(60)
    )
    assert list(run) == list(range(10))
    assert list(inline.map(abs, [1], retries=fnmap.Retry(np.int64(1)), errors=fnmap.Tolerate(np.float32(0.5)))) == [1]
    assert inline.map_reduce(abs, range(10), sum, fan_in=np.int64(3)).result() == 45


def test_the_number_of_workers_may_be_of_numpy():
    with fnmap.Session(workers=np.int64(1)) as session:
        assert session.compute.limits.slots == 1


@pytest.mark.parametrize("fan_in", [1, True, 2.0, "3"], ids=repr)
def test_what_is_no_number_of_results_is_refused(inline, fan_in):
    with pytest.raises(UsageError, match="fan_in must be an int >= 2"):
        inline.map_reduce(abs, [1], sum, fan_in=fan_in)


@pytest.mark.parametrize(
    "call",
    [
        lambda **wrong: fnmap.map(abs, [1], on="inline", **wrong),
        lambda **wrong: fnmap.starmap(abs, [(1,)], on="inline", **wrong),
        lambda **wrong: fnmap.map_reduce(abs, [1], sum, on="inline", **wrong),
        fnmap.task,
    ],
    ids=["map", "starmap", "map_reduce", "task"],
)
def test_a_misspelt_option_lists_the_known_ones(call):
    with pytest.raises(UsageError, match=r"does not take \['chunksze'\]; it takes .*chunksize, .*on, .*store, "):
        call(chunksze=3)


@pytest.mark.parametrize("verb", ["map", "starmap", "map_reduce"])
def test_a_misspelt_option_of_a_session_lists_the_known_ones_and_draws_no_item(inline, verb):
    items, more = iter([1]), [sum] if verb == "map_reduce" else []
    with pytest.raises(UsageError, match=rf"{verb} does not take \['chunksze'\]; it takes .*chunksize"):
        getattr(inline, verb)(abs, items, *more, chunksze=3)
    assert list(items) == [1]


@pytest.mark.parametrize("call", [fnmap.Session, fnmap.use, fnmap.Executor], ids=lambda call: call.__name__)
def test_a_misspelt_option_of_a_session_names_what_was_called(call):
    with pytest.raises(UsageError, match=rf"{call.__name__} does not take \['worker'\]; it takes .*workers"):
        call(on="inline", worker=2)
