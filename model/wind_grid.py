"""Grids of points, and what is land on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from model.arrays import F8, Mask
from model.errors import ModelError

LAND_MASK = Path(__file__).parent / "data" / "landmask_na_0p05deg.npz"
WIDEST_DEG = 180.0  # of longitude: beyond it two ways around the Earth are equally short


@dataclass(frozen=True)
class Grid:
    """`rows` x `columns` points, `step` degrees apart; the first is the southwestern one, at (`south`, `west`).

    Longitudes ascend from `west` and go past 180 where the grid crosses the date line: the columns of
    `Grid.between(-20, -10, 175, -175, 0.1)` are at 175 to 185. Raises ModelError.
    """

    south: float
    west: float
    step: float
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.step) and self.step > 0):
            raise ModelError(f"the step of a grid must be a number of degrees > 0; got {self.step}")
        if self.rows < 1 or self.columns < 1:
            raise ModelError(f"a grid needs points; got {self.rows} rows and {self.columns} columns")
        if self.south < -90 or self.south + (self.rows - 1) * self.step > 90 + 1e-9:
            raise ModelError(f"latitudes {self.south}..{self.south + (self.rows - 1) * self.step:g} leave -90..90")
        if not -360 <= self.west <= 360:
            raise ModelError(f"the western edge must be a longitude; got {self.west}")
        if (self.columns - 1) * self.step >= WIDEST_DEG:
            raise ModelError(
                f"the grid spans {(self.columns - 1) * self.step:g} degrees of longitude, {WIDEST_DEG:g} are too many:"
                " split it. If it should cross the date line, give west > east to Grid.between, such as 175 and -175"
            )

    @classmethod
    def between(cls, south: float, north: float, west: float, east: float, step: float) -> Grid:
        """The grid whose points lie from corner to corner, both included; `west` > `east` crosses the date line."""
        for name, value, limit in (
            ("south", south, 90),
            ("north", north, 90),
            ("west", west, 360),
            ("east", east, 360),
        ):
            if not (np.isfinite(value) and abs(value) <= limit):
                raise ModelError(f"{name} must be a number of degrees in -{limit}..{limit}; got {value}")
        if not (np.isfinite(step) and step > 0):
            raise ModelError(f"the step of a grid must be a number of degrees > 0; got {step}")
        if south > north:
            raise ModelError(f"south ({south}) is north of north ({north}): swap them")
        if west > east:
            east += 360
        return cls(south, west, step, _count(north - south, step), _count(east - west, step))

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def lat(self) -> F8:
        """Latitudes of the rows, from south to north."""
        return np.asarray(self.south + self.step * np.arange(self.rows))

    @property
    def lon(self) -> F8:
        """Longitudes of the columns, from west to east, past 180 if they cross the date line."""
        return np.asarray(self.west + self.step * np.arange(self.columns))


EAST_COAST = (24.0, 46.0, -98.0, -66.0)
"""South, north, west and east of the coast of the United States from Texas to Maine."""


def _count(span: float, step: float) -> int:
    return int(np.floor(span / step + 1e-9)) + 1


@cache
def _north_atlantic() -> tuple[Mask, float, float, float]:
    with np.load(LAND_MASK) as file:
        rows, columns = map(int, file["shape"])
        land = np.unpackbits(file["land"], count=rows * columns).reshape(rows, columns).astype(bool)
    return land, 60.0, -110.0, 0.05


def land_on(grid: Grid) -> Mask:
    """Which points are land, bool[rows, columns], to 0.05 degrees. Raises ModelError outside of 0-60N, 110-10W."""
    land, north, west, step = _north_atlantic()
    row = np.floor((north - grid.lat) / step).astype(int)
    column = np.floor(((grid.lon + 180) % 360 - 180 - west) / step).astype(int)
    row = np.where(row == land.shape[0], row - 1, row)  # the southern edge itself
    if row.min() < 0 or row.max() >= land.shape[0] or column.min() < 0 or column.max() >= land.shape[1]:
        raise ModelError(
            f"what is land is known for 0-60N, 110-10W only; the grid spans {grid.lat[0]:g}..{grid.lat[-1]:g} N,"
            f" {grid.lon[0]:g}..{grid.lon[-1]:g} E: pass a mask of your own"
        )
    return np.asarray(land[np.ix_(row, column)])


def is_land(lat: F8, lon: F8) -> Mask:
    """Are these places land? Outside of the known region all is taken for sea."""
    land, north, west, step = _north_atlantic()
    row = np.floor((north - np.asarray(lat)) / step).astype(int)
    column = np.floor(((np.asarray(lon) + 180) % 360 - 180 - west) / step).astype(int)
    inside = (row >= 0) & (row < land.shape[0]) & (column >= 0) & (column < land.shape[1])
    return np.asarray(inside & land[np.where(inside, row, 0), np.where(inside, column, 0)])
