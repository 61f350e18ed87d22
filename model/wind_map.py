"""Pictures of footprints (matplotlib, of the extra `notebook`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from model.arrays import F4, Mask
from model.wind_grid import Grid
from model.wind_tracks import Track

CATEGORIES = (33, 43, 50, 58, 70)
"""1-minute winds of the Saffir-Simpson scale in m/s, from which its categories begin."""


def draw(axes: Any, gust: F4, grid: Grid, land: Mask, tracks: Iterable[Track] = (), *, title: str = "") -> Any:
    """Gusts over land and sea with the storms' tracks, on matplotlib axes; what was drawn, for a colour bar."""
    half = grid.step / 2  # a cell is drawn around its point
    edges = (grid.lon[0] - half, grid.lon[-1] + half, grid.lat[0] - half, grid.lat[-1] + half)
    axes.imshow(~land, extent=edges, origin="lower", cmap="gray", vmin=-6, vmax=1.4, aspect="auto")
    shown = axes.imshow(
        np.ma.masked_equal(gust, 0),
        extent=edges,
        origin="lower",
        cmap="turbo",
        vmin=18,
        vmax=80,
        alpha=0.75,
        aspect="auto",
    )
    axes.contour(grid.lon, grid.lat, land, levels=[0.5], colors="black", linewidths=0.6)
    for track in tracks:
        axes.plot(track.lon, track.lat, color="black", linewidth=0.5, alpha=0.5)
    axes.set(xlim=edges[:2], ylim=edges[2:], xlabel="longitude", ylabel="latitude", title=title)
    axes.set_aspect(1 / np.cos(np.radians(grid.lat.mean())))
    return shown


def save(path: Path, gust: F4, grid: Grid, land: Mask, tracks: Iterable[Track], *, title: str) -> None:
    """A picture file of one map. Raises ImportError where there is no matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    shown = draw(figure.subplots(), gust, grid, land, tracks, title=title)
    figure.colorbar(shown, label="3-second gust at 10 m (m/s)", shrink=0.8)
    figure.savefig(path, dpi=120)
