"""The memory store: the contract, and that it stays in its process."""

import pickle

import pytest

from fnmap.errors import UsageError
from fnmap.storage.memory import MemoryStore
from fnmap.testing.stores import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()


def test_it_refuses_to_travel_and_says_what_to_use_instead():
    with pytest.raises(UsageError, match=r"one process.*on='inline'.*store="):
        pickle.dumps(MemoryStore())


def test_its_repr_tells_how_much_it_holds():
    store = MemoryStore()
    store.put("a", b"")
    assert repr(store) == "MemoryStore(<1 objects>)"
