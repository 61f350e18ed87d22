"""Whatever happens in whatever order, every task ends once, and the books balance."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fnmap.planning.policy import INFRA_RETRIES, ChunkPolicy, Retry
from fnmap.planning.schedule import Chunk, Schedule, State

FOREVER = 1e9
NO_RETRY = Retry(0)


class Storm(RuleBasedStateMachine):
    """A driver to whom anything happens, and a ledger of what was settled."""

    @initialize(
        slots=st.integers(1, 8), fixed=st.none() | st.integers(1, 9), retries=st.integers(0, 2), by_cost=st.booleans()
    )
    def begin(self, slots, fixed, retries, by_cost):
        self.now, self.live, self.done, self.failed = 0.0, list[Chunk](), set[int](), set[int]()
        costs = [float(t % 7) for t in range(40)] if by_cost else None
        self.schedule = Schedule(slots=slots, chunks=ChunkPolicy(fixed=fixed), retry=Retry(retries), costs=costs)
        self.all_at_once = by_cost
        if by_cost:
            self.schedule.add(40)
            self.schedule.close()

    def pick(self, data) -> Chunk:
        return self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))

    def settle(self, done, failed) -> None:
        assert not self.done & {*done, *failed}, "a task that was done was settled again"
        assert not self.failed & {*done, *failed}, "a task that had failed was settled again"
        self.done |= {*done}
        self.failed |= {*failed}

    @precondition(lambda self: not self.schedule.closed)
    @rule(count=st.integers(0, 30))
    def add(self, count):
        self.schedule.add(count)

    @precondition(lambda self: not self.all_at_once)
    @rule()
    def close(self):
        self.schedule.close()

    @rule(seconds=st.floats(0, 5), times=st.integers(1, 4))
    def next(self, seconds, times):
        self.now += seconds
        for _ in range(times):
            chunk = self.schedule.next(self.now)
            assert not (chunk and self.schedule.halted), "carved while halted"
            self.live += [chunk] if chunk else []

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def report(self, data):
        chunk = self.pick(data)
        ran = data.draw(st.integers(1, len(chunk.tasks)))
        failed = data.draw(st.dictionaries(st.integers(0, ran - 1), st.booleans(), max_size=3))
        final = self.schedule.reported(chunk, ran, data.draw(st.floats(0, 1)), failed, self.now, call_s=0.001)
        assert set(final) <= {chunk.tasks[p] for p in failed}
        assert {chunk.tasks[p] for p, again in failed.items() if not again} <= set(final)
        self.settle([t for p, t in enumerate(chunk.tasks[:ran]) if p not in failed], final)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), known=st.booleans())
    def lose(self, data, known):
        chunk, at = self.pick(data), None
        if known:
            first = data.draw(st.integers(0, len(chunk.tasks) - 1))
            at = range(first, data.draw(st.integers(first + 1, len(chunk.tasks))))
        self.settle([], self.schedule.lost(chunk, at).exhausted)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), known=st.booleans(), again=st.booleans())
    def time_out(self, data, known, again):
        chunk = self.pick(data)
        at = data.draw(st.integers(0, len(chunk.tasks) - 1)) if known else None
        self.settle([], self.schedule.timed_out(chunk, at, again, self.now).exhausted)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), seconds=st.floats(0, 3))
    def throttle(self, data, seconds):
        self.schedule.returned(self.pick(data), self.now + seconds)

    @rule()
    def halt(self):
        self.schedule.halt()

    @rule()
    def resume(self):
        self.schedule.resume()
        self.failed.clear()

    @invariant()
    def the_books_balance(self):
        state = self.schedule.state
        assert [self.schedule.count(s) for s in State] == [state.count(s) for s in State]
        assert {t for t, s in enumerate(state) if s == State.DONE} == self.done
        assert {t for t, s in enumerate(state) if s == State.FAILED} == self.failed

    @invariant()
    def no_task_is_in_two_chunks(self):
        tasks = [t for chunk in self.live for t in chunk.tasks]
        assert len(tasks) == len(set(tasks)) == self.schedule.count(State.RUNNING)
        assert len({chunk.id for chunk in self.live}) == len(self.live)

    def teardown(self):
        """From anywhere, calm weather brings every task to its end."""
        if not hasattr(self, "schedule"):
            return
        if self.schedule.halted:
            self.resume()
        self.schedule.close()
        while self.live or (chunk := self.schedule.next(FOREVER)):
            chunk = self.live.pop() if self.live else chunk
            self.schedule.reported(chunk, len(chunk.tasks), 0.1, {}, FOREVER)
            self.settle(chunk.tasks, [])
            self.the_books_balance()
        assert self.schedule.finished
        assert self.done | self.failed == set(range(len(self.schedule.state)))


Storm.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestStorm = Storm.TestCase


def drain(schedule: Schedule, poison: set[int]) -> tuple[int, list[int]]:
    """Run a schedule whose poison kills its worker. How many were killed, and who was blamed."""
    losses, blamed = 0, list[int]()
    while (chunk := schedule.next(FOREVER)) is not None:
        if poison.isdisjoint(chunk.tasks):
            schedule.reported(chunk, len(chunk.tasks), 1e-6 * len(chunk.tasks), {}, FOREVER, call_s=1e-4)
        else:
            losses += 1
            blamed += schedule.lost(chunk).exhausted
    return losses, blamed


def test_a_poison_item_is_found_among_many_and_its_mates_are_done():
    schedule = Schedule(slots=2, chunks=ChunkPolicy(fixed=65_536), retry=NO_RETRY)
    schedule.add(65_536)
    schedule.close()
    losses, blamed = drain(schedule, {40_000})
    assert blamed == [40_000]
    assert losses <= 4 + INFRA_RETRIES + 1
    assert schedule.count(State.DONE) == 65_535


def test_several_poison_items_are_each_found():
    schedule = Schedule(slots=4, chunks=ChunkPolicy(), retry=NO_RETRY)
    schedule.add(5000)
    schedule.close()
    _, blamed = drain(schedule, {0, 1, 2500, 4999})
    assert sorted(blamed) == [0, 1, 2500, 4999]
    assert (schedule.count(State.DONE), schedule.count(State.FAILED)) == (4996, 4)


def test_a_lost_worker_costs_the_tasks_it_had_not_begun_nothing():
    schedule = Schedule(slots=1, chunks=ChunkPolicy(fixed=10), retry=NO_RETRY)
    schedule.add(10)
    schedule.lost(schedule.next(0), range(4, 5))
    again = [chunk for _ in range(3) if (chunk := schedule.next(0)) is not None]
    assert sorted(t for chunk in again for t in chunk.tasks) == list(range(10))
    assert [c.attempt for c in again if list(c.tasks) == [4]] == [2]


def test_the_longest_start_first_when_costs_are_known():
    schedule = Schedule(slots=2, chunks=ChunkPolicy(fixed=1), retry=NO_RETRY, costs=[1.0, 5.0, 3.0])
    schedule.add(3)
    assert [schedule.next(0).tasks[0] for _ in range(3)] == [1, 2, 0]


def test_a_retry_waits_for_its_time():
    schedule = Schedule(slots=1, chunks=ChunkPolicy(fixed=1), retry=Retry(1, backoff_s=2.0))
    schedule.add(1)
    schedule.close()
    assert schedule.reported(schedule.next(0), 1, 0.1, {0: True}, 10.0) == []
    assert (schedule.next(11.9), schedule.wake_at()) == (None, 12.0)
    assert schedule.next(12.0).attempt == 2


def test_what_settled_before_is_not_carved_again():
    schedule = Schedule(slots=1, chunks=ChunkPolicy(fixed=100), retry=NO_RETRY)
    schedule.add(6)
    schedule.skip([0, 3], State.DONE)
    assert [*schedule.next(0).tasks] == [1, 2, 4, 5]


def test_chunks_shrink_towards_the_end_so_that_no_worker_idles():
    schedule = Schedule(slots=4, chunks=ChunkPolicy(target_s=1.0), retry=NO_RETRY)
    schedule.add(2000)
    sizes = []
    while (chunk := schedule.next(0)) is not None:
        sizes.append(len(chunk.tasks))
        schedule.reported(chunk, len(chunk.tasks), 0.01 * len(chunk.tasks), {}, 0, call_s=1e-3)
    assert max(sizes) > 20
    assert sizes[-1] <= 3
