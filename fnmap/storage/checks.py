"""What every store checks at its door, so that what one store takes, all take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from fnmap.errors import UsageError
from fnmap.storage.base import Buffer

_MAX_KEY, _MAX_SEGMENT = 1024, 255  # what S3 takes as a key, and file systems as a name
_NO_SEGMENT = frozenset(("", ".", ".."))
_RESERVED = ".tmp"  # where a store of files keeps what is not yet whole


def check_key(key: str, name: str = "key") -> str:
    """Return the key if it may be one, else raise UsageError."""
    if isinstance(key, str) and _fits(key):
        return key
    raise UsageError(
        f"{name} must be a relative path of at most 1024 printable ASCII characters without backslash, in "
        "segments of 1 to 255 joined by '/', none of them '.' or '..', the first not '.tmp', such as "
        f"'part/a/run/0.parquet'; got {key!r}"
    )


@lru_cache(1024)  # a driver asks for the same few keys over and over
def _fits(key: str) -> bool:
    if len(key) > _MAX_KEY or not plain(key):
        return False
    segments = key.split("/")
    return max(map(len, segments)) <= _MAX_SEGMENT and segments[0] != _RESERVED and _NO_SEGMENT.isdisjoint(segments)


def check_prefix(prefix: str) -> str:
    """Return the prefix if it is "" or a key may start with it, else raise UsageError."""
    if prefix != "":
        unfinished = isinstance(prefix, str) and prefix.endswith(("/", "."))
        check_key(prefix + "-" if unfinished else prefix, "prefix")
    return prefix


def flat(body: Buffer) -> bytes | memoryview:
    """The bytes of any buffer, in C order, as one flat run; copied only where they do not lie so."""
    if isinstance(body, bytes):
        return body
    try:
        view = memoryview(body)
    except TypeError:
        got = type(body).__name__
        raise UsageError(f"body must be bytes, a bytearray or a memoryview; got {got}") from None
    if not view.c_contiguous:
        return view.tobytes()
    if view.format == "B" and view.ndim == 1:
        return view
    from pickle import PickleBuffer  # unlike memoryview.cast it takes any element type

    return PickleBuffer(view).raw()


def plain(name: str) -> bool:
    """Whether the name has only characters that a key may have."""
    return name.isascii() and name.isprintable() and "\\" not in name


def check_keys(keys: Iterable[str]) -> Iterator[str]:
    """Each of the keys, checked. One str is refused: it would be taken for a key per character."""
    if isinstance(keys, str):
        raise UsageError(f"keys must be an iterable of keys; got the str {keys!r}: write [{keys!r}]")
    return map(check_key, keys)
