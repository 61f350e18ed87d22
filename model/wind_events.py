"""What a run over many storms does with each, as functions of one item: footprints, losses, the worst of all."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from model.arrays import F4, F8, Mask
from model.wind_decay import Decay, prepared
from model.wind_field import DEGREE_KM, REACH_KM, Model, footprint, gusts
from model.wind_fortran import read_field, track_file
from model.wind_grid import Grid
from model.wind_loss import EventLoss, event_loss, footprint_table, gusts_of
from model.wind_tracks import Track, atlantic, is_hurricane


def hurricanes(grid: Grid, tracks: Iterable[Track] | None = None) -> list[Track]:
    """Those that came so near to the grid that there may be wind on it; of all Atlantic ones if no tracks are given."""
    return [t for t in (atlantic() if tracks is None else tracks) if is_hurricane(t) and comes_near(t, grid)]


def comes_near(track: Track, grid: Grid) -> bool:
    """Is any of its positions within reach of the grid? A day's way is added, which lies between two positions."""
    reach = REACH_KM / DEGREE_KM + 5.0
    middle = (grid.lon[0] + grid.lon[-1]) / 2
    lon = track.lon + 360 * np.round((middle - track.lon) / 360)
    wide = reach / np.cos(np.radians(np.fmin(np.abs(track.lat) + reach, 85)))
    beside = (lon > grid.lon[0] - wide) & (lon < grid.lon[-1] + wide)
    return bool((beside & (track.lat > grid.lat[0] - reach) & (track.lat < grid.lat[-1] + reach)).any())


def footprint_of(track: Track, *, grid: Grid, land: Mask, model: Model = "H08", decay: Decay = "missing") -> pa.Table:
    """A storm's footprint as rows, by numpy."""
    steps = prepared(track, decay)
    return footprint_table(track.event_id, footprint(steps, grid, model, land=land, dt_h=None))


def program_input(track: Track, grid: Grid, model: Model = "H08", decay: Decay = "missing") -> dict[str, bytes]:
    """A storm as the Fortran program reads it."""
    return {"track": track_file(prepared(track, decay), grid, model, dt_h=None)}


def footprint_from(field: bytes, event_id: int, *, land: Mask) -> pa.Table:
    """A storm's footprint as rows, from what the Fortran program wrote."""
    return footprint_table(event_id, gusts(read_field(field), land))


def loss_of(rows: pa.Table, event_id: int, *, grid: Grid, land: Mask, value: F8) -> EventLoss:
    """A storm's loss, from its footprint."""
    return event_loss(event_id, gusts_of(rows, grid), value, land)


def worst(parts: list[pa.Table | F4], *, grid: Grid) -> F4:
    """The largest gust at each point, of footprints as rows or of grids that this made."""
    largest = np.zeros(grid.shape, dtype=np.float32)
    for part in parts:
        np.fmax(largest, gusts_of(part, grid) if isinstance(part, pa.Table) else part, out=largest)
    return largest
