"""What each worker reached, as a histogram of its tasks: bins for the row, bars for people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

BINS = 16
LINES = 8  # workers that are shown one by one; of more, how they are spread
_BARS = " ▁▂▃▄▅▆▇█"


def by_worker(figures: Iterable[tuple[Hashable, float]]) -> list[list[float]]:
    """A list for each worker, in the order in which they are first named, of what its tasks reached."""
    each: dict[Hashable, list[float]] = {}
    for worker, figure in figures:
        each.setdefault(worker, []).append(float(f"{figure:.4g}"))
    return list(each.values())


def binned(workers: Sequence[Sequence[float]], edges: Sequence[float]) -> list[list[int]]:
    """How many figures of each worker are in each bin; the last has both its edges."""
    counts = [[0] * (len(edges) - 1) for _ in workers]
    for own, count in zip(workers, counts, strict=True):
        for figure in own:
            at = sum(figure >= edge for edge in edges) - 1
            count[min(max(at, 0), len(count) - 1)] += 1
    return counts


def edges_of(figures: Sequence[float]) -> list[float]:
    """Equal bins from the least to the most."""
    low, high = min(figures), max(figures)
    width = (high - low) / BINS or abs(low) * 0.01 or 1.0
    return [float(f"{low + at * width:.6g}") for at in range(BINS)] + [max(high, low + width * BINS)]


def told(workers: Sequence[Sequence[float]]) -> dict[str, Any]:
    """For the row of a system: what each worker's tasks reached, and the same in bins."""
    edges = edges_of([figure for own in workers for figure in own])
    return {"figures": [list(own) for own in workers], "edges": edges, "counts": binned(workers, edges)}


def lines(title: str, unit: str, systems: dict[str, Sequence[Sequence[float]]]) -> list[list[str]]:
    """A line of bars for each worker of each system, on one scale for all; heads first."""
    edges = edges_of([figure for workers in systems.values() for own in workers for figure in own])
    shown = [["system", "worker", f"{title}: {edges[0]:.3g} to {edges[-1]:.3g} {unit}", "median", "tasks"]]
    for system, workers in systems.items():
        groups = {str(at + 1): own for at, own in enumerate(workers)}
        if len(workers) > LINES:
            groups = {f"medians of {len(workers)}": [statistics.median(own) for own in workers]}
        for name, own in groups.items():
            (counts,) = binned([own], edges)
            tasks = sum(map(len, workers)) if len(workers) > LINES else len(own)
            shown.append([system, name, bars(counts), f"{statistics.median(own):.3g} {unit}", str(tasks)])
    return shown


def bars(counts: Sequence[int]) -> str:
    """A bar for each count, the highest for the most."""
    most = max(counts) or 1
    return "".join(_BARS[math.ceil(count * (len(_BARS) - 1) / most)] for count in counts).replace(" ", "·")
