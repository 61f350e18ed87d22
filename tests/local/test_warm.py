"""Workers that load a function ahead of its first call."""

from __future__ import annotations

import fnmap
from fnmap.compute.local import LocalCompute
from fnmap.format.call import Job


def test_loading_a_plans_functions_ahead_runs_no_task(monkeypatch, tmp_path):
    ran, warmed, warm = tmp_path / "ran", [], LocalCompute.warm

    def seen(self, job, most):
        warm(self, job, most)
        warmed.append((most, ran.exists()))

    monkeypatch.setattr(LocalCompute, "warm", seen)
    p = fnmap.plan("p")
    p.map(lambda x: ran.open("a").write("x") and x, range(3), name="s")
    with fnmap.Session(workers=2) as session:
        assert list(session.run_plan(p)["s"]) == [0, 1, 2]
    assert warmed == [(3, False)]
    assert len(ran.read_text()) == 3


def test_a_worker_that_cannot_start_is_for_the_calls_to_tell(monkeypatch):
    def refuse(self):
        raise OSError("no processes left")

    with fnmap.Session(workers=1) as session:
        compute = session.compute
        monkeypatch.setattr(LocalCompute, "_start", refuse)
        job = Job("j", ())
        compute.warm(job, 1)
        assert not compute._queue
