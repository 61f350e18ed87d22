"""Chunk sizes, retries and tolerance are pure functions with bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fnmap.planning.policy import ChunkPolicy, Retry, Tolerate, stream_limit

counts, seconds = st.integers(1, 10**7), st.floats(1e-9, 1e4)


@given(counts, st.integers(1, 5000), st.none() | seconds, st.floats(0, 10), counts)
def test_a_chunk_has_at_least_one_task_and_no_more_than_are_ready(ready, slots, task_s, call_s, largest):
    size = ChunkPolicy().size(ready=ready, slots=slots, task_s=task_s, call_s=call_s, largest_done=largest)
    assert 1 <= size <= min(ready, ChunkPolicy().most_tasks)


@given(counts, counts)
def test_a_fixed_size_is_kept_but_for_the_last_chunk(ready, fixed):
    size = ChunkPolicy(fixed=fixed).size(ready=ready, slots=1, task_s=None, call_s=0, largest_done=1)
    assert size == min(fixed, ready)


@given(counts, st.integers(1, 100))
def test_the_first_chunks_are_single_tasks(ready, slots):
    assert ChunkPolicy().size(ready=ready, slots=slots, task_s=None, call_s=0, largest_done=1) == 1


@given(counts, st.integers(1, 64), seconds)
def test_a_slow_task_never_waits_behind_another(ready, slots, task_s):
    policy = ChunkPolicy(target_s=0.1)
    size = policy.size(ready=ready, slots=slots, task_s=0.1 + task_s, call_s=0, largest_done=10**6)
    assert size == 1


@given(st.integers(1, 2000), st.floats(0, 1e6), st.floats(0, 1e6))
def test_waiting_before_a_retry_grows_up_to_its_bound(failures, backoff_s, bound_s):
    retry = Retry(3, backoff_s=backoff_s, max_backoff_s=bound_s)
    assert 0 <= retry.delay_s(failures) <= retry.delay_s(failures + 1) <= bound_s


@given(st.floats(0, 1), st.integers(0, 1000), st.integers(1, 1000))
def test_tolerance_is_a_share_of_all_tasks(share, failed, total):
    assert Tolerate(share).allows(failed, total) == (failed <= share * total)


@given(st.none() | st.integers(1, 100), st.integers(1, 5000), st.none() | seconds, st.floats(0, 1e12))
def test_a_stream_may_always_run_ahead_by_some_items(buffer, slots, task_s, task_bytes):
    limit = stream_limit(buffer, slots, task_s, task_bytes)
    assert limit == buffer if buffer is not None else limit >= slots
