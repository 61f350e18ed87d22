"""Any sequence of calls: files and memory answer as a dict would."""

import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fnmap.errors import MissingKey
from fnmap.storage.files import FileStore
from fnmap.storage.memory import MemoryStore

# Digits are objects and letters folders, so that no key is the folder of another.
KEYS = st.from_regex(r"([ab]/){0,3}[12]{1,2}", fullmatch=True)
PREFIXES = st.from_regex(r"([ab]/){0,3}([ab]|[12]{1,2})?", fullmatch=True)
BODIES = st.binary(max_size=20)


class Stores(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.stores = [FileStore(self.folder.name, sync=False), MemoryStore()]
        self.model = {}

    def teardown(self):
        self.folder.cleanup()

    def each(self, call):
        """What both stores answer."""
        files, memory = map(call, self.stores)
        assert files == memory
        return files

    @rule(key=KEYS, body=BODIES)
    def put(self, key, body):
        self.each(lambda store: store.put(key, body))
        self.model[key] = body

    @rule(key=KEYS, body=BODIES)
    def create(self, key, body):
        assert self.each(lambda store: store.create(key, body)) is (key not in self.model)
        self.model.setdefault(key, body)

    @rule(key=KEYS)
    def get(self, key):
        if key in self.model:
            assert self.each(lambda store: store.get(key)) == self.model[key]
            return
        for store in self.stores:
            with pytest.raises(MissingKey):
                store.get(key)

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete(self, keys):
        self.each(lambda store: store.delete(keys))
        for key in keys:
            self.model.pop(key, None)

    @rule(prefix=PREFIXES)
    def list(self, prefix):
        keys = self.each(lambda store: sorted(store.list(prefix)))
        assert keys == sorted(key for key in self.model if key.startswith(prefix))

    @invariant()
    def everything_is_listed(self):
        assert self.each(lambda store: sorted(store.list(""))) == sorted(self.model)


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
