"""What a compute must do, as tests. Subclass ComputeContract, override the fixture `compute`, and run pytest:

class TestMine(ComputeContract):
    @pytest.fixture(scope="class")
    @classmethod
    def compute(cls):
        mine = MyCompute()
        yield mine
        mine.close()
"""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fnmap.compute.base import Compute
from fnmap.errors import CallTimeout, ComputeError, WorkerLost
from fnmap.format.call import Call, Form, Job, Report
from fnmap.format.parts import read_report
from fnmap.format.payload import Values, unpack
from fnmap.format.travel import dump_function, to_worker
from fnmap.storage.base import Store, open_object
from fnmap.storage.files import FileStore

_numbers = itertools.count()
PATIENCE_S = 120.0  # an answer that takes longer is a hang


def make_call(
    fn: Callable[..., Any], items: Sequence[Any], scratch: Store, *, form: Form = "item", **options: Any
) -> Call:
    """A call as a session would make it. `options` are fields of Call, and `timeout_s` of its job."""
    timeout_s = options.pop("timeout_s", None)
    digest, frames = dump_function(fn, {}, None)
    job = Job(f"{digest}{form}{timeout_s}", frames, form, b"", timeout_s, scratch=scratch)
    number = next(_numbers)
    defaults = {"inline_bytes": options.pop("inline_bytes", 1 << 62), "spill": f"tmp/contract/{number}"}
    return Call(f"contract/{number}", job, range(len(items)), Values.of(items, to_worker), **defaults, **options)


def values_of(call: Call, report: Report) -> list[Any]:
    """The results of a report, from wherever they are."""
    values = report.values
    if values is None:
        assert report.spilled is not None
        values = Values.from_frames(unpack(open_object(call.job.scratch, report.spilled)), pytest.fail)
    return list(values)


class ComputeContract:
    """The rules of the seam. `in_process` computes cannot survive a crash, and are not asked to."""

    @pytest.fixture(scope="class")
    @classmethod
    def compute(cls) -> Iterator[Compute]:
        raise NotImplementedError("override this fixture: yield a compute, then close it")

    @pytest.fixture
    def scratch(self, tmp_path: Path) -> Store:
        return FileStore(tmp_path / "scratch", sync=False)

    def answer(self, compute: Compute, call: Call) -> Report:
        return compute.submit(call).result(PATIENCE_S)

    def test_limits_are_positive(self, compute: Compute) -> None:
        assert compute.limits.slots >= 1
        assert compute.limits.payload_bytes >= 1024

    def test_an_answer_has_a_value_for_each_item_in_their_order(self, compute: Compute, scratch: Store) -> None:
        call = make_call(lambda x: x * 2, [1, 2.5, "a"], scratch)
        report = self.answer(compute, call)
        assert (report.ran, values_of(call, report), report.failures) == (3, [2, 5.0, "aa"], {})

    def test_every_task_is_timed(self, compute: Compute, scratch: Store) -> None:
        report = self.answer(compute, make_call(time.sleep, [0.0, 0.02], scratch))
        assert sum(n for n, _ in report.laps) == 2
        assert report.laps[-1][1] >= 0.02

    def test_arguments_are_unpacked_when_the_job_says_so(self, compute: Compute, scratch: Store) -> None:
        call = make_call(pow, [(2, 3), (3, 2)], scratch, form="args")
        assert values_of(call, self.answer(compute, call)) == [8, 9]

    def test_an_exception_is_the_failure_of_its_task_alone(self, compute: Compute, scratch: Store) -> None:
        call = make_call(_odd_only, [1, 2, 3], scratch)
        report = self.answer(compute, call)
        assert values_of(call, report) == [1, None, 3]
        assert list(report.failures) == [1]
        failure = report.failures[1]
        assert (failure.kind, failure.item) == ("raised", "2")
        assert "even: 2" in failure.message
        error = failure.exception
        assert isinstance(pickle.loads(error) if isinstance(error, bytes) else error, ValueError)

    @pytest.mark.parametrize("leave", [sys.exit, lambda _: next(iter(()))], ids=["exit", "stop"])
    def test_leaving_the_function_in_odd_ways_fails_its_task(
        self, compute: Compute, scratch: Store, leave: Callable[[int], Any]
    ) -> None:
        report = self.answer(compute, make_call(lambda x: leave(x) if x == 1 else x, [0, 1, 2], scratch))
        assert (report.ran, list(report.failures)) == (3, [1])

    def test_a_result_that_cannot_be_pickled_is_the_failure_of_its_task(self, compute: Compute, scratch: Store) -> None:
        report = self.answer(compute, make_call(lambda x: _generator() if x else x, [0, 1, 0], scratch))
        assert {at: f.kind for at, f in report.failures.items()} == {1: "lost"}

    def test_a_job_serves_many_calls(self, compute: Compute, scratch: Store) -> None:
        first = make_call(lambda x: x + 1, [1], scratch)
        calls = [first, *(replace(first, id=f"again/{i}", items=Values.of([i], to_worker)) for i in range(3))]
        futures = [compute.submit(call) for call in calls]
        answers = [values_of(c, f.result(PATIENCE_S)) for c, f in zip(calls, futures, strict=True)]
        assert answers == [[2], [1], [2], [3]]

    def test_a_large_result_is_left_in_the_scratch_store(self, compute: Compute, scratch: Store) -> None:
        call = make_call(lambda n: b"x" * n, [300_000], scratch, inline_bytes=100_000)
        report = self.answer(compute, call)
        assert report.values is None
        assert values_of(call, report) == [b"x" * 300_000]

    def test_large_items_are_found_in_the_scratch_store(self, compute: Compute, scratch: Store) -> None:
        from fnmap.format.payload import pack

        items = Values.of([b"y" * 300_000], to_worker)
        scratch.put("tmp/items", b"".join(pack(items.frames())))
        call = replace(make_call(len, [b""], scratch), items=items, items_key="tmp/items")
        assert values_of(call, self.answer(compute, call)) == [300_000]

    def test_a_call_over_its_budget_stops_between_tasks(self, compute: Compute, scratch: Store) -> None:
        report = self.answer(compute, make_call(lambda _: time.sleep(0.05), range(100), scratch, budget_s=0.1))
        assert 0 < report.ran < 100

    def test_results_are_committed_once(self, compute: Compute, scratch: Store) -> None:
        call = make_call(lambda x: (x, os.urandom(4)), [1, 2], scratch, commit=(scratch, "part/one.parquet"))
        first, again = self.answer(compute, call), self.answer(compute, replace(call, attempt=2))
        assert (first.committed, again.committed) == ("won", "lost")
        kept = read_report(scratch, "part/one.parquet")
        assert kept is not None
        assert list(kept[1].values or ()) == values_of(call, first)

    def test_a_worker_that_dies_is_told_and_the_next_call_works(self, compute: Compute, scratch: Store) -> None:
        _needs_processes(compute)
        with pytest.raises(WorkerLost, match="SIGKILL"):
            self.answer(compute, make_call(lambda _: os.kill(os.getpid(), signal.SIGKILL), [0], scratch))
        call = make_call(abs, [-1], scratch)
        assert values_of(call, self.answer(compute, call)) == [1]

    def test_a_task_over_its_limit_is_stopped_and_named(self, compute: Compute, scratch: Store) -> None:
        seconds = [0.0, 0.4] if compute.limits.in_process else [0.0, 300.0]
        with pytest.raises(CallTimeout) as caught:
            self.answer(compute, make_call(time.sleep, seconds, scratch, timeout_s=0.3))
        assert caught.value.at in (1, None)
        call = make_call(abs, [-1], scratch)
        assert values_of(call, self.answer(compute, call)) == [1]


class ClosedComputeContract:
    """What holds once a compute is closed; the fixture makes a new one for each test."""

    @pytest.fixture
    def compute(self) -> Compute:
        raise NotImplementedError("override this fixture: return a new compute")

    def test_closing_twice_is_no_error(self, compute: Compute) -> None:
        compute.close()
        compute.close()

    def test_a_closed_compute_takes_no_calls(self, compute: Compute, tmp_path: Path) -> None:
        compute.close()
        with pytest.raises(ComputeError):
            compute.submit(make_call(abs, [1], FileStore(tmp_path)))


def _needs_processes(compute: Compute) -> None:
    if compute.limits.in_process:
        pytest.skip("calls run in this process")


def _generator() -> Iterator[int]:
    yield 1


def _odd_only(x: int) -> int:
    if x % 2 == 0:
        raise ValueError(f"even: {x}")
    return x
