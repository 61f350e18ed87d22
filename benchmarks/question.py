"""What a benchmark is: a question, a workload that answers it for one system, and what is shown of the answer.

Plain data and three small helpers, so that a workload can be imported and run without the harness.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers import System

Metrics = Mapping[str, float | int | bool | str | list[list[float]]]


class WrongAnswer(Exception):
    """A system returned something else than what was asked for: its speed means nothing."""


@dataclass(frozen=True)
class Column:
    """One figure of the table. `unit`: s, ms, us, MB, share, x, count or yes."""

    key: str
    title: str
    unit: str = "s"


@dataclass(frozen=True, eq=False)
class Part:
    """Some of a question's figures, measured in a process of their own.

    `once`: not repeated. `needs`: a figure without which these are not tried.
    """

    keys: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    once: bool = False
    needs: str = ""


@dataclass(frozen=True)
class Cap:
    """What a slow system is spared, and how the row says so."""

    note: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """What fnmap should reach: the metric of a system, or its ratio to that of another in the same run."""

    text: str
    system: str
    key: str
    limit: float
    against: str | None = None
    at_least: bool = False


@dataclass(frozen=True)
class Question:
    """One benchmark. `measure(system, **params)` yields figures as it gets them and checks its answers.

    `full` and `toy` are the params of a real and of a toy run, `caps` overrule them for slow systems. A
    system that yields nothing for `limit_s` is cut. `reference`: whom the ratios of the first column are to.
    `histograms`: of figures that are a list for each worker.
    """

    name: str
    asks: str
    measure: Callable[..., Iterator[Metrics]]
    parts: tuple[Part, ...]
    columns: tuple[Column, ...]
    systems: tuple[str, ...]
    toy_systems: tuple[str, ...]
    full: Mapping[str, Any] = field(default_factory=dict)
    toy: Mapping[str, Any] = field(default_factory=dict)
    caps: Mapping[str, Cap] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    own: tuple[type[System], ...] = ()
    histograms: tuple[Column, ...] = ()
    reference: str = "mp"
    limit_s: float = 60.0
    repeat: int = 3


def check(right: bool, what: str) -> None:
    """Raise WrongAnswer unless the answer was right."""
    if not right:
        raise WrongAnswer(what)


def timed(fn: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """The seconds that a call takes by the wall clock, and what it returns."""
    start = time.perf_counter()
    value = fn(*args)
    return time.perf_counter() - start, value
