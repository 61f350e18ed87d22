"""A part that is not as it was written is found out, whichever bit of it changed."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest

from fnmap.errors import Damaged
from fnmap.format import footer, small
from fnmap.format.parts import encode_part
from fnmap.format.table import from_parquet, to_parquet
from fnmap.format.table.select import select

PARTS = {
    "small": bytes(small.to_parquet(range(3), [1, 2, 3], {"attempt": 1})),
    "table": bytes(to_parquet(encode_part(range(3), [{"a": 1, "b": "x"}] * 3, {}, {"attempt": 1}))),
    "objects": bytes(to_parquet(encode_part(range(2), [1, "x"], {}, {"attempt": 1}))),
}


@pytest.mark.parametrize("body", PARTS.values(), ids=PARTS)
def test_no_bit_changes_unseen(body):
    """The magic at the front, which nobody looks at, is the exception, and the mark itself."""
    whole = from_parquet(body)
    at = body.rindex(footer.MARK)
    for bit in range(8 * 4, 8 * len(body)):
        if 8 * at <= bit < 8 * (at + len(footer.MARK)):
            continue
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = from_parquet(bytes(flipped))
        except Damaged:
            continue
        assert found.equals(whole, check_metadata=True), f"bit {bit} of {len(body) * 8}"


@pytest.mark.parametrize("body", PARTS.values(), ids=PARTS)
def test_no_torn_part_is_read(body):
    for length in range(len(body)):
        with pytest.raises(Damaged):
            from_parquet(body[:length])


def test_a_column_of_a_damaged_part_is_not_read():
    body = bytearray(PARTS["table"])
    body[body.rindex(footer.MARK) + 20] ^= 1
    with pytest.raises(Damaged, match="footer"):
        select(bytes(body), "a")


def test_other_readers_see_an_ordinary_file():
    assert pq.read_table(io.BytesIO(PARTS["small"]))["value"].to_pylist() == [1, 2, 3]


def test_files_of_other_writers_may_be_read():
    out = io.BytesIO()
    pq.write_table(from_parquet(PARTS["small"]), out)
    assert from_parquet(out.getvalue()).num_rows == 3
