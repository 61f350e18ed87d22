"""What is foretold of a plan: by the options of its stages, and never of what makes no sense."""

from __future__ import annotations

import pytest

import fnmap
from fnmap.errors import PlanError

EXACT = {"overhead_s": 0.0}


def planned(count=8, **options):
    plan = fnmap.plan("small")
    plan.map(str, range(count), name="texts", **options)
    return plan


def takes(plan, **options):
    return plan.explain(**{"workers": 2, "seconds": 0.2, **EXACT, **options})


def test_a_stage_with_a_limit_of_one_call_takes_its_tasks_one_after_the_other():
    assert takes(planned(20, limit=1, chunksize=1), workers=4).makespan_s == pytest.approx(4.0, rel=0.01)
    assert takes(planned(20, chunksize=1), workers=4).makespan_s == pytest.approx(1.0, rel=0.01)


def test_no_container_is_ordered_beyond_the_limit_of_calls():
    assert takes(planned(20, limit=1), on="fargate", workers=20, seconds=200.0).cold_starts == 1


def test_tasks_in_one_chunk_run_on_one_worker():
    forecast = takes(planned(8, chunksize=8))
    assert forecast.calls == 1
    assert forecast.makespan_s == pytest.approx(1.6, rel=0.01)


def test_what_must_not_run_twice_has_no_backup():
    stragglers = {"on": "lambda", "workers": 100, "seconds": 60.0, "straggle": 0.1, "straggle_factor": 10.0}
    assert takes(planned(200, chunksize=1), **stragglers).backups > 0
    assert takes(planned(200, chunksize=1, idempotent=False), **stragglers).backups == 0


def test_the_costs_of_one_stage_say_nothing_of_the_order_in_another():
    seconds = [1.0, 1.0, 2.0]
    assert takes(planned(3, chunksize=1, cost=seconds), seconds=None).makespan_s == pytest.approx(2.0, rel=0.01)
    plan = planned(3, chunksize=1)
    plan.map(str, range(1), name="known", cost=[0.0])
    foretold = takes(plan, seconds={"texts": seconds})
    assert foretold.makespan_s == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"workers": "many"}, "workers .* 'many'"),
        ({"workers": 2.5}, "workers .* 2.5"),
        ({"workers": True}, "workers .* True"),
        ({"workers": 0}, "workers .* 0"),
        ({"on": 5}, "on=5"),
        ({"on": "mars"}, "on='mars'"),
        ({"cold_s": "x"}, "cold_s .* 'x'"),
        ({"overhead_s": -5}, "overhead_s .* -5"),
        ({"idle_s": -1}, "idle_s .* -1"),
        ({"slots": 2.5}, "slots .* 2.5"),
        ({"billing": "gold"}, "billing .* 'gold'"),
        ({"seconds": "1"}, "seconds='1'"),
        ({"seconds": {"typo": 2}}, "'typo'.* it has texts"),
        ({"seconds": [1.0, 2.0]}, "seconds=.* 8 tasks"),
        ({"seconds": -1}, "seconds=-1"),
        ({"seconds": float("nan")}, "seconds=nan"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name_and_value(given, named):
    with pytest.raises(PlanError, match=named):
        takes(planned(), **given)
