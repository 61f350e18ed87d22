"""From footprints to losses: what is insured where, what the wind destroys of it, and the event loss table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from model.arrays import F4, F8, Mask
from model.errors import ModelError
from model.losses import Elt
from model.wind_field import gust_factor
from model.wind_grid import Grid

NO_DAMAGE_MS, HALF_MS = 25.7, 74.7
"""1-minute winds at which damage begins and reaches one half (CLIMADA 6's defaults for Emanuel 2011)."""
SPREAD = 0.3
"""Standard deviation of a damage ratio, of the most that its mean allows. Assumed."""
COMMON = 0.2
"""Correlation of the damage ratios of two places in one event. Assumed."""
CITY_KM = 30.0  # over which a city's value falls to 1/e
PER_HEAD = 150_000.0  # USD insured; assumed
GUST_UNIT_MS = 0.1

FOOTPRINT = pa.schema({"event_id": pa.int32(), "areaperil_id": pa.int32(), "gust": pa.int16()})
"""A row a point with wind: areaperil_id = row * columns + column of its grid, gust in 0.1 m/s."""

CITIES: dict[str, tuple[float, float, int]] = {
    "Brownsville": (25.90, -97.50, 406), "Corpus Christi": (27.80, -97.40, 428), "Houston": (29.76, -95.37, 5920),
    "New Orleans": (29.95, -90.07, 1190), "Gulfport": (30.37, -89.09, 371), "Mobile": (30.69, -88.04, 413),
    "Pensacola": (30.42, -87.22, 449), "Tampa": (27.95, -82.46, 2783), "Fort Myers": (26.64, -81.87, 619),
    "Miami": (25.76, -80.19, 5565), "Orlando": (28.54, -81.38, 2134), "Jacksonville": (30.33, -81.66, 1346),
    "Savannah": (32.08, -81.09, 348), "Charleston": (32.78, -79.93, 665), "Myrtle Beach": (33.69, -78.89, 377),
    "Wilmington": (34.23, -77.94, 255), "Atlanta": (33.75, -84.39, 5287), "Charlotte": (35.23, -80.84, 2217),
    "Raleigh": (35.78, -78.64, 1130), "Norfolk": (36.85, -76.29, 1677), "Washington": (38.91, -77.04, 5636),
    "Baltimore": (39.29, -76.61, 2711), "Philadelphia": (39.95, -75.17, 5965), "New York": (40.71, -74.01, 19567),
    "Providence": (41.82, -71.41, 1601), "Boston": (42.36, -71.06, 4552), "Portland": (43.66, -70.26, 514),
}  # fmt: skip
"""Latitude, longitude and thousands of people of metropolitan areas, rounded, about 2010."""


def insured_values(grid: Grid, land: Mask) -> F8:
    """What is insured at each point in USD, f8[rows, columns]: made up, from where people live on the coast.

    Each city on the grid has so much a head, spread over the land around it.
    """
    value = np.zeros(grid.shape)
    for lat, lon, thousands in CITIES.values():
        x = (grid.lon - lon) * 111.12 * np.cos(np.radians(lat))
        y = (grid.lat - lat) * 111.12
        near = np.exp(-np.hypot(x[None, :], y[:, None]) / CITY_KM) * land
        here = grid.lat[0] <= lat <= grid.lat[-1] and grid.lon[0] <= lon <= grid.lon[-1] and near.sum() > 0
        if here:
            value += near * (thousands * 1000 * PER_HEAD / near.sum())
    return value


def damage(wind_ms: F4 | F8, half_ms: float = HALF_MS) -> F8:
    """The share of the value that a 1-minute wind destroys: v^3/(1+v^3) with v the wind above 25.7 m/s, in units of
    what is between that and `half_ms` (Emanuel 2011, Weather, Climate & Society 3, 261, eq. 1)."""
    if not half_ms > NO_DAMAGE_MS:
        raise ModelError(f"half_ms must be above {NO_DAMAGE_MS}, where damage begins; got {half_ms}")
    cubed = (np.fmax(np.asarray(wind_ms, dtype=np.float64) - NO_DAMAGE_MS, 0.0) / (half_ms - NO_DAMAGE_MS)) ** 3
    return np.asarray(cubed / (1 + cubed))


class EventLoss(NamedTuple):
    """A row of an event loss table. `exposure`: all that is insured where the event had wind."""

    event_id: int
    mean: float
    sd: float
    exposure: float


def event_loss(event_id: int, gust: F4, value: F8, land: Mask | None = None) -> EventLoss:
    """The loss of one event from its gusts and the insured values, both [rows, columns].

    The damage is that of the 1-minute wind which the gusts came from. Damage ratios spread by `SPREAD` of the most that
    their means allow, sqrt(m(1-m)), and are correlated by `COMMON`; so the loss always has a beta distribution.
    """
    if gust.shape != value.shape:
        raise ModelError(f"event {event_id}: gusts have shape {gust.shape}, values {value.shape}")
    if not (np.isfinite(value).all() and value.min() >= 0):
        raise ModelError(f"event {event_id}: insured values must be finite numbers >= 0")
    share = damage(gust / gust_factor(land))
    sd = SPREAD * value * np.sqrt(share * (1 - share))
    variance = (1 - COMMON) * np.square(sd).sum() + COMMON * sd.sum() ** 2
    return EventLoss(event_id, float((value * share).sum()), float(np.sqrt(variance)), float(value[gust > 0].sum()))


def loss_table(losses: Sequence[EventLoss], years: float) -> Elt:
    """The event loss table of all that happened in so many years: each event at a rate of 1 in those, without those
    that destroyed nothing. Raises ModelError if no event did, or one is there twice."""
    some = sorted(loss for loss in losses if loss.mean > 0)
    if not some:
        raise ModelError(f"none of {len(losses)} events did any damage: are the values on the grid where the wind was?")
    event_id, mean, sd, exposure = (np.array(column) for column in zip(*some, strict=True))
    return Elt(event_id.astype(np.int32), np.full(len(some), 1 / years), mean, sd, exposure)


def footprint_table(event_id: int, gust: F4) -> pa.Table:
    """The points with wind as rows of `FOOTPRINT`."""
    where = np.flatnonzero(gust)
    tenths = np.rint(gust.ravel()[where] / GUST_UNIT_MS).astype(np.int16)
    ids = np.full(where.size, event_id, dtype=np.int32)
    return pa.table([ids, where.astype(np.int32), tenths], schema=FOOTPRINT)


def gusts_of(table: pa.Table, grid: Grid) -> F4:
    """The gusts of one event on its grid, from rows of `FOOTPRINT`. Raises ModelError for a point outside of it."""
    at = table["areaperil_id"].to_numpy()
    if at.size and not 0 <= at.min() <= at.max() < grid.rows * grid.columns:
        raise ModelError(f"areaperil_id {at.min()}..{at.max()} leaves the grid of {grid.rows} x {grid.columns} points")
    gust = np.zeros(grid.rows * grid.columns, dtype=np.float32)
    gust[at] = table["gust"].to_numpy() * np.float32(GUST_UNIT_MS)
    return gust.reshape(grid.shape)
