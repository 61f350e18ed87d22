"""What a store must do, as tests; and stores around stores that count, fail or dawdle.

from fnmap.testing.stores import StoreContract

class TestMyStore(StoreContract):
    @pytest.fixture
    def store(self):
        return MyStore(...)          # empty, and of this test alone
"""

from __future__ import annotations

import array
import pickle
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from fnmap.errors import MissingKey, StoreError, UsageError
from fnmap.storage.base import Buffer, MapObject, Store, Url

_MB = 1 << 20
_BODIES = {
    "empty": b"",
    "one": b"\0",
    "binary": bytes(range(256)) * 40,
    "large": bytes(range(251)) * (8 * _MB // 251),
}
_KEYS = ["a b/c", "part/0/run.1/0/000-1.parquet", "x=1/y,z", "50%/~(1)!'*", "...", "a/.b/..c", "s" * 255]
_BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a\\b",
    "a\nb",
    "a\0",
    "é",
    ".tmp/a",
]
_LONG_KEYS = ["s" * 256, "/".join("s" * 600)]


class StoreContract:
    """The specification of the seam: a store whose subclass of this passes can be used by fnmap.

    What it does not test, because only the store's own tests can: that an object survives a crash
    whole or not at all, that a full or read-only store raises StoreFull or StoreReadOnly, and that
    after any other StoreError of a write, reading back tells what happened. The caller sees to it
    that no key is the folder of another ("a" and "a/b"): not every store can hold both.
    """

    races, racers = 5, 16
    """How often, and of how many creators at a time, it is asked that one wins."""

    @pytest.fixture
    def store(self) -> Store:
        """An empty store: to be overridden."""
        raise NotImplementedError("override the fixture `store` with one that returns an empty store")

    # -- one object ------------------------------------------------------------------------------------

    def test_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)

    @pytest.mark.parametrize("verb", ["put", "create"])
    @pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES.keys())
    def test_a_body_comes_back_as_it_went(self, store: Store, verb: str, body: bytes) -> None:
        getattr(store, verb)("a/b", body)
        got = store.get("a/b")
        assert type(got) is bytes
        assert got == body

    @pytest.mark.parametrize("verb", ["put", "create"])
    @pytest.mark.parametrize(
        "body",
        [
            bytearray(b"abc"),
            memoryview(b"xabcx")[1:4],
            memoryview(b"a-b-c-")[::2],
            memoryview(array.array("d", [1.5, 2.5])),
            memoryview(bytes(12)).cast("B", (3, 4)),
            memoryview(b""),
        ],
        ids=["bytearray", "slice", "strided", "doubles", "matrix", "nothing"],
    )
    def test_any_buffer_is_a_body(self, store: Store, verb: str, body: Buffer) -> None:
        getattr(store, verb)("a", body)
        assert store.get("a") == bytes(body)

    def test_a_body_is_copied(self, store: Store) -> None:
        body = bytearray(b"before")
        store.put("a", body)
        body[:] = b"after!"
        assert store.get("a") == b"before"

    @pytest.mark.parametrize("verb", ["put", "create"])
    @pytest.mark.parametrize("body", ["text", None, 3, [b"a"]])
    def test_what_is_no_buffer_is_refused(self, store: Store, verb: str, body: object) -> None:
        with pytest.raises(UsageError, match="body"):
            getattr(store, verb)("a", body)
        assert list(store.list("")) == []

    def test_put_replaces(self, store: Store) -> None:
        store.put("a", b"a long first body")
        store.put("a", b"second")
        assert store.get("a") == b"second"

    def test_create_is_exclusive(self, store: Store) -> None:
        assert store.create("a/b", b"first") is True
        assert store.create("a/b", b"second") is False
        assert store.create("a/b", b"first") is False
        assert store.get("a/b") == b"first"

    def test_create_yields_to_what_was_put(self, store: Store) -> None:
        store.put("a", b"")
        assert store.create("a", b"second") is False
        assert store.get("a") == b""

    def test_put_replaces_what_was_created(self, store: Store) -> None:
        store.create("a", b"first")
        store.put("a", b"second")
        assert store.get("a") == b"second"

    def test_a_missing_key_is_named(self, store: Store) -> None:
        store.put("a/b/c", b"")
        for key in ("nope", "a/b/nope", "a/b"):
            with pytest.raises(MissingKey, match=key):
                store.get(key)

    # -- keys ------------------------------------------------------------------------------------------

    def test_every_key_keeps_its_object(self, store: Store) -> None:
        for key in _KEYS:
            store.put(key, key.encode())
        assert sorted(store.list("")) == sorted(_KEYS)
        assert [store.get(key) for key in _KEYS] == [key.encode() for key in _KEYS]

    @pytest.mark.parametrize("key", [*_BAD_KEYS, *_LONG_KEYS, b"a", None], ids=ascii)
    def test_a_bad_key_is_refused(self, store: Store, key: Any) -> None:
        calls: list[Callable[[], object]] = [
            partial(store.get, key),
            partial(store.put, key, b""),
            partial(store.create, key, b""),
            partial(store.delete, [key]),
        ]
        for call in calls:
            with pytest.raises(UsageError, match="key"):
                call()
        assert list(store.list("")) == []

    # -- many objects ----------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "prefix", ["", "a", "a/", "a/b", "a/b/", "a/b/1", "ab", "b", "b/x.", "zz", "a/zz/", "b/x/"]
    )
    def test_a_prefix_is_the_start_of_a_key(self, store: Store, prefix: str) -> None:
        keys = ["a/b/1", "a/b/12", "a/bc", "ab/c", "b/x.y", "top"]
        for key in keys:
            store.put(key, b"")
        assert sorted(store.list(prefix)) == [key for key in keys if key.startswith(prefix)]

    @pytest.mark.parametrize("prefix", ["/", "../", "a//", "a/../b", "é", b"a", None], ids=ascii)
    def test_a_bad_prefix_is_refused_at_the_call(self, store: Store, prefix: Any) -> None:
        with pytest.raises(UsageError, match="prefix"):
            store.list(prefix)

    def test_delete_removes_these_and_only_these(self, store: Store) -> None:
        for key in ("a/1", "a/2", "a/3", "b"):
            store.put(key, b"")
        store.delete(key for key in ("a/1", "missing", "a/missing", "missing/too", "a", "a/1", "a/2"))
        assert sorted(store.list("")) == ["a/3", "b"]
        with pytest.raises(MissingKey):
            store.get("a/1")
        assert store.create("a/1", b"again") is True

    def test_what_is_listed_can_be_deleted_on_the_way(self, store: Store) -> None:
        for number in range(20):
            store.put(f"a/{number % 3}/{number}", b"")
        store.delete(store.list("a/"))
        store.delete([])
        assert list(store.list("")) == []

    def test_one_string_is_no_list_of_keys(self, store: Store) -> None:
        store.put("a", b"")
        with pytest.raises(UsageError, match="keys"):
            store.delete("a")
        assert list(store.list("")) == ["a"]

    # -- many users ------------------------------------------------------------------------------------

    def test_one_of_many_creators_wins(self, store: Store) -> None:
        for round_ in range(self.races):
            key, start = f"race/{round_}", threading.Barrier(self.racers)
            bodies = [bytes([number]) * (64 << 10) for number in range(self.racers)]

            def create(body: bytes, key: str = key, start: threading.Barrier = start) -> bool:
                start.wait()
                return store.create(key, body)

            with ThreadPoolExecutor(self.racers) as pool:
                won = list(pool.map(create, bodies))
            assert won.count(True) == 1
            assert store.get(key) == bodies[won.index(True)]

    def test_no_reader_sees_part_of_a_put(self, store: Store) -> None:
        bodies = [b"0" * _MB, b"1" * _MB]
        store.put("a", bodies[0])

        def write(body: bytes) -> None:
            for _ in range(15):
                store.put("a", body)

        def read(_: int) -> bool:
            return all(store.get("a") in bodies for _ in range(30))

        with ThreadPoolExecutor(4) as pool:
            writers, readers = pool.map(write, bodies), pool.map(read, range(2))
            assert list(readers) == [True, True]
            assert list(writers) == [None, None]

    def test_what_is_listed_is_whole(self, store: Store) -> None:
        body = b"x" * (_MB // 4)

        def write() -> None:
            for number in range(40):
                store.create(f"a/{number}", body)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            while not writing.done():
                assert all(store.get(key) == body for key in list(store.list("a/"))[-5:])
            writing.result()
        assert len(list(store.list("a/"))) == 40

    def test_creating_and_deleting_in_one_folder_do_not_disturb_each_other(self, store: Store) -> None:
        def create_and_delete(user: int) -> list[bool]:
            won = []
            for number in range(30):
                won.append(store.create(f"a/b/{user}-{number}", b""))
                list(store.list("a/"))
                store.delete([f"a/b/{user}-{number}"])
            return won

        with ThreadPoolExecutor(4) as pool:
            assert all(all(won) for won in pool.map(create_and_delete, range(4)))
        assert list(store.list("")) == []

    def test_a_copy_sees_the_same_objects(self, store: Store) -> None:
        copy = _copy_of(store)
        store.put("a", b"by the store")
        assert copy.get("a") == b"by the store"
        assert copy.create("a", b"by the copy") is False
        assert copy.create("b", b"by the copy") is True
        assert sorted(store.list("")) == ["a", "b"]

    def test_a_pickle_is_small(self, store: Store) -> None:
        store.put("a", bytes(_MB))
        _copy_of(store)
        assert len(pickle.dumps(store)) < 10_000

    # -- abilities that a store may have ---------------------------------------------------------------

    @pytest.fixture
    def mapper(self, store: Store) -> MapObject:
        """The store, where it has this ability."""
        if not isinstance(store, MapObject):
            pytest.skip(f"{type(store).__name__} maps no objects")
        return store

    @pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES.keys())
    def test_a_mapped_object_is_private_memory(self, store: Store, mapper: MapObject, body: bytes) -> None:
        store.put("a", body)
        view = mapper.map("a")
        assert view == body
        if body:
            view[0] = view[0] ^ 255
        assert store.get("a") == body
        assert mapper.map("a") == body

    def test_mapped_memory_outlives_its_object(self, store: Store, mapper: MapObject) -> None:
        store.put("a", b"first" * 1000)
        store.put("b", b"other" * 1000)
        replaced, deleted = mapper.map("a"), mapper.map("b")
        store.put("a", b"second")
        store.delete(["b"])
        assert replaced == b"first" * 1000
        assert deleted == b"other" * 1000
        with pytest.raises(MissingKey):
            mapper.map("b")
        with pytest.raises(UsageError, match="key"):
            mapper.map("../a")

    def test_parts_become_one_object(self, store: Store, mapper: MapObject) -> None:
        mixed: list[Buffer] = [b"", b"ab", bytearray(b"cd"), memoryview(array.array("i", [1])), b"x" * _MB]
        assert mapper.create_parts("a", (part for part in mixed)) is True
        assert store.get("a") == b"".join(mixed)
        assert mapper.create_parts("a", [b"late"]) is False
        assert mapper.create_parts("none", []) is True
        assert mapper.create_parts("many", (b"%d" % (number % 10) for number in range(3000))) is True
        assert store.get("none") == b""
        assert store.get("many") == b"0123456789" * 300

    def test_parts_that_fail_leave_nothing(self, store: Store, mapper: MapObject) -> None:

        def failing() -> Iterator[bytes]:
            yield b"x" * 1000
            raise LookupError("no more")

        with pytest.raises(LookupError, match="no more"):
            mapper.create_parts("a", failing())
        assert list(store.list("")) == []
        assert store.create("a", b"") is True

    def test_a_url_ends_with_the_key(self, store: Store) -> None:
        if not isinstance(store, Url):
            pytest.skip(f"{type(store).__name__} has no URLs")
        assert store.url("a/b.parquet").endswith("/a/b.parquet")


def _copy_of(store: Store) -> Store:
    try:
        copy = pickle.loads(pickle.dumps(store))
    except UsageError as refusal:
        pytest.skip(str(refusal))
    assert isinstance(copy, Store)
    return copy


class _Around:
    """A store around a store. What the inner one is able to do besides the five verbs, this is too."""

    def __init__(self, store: Store) -> None:
        self.store = store
        for ability in ("map", "create_parts", "url", "path", "sweep"):
            if hasattr(store, ability):
                setattr(self, ability, partial(self._do, ability))

    def _do(self, verb: str, *args: Any) -> Any:
        return getattr(self.store, verb)(*args)

    def get(self, key: str) -> bytes:
        body: bytes = self._do("get", key)
        return body

    def put(self, key: str, body: Buffer) -> None:
        self._do("put", key, body)

    def create(self, key: str, body: Buffer) -> bool:
        won: bool = self._do("create", key, body)
        return won

    def list(self, prefix: str) -> Iterator[str]:
        keys: Iterator[str] = self._do("list", prefix)
        return keys

    def delete(self, keys: Iterable[str]) -> None:
        self._do("delete", keys)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"


class CountingStore(_Around):
    """Counts the calls that are made, by verb, from any thread: `store.calls["get"]`.

    A pickled copy counts for itself, from nothing.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def _do(self, verb: str, *args: Any) -> Any:
        with self._lock:
            self.calls[verb] += 1
        return super()._do(verb, *args)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.store,)


class FaultyStore(_Around):
    """Fails a share `rate` of the calls, half of them after they took effect, as networks do.

    Whether a call fails depends on the seed, the verb, the arguments and how often this very call was
    made before, not on the order of threads: a failure can be had again. `failures` counts them.
    A pickled copy starts afresh. `errors` are the types to raise, `verbs` those that may fail.
    """

    def __init__(
        self,
        store: Store,
        seed: int,
        rate: float,
        *,
        errors: tuple[type[StoreError], ...] = (StoreError,),
        verbs: tuple[str, ...] = ("get", "put", "create", "list", "delete", "map", "create_parts"),
    ) -> None:
        super().__init__(store)
        self._options = seed, rate, errors, verbs
        self._made: Counter[str] = Counter()
        self._dice = random.Random()  # seeded anew for each call
        self._lock = threading.Lock()
        self.failures: Counter[str] = Counter()

    def _do(self, verb: str, *args: Any) -> Any:
        if verb == "delete":  # of an iterator, known only by consuming it
            args = (args[0] if isinstance(args[0], str) else tuple(args[0]),)
        error, late = self._draw(verb, args[0] if args else "")
        if error and not late:
            raise error
        result = super()._do(verb, *args)
        if error:
            raise error
        return result

    def _draw(self, verb: str, first: object) -> tuple[StoreError | None, bool]:
        seed, rate, errors, verbs = self._options
        if rate <= 0.0 or verb not in verbs:
            return None, False
        what = f"{verb}({first!r})"
        with self._lock:
            turn = self._made[what] = self._made[what] + 1
            self._dice.seed(f"{seed} {what} {turn}")
            if self._dice.random() >= rate:
                return None, False
            self.failures[verb] += 1
            late, error = self._dice.random() < 0.5, self._dice.choice(errors)
        effect = "after it took effect" if late else "before it took effect"
        return error(f"injected into {what}, {effect} (call {turn}, seed {seed})"), late

    def __reduce__(self) -> tuple[object, ...]:
        seed, rate, errors, verbs = self._options
        return partial(type(self), errors=errors, verbs=verbs), (self.store, seed, rate)


class SlowStore(_Around):
    """Waits `latency_s` before each call, as a store across a network does. `wait` is how, for tests."""

    def __init__(self, store: Store, latency_s: float, *, wait: Callable[[float], None] = time.sleep) -> None:
        super().__init__(store)
        self.latency_s = latency_s
        self._wait = wait

    def _do(self, verb: str, *args: Any) -> Any:
        if verb not in ("url", "path"):
            self._wait(self.latency_s)
        return super()._do(verb, *args)

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), wait=self._wait), (self.store, self.latency_s)
