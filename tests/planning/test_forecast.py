"""What the simulator says of plans small enough to be worked out by hand, and what holds of all others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnmap.errors import PlanError
from fnmap.planning.cost import Used, bill, price_list
from fnmap.planning.durations import Durations
from fnmap.planning.fleet import Ramp
from fnmap.planning.graph import Edge
from fnmap.planning.models import FARGATE, LAMBDA, LOCAL, ComputeModel
from fnmap.planning.policy import ChunkPolicy, Retry
from fnmap.planning.simulate import Rules, simulate

IDEAL = replace(LOCAL, overhead_s=0.0)
SINGLE = ChunkPolicy(fixed=1)
LOST_ONCE = 1  # the seed of a run whose first call is lost, and not its second
INSTANT = {"cold_s": 0.0, "cold_p99_s": 0.0}


def ideal(counts, edges=(), *, model=IDEAL, workers=2, chunks=SINGLE, driver_s=0.0, **options):
    """A forecast in which nothing but the tasks takes any time, unless said."""
    return simulate(counts, edges, model=model, workers=workers, chunks=chunks, driver_s=driver_s, **options)


def elementwise(count: int, source: int = 0, target: int = 1) -> Edge:
    return Edge(source, target, np.arange(count))


# -- by hand -----------------------------------------------------------------------------------------


def test_three_tasks_on_two_workers_take_two_rounds():
    forecast = ideal([3], seconds=[1.0])
    assert (forecast.makespan_s, forecast.work_s, forecast.paid_s) == (2.0, 3.0, 4.0)
    assert (forecast.calls, forecast.peak, forecast.utilisation) == (3, 2, 0.75)
    assert (forecast.critical_path_s, forecast.lower_bound_s) == (1.0, 1.5)


def test_an_attempt_with_twice_the_memory_costs_twice_as_much():
    lossy = replace(LAMBDA, **INSTANT, overhead_s=0.0, loss=0.5)
    rules = [Rules(chunks=SINGLE, retry=Retry(0, memory_factor=2.0))]
    same, twice = (
        ideal([1], seconds=[1.0], model=replace(lossy, sizes=sizes), rules=rules, seed=LOST_ONCE)
        for sizes in ((1,), (1, 2))
    )
    assert (same.losses, twice.losses) == (1, 1)
    assert twice.paid_s - same.paid_s == pytest.approx(1.0)
    assert twice.dollars["compute"] / same.dollars["compute"] == pytest.approx(twice.paid_s / same.paid_s)


def test_the_longest_first_saves_a_round_where_the_scheduler_knows_the_costs():
    seconds = np.array([1.0, 1.0, 2.0])
    assert ideal([3], seconds=seconds).makespan_s == 3.0
    assert ideal([3], seconds=seconds, by_cost=True).makespan_s == 2.0


def test_a_task_starts_when_its_inputs_are_there_and_not_when_their_whole_stage_is():
    forecast = ideal([2, 2], [elementwise(2)], seconds=[[1.0, 3.0], [1.0, 1.0]])
    assert [(s.first_s, s.last_s) for s in forecast.stages] == [(0.0, 3.0), (1.0, 4.0)]
    assert (forecast.makespan_s, forecast.critical_path_s) == (4.0, 4.0)


def test_a_reduce_waits_for_all_its_inputs():
    sums = Edge(0, 1, np.arange(4), np.array([4]))
    forecast = ideal([4, 1], [sums], seconds=[1.0, 0.5])
    assert forecast.stages[1].first_s == forecast.stages[0].last_s == 2.0
    assert forecast.makespan_s == 2.5


def test_what_a_call_costs_is_paid_once_a_chunk():
    model = replace(IDEAL, overhead_s=0.5)
    forecast = ideal([8], model=model, workers=1, chunks=ChunkPolicy(fixed=4), seconds=[1.0])
    assert (forecast.makespan_s, forecast.calls) == (9.0, 2)


def test_a_core_of_twice_the_speed_takes_half_the_time():
    assert ideal([4], model=replace(IDEAL, speed=2.0), seconds=[1.0]).makespan_s == 1.0


def test_one_driver_bounds_the_calls_a_second():
    forecast = ideal([1000], workers=500, seconds=[0.001], driver_s=0.01)
    assert forecast.makespan_s == pytest.approx(1000 * 0.01 + 0.001)
    assert forecast.peak == 1


def test_a_cold_start_is_met_once_a_worker():
    model = replace(IDEAL, warm=False, cold_s=3.0)
    forecast = ideal([4], model=model, seconds=[1.0])
    assert (forecast.makespan_s, forecast.cold_starts) == (5.0, 2)


def test_a_call_that_was_carved_too_large_hands_back_what_it_has_not_begun():
    seconds = np.array([0.01, *[10.0] * 99])  # the first makes the scheduler think that all are short
    forecast = ideal([100], workers=1, chunks=ChunkPolicy(target_s=1.0), seconds=seconds)
    assert forecast.makespan_s == pytest.approx(990.01)
    assert forecast.calls > 50


def test_an_empty_plan_takes_no_time():
    forecast = ideal([0], seconds=[1.0])
    assert (forecast.makespan_s, forecast.calls, forecast.utilisation) == (0.0, 0, 0.0)


# -- how fast workers come ---------------------------------------------------------------------------


def test_lambda_reaches_five_thousand_workers_no_sooner_than_it_may():
    forecast = simulate([6000], seconds=[60.0], model=LAMBDA, workers=5000, chunks=SINGLE)
    assert forecast.peak == 5000
    assert all(n <= LAMBDA.burst + LAMBDA.ramp_per_s * t + 1 for t, n in forecast.profile)
    reached_s = next(t for t, n in forecast.profile if n == 5000)
    assert 40.0 <= reached_s < 45.0
    assert forecast.throttles > 0


def test_five_thousand_containers_of_fargate_are_under_way_after_245_s():
    model = replace(FARGATE, **INSTANT)
    forecast = simulate([5000], seconds=[1000.0], model=model, workers=5000, chunks=SINGLE, driver_s=0.0)
    reached_s = next(t for t, n in forecast.profile if n == 5000)
    step_s = forecast.profile[1][0]
    assert 245.0 <= reached_s <= 245.0 + step_s
    assert forecast.makespan_s == pytest.approx(245.0 + 1000.0 + model.overhead_s)


def test_unused_tokens_of_a_ramp_do_not_add_up():
    ramp = Ramp(burst=2, per_s=1.0)
    assert [ramp.take(100.0) for _ in range(3)] == [True, True, False]
    assert ramp.take(101.0)
    assert ramp.reserve(101.0) == 102.0


def test_no_more_workers_come_than_there_are_tasks():
    forecast = simulate([7], seconds=[100.0], model=FARGATE, workers=5000, chunks=SINGLE)
    assert forecast.cold_starts == 7


def test_workers_that_idle_for_long_go_and_are_paid_no_more():
    seconds = [[1.0] * 9 + [1000.0]]
    model = replace(FARGATE, **INSTANT, overhead_s=0.0)
    forecast = ideal([10], model=model, workers=10, seconds=seconds)
    assert forecast.paid_s == pytest.approx(9 * (1.0 + model.idle_s) + 1000.0)


# -- what goes wrong ---------------------------------------------------------------------------------


def test_tasks_of_lost_workers_are_done_by_others():
    forecast = ideal([2000], model=replace(IDEAL, loss=0.05), workers=20, chunks=ChunkPolicy(fixed=10), seconds=[1.0])
    assert forecast.failed == 0
    assert forecast.losses > 0
    assert forecast.retries >= forecast.losses
    assert forecast.work_s == pytest.approx(2000.0)


def test_a_straggler_gets_a_backup_and_the_first_to_answer_counts():
    model = replace(IDEAL, straggle=0.01, straggle_factor=100.0)
    without = ideal([500], model=model, workers=50, seconds=[1.0], backups=False, seed=2)
    forecast = ideal([500], model=model, workers=50, seconds=[1.0], seed=2)
    assert forecast.backups > 0
    assert forecast.work_s == 500.0
    assert forecast.makespan_s < 30.0 < 100.0 <= without.makespan_s


@pytest.mark.parametrize("seed", range(5))
def test_a_call_ends_once_though_it_was_lost_and_its_backup_has_answered(seed):
    model = replace(IDEAL, loss=0.1, straggle=0.3, straggle_factor=50.0)
    forecast = ideal([300], model=model, workers=30, seconds=[1.0], seed=seed)
    assert forecast.losses > 0
    assert forecast.backups > 0
    assert min(n for _, n in forecast.profile) == forecast.profile[-1][1] == 0


def test_throttled_calls_are_made_again():
    forecast = ideal([200], model=replace(IDEAL, throttle=0.1), workers=10, seconds=[1.0])
    assert forecast.throttles > 0
    assert (forecast.failed, forecast.calls) == (0, 200)


def test_tasks_that_depend_on_one_that_kills_all_its_workers_fall_with_it():
    deadly = replace(IDEAL, loss=0.95)
    forecast = ideal([3, 3], [elementwise(3)], model=deadly, seconds=[1.0, 1.0], seed=1)
    assert forecast.failed == 6


def test_a_task_over_the_time_limit_is_refused_with_the_way_out():
    with pytest.raises(PlanError, match=r"task 1 of 'price' takes about 1,000 s on lambda.*900 s; split it.*Fargate"):
        simulate([2], seconds=[[1.0, 1000.0]], model=LAMBDA, names=["price"])


def test_no_call_runs_into_the_time_limit_where_tasks_are_even():
    forecast = simulate([100], seconds=[200.0], model=LAMBDA, workers=2, chunks=ChunkPolicy(fixed=50))
    assert (forecast.losses, forecast.failed) == (0, 0)
    assert forecast.calls >= 100 // 4


def test_a_circle_is_refused():
    with pytest.raises(PlanError, match=r"circle: a\[0\] -> b\[0\]|circle: b\[0\] -> a\[0\]"):
        ideal([1, 1], [elementwise(1, 0, 1), elementwise(1, 1, 0)], seconds=[1.0, 1.0], names=["a", "b"])


@pytest.mark.parametrize("seconds", [[1.0, 2.0], [[1.0]], [-1.0], [float("nan")]])
def test_seconds_that_do_not_fit_the_plan_are_refused(seconds):
    with pytest.raises(PlanError):
        ideal([3], seconds=seconds)


@pytest.mark.parametrize("wrong", [{"loss": 1.0}, {"speed": 0.0}, {"slots": 0}, {"straggle": -0.1}, {"sizes": (2,)}])
def test_a_model_that_cannot_be_is_refused(wrong):
    with pytest.raises(PlanError, match=next(iter(wrong))):
        replace(LAMBDA, **wrong)


# -- what holds of all -------------------------------------------------------------------------------

TIMES = st.lists(st.floats(0.01, 50.0), min_size=1, max_size=40)


@given(first=TIMES, data=st.data(), workers=st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_without_faults_the_makespan_lies_within_the_bounds_of_greedy_schedules(first, data, workers):
    n = len(first)
    inputs = st.lists(st.integers(0, n - 1), min_size=1, max_size=5, unique=True)
    wants = data.draw(st.lists(inputs, min_size=1, max_size=10))
    ends = np.cumsum([len(some) for some in wants])
    reduce = Edge(1, 2, np.array([i for some in wants for i in sorted(some)]), ends)
    seconds = [first, first[::-1], data.draw(st.floats(0.01, 50.0))]
    forecast = ideal([n, n, len(wants)], [elementwise(n), reduce], seconds=seconds, workers=workers)
    assert forecast.lower_bound_s * (1 - 1e-9) <= forecast.makespan_s <= 2 * forecast.lower_bound_s * (1 + 1e-9)
    assert forecast.work_s == pytest.approx(2 * sum(first) + len(wants) * seconds[2])
    assert forecast.paid_s == pytest.approx(workers * forecast.makespan_s)


@st.composite
def models(draw) -> ComputeModel:
    base = draw(st.sampled_from([LOCAL, LAMBDA, FARGATE]))
    chance = st.sampled_from([0.0, 0.01, 0.2])
    return replace(base, loss=draw(chance), straggle=draw(chance), throttle=draw(chance))


@given(
    model=models(),
    seconds=TIMES,
    workers=st.integers(1, 30),
    fixed=st.none() | st.integers(1, 9),
    seed=st.integers(0, 99),
    by_cost=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_whatever_goes_wrong_every_task_ends_once_and_the_books_balance(model, seconds, workers, fixed, seed, by_cost):
    chunks = ChunkPolicy(fixed=fixed, target_s=model.chunk_s)
    n = len(seconds)
    options = {"seconds": [seconds, 1.0], "workers": workers, "chunks": chunks, "seed": seed, "by_cost": by_cost}
    forecast = simulate([n, n], [elementwise(n)], model=model, **options)
    assert forecast == simulate([n, n], [elementwise(n)], model=model, **options)
    assert forecast.peak <= workers
    assert 0 < forecast.work_s <= forecast.paid_s * (1 + 1e-9) or forecast.failed
    if model.loss == 0:
        assert forecast.failed == forecast.losses == 0
        assert forecast.makespan_s >= forecast.lower_bound_s * (1 - 1e-9)
    assert forecast.calls == sum(stage.calls for stage in forecast.stages)
    assert all(0 <= level <= forecast.peak for _, level in forecast.profile)
    assert forecast.total_dollars == pytest.approx(sum(forecast.dollars.values()))


def test_another_seed_gives_another_run():
    model = replace(LAMBDA, straggle=0.1)
    forecasts = {simulate([100], seconds=[5.0], model=model, workers=10, seed=seed).makespan_s for seed in range(5)}
    assert len(forecasts) == 5


@given(seconds=TIMES, data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_range_of_tasks_takes_as_long_as_the_same_tasks_in_a_list(seconds, data):
    durations = Durations(np.array(seconds))
    start = data.draw(st.integers(0, len(seconds) - 1))
    tasks = range(start, data.draw(st.integers(start + 1, len(seconds))))
    assert durations.total(tasks) == pytest.approx(durations.total(list(tasks)))
    after_s = data.draw(st.floats(0, 200))
    assert 1 <= durations.begun(tasks, after_s) == durations.begun(list(tasks), after_s) <= len(tasks)


# -- what it costs -----------------------------------------------------------------------------------


def test_a_million_calls_of_a_second_are_billed_as_by_hand():
    million = {"lambda": 1e6, "s3_put": 1e6, "s3_get": 1e6}
    lines = bill(replace(LAMBDA, memory_gb=1.0, arch="x86"), Used(1e6, million, 400e6), price_list())
    assert lines == pytest.approx({"compute": 16.6667, "requests": 0.2, "storage requests": 5.4, "logs": 0.2})


def test_an_hour_of_a_container_is_billed_as_by_hand():
    lines = bill(replace(FARGATE, vcpus=2, memory_gb=8, arch="x86"), Used(3600.0), price_list())
    assert lines["compute"] == pytest.approx(2 * 0.04048 + 8 * 0.004445)


def test_arm_is_cheaper_and_the_cores_here_cost_nothing():
    x86, arm = (simulate([50], seconds=[1.0], model=replace(LAMBDA, arch=arch)) for arch in ("x86", "arm64"))
    assert arm.total_dollars < x86.total_dollars
    assert ideal([5], seconds=[1.0]).dollars == {}


def test_price_lists_say_whence_and_when_they_are():
    prices = price_list("aws-us-east-1-2025-01")
    assert (prices["region"], prices["date"]) == ("us-east-1", "2025-01")
    with pytest.raises(PlanError, match="there are aws-us-east-1-2025-01"):
        price_list("aws-mars-1")


def test_a_request_without_a_price_is_refused():
    with pytest.raises(PlanError, match="no price for requests of kind dynamodb"):
        bill(LAMBDA, Used(1.0, {"dynamodb": 1}), price_list())


# -- how it is shown ---------------------------------------------------------------------------------


def test_a_forecast_reads_well_in_a_terminal():
    text = str(simulate([500, 500], [elementwise(500)], seconds=[2.0, 1.0], model=LAMBDA, workers=100,
                        names=["price", "<shift>"], result_bytes=[800, 8]))  # fmt: skip
    first, *others = text.splitlines()
    assert first.startswith("1,000 tasks on 100 workers of lambda: ")
    assert "us-east-1, 2025-01" in text
    assert "404 KB written, 400 KB read" in text
    assert [line.split()[0] for line in others[-3:]] == ["stage", "price", "<shift>"]
    assert len({len(line) for line in others[-3:]}) == 1


def test_a_forecast_is_markup_in_a_notebook():
    html = simulate([5], seconds=[2.0], model=LAMBDA, names=["<script>"])._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert html.count("<table>") == html.count("</table>") == 2
