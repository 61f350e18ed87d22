"""Results that are arguments: what a worker reads for them."""

from __future__ import annotations

from array import array
from threading import Barrier

import pytest

from fnmap.errors import ResultLost
from fnmap.format import inputs as inputs_module
from fnmap.format.call import Failure
from fnmap.format.inputs import InputLost, Inputs, Resolved, Slot
from fnmap.format.parts import close_off, encode_part
from fnmap.format.payload import Values
from fnmap.format.table import to_parquet
from fnmap.storage.memory import MemoryStore


class Counting(MemoryStore):
    """Counts what is read."""

    reads = 0

    def get(self, key):
        self.reads += 1
        return super().get(key)


def stored(*parts, failures=None):
    store = Counting()
    for number, values in enumerate(parts):
        store.create(str(number), to_parquet(encode_part(range(len(values)), list(values), failures or {})))
    return store


def resolved(store, part, position, ends=None, length=None):
    slot = Slot(array("i", part), array("i", position), None if ends is None else array("i", ends))
    return Resolved(Inputs(store, ["0", "1"], [slot], args=[0]), Values.of_plain([]), length or len(part))


def test_each_task_has_its_own_result_and_a_part_is_read_once():
    store = stored([1, 2], [3, 4])
    assert list(resolved(store, [1, 0, 1, 0], [0, 1, 1, 0])) == [((n,), {}) for n in (3, 2, 4, 1)]
    assert store.reads == 2


def test_a_list_is_of_as_many_as_the_task_takes():
    store = stored([1, 2], [3, 4])
    assert [args for args, _ in resolved(store, [0, 1, 1], [1, 0, 1], [2, 2, 3], 3)] == [([2, 3],), ([],), ([4],)]


def test_a_result_that_is_lost_is_told_to_those_who_take_it_and_to_no_other():
    store = stored([None, 2], failures={0: Failure("lost", "it is gone")})
    both = iter(resolved(store, [0, 0], [0, 1]))
    with pytest.raises(ResultLost, match="it is gone"):
        next(both)
    assert next(both) == ((2,), {})


def test_a_part_that_is_gone_is_named_and_asked_for_once():
    store = stored([1, 2], [3, 4])
    store.delete(["0"])
    each = iter(resolved(store, [0, 1, 0], [0, 0, 1]))
    with pytest.raises(InputLost, match="0: no object") as lost:
        next(each)
    assert lost.value.key == "0"
    assert next(each) == ((3,), {})
    with pytest.raises(InputLost):
        next(each)
    assert store.reads == 2


@pytest.mark.parametrize("columns", [None, "x"])
def test_a_part_that_was_closed_off_or_damaged_is_as_good_as_gone(columns):
    store = stored()
    close_off(store, "0")
    store.create("1", b"PAR1, and then the machine died")
    for part in (0, 1):
        slot = Slot(array("i", [part]), array("i", [0]), None, columns)
        with pytest.raises(InputLost):
            Resolved(Inputs(store, ["0", "1"], [slot], args=[0]), Values.of_plain([]), 1)[0]


def test_parts_that_are_too_large_together_are_not_all_held(monkeypatch):
    monkeypatch.setattr(inputs_module, "KEPT_BYTES", 1)
    call = resolved(stored([1, 2], [3, 4]), [0, 1, 0], [0, 0, 1])
    assert [args for args, _ in call] == [(1,), (3,), (2,)]
    assert len(call._slots[0][1]) == 1


class Far(Counting):
    """Answers two reads only when both are under way."""

    at_once = 8

    def __init__(self):
        super().__init__()
        self.both = Barrier(2, timeout=5)

    def get(self, key):
        self.both.wait()
        return super().get(key)


def test_the_parts_of_a_list_are_read_at_once_where_the_store_is_far():
    store = Far()
    for number in range(2):
        store.create(str(number), to_parquet(encode_part([0], [number], {})))
    assert [args for args, _ in resolved(store, [0, 1], [0, 0], [2], 1)] == [([0, 1],)]
    assert store.reads == 2
