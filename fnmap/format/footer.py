"""A checksum of a Parquet file's footer. Parquet has one for each page, and none for the footer, which says where the
pages are and what is in them.

It lies before the footer, between the pages and what describes them, where readers of Parquet do not look.
"""

from __future__ import annotations

import zlib
from typing import Any

from fnmap.errors import Damaged

MARK = b"fnm1"
MARK_BYTES = len(MARK) + 4
_END_BYTES = 8  # the length of the footer, and "PAR1"


def mark(footer: bytes | memoryview) -> bytes:
    """What stands before a footer, which is all to the end of the file."""
    return MARK + zlib.crc32(footer).to_bytes(4, "little")


def marked(file: memoryview) -> memoryview:
    """A whole file with the checksum in it."""
    at = begin(file)
    return memoryview(b"".join((file[:at], mark(file[at:]), file[at:])))


def check_footer(file: Any) -> None:
    """Raise Damaged if the footer is not the one that was written. A file of others has no mark, and may pass."""
    view = memoryview(file).cast("B")
    at = begin(view)
    said = view[at - MARK_BYTES : at] if at >= MARK_BYTES else b""
    if at < 0 or (said[: len(MARK)] == MARK and said != mark(view[at:])):
        raise Damaged("a result object cannot be read as Parquet: its footer is not the one that was written")


def begin(file: bytes | memoryview) -> int:
    """Where the footer begins; negative if the file is too short for what it says."""
    if len(file) < _END_BYTES:
        return -1
    return len(file) - _END_BYTES - int.from_bytes(file[-_END_BYTES:-4], "little")
