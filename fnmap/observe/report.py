"""What a run took: a summary for programs, and a small table for notebooks."""

from __future__ import annotations

import html as markup
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnmap.format.call import Report
    from fnmap.run import Status


class Tally:
    """What the calls of a run took, all together."""

    def __init__(self) -> None:
        self.calls, self.longest_s = 0, 0.0
        self._workers, self._seconds = set[int](), dict.fromkeys(("fetch_s", "run_s", "commit_s"), 0.0)

    def add(self, report: Report) -> None:
        """Take in the report of a call."""
        self.calls += 1
        self.longest_s = max([self.longest_s, *(seconds / tasks for tasks, seconds in report.laps if tasks)])
        if "pid" in report.stats:
            self._workers.add(report.stats["pid"])
        for name in self._seconds:
            self._seconds[name] += report.stats.get(name, 0.0)

    def summary(self, status: Status) -> dict[str, Any]:
        """Tasks by state; calls and workers; seconds in the function (`run_s`), loading it and its items
        (`fetch_s`), and encoding and committing results (`commit_s`); seconds of the slowest task (`longest_s`)."""
        return {
            "state": status.state,
            "total": status.total,
            "done": status.done,
            "failed": status.failed,
            "calls": self.calls,
            "workers": len(self._workers),
            **self._seconds,
            "longest_s": self.longest_s,
        }


def stages_as_html(run_id: str, stages: Mapping[str, Status]) -> str:
    """The state of each stage of a plan as an HTML table."""
    names = ("state", "total", "done", "failed", "skipped", "running", "waiting")
    head = "".join(f"<th>{name}</th>" for name in ("stage", *names))
    rows = "".join(
        f"<tr><td>{markup.escape(stage)}</td>"
        + "".join(f"<td>{_cell(getattr(s, name))}</td>" for name in names)
        + "</tr>"
        for stage, s in stages.items()
    )
    caption = f"<caption>{markup.escape(run_id)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else markup.escape(str(value))


def as_html(run_id: str, function: str, status: Status) -> str:
    """The state of a run as an HTML table of one row."""
    cells = {
        "run": run_id,
        "function": function,
        "state": status.state,
        "done": f"{status.done:,} of {status.total:,}",
        "failed": f"{status.failed:,}",
        "running": f"{status.running:,}",
    }
    head = "".join(f"<th>{name}</th>" for name in cells)
    row = "".join(f"<td>{markup.escape(text)}</td>" for text in cells.values())
    return f"<table><thead><tr>{head}</tr></thead><tbody><tr>{row}</tr></tbody></table>"
