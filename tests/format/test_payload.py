"""Payloads: whatever goes in comes out, each value by itself, buffers aligned and beside their pickles."""

from __future__ import annotations

import datetime as dt
import pickle
import threading
from decimal import Decimal
from fractions import Fraction
from unittest.mock import patch
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnmap.format import payload
from fnmap.format.payload import (
    ALIGN,
    NotDumped,
    Plain,
    Ref,
    Values,
    dump,
    load,
    pack,
    plain_pickle,
    size,
    unpack,
)  # fmt: skip
from fnmap.format.travel import to_client, to_worker

frames_of_any_kind = st.lists(st.binary(max_size=300) | st.text("abc/.", min_size=1, max_size=20).map(Ref), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
plain = st.recursive(
    scalars, lambda x: st.lists(x, max_size=3) | st.tuples(x) | st.dictionaries(st.text(), x, max_size=3), max_leaves=6
)


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

    __hash__ = None


anything = st.lists(plain | plain.map(Point), max_size=12)


def no_ref(key):
    raise AssertionError(key)


def travelled(values: Values) -> Values:
    return Values.from_frames(unpack(b"".join(pack(values.frames()))), no_ref)


@given(frames_of_any_kind)
def test_what_is_packed_is_unpacked(frames):
    message = b"".join(pack(frames))
    assert [f if isinstance(f, Ref) else bytes(f) for f in unpack(message)] == frames


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_every_frame_is_aligned(frames):
    message = np.frombuffer(b"".join(pack(frames)), np.uint8)
    starts = [np.frombuffer(f, np.uint8).ctypes.data - message.ctypes.data for f in unpack(message.data) if len(f)]
    assert all(start % ALIGN == 0 for start in starts)


@given(frames_of_any_kind)
def test_the_size_is_of_what_travels(frames):
    assert size(frames) == sum(len(f.key) if isinstance(f, Ref) else len(f) for f in frames)


@given(anything)
def test_values_come_back_one_by_one_and_all_together(values):
    back = travelled(Values.of(values, to_worker))
    assert (len(back), list(back)) == (len(values), values)
    assert [back[i] for i in range(len(values))] == values


@given(anything.map(lambda v: [Point(0), *v]), st.data())
def test_any_positions_can_be_taken(values, data):
    positions = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(values))] * 2)))
    encoded = Values.of(values, to_worker)
    assert list(travelled(encoded.take(positions))) == [values[p] for p in positions]
    assert list(travelled(encoded.take(range(start, stop)))) == values[start:stop]


@given(st.lists(st.integers(0, 40_000), max_size=6))
def test_large_buffers_stay_with_their_values(lengths):
    arrays = [np.arange(n) for n in lengths]
    encoded = Values.of(arrays, to_worker)
    order = list(reversed(range(len(arrays)))) if encoded.each else []
    assert all(np.array_equal(a, b) for a, b in zip(travelled(encoded), arrays, strict=True))
    assert all(np.array_equal(a, arrays[p]) for a, p in zip(travelled(encoded.take(order)), order, strict=True))


@given(plain)
def test_a_plain_pickle_is_made_of_plain_values_alone(value):
    assert pickle.loads(plain_pickle([value])) == [value]
    assert plain_pickle([value, [Point(value)]]) is None


@given(st.lists(st.integers() | st.text()), st.integers(1, 5), st.integers(0, 300), st.data())
def test_plain_items_travel_in_any_chunks(values, slice_, ahead, data):
    a, b = sorted(data.draw(st.tuples(*[st.integers(0, len(values))] * 2)))
    some = data.draw(st.permutations(range(len(values))))[:3]
    with patch.multiple(payload, SLICE=slice_, AHEAD_BYTES=ahead):
        items = Plain.of(values)
        assert list(travelled(items.encode(range(a, b)))) == values[a:b]
        assert list(travelled(items.encode(some))) == [values[at] for at in some]
        assert list(items) == [items[at] for at in range(len(items))] == values
        assert list(items[a:b]) == values[a:b]
        assert items[a:b:2] == values[a:b:2]
        assert not values or items[-1] == values[-1]
        assert Plain.of([*values, Int(1)]) is None


def test_items_of_a_range_travel_as_a_range():
    assert list(travelled(Plain.of(range(10**9)).encode(range(5, 8)))) == [5, 6, 7]


class Zone(dt.tzinfo):
    """A class of the user's in a value of the standard library."""


class Int(int):
    """Not plain, though it is an int."""


@pytest.mark.parametrize("value", [Int(1), Point(1), [Int(1)], {Int(1): 2}, np.int64(1), object, len])
def test_what_only_looks_plain_is_not(value):
    assert plain_pickle([1, value]) is None


def test_a_standard_value_with_something_foreign_in_it_is_not_plain():
    assert plain_pickle([dt.datetime(2026, 1, 1, tzinfo=Zone())]) is None
    assert plain_pickle([dt.datetime(2026, 1, 1, tzinfo=dt.UTC), Decimal("1.5"), UUID(int=3), Fraction(1, 3)])


def test_a_list_within_itself_is_no_plain_value_or_comes_back_as_it_is():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert plain_pickle([nested]) is None


def test_a_value_that_cannot_be_pickled_is_named_by_its_position():
    with pytest.raises(NotDumped, match="lock") as caught:
        Values.of([Point(1), 2, threading.Lock()], to_worker)
    assert caught.value.at == 2


def test_or_it_is_told_and_spoils_no_other():
    told = []
    big = np.arange(10_000)
    values = [big, (big, threading.Lock()), Point(1)]
    encoded = Values.of(values, to_client, on_error=lambda at, cause: told.append(at))
    back = travelled(encoded)
    assert told == [1]
    assert np.array_equal(back[0], big)
    assert (back[1], back[2]) == (None, Point(1))


class Unloadable:
    def __reduce__(self):
        return int, ("not a number",)


def test_a_value_that_cannot_be_loaded_spoils_no_other():
    back = travelled(Values.of([Point(1), Unloadable(), Point(2)], to_worker))
    with pytest.raises(ValueError, match="not a number"):
        back[1]
    assert (back[0], back[2]) == (Point(1), Point(2))


def test_a_shared_buffer_is_a_ref_and_is_opened_where_it_is_read():
    big, kept = np.arange(50_000), {}

    def share(raw):
        kept[f"k{len(kept)}"] = raw
        return Ref(f"k{len(kept) - 1}")

    frames = dump({"big": big}, to_worker, share)
    assert size(frames) < 1000
    assert np.array_equal(load(unpack(b"".join(pack(frames))), kept.__getitem__)["big"], big)


@given(plain)
def test_an_object_is_loaded_as_it_was_dumped(value):
    assert load(dump(value, to_worker), no_ref) == value


def test_pickles_are_of_protocol_5():
    assert pickle.loads(bytes(dump([1], to_worker)[0])) == [1]
    assert bytes(dump([1], to_worker)[0])[1] == 5


def test_an_item_that_is_there_twice_arrives_twice_though_its_chunk_is_of_two_slices():
    twice = "twice".upper()  # an object, which the pickle of the second slice refers to by its place
    with patch.multiple(payload, SLICE=4, AHEAD_BYTES=1 << 20):
        items = Plain.of(["a", "b", "c", "d", "e", twice, twice, "h"])
        assert list(travelled(items.encode(range(8)))) == ["a", "b", "c", "d", "e", "TWICE", "TWICE", "h"]
