"""What a run took: a summary for programs, and a small table for notebooks."""

from __future__ import annotations

import html as markup
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnmap.format.call import Report
    from fnmap.run import Status


def summary(status: Status, reports: list[Report]) -> dict[str, Any]:
    """Tasks by state; calls and workers; seconds in the function (`run_s`), loading it and its items
    (`fetch_s`), and encoding and committing results (`commit_s`); seconds of the slowest task (`longest_s`)."""
    stats = [report.stats for report in reports]
    return {
        "state": status.state,
        "total": status.total,
        "done": status.done,
        "failed": status.failed,
        "calls": len(reports),
        "workers": len({s["pid"] for s in stats if "pid" in s}),
        **{name: sum(s.get(name, 0.0) for s in stats) for name in ("fetch_s", "run_s", "commit_s")},
        "longest_s": max((s / n for r in reports for n, s in r.laps if n), default=0.0),
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
