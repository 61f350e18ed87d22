"""Digests of whatever an object refers to: equal for equal content, in any process, whatever the hash seed.

An object is taken apart into a tag and children (`Shape`), these again, until there are only plain values.
The digest of a node is a hash of its tag and the digests of its children; nodes that refer to each other in
circles are told apart by what one meets on the way from each. Which objects are the same object is no part
of it: two equal lists count as one list that is there twice.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

SIZE = 16  # bytes of a digest
ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None)})


@dataclass(frozen=True, slots=True)
class Shape:
    """An object taken apart. `names` say for messages what the children are. `loose`: their order does not
    count. `lasting`: it will not change while its Digester lives."""

    tag: bytes
    children: Sequence[Any] = ()
    names: Sequence[str] = ()
    loose: bool = False
    lasting: bool = False


TakeApart = Callable[[Any], Shape]


class Unknown(Exception):
    """An object's content cannot be told. `names` lead to it, from the inside out; the object is `args[0]`."""

    def __init__(self, obj: object, names: tuple[str, ...] = ()) -> None:
        super().__init__(obj)
        self.names = names


class NotPlain(Exception):
    """There is something else in it than built-in types."""


def hashed(*parts: bytes) -> bytes:
    """A digest of the parts: of another tag or other children it is another."""
    return blake2b(len(parts[0]).to_bytes(8, "little") + b"".join(parts), digest_size=SIZE).digest()


def plain_bytes(value: Any, *, loose_dicts: bool) -> bytes:
    """Plain values as bytes: equal if type and content are. Raises NotPlain."""
    try:
        return marshal.dumps(_canonical(value, loose_dicts), 2)  # version 2: no references, so no identities
    except (RecursionError, ValueError) as error:  # a circle, or as deep as one
        raise NotPlain from error


def _canonical(value: Any, loose_dicts: bool) -> Any:
    """The value with sets and dicts as tuples, which begin with an Ellipsis: no plain value is one."""
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is tuple or kind is list:
        if ATOMS.issuperset(map(type, value)):
            return value
        return kind([_canonical(v, loose_dicts) for v in value])
    if kind is dict:
        pairs = [(_canonical(k, loose_dicts), _canonical(v, loose_dicts)) for k, v in value.items()]
        if loose_dicts:
            pairs.sort(key=lambda pair: marshal.dumps(pair[0], 2))
        return (..., "dict", *pairs)
    if kind is set or kind is frozenset:
        return (..., kind.__name__, *sorted(marshal.dumps(_canonical(v, loose_dicts), 2) for v in value))
    raise NotPlain


class Digester:
    """Digests of objects, which `take_apart` knows to take apart."""

    def __init__(self, take_apart: TakeApart, *, loose_dicts: bool) -> None:
        self._take_apart, self._loose_dicts = take_apart, loose_dicts
        self._lasting: dict[int, tuple[Any, bytes]] = {}  # by id; the object is kept, and so is its id

    def __call__(self, root: Any) -> bytes:
        """The digest of an object. Raises Unknown."""
        graph = _Graph(self)
        at = graph.place(root)
        return at if isinstance(at, bytes) else graph.digest(at)

    def known(self, obj: Any) -> bytes | None:
        """Its digest if that takes no graph: it is plain, or was seen before."""
        if id(obj) in self._lasting:
            return self._lasting[id(obj)][1]
        try:
            return hashed(b"plain", plain_bytes(obj, loose_dicts=self._loose_dicts))
        except NotPlain:
            return None

    def keep(self, obj: Any, digest: bytes) -> None:
        self._lasting[id(obj)] = (obj, digest)

    def shape(self, obj: Any) -> Shape:
        """Of containers here, of all else as `take_apart` says."""
        kind = type(obj)
        if kind is list or kind is tuple:
            return Shape(kind.__name__.encode(), obj, _Items(len(obj)))
        if kind is dict:
            return Shape(b"dict", tuple(map(_Pair, obj.items())), _Keys(tuple(obj)), loose=self._loose_dicts)
        if kind is _Pair:
            return Shape(b"pair", obj, ("the key", ""))
        if kind is set or kind is frozenset:
            return Shape(kind.__name__.encode(), tuple(obj), _Items(len(obj)), loose=True)
        return self._take_apart(obj)


class _Pair(tuple[Any, Any]):
    """A key and its value."""

    __slots__ = ()


class _Items(Sequence[str]):
    """ "item 0", "item 1", ... made only when a message needs them."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: Any) -> Any:
        return f"item {at}"


class _Keys(_Items):
    """As _Items, of the values of a dict."""

    def __init__(self, keys: tuple[Any, ...]) -> None:
        super().__init__(len(keys))
        self._keys = keys

    def __getitem__(self, at: Any) -> Any:
        key = self._keys[at]
        return f"[{key!r}]" if type(key) in (str, int) else f"the item of key {at}"


class _Graph:
    """The objects that one refers to, as nodes with their children."""

    def __init__(self, digester: Digester) -> None:
        self._digester = digester
        self._objects: list[Any] = []  # kept, so that no id is used again
        self._at: dict[int, int] = {}
        self._from: list[tuple[int, int]] = []  # of each node: from which other and as which child it was found
        self._shapes: list[Shape] = []
        self._children: list[list[int | bytes]] = []

    def place(self, obj: Any, origin: tuple[int, int] = (-1, 0)) -> int | bytes:
        """The object's node; its digest if that takes no node."""
        if id(obj) in self._at:
            return self._at[id(obj)]
        known = self._digester.known(obj)
        if known is not None:
            return known
        at = self._at[id(obj)] = len(self._objects)
        self._objects.append(obj)
        self._from.append(origin)
        return at

    def digest(self, root: int) -> bytes:
        self._expand()
        digests: list[bytes] = [b""] * len(self._objects)
        for component in _components(self._children):
            (self._digest_circle if len(component) > 1 else self._digest_one)(component, digests)
            if any(self._shapes[at].lasting for at in component):  # all: later they must look the same from outside
                for at in component:
                    self._digester.keep(self._objects[at], digests[at])
        return digests[root]

    def _expand(self) -> None:
        at = 0
        while at < len(self._objects):
            try:
                shape = self._digester.shape(self._objects[at])
            except Unknown as error:
                raise Unknown(error.args[0], (*error.names, *self._path(at))) from error.__cause__
            self._shapes.append(shape)
            self._children.append([self.place(child, (at, n)) for n, child in enumerate(shape.children)])
            at += 1

    def _path(self, at: int) -> Iterator[str]:
        while self._from[at][0] >= 0:
            at, child = self._from[at]
            names = self._shapes[at].names
            if child < len(names) and names[child]:
                yield names[child]

    def _hash(self, at: int, digests: Sequence[bytes] | dict[int, bytes]) -> bytes:
        children = [child if isinstance(child, bytes) else digests[child] for child in self._children[at]]
        return hashed(self._shapes[at].tag, *(sorted(children) if self._shapes[at].loose else children))

    def _digest_one(self, component: list[int], digests: list[bytes]) -> None:
        (at,) = component
        if at in self._children[at]:
            self._digest_circle(component, digests)
        else:
            digests[at] = self._hash(at, digests)

    def _digest_circle(self, component: list[int], digests: list[bytes]) -> None:
        """Nodes that refer to each other: they start as their tags, and are told apart by their children's
        digests of the round before until no more can be told apart. All of them then belong to each digest."""
        colours = {at: hashed(self._shapes[at].tag) for at in component}
        while True:
            for at in component:
                digests[at] = colours[at]
            finer = {at: self._hash(at, digests) for at in component}
            if len({*finer.values()}) == len({*colours.values()}):
                break
            colours = finer
        whole = b"".join(sorted({colours[at] + finer[at] for at in component}))
        for at in component:
            digests[at] = hashed(colours[at], whole)


def _components(children: list[list[int | bytes]]) -> Iterator[list[int]]:
    """The strongly connected components, children first (Tarjan 1972, without recursion)."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    waiting: set[int] = set()
    for root in range(len(children)):
        work = [(root, iter(children[root]))] if root not in order else []
        while work:
            at, rest = work[-1]
            if at not in order:
                order[at] = low[at] = len(order)
                stack.append(at)
                waiting.add(at)
            for child in rest:
                if isinstance(child, bytes):
                    continue
                if child not in order:
                    work.append((child, iter(children[child])))
                    break
                if child in waiting:
                    low[at] = min(low[at], order[child])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == order[at]:
                    component = [stack.pop()]
                    while component[-1] != at:
                        component.append(stack.pop())
                    waiting.difference_update(component)
                    yield component
