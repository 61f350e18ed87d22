"""Parts of plans without a name: frames that are mapped, and found out where they are not as they were written."""

from __future__ import annotations

import numpy as np
import pytest

from fnmap.errors import Damaged, MissingKey
from fnmap.format import framed, keys, parts
from fnmap.format.call import Call, Failure, Job, Report
from fnmap.format.payload import Values
from fnmap.format.travel import to_client
from fnmap.storage.files import FileStore

KEY = keys.part("r", 0, 0, framed=True)
SMALL = [1, "x", {"a": [None]}]
LARGE = [{"a": np.arange(20_001, dtype=np.int32), "b": "text"}, None, {"a": np.zeros(3), "b": b"c"}]
FAILED = {1: Failure("raised", "ValueError: no", b"", item="1")}


def written(values, failures=None):
    pieces = framed.encode(range(7, 7 + len(values)), Values.of(values, to_client), failures or {}, {"attempt": 2})
    return b"".join(pieces)


def committed(store, values, key=KEY):
    report = Report(len(values), values=Values.of(values, to_client))
    call = Call("r/0.1", Job("j", ()), range(len(values)), Values.of_plain([]), commit=(store, key))
    return parts.commit(call, values, report)


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path)


def test_what_is_read_is_what_was_written():
    found = framed.decode(memoryview(bytearray(written(LARGE, FAILED))))
    assert (found.tasks, found.failures, found.info) == (range(7, 10), FAILED, {"attempt": 2})
    first, _, last = found.values
    assert first["a"].dtype == np.int32
    assert np.array_equal(first["a"], LARGE[0]["a"])
    assert (first["b"], last["b"], last["a"].tolist()) == ("text", b"c", [0, 0, 0])


@pytest.mark.parametrize(("values", "step"), [(SMALL, 1), (LARGE, 997)], ids=["small", "large"])
def test_no_bit_changes_unseen(values, step):
    """But for those that fill the gaps between frames, and those of large arrays."""
    body = written(values)
    array = LARGE[0]["a"].tobytes()
    trusted = range(body.find(array), body.find(array) + len(array)) if array in body else range(0)
    assert len(trusted) in (0, len(array))
    for bit in range(0, 8 * len(body), step):
        if bit // 8 in trusted:
            continue
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = framed.decode(memoryview(flipped))
        except Damaged:
            continue
        assert repr(list(found.values)) == repr(list(values)), f"bit {bit}"


@pytest.mark.parametrize("body", [written(SMALL), written(LARGE)[-1000:]], ids=["torn", "another"])
def test_no_torn_part_is_read(body):
    for length in range(0, len(body) - 1, 7):
        with pytest.raises(Damaged):
            framed.decode(memoryview(body)[:length])


def test_the_first_commit_stands_and_each_reader_has_arrays_of_its_own(store):
    assert [committed(store, LARGE), committed(store, SMALL)] == ["won", "lost"]
    for _ in range(2):
        values, size = parts.read_values(store, KEY, None)
        array = values[0]["a"]
        assert (array[5], size > array.nbytes) == (5, True)
        array[5] = -1  # it may be written to, and no other reader sees that


@pytest.mark.parametrize(
    ("chosen", "found"), [("b", ["text", None, b"c"]), (("b",), [{"b": "text"}, None, {"b": b"c"}])]
)
def test_columns_are_as_those_of_parquet(store, chosen, found):
    other = keys.part("r", 0, 1)
    committed(store, LARGE)
    committed(store, LARGE, other)
    assert [parts.read_values(store, key, chosen)[0] for key in (KEY, other)] == [found, found]


def test_a_table_is_as_that_of_parquet(store):
    other = keys.part("r", 0, 1)
    committed(store, SMALL)
    committed(store, SMALL, other)
    assert parts.read_table(store, KEY)["task"].equals(parts.read_table(store, other)["task"])


@pytest.mark.parametrize("chosen", [None, "b"])
def test_a_part_that_was_closed_off_is_gone(store, chosen):
    assert parts.close_off(store, KEY)
    assert committed(store, LARGE) == "lost"
    assert parts.is_gone(store, KEY, seal=False)
    with pytest.raises(MissingKey, match="closed off"):
        parts.read_values(store, KEY, chosen)
