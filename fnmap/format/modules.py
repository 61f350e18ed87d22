"""The modules that a pickle needs where it is loaded."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator, Sequence

from fnmap.format.payload import Frame, Ref


def modules_of_frames(frames: Sequence[Frame]) -> set[str]:
    """`modules_of` the pickle that comes first; none where that lies in a store."""
    return set() if not frames or isinstance(frames[0], Ref) else modules_of(frames[0])


def modules_of(pickled: bytes | bytearray | memoryview) -> set[str]:
    """The dotted names of the modules whose content the pickle refers to by name."""
    return set(_named(bytes(pickled)))


def _named(pickled: bytes) -> Iterator[str]:
    """Follows what is on the stack only as far as names go: the last two texts before STACK_GLOBAL are the module and
    what is in it, be they there for the first time or out of the memo."""
    texts: list[str] = []
    memo: dict[int, str | None] = {}
    last: str | None = None
    for code, argument, _ in pickletools.genops(pickled):
        name = code.name
        if "UNICODE" in name:
            last = str(argument)
            texts = [*texts[-1:], last]
        elif name == "MEMOIZE":
            memo[len(memo)] = last
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = last
        elif name in ("BINGET", "LONG_BINGET"):
            last = memo.get(int(argument or 0))
            if last is not None:
                texts = [*texts[-1:], last]
        elif name == "STACK_GLOBAL" and len(texts) == 2:
            yield texts[0]
            if texts == ["cloudpickle.cloudpickle", "subimport"]:
                last = "subimport"
                continue
            last = None
        elif name == "GLOBAL":
            yield str(argument).split(" ")[0]
            last = None
        elif name == "REDUCE" or name == "BUILD":
            last = None
        elif name == "TUPLE1" and texts and texts[:1] == ["subimport"]:
            yield texts[-1]
            last = None
        elif name not in ("PROTO", "FRAME"):
            last = None
