"""The stores around stores: what they count, fail and delay, and that they are else the store itself."""

import pickle

import pytest

from fnmap.errors import MissingKey, StoreError, StoreFull
from fnmap.storage.base import MapObject, Url
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore
from fnmap.testing.stores import CountingStore, FaultyStore, SlowStore, StoreContract


class TestCountingStore(StoreContract):
    @pytest.fixture
    def store(self):
        return CountingStore(MemoryStore())


class TestFaultyStoreThatNeverFails(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return FaultyStore(FileStore(tmp_path, sync=False), seed=1, rate=0)


@pytest.mark.parametrize(
    "wrap", [CountingStore, lambda store: FaultyStore(store, 1, 0), lambda store: SlowStore(store, 0)]
)
def test_a_wrapper_has_the_abilities_of_its_store_and_no_others(wrap, tmp_path):
    assert isinstance(wrap(FileStore(tmp_path)), MapObject)
    assert isinstance(wrap(FileStore(tmp_path)), Url)
    assert not isinstance(wrap(MemoryStore()), MapObject)
    assert wrap(FileStore(tmp_path)).sweep() == 0


def test_calls_are_counted_by_verb(tmp_path):
    store = CountingStore(FileStore(tmp_path, sync=False))
    store.create("a", b"")
    store.create("a", b"")
    store.put("b", b"")
    store.map("b")
    with pytest.raises(MissingKey):
        store.get("c")
    assert store.calls == {"create": 2, "put": 1, "map": 1, "get": 1}
    assert pickle.loads(pickle.dumps(store)).calls == {}


def outcomes(store, keys):
    """For each key, whether `create` failed, and whether the object is there."""
    for key in keys:
        try:
            store.create(key, b"")
            failed = False
        except StoreError:
            failed = True
        yield failed, key in set(store.store.list(""))


def test_a_failure_may_come_before_or_after_the_effect():
    store = FaultyStore(MemoryStore(), seed=7, rate=0.5)
    seen = list(outcomes(store, [str(number) for number in range(100)]))
    assert set(seen) == {(False, True), (True, True), (True, False)}
    assert store.failures == {"create": sum(failed for failed, _ in seen)}


def test_failures_do_not_depend_on_the_order_of_calls():
    keys = [str(number) for number in range(50)]
    ahead = dict(zip(keys, outcomes(FaultyStore(MemoryStore(), 7, 0.3), keys), strict=True))
    back = dict(zip(keys[::-1], outcomes(FaultyStore(MemoryStore(), 7, 0.3), keys[::-1]), strict=True))
    assert ahead == back
    assert ahead != dict(zip(keys, outcomes(FaultyStore(MemoryStore(), 8, 0.3), keys), strict=True))


def test_a_call_that_failed_can_succeed_when_it_is_made_again():
    store = FaultyStore(MemoryStore(), seed=7, rate=0.5)
    for number in range(20):
        assert any(not failed for failed, _ in outcomes(store, [str(number)] * 20))


def test_only_the_chosen_verbs_fail_with_the_chosen_errors(tmp_path):
    store = FaultyStore(FileStore(tmp_path), 1, 1, errors=(StoreFull,), verbs=("put",))
    assert store.create("a", b"")
    assert list(store.list("")) == ["a"]
    with pytest.raises(StoreFull, match=r"injected into put\('a'\), .* it took effect \(call 1, seed 1\)"):
        store.put("a", b"")
    with pytest.raises(StoreFull):
        pickle.loads(pickle.dumps(store)).put("a", b"")
    store.delete(["a"])


def test_each_call_of_a_slow_store_waits():
    waits = []
    store = SlowStore(MemoryStore(), 0.02, wait=waits.append)
    store.put("a", b"")
    store.get("a")
    assert waits == [0.02, 0.02]
