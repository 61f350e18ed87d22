"""Computes as the simulator sees them: how fast workers come, what a call costs, and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal

from fnmap.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeModel:
    """Plain figures; `dataclasses.replace` makes another of them.

    Times are those of a median or a mean, as said. A worker is a process, an execution environment or a
    container: whatever runs one call at a time.
    """

    name: str
    slots: int  # calls at once, unless the forecast is told how many workers there may be
    overhead_s: float  # mean time of a warm call besides its tasks
    chunk_s: float  # what the size of chunks aims at
    speed: float = 1.0  # of a worker's core, as a multiple of the one on which the seconds of tasks were measured
    warm: bool = False  # all workers are there before the first call

    # A new worker takes `cold_s` (median) or `cold_p99_s` (99th percentile; between them it is lognormal).
    # `burst` may be started at once and then `ramp_per_s`: a bucket of tokens.
    cold_s: float = 0.0
    cold_p99_s: float = 0.0
    burst: float = math.inf
    ramp_per_s: float = math.inf

    # "wait": calls go to workers that are there. "throttle": a call that finds none makes one, or is sent
    # back when the ramp does not allow it, to be tried again after `retry_after_s`.
    beyond_ramp: Literal["wait", "throttle"] = "wait"
    retry_after_s: float = 1.0

    memory_gb: float = 0.0
    sizes: tuple[int, ...] = (1,)  # how many times that a call may have, as of `fnmap deploy --sizes`
    vcpus: float = 1.0
    time_limit_s: float = math.inf  # of a call
    idle_s: float = math.inf  # a worker without a call is gone after so long
    kills: bool = True  # a call can be stopped, and a lost one tells which task it was at

    loss: float = 0.0  # chance of a call that its worker dies
    straggle: float = 0.0  # chance of a call that its tasks take `straggle_factor` times as long
    straggle_factor: float = 5.0
    throttle: float = 0.0  # chance of a call to be sent back for what others do

    requests: Mapping[str, float] = field(default_factory=dict)  # of a call that ran, by kind
    log_bytes: float = 0.0  # of a call
    billing: Literal["none", "lambda", "fargate"] = "none"  # "lambda": while calls run; "fargate": while workers live
    arch: Literal["arm64", "x86"] = "x86"

    def __post_init__(self) -> None:
        for each in fields(self):
            value: Any = getattr(self, each.name)
            if (kind := NUMBERS.get(each.type)) and (  # type: ignore[arg-type]  # their names
                isinstance(value, bool) or not isinstance(value, kind) or not value >= 0
            ):
                what = "an int" if each.type == "int" else "a number"
                raise PlanError(f"{each.name} of a compute model must be {what} of 0 or more; got {value!r}")
            if each.name in CHOICES and value not in CHOICES[each.name]:
                raise PlanError(f"{each.name} of a compute model must be one of {CHOICES[each.name]}; got {value!r}")
        for name in ("slots", "speed", "chunk_s", "burst", "ramp_per_s", "time_limit_s", "straggle_factor"):
            if not getattr(self, name) > 0:
                raise PlanError(f"{name} of a compute model must be over 0; got {getattr(self, name)!r}")
        if list(self.sizes) != sorted(set(self.sizes)) or self.sizes[:1] != (1,):
            raise PlanError(f"sizes of a compute model must begin with 1 and grow; got {self.sizes!r}")
        for name in ("loss", "straggle", "throttle"):
            if not 0 <= getattr(self, name) < 1:
                raise PlanError(f"{name} of a compute model is a chance, 0 to under 1; got {getattr(self, name)!r}")

    def size(self, memory: float) -> int:
        """How many times the usual memory a call gets that should have so many."""
        return next((times for times in self.sizes if times >= memory), self.sizes[-1])

    @property
    def cold_sigma(self) -> float:
        """The spread of cold starts, as the standard deviation of their logarithm."""
        if self.cold_s <= 0 or self.cold_p99_s <= self.cold_s:
            return 0.0
        return math.log(self.cold_p99_s / self.cold_s) / Z99


NUMBERS: Mapping[str, Any] = {"int": Integral, "float": Real}
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "warm": (True, False),
    "kills": (True, False),
    "beyond_ramp": ("wait", "throttle"),
    "billing": ("none", "lambda", "fargate"),
    "arch": ("arm64", "x86"),
}

Z99 = 2.326  # of a normal distribution, 1 % lies beyond so many standard deviations

# Worker processes on this machine. Give the number of cores as `workers`, and what calls cost there as
# `overhead_s`: about 0.3 ms, says `python -m benchmarks.warm_call`.
LOCAL = ComputeModel(name="local", slots=1, overhead_s=0.3e-3, chunk_s=0.25, warm=True)

LAMBDA = ComputeModel(
    name="lambda",
    slots=1000,  # AWS Lambda Developer Guide, "Lambda quotas": concurrent executions, by default; can be raised
    burst=1000,  # "Lambda scaling behavior": 1,000 more environments per function every 10 s, ...
    ramp_per_s=100,  # ... refilled continuously, and unused ones do not add up
    beyond_ramp="throttle",  # the same page: requests beyond it fail with status 429
    time_limit_s=900,  # "Lambda quotas": function timeout
    memory_gb=1769 / 1024,  # "Configure Lambda function memory": at 1,769 MB a function has one vCPU, ...
    vcpus=1,  # ... that is, one hyperthread
    cold_s=1.0,  # "Lambda execution environment lifecycle" says from under 100 ms to over 1 s; numpy and pyarrow
    cold_p99_s=4.0,  # are large, so the upper end. AWS gives no percentile: this one is assumed
    overhead_s=0.08,  # assumed: an invocation in the region, and two requests to S3 at some 20 to 30 ms each
    idle_s=300,  # AWS promises nothing; some minutes are usual
    kills=False,  # there is no call to stop an invocation
    chunk_s=10.0,
    requests={"lambda": 1, "s3_get": 1, "s3_put": 1},  # items or function in, one committed object out
    log_bytes=400,  # the lines START, END and REPORT
    billing="lambda",
    arch="arm64",
)

FARGATE = ComputeModel(
    name="fargate",
    slots=1000,  # Amazon ECS service quotas are in vCPUs and by account: say `workers` as yours allow
    burst=100,  # Amazon ECS Developer Guide, "Fargate throttling quotas": bucket of 100 tasks, ...
    ramp_per_s=20,  # ... refilled by 20 a second: 5,000 tasks are under way after 245 s
    memory_gb=2,  # "Fargate task definition considerations": 1 vCPU goes with 2 to 8 GB
    vcpus=1,
    cold_s=35,  # assumed: to place a task, give it a network interface and pull an image of some 300 MB takes
    cold_p99_s=90,  # half a minute to a minute; AWS gives no figure
    overhead_s=0.12,  # assumed: as of Lambda's, by way of a queue
    idle_s=60,  # what idle workers wait before they stop; also the least that is billed (Fargate pricing)
    kills=False,
    chunk_s=10.0,
    requests={"sqs": 3, "s3_get": 1, "s3_put": 1},  # send, receive, delete
    log_bytes=200,
    billing="fargate",
    arch="arm64",
)
