"""The commit protocol alone, whatever the order in which drivers, workers and readers do their steps."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from fnmap.format import keys
from fnmap.lease import claim, committed, last_driver
from fnmap.storage.memory import MemoryStore

PLAN = {"owner": "elsewhere.1.1", "total": 99}
TASKS = 6  # task t is the whole of a chunk


class Protocol(RuleBasedStateMachine):
    """Drivers that each think they drive: they carve chunks, their workers commit, lost chunks are sealed and carved
    anew, and any of them may be taken over at any time and go on all the same."""

    chunks = Bundle("chunks")  # that were sent to a worker: driver, chunk number, task

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.drivers = [0]
        self.next_chunk: dict[int, int] = {}
        self.body: dict[str, bytes] = {}
        self.settled: dict[int, set[int]] = {0: set()}  # by driver: tasks that it knows are done, or has out
        self.seen: dict[int, str] = {}  # by task: the part that a reader saw

    @rule(target=chunks, who=st.integers(0, 9), task=st.integers(0, TASKS - 1))
    def send(self, who, task):
        """A driver sends a task that is not done and not out, as far as it knows."""
        driver = self.drivers[who % len(self.drivers)]
        if task in self.settled[driver]:
            return None
        self.settled[driver].add(task)
        number = self.next_chunk[driver] = self.next_chunk.get(driver, 0) + 1
        return driver, number, task

    @rule(chunk=chunks, attempt=st.integers(1, 3))
    def commit(self, chunk, attempt):
        """A worker commits, be it late, twice, or of a driver that is long dead."""
        if chunk is not None:
            driver, number, task = chunk
            key, body = keys.part("n", driver, number), f"{task} {attempt}".encode()
            if self.store.create(key, body):
                self.body[key] = body

    @rule(chunk=chunks)
    def lose(self, chunk):
        """Its driver takes the call for lost: seals the chunk, or finds that it has committed."""
        if chunk is None:
            return
        driver, number, task = chunk
        key = keys.part("n", driver, number)
        if self.store.create(key, b"sealed"):
            self.body[key] = b"sealed"
            self.settled[driver].discard(task)

    @rule()
    def take_over(self):
        """Another driver claims the run, and reads what is done."""
        number = claim(self.store, "n", PLAN, silent=last_driver(self.store, "n", PLAN))
        self.drivers.append(number)
        self.settled[number] = set(self.results())

    @rule()
    def claim_and_die(self):
        """A driver claims the run and dies before it says what it adopts."""
        last = last_driver(self.store, "n", PLAN).number
        self.store.create(keys.driver("n", last + 1), b"elsewhere.2.2")

    def results(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for key in committed(self.store, "n"):
            body = self.store.get(key).decode()
            if body != "sealed":
                task = int(body.split()[0])
                assert task not in found, f"task {task} was committed twice: {found[task]} and {key}"
                found[task] = key
        return found

    @rule()
    def read(self):
        """What was seen once is there for good. While a claim is not followed by its adoption, less may be seen."""
        now = self.results()
        for task, key in self.seen.items():
            assert now.get(task, key) == key, f"the result of {task} has changed"
        self.seen |= now

    @invariant()
    def no_object_changes(self):
        assert all(self.store.get(key) == body for key, body in self.body.items())

    def teardown(self):
        """In the end all that was seen is there."""
        self.take_over()
        now = self.results()
        assert all(now.get(task) == key for task, key in self.seen.items()), "a result that was seen is gone"


Protocol.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestProtocol = Protocol.TestCase
