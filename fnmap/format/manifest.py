"""Manifests: sorted keys of tasks, and in which part and at which position the result of each is.

An object is a line of JSON (how many entries, the parts' keys, a checksum) and four columns of numbers:
nothing in it is ever executed, and what was damaged is noticed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "fnmap manifest 1"
_COLUMNS = ("<u8", "<u8", "<u4", "<u4")


@dataclass(frozen=True, eq=False)
class Manifest:
    """Keys (n, 2) in ascending order, each once; part_of (n) into `parts`; positions (n) in these."""

    keys: NDArray[np.uint64]
    parts: Sequence[str]
    part_of: NDArray[np.uint32]
    positions: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, keys: Any, parts: Sequence[str], part_of: Any, positions: Any) -> Manifest:
        """Entries in any order; of those with the same key the first counts."""
        import numpy as np

        keys = np.asarray(keys, np.uint64).reshape(-1, 2)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        keys = keys[order]
        first = np.ones(len(keys), bool)
        first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        chosen = order[first]
        part_of, positions = np.asarray(part_of, np.uint32)[chosen], np.asarray(positions, np.uint32)[chosen]
        return cls(keys[first], parts, part_of, positions)

    def take(self, chosen: Any) -> Manifest:
        """Some of the entries (a slice or a mask), and the parts that they name."""
        import numpy as np

        used, part_of = np.unique(self.part_of[chosen], return_inverse=True)
        parts = [self.parts[at] for at in used]
        return Manifest(self.keys[chosen], parts, part_of.astype(np.uint32), self.positions[chosen])

    def of_digit(self, digit: int) -> slice:
        """Where the keys are whose first hex digit this is."""
        return digit_slice(self.keys[:, 0], digit)

    def find(self, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Where each of the keys (m, 2) is; -1 for those that are not there. Fastest if they are in order."""
        import numpy as np

        found = np.full(len(wanted), -1, np.int64)
        if not len(self):
            return found
        high = np.ascontiguousarray(self.keys[:, 0])
        at = np.searchsorted(high, wanted[:, 0])
        open_ = np.flatnonzero(at < len(high))
        while len(open_):  # once, but for keys that have their first half in common
            open_ = open_[high[at[open_]] == wanted[open_, 0]]
            right = self.keys[at[open_], 1] == wanted[open_, 1]
            found[open_[right]] = at[open_[right]]
            open_ = open_[~right]
            at[open_] += 1
            open_ = open_[at[open_] < len(high)]
        return found

    def encode(self) -> bytes:
        columns: tuple[Any, ...] = self.keys[:, 0], self.keys[:, 1], self.part_of, self.positions
        body = b"".join(c.astype(kind, copy=False).tobytes() for c, kind in zip(columns, _COLUMNS, strict=True))
        head = {"format": FORMAT, "entries": len(self), "parts": list(self.parts)}
        checksum = zlib.crc32(body, zlib.crc32(json.dumps(head).encode()))
        return json.dumps({**head, "checksum": checksum}).encode() + b"\n" + body


def decode(message: bytes | memoryview) -> Manifest | None:
    """The manifest of `encode`; None if it is damaged, or of a format that is not known."""
    import numpy as np

    line, _, body = bytes(message).partition(b"\n")
    try:
        head = json.loads(line)
        checksum = head.pop("checksum")
        count, parts = head["entries"], head["parts"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if head.get("format") != FORMAT or zlib.crc32(body, zlib.crc32(json.dumps(head).encode())) != checksum:
        return None
    columns, at = [], 0
    for kind in _COLUMNS:
        columns.append(np.frombuffer(body, kind, count, at))
        at += columns[-1].nbytes
    return Manifest(np.column_stack(columns[:2]), parts, columns[2], columns[3])


def merged(manifests: Sequence[Manifest]) -> Manifest:
    """All entries, the newest manifest first: its entries count."""
    import numpy as np

    parts: list[str] = []
    part_of = []
    for one in manifests:
        part_of.append(one.part_of.astype(np.uint32) + np.uint32(len(parts)))
        parts += one.parts
    names = sorted({*parts})
    numbers = {name: number for number, name in enumerate(names)}
    inverse = np.array([numbers[name] for name in parts], np.int64)
    keys = np.concatenate([np.empty((0, 2), np.uint64), *(one.keys for one in manifests)])
    places = inverse[np.concatenate([np.empty(0, np.uint32), *part_of]).astype(np.int64)]
    positions = np.concatenate([np.empty(0, np.uint32), *(one.positions for one in manifests)])
    return Manifest.of(keys, names, places, positions).take(slice(None))


def digit_slice(high: Any, digit: int) -> slice:
    """Where in ascending first halves of keys those are whose first hex digit this is."""
    import numpy as np

    start = int(np.searchsorted(high, np.uint64(digit << 60)))
    stop = int(np.searchsorted(high, np.uint64((digit + 1) << 60))) if digit < 15 else len(high)
    return slice(start, stop)
