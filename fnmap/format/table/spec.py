"""What an Arrow array does not say about the objects in it: JSON, kept in the table's metadata."""

from __future__ import annotations

import base64
import zlib
from typing import Any, NamedTuple

import numpy as np

Spec = dict[str, Any]


class Column(NamedTuple):
    """An Arrow array and how to read it back."""

    array: Any
    spec: Spec


def pack(array: Any) -> str:
    """A numpy array of numbers as compressed text."""
    return text(zlib.compress(np.ascontiguousarray(array).tobytes(), 1))


def unpack(packed: str, dtype: Any) -> Any:
    """The inverse of `pack`, shape (n,)."""
    return np.frombuffer(zlib.decompress(binary(packed)), dtype)


def text(body: bytes) -> str:
    """Bytes as ASCII."""
    return base64.b64encode(body).decode("ascii")


def binary(ascii_text: str) -> bytes:
    """The inverse of `text`."""
    return base64.b64decode(ascii_text)


class Unfit(TypeError):
    """A value that has no place here. Says all that there is to say."""
