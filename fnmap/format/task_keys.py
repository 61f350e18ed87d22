"""The keys of tasks: 128 bits of a function's identity and an item, as two columns of 64.

Items are the same if their types and contents are: 1, 1.0 and True are three items, and equal dicts or sets
are one in whatever order they were filled. Integers and floats, the items of most large maps, are mixed as
columns: each half of a key is then a permutation of the numbers, so that no two of them share a key.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from fnmap.errors import NotCacheable
from fnmap.format.digest import ATOMS, NotPlain, Unknown, hashed, plain_bytes
from fnmap.format.identity import item_digester, why_not

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fnmap.format.call import Form

    Keys = NDArray[np.uint64]  # shape (n, 2)

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1


def item_keys(base: str, items: Sequence[Any], form: Form) -> Keys:
    """The key of each task: of the function's identity `base`, how it is called, and the item. Shape (n, 2).

    Raises NotCacheable for an item whose content cannot be told.
    """
    import numpy as np

    prefix = hashed(b"item", base.encode(), form.encode())
    keys = np.empty((len(items), 2), np.uint64)
    if isinstance(items, range) and items and all(_INT_MIN <= at <= _INT_MAX for at in (items.start, items.stop)):
        keys[:] = _mixed(prefix + b"int", np.arange(items.start, items.stop, items.step, dtype=np.int64))
        return keys
    for kind, places in _by_type(items):
        chosen = items if places is None else [items[at] for at in places]
        keys[slice(None) if places is None else places] = _keys_of(kind, chosen, prefix, places)
    return keys


def derived_keys(base: str, own: Keys | None, indices: Any, ends: Any, upstream: Keys) -> Keys:
    """The keys of tasks that take the results of others: of `base`, the task's own item key where it has an
    item too, and the keys of its inputs in order. Task t takes upstream[indices[ends[t - 1]:ends[t]]]."""
    import numpy as np

    prefix = hashed(b"derived", base.encode(), b"own" if own is not None else b"")
    body = np.ascontiguousarray(upstream[np.asarray(indices)], np.uint64).tobytes()
    stops = (np.asarray(ends, np.int64) * 16).tolist()
    slices = map(body.__getitem__, map(slice, [0, *stops[:-1]], stops))
    if own is None:
        return _joined(prefix, slices)
    owned = np.ascontiguousarray(own, np.uint64).tobytes()
    places = range(0, len(owned), 16)
    return _joined(prefix, (owned[at : at + 16] + inputs for at, inputs in zip(places, slices, strict=True)))


def _by_type(items: Sequence[Any]) -> list[tuple[type, Any]]:
    """The types of the items and where each is; None: everywhere."""
    kinds = {*map(type, items)}
    if len(kinds) == 1:
        return [(kinds.pop(), None)]
    import numpy as np

    numbers = {kind: number for number, kind in enumerate(kinds)}
    codes = np.fromiter(map(numbers.__getitem__, map(type, items)), np.int64, len(items))
    return [(kind, np.flatnonzero(codes == number)) for kind, number in numbers.items()]


def _keys_of(kind: type, items: Sequence[Any], prefix: bytes, places: Any) -> Keys:
    """The keys of items of one type."""
    import numpy as np

    if kind is int:
        return _int_keys(items, prefix)
    if kind is float:
        return _mixed(prefix + b"float", _one_nan(np.fromiter(items, np.float64, len(items))))
    if issubclass(kind, (np.number, np.bool_)) and kind.__module__ == "numpy" and np.dtype(kind).itemsize <= 8:
        return _mixed(prefix + f"numpy {np.dtype(kind).str}".encode(), np.array(items, kind))
    flat = chain.from_iterable(items) if kind in (tuple, list) else ()
    if kind in ATOMS or (kind in (tuple, list) and ATOMS.issuperset(map(type, flat))):
        return _joined(prefix + b"p", map(marshal.dumps, items, repeat(2)))
    digests, encoded = item_digester(), []
    for at, item in enumerate(items):
        try:
            encoded.append(b"p" + plain_bytes(item, loose_dicts=True))
        except NotPlain:
            try:
                encoded.append(b"d" + digests(item))
            except Unknown as error:
                place = at if places is None else places[at]
                raise NotCacheable(f"{why_not(error, f'item {place}')}") from error.__cause__
    return _joined(prefix, encoded)


def _int_keys(items: Sequence[int], prefix: bytes) -> Keys:
    import numpy as np

    try:
        return _mixed(prefix + b"int", np.fromiter(items, np.int64, len(items)))
    except OverflowError:
        small = np.array([_INT_MIN <= item <= _INT_MAX for item in items])
    keys = np.empty((len(items), 2), np.uint64)
    keys[small] = _mixed(prefix + b"int", np.array([i for i in items if _INT_MIN <= i <= _INT_MAX], np.int64))
    large = (marshal.dumps(i, 2) for i in items if not _INT_MIN <= i <= _INT_MAX)
    keys[~small] = _joined(prefix + b"p", large)
    return keys


def _joined(prefix: bytes, encoded: Iterable[bytes]) -> Keys:
    import numpy as np

    new: Callable[..., Any] = blake2b
    digests = b"".join([new(prefix + one, digest_size=16).digest() for one in encoded])
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _one_nan(numbers: Any) -> Any:
    numbers[numbers != numbers] = float("nan")
    return numbers


def _mixed(salt: bytes, numbers: Any) -> Keys:
    """Two permutations of the numbers' bits, chosen by the salt."""
    import numpy as np

    bits = numbers.view(f"u{numbers.itemsize}").astype(np.uint64)
    a, b, c, d = np.frombuffer(blake2b(salt, digest_size=32).digest(), np.uint64)
    keys = np.empty((len(bits), 2), np.uint64)
    keys[:, 0] = _mix(_mix(bits + a) ^ b)
    keys[:, 1] = _mix(_mix(bits ^ c) + d)
    return keys


def _mix(x: Any) -> Any:
    """Scatter 64 bits, one to one (the finaliser of SplitMix64: Steele, Lea and Flood 2014)."""
    import numpy as np

    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
