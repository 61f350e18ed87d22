"""Keys of tasks: equal items have equal keys, others have others, whatever else is in the list."""

from __future__ import annotations

import dataclasses
import enum
import struct
import threading
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnmap.errors import NotCacheable
from fnmap.format.task_keys import derived_keys, item_keys

ATOMS = (
    st.none() | st.booleans() | st.integers() | st.integers(-3, 3) | st.floats() | st.sampled_from([0.0, 1.0, -0.0])
    | st.complex_numbers() | st.text(max_size=3) | st.binary(max_size=3)
)  # fmt: skip
HASHABLE = st.deferred(lambda: ATOMS | st.lists(HASHABLE, max_size=2).map(tuple) | st.frozensets(HASHABLE, max_size=2))
ITEMS = st.deferred(
    lambda: (
        HASHABLE
        | st.lists(ITEMS, max_size=2)
        | st.dictionaries(HASHABLE, ITEMS, max_size=2)
        | st.sets(HASHABLE, max_size=3)
    )
)


def keys_of(items, base="base", form="item"):
    return [bytes(key) for key in item_keys(base, items, form)]


def told(item):
    """What makes an item itself, as a value that can be compared."""
    kind = type(item).__name__
    if isinstance(item, float):
        return kind, "nan" if item != item else struct.pack("<d", item)
    if isinstance(item, complex):
        return kind, struct.pack("<dd", item.real, item.imag)
    if isinstance(item, (list, tuple)):
        return kind, tuple(map(told, item))
    if isinstance(item, dict):
        return kind, frozenset((told(k), told(v)) for k, v in item.items())
    if isinstance(item, (set, frozenset)):
        return kind, frozenset(map(told, item))
    return kind, item


@given(st.lists(ITEMS, max_size=6))
@settings(max_examples=120, deadline=None)
def test_keys_are_equal_if_and_only_if_items_are(items):
    assert len({*keys_of(items)}) == len({*map(told, items)})


@given(st.lists(ITEMS, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_key_does_not_depend_on_the_other_items(items):
    assert keys_of(items) == [key for item in items for key in keys_of([item])]


@given(st.lists(st.tuples(st.text(max_size=2), st.integers()), unique_by=lambda pair: pair[0]), st.randoms())
@settings(deadline=None)
def test_dicts_and_sets_are_equal_in_any_order(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    one, other = dict(pairs), dict(shuffled)
    assert keys_of([one, {*pairs}, [one], (1, {"in": one})]) == keys_of(
        [other, {*shuffled}, [other], (1, {"in": other})]
    )


def test_numbers_in_a_range_a_list_and_among_others_have_the_same_keys():
    assert keys_of(range(-5, 5)) == keys_of(list(range(-5, 5))) == keys_of([*range(-5, 5), "x"])[:-1]
    assert keys_of(range(1 << 70, (1 << 70) + 2)) == keys_of([1 << 70, (1 << 70) + 1])
    assert len({*keys_of([-1, (1 << 64) - 1, 1 << 63, -(1 << 63)])}) == 4


def test_many_numbers_have_keys_of_their_own_in_either_half():
    ints, floats = item_keys("base", range(100_000), "item"), item_keys("base", [n / 2 for n in range(100_000)], "item")
    both = np.concatenate([ints, floats])
    assert len(np.unique(both[:, 0])) == len(np.unique(both[:, 1])) == 200_000
    assert abs(np.unpackbits(both.view(np.uint8)).mean() - 0.5) < 0.001


def test_another_function_or_form_has_other_keys():
    items = [1, 1.5, "x", (1, 2), None]
    told = keys_of(items) + keys_of(items, base="other") + keys_of(items, form="args")
    assert len({*told}) == 15


@dataclasses.dataclass(frozen=True)
class Deal:
    number: int
    losses: tuple[float, ...]


def test_objects_and_arrays_count_by_content():
    make = [
        lambda: Deal(1, (0.5,)),
        lambda: Deal(2, (0.5,)),
        lambda: np.arange(3),
        lambda: date(2026, 1, 1),
        lambda: Deal,
    ]
    once, again = keys_of([m() for m in make]), keys_of([m() for m in make])
    assert once == again
    assert len({*once}) == len(make)


class Area(enum.Enum):
    NORTH = 1
    SOUTH = 2


def test_members_that_their_class_refers_to_count_the_same_wherever_they_are():
    items = [[Area.NORTH], [Area.NORTH], Area.NORTH, Area.SOUTH, Area, [Area.SOUTH], Area.NORTH]
    told = keys_of(items)
    assert told == [key for item in items for key in keys_of([item])]
    assert len({*told}) == 5


def test_numbers_of_numpy_are_told_apart_by_type():
    items = [kind(1) for kind in (np.int8, np.uint8, np.int64, np.float32, np.float64, np.bool_)]
    assert len({*keys_of([*items, 1, 1.0, True])}) == 9
    assert (
        keys_of([*np.arange(3)])
        == keys_of([np.int64(0), "x", np.int64(1), np.int64(2)])[:1] + keys_of([*np.arange(3)])[1:]
    )


def test_an_item_without_identity_is_named():
    with pytest.raises(NotCacheable, match=r"\['k'\] of item 2 is a _thread.lock"):
        item_keys("base", [1, "x", {"k": threading.Lock()}], "item")


def test_a_derived_key_is_of_the_inputs_in_order_and_the_own_item():
    up = item_keys("base", range(4), "item")
    own = item_keys("base", ["a", "b", "a", "a"], "item")
    indices, ends = [0, 1, 1, 0, 0, 1], [2, 4, 4, 6]

    def told(base="next", own=None, up=up):
        return [bytes(key) for key in derived_keys(base, own, indices, ends, up)]

    first, second, third, fourth = told()
    assert first == fourth
    assert len({first, second, third}) == 3
    assert told(own=own)[0] == told(own=own)[3]
    assert len({*told(), *told(own=own), *told(base="other"), *told(up=up[::-1])}) == 3 + 3 + 3 + 2
