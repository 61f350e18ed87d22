"""How many partitions of S3 a plan's requests take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnmap.errors import PlanError
from fnmap.planning.models import LAMBDA
from fnmap.planning.policy import ChunkPolicy
from fnmap.planning.simulate import simulate
from fnmap.planning.spread import READS_PER_S, WRITES_PER_S, busiest_second, partitions_for

rates = st.floats(0, 1e8)


@pytest.mark.parametrize(
    ("writes", "reads", "partitions"),
    [(0, 0, 1), (3500, 0, 1), (3501, 0, 16), (0, 5500, 1), (3500, 5500, 16), (56_000, 0, 16), (56_001, 0, 256)],
)
def test_partitions_come_in_powers_of_sixteen(writes, reads, partitions):
    assert partitions_for(writes, reads) == partitions


@given(rates, rates)
def test_the_partitions_carry_the_load_and_fewer_would_not(writes, reads):
    n = partitions_for(writes, reads)
    load = writes / WRITES_PER_S + reads / READS_PER_S
    assert load <= n
    assert n == 1 or load > n / 16


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(PlanError, match="writes_per_s"):
        partitions_for(rate)


def test_the_busiest_second_has_the_most_requests():
    assert busiest_second(np.array([0.0, 0.5, 0.9, 1.2, 5.0])) == 3
    assert busiest_second(np.array([])) == 0


def test_a_forecast_says_how_many_partitions_the_run_takes():
    swift = replace(LAMBDA, burst=1e6, cold_s=0.0, cold_p99_s=0.0, overhead_s=0.0)
    few = simulate([100], [], seconds=[1.0], model=swift, workers=10, chunks=ChunkPolicy(fixed=1))
    assert (few.writes_per_s, few.reads_per_s, few.partitions) == (10, 10, 1)
    assert "up to 10 writes and 10 reads a second: 1 partition of 16" in str(few)
    many = simulate([8000], [], seconds=[0.1], model=swift, workers=8000, chunks=ChunkPolicy(fixed=1))
    assert (many.writes_per_s, many.partitions) == (8000, 16)


@pytest.mark.parametrize(
    ("puts", "said"),
    [
        (30, "256 partitions; Session(spread=2) spreads keys over so many"),
        (10_000, "65,536 partitions, and keys are spread over 4,096 at most; make chunks longer"),
    ],
)
def test_what_sixteen_partitions_do_not_carry_is_said_with_the_way_out(puts, said):
    swift = replace(LAMBDA, burst=1e6, cold_s=0.0, cold_p99_s=0.0, overhead_s=0.0, requests={"s3_put": puts})
    forecast = simulate([4000], [], seconds=[0.1], model=swift, workers=4000, chunks=ChunkPolicy(fixed=1))
    assert said in str(forecast)
