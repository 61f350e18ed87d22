"""What a simulation says of a plan, and how it is shown."""

from __future__ import annotations

import html as markup
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fnmap.planning.spread import MOST_DIGITS, partitions_for

POINTS = 200  # of the profile, at most
BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One stage: `first_s` its first call leaves, `last_s` its last task is settled."""

    name: str
    tasks: int
    calls: int
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a plan will take.

    `work_s`: seconds of workers inside tasks; `paid_s`: seconds for which workers are paid or held; one with twice the
    usual memory counts twice. `failed`: tasks that lost too many workers, and those that depend on them. `retries`:
    calls after a loss; `losses`: workers that died; `throttles`: calls that were sent back. `writes_per_s`,
    `reads_per_s`: requests to S3 in the busiest second.
    `dollars`: by line, at the prices of `prices_of`. `profile`: seconds and how many calls are out then.
    """

    compute: str
    workers: int
    tasks: int
    failed: int
    makespan_s: float
    work_s: float
    paid_s: float
    peak: int
    calls: int
    cold_starts: int
    retries: int
    backups: int
    throttles: int
    losses: int
    requests: Mapping[str, float]
    writes_per_s: float
    reads_per_s: float
    bytes_written: float | None
    bytes_read: float | None
    dollars: Mapping[str, float]
    prices_of: str
    critical_path_s: float
    lower_bound_s: float
    stages: tuple[StageForecast, ...]
    profile: tuple[tuple[float, int], ...]

    @property
    def utilisation(self) -> float:
        """The share of what is paid for that is spent inside tasks."""
        return min(1.0, self.work_s / self.paid_s) if self.paid_s else 0.0

    @property
    def partitions(self) -> int:
        """How many partitions of S3 its requests take, a power of 16."""
        return partitions_for(self.writes_per_s, self.reads_per_s)

    @property
    def total_dollars(self) -> float:
        """All lines together."""
        return float(sum(self.dollars.values()))

    def __str__(self) -> str:
        lines = [f"{key:<10}{value}" for key, value in self._facts().items()]
        return "\n".join([self._headline(), *(f"  {line}" for line in lines), *self._stage_lines()])

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><th style='text-align:left'>{key}</th><td style='text-align:left'>{markup.escape(value)}</td></tr>"
            for key, value in self._facts().items()
            if key != "at once"
        )
        head = "".join(f"<th>{name}</th>" for name in STAGE_HEADS)
        rows = "".join(f"<tr>{''.join(f'<td>{markup.escape(c)}</td>' for c in row)}</tr>" for row in self._stage_rows())
        stages = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<p><b>{markup.escape(self._headline())}</b></p><table>{facts}</table>{stages}{self._plot()}"

    # -- inside --------------------------------------------------------------------------------------

    def _headline(self) -> str:
        price = f", ${self.total_dollars:,.2f}" if self.dollars else ""
        return f"{self.tasks:,} tasks on {self.workers:,} workers of {self.compute}: {duration(self.makespan_s)}{price}"

    def _facts(self) -> dict[str, str]:
        faults = [
            f"{n:,} {what}"
            for n, what in (
                (self.losses, "lost"),
                (self.retries, "tried again"),
                (self.backups, "backups"),
                (self.throttles, "throttled"),
            )
            if n
        ]
        facts = {
            "bound": f"no less than {duration(self.lower_bound_s)}; the longest path {duration(self.critical_path_s)}",
            "workers": f"{self.peak:,} at the peak, {self.cold_starts:,} cold starts, {self.utilisation:.0%} busy",
            "calls": ", ".join([f"{self.calls:,}", *faults]),
        }
        if self.failed:
            facts["failed"] = f"{self.failed:,} tasks"
        if self.bytes_written is not None and self.bytes_read is not None:
            facts["bytes"] = f"{size(self.bytes_written)} written, {size(self.bytes_read)} read by later stages"
        if self.writes_per_s or self.reads_per_s:
            facts["S3"] = self._s3()
        if self.dollars:
            lines = ", ".join(f"{line} {dollars:,.4f}" for line, dollars in self.dollars.items())
            facts["dollars"] = f"{lines} ({self.prices_of})"
        facts["at once"] = sparkline([n for _, n in self.profile])
        return facts

    def _s3(self) -> str:
        rate = f"up to {self.writes_per_s:,.0f} writes and {self.reads_per_s:,.0f} reads a second"
        takes = f"{rate}: {self.partitions:,} partition{'s' if self.partitions > 1 else ''}"
        if self.partitions <= 16:
            return f"{takes} of 16"
        if self.partitions > (most := 16**MOST_DIGITS):
            return f"{takes}, and keys are spread over {most:,} at most; make chunks longer"
        return f"{takes}; Session(spread={round(math.log(self.partitions, 16))}) spreads keys over so many"

    def _stage_rows(self) -> list[tuple[str, ...]]:
        return [(s.name, f"{s.tasks:,}", f"{s.calls:,}", duration(s.first_s), duration(s.last_s)) for s in self.stages]

    def _stage_lines(self) -> list[str]:
        rows = [STAGE_HEADS, *self._stage_rows()]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        return [
            "  ".join([f"  {name:<{first}}", *(f"{c:>{w}}" for c, w in zip(cells, others, strict=True))])
            for name, *cells in rows
        ]

    def _plot(self) -> str:
        wide, high, end, most = 480, 80, self.makespan_s or 1.0, max(self.peak, 1)
        points = " ".join(f"{t / end * wide:.1f},{high - n / most * high:.1f}" for t, n in self.profile)
        return (
            f"<svg width='{wide}' height='{high + 4}' viewBox='0 -2 {wide} {high + 4}'>"
            f"<title>calls at once, up to {self.peak:,}, over {duration(self.makespan_s)}</title>"
            f"<polyline points='{points}' fill='none' stroke='steelblue' stroke-width='1.5'/></svg>"
        )


STAGE_HEADS = ("stage", "tasks", "calls", "starts", "ends")


def profile(starts: Any, ends: Any, until: float) -> tuple[tuple[float, int], ...]:
    """Calls that are out at some moments. `starts` and `ends` of calls: sorted arrays."""
    at = np.linspace(0.0, until, POINTS)
    level = np.searchsorted(starts, at, "right") - np.searchsorted(ends, at, "right")
    return tuple(zip(at.tolist(), level.tolist(), strict=True))


def peak(starts: Any, ends: Any) -> int:
    """The most calls that are out at once."""
    level = np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, "right")
    return int(level.max(initial=0))


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {s:02} s"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def sparkline(levels: Sequence[int], width: int = 60) -> str:
    """A row of bars; each the most of its part."""
    most = max(levels, default=0) or 1
    parts = [part for part in np.array_split(np.asarray(levels), width) if len(part)]
    return "".join(BARS[-(-int(part.max()) * (len(BARS) - 1) // most)] for part in parts)
