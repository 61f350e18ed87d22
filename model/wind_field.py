"""The largest wind that a storm brings to each point of a grid.

A profile around the eye, moved along the track: at each time step the wind is the angular wind of the profile plus the
motion of the storm, damped with the distance. Units as in `wind_profiles`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from model import wind_profiles as wp
from model.arrays import F4, F8, I8, Mask
from model.errors import ModelError
from model.wind_grid import Grid
from model.wind_tracks import KNOT_MS, Track, resampled

Model = Literal["H1980", "H08", "H10", "ER11", "W06"]
MODELS: tuple[Model, ...] = get_args(Model)
DEGREE_KM = 111.12
FASTEST_MS = 30 * KNOT_MS  # a storm's motion counts up to this
REACH_KM = 300.0  # how far from the eye there is wind
FLOOR_MS = 17.5  # the tropical storm's; less is 0
NEAREST_KM = 1e-3  # of a point to the eye
STRIP_POINTS = 1 << 15  # computed at once: what a core's own cache holds

SEA_GUST = 1.11
"""3 s over 1 min at sea (Harper, Kepert & Ginger 2010, WMO/TD-1555, table 1.1)."""
LAND_GUST = 1.49
"""3 s over 1 min inland (ibid.)."""
LAND_MEAN = 0.8
"""1-minute wind over land, of that at sea (Knaff et al. 2011, as the R package stormwindmodel has it)."""

Steps = int | I8
Profile = Callable[[F8, Steps], F8]


@dataclass(frozen=True, eq=False)
class Nodes:
    """A resampled track as its profile needs it, a value a time step: the eye, how it moves (m/s; capped), rmax, and
    the angular wind as a function of radius and step. `within`: the motion is part of that wind already."""

    lat: F8
    lon: F8
    east: F8
    north: F8
    rmax_km: F8
    profile: Profile
    within: bool

    @property
    def motion(self) -> F8:
        return np.asarray(np.hypot(self.east, self.north))


def motion_of(track: Track) -> tuple[F8, F8]:
    """East and north motion in m/s by backward differences, at most 30 kt; 0 at the first position."""
    dt_s = np.diff(track.hours) * 3600
    north = np.diff(track.lat) * DEGREE_KM * 1000 / dt_s
    east = np.diff(track.lon) * np.cos(np.radians(track.lat[:-1])) * DEGREE_KM * 1000 / dt_s
    slower = np.fmin(1.0, FASTEST_MS / np.fmax(np.hypot(east, north), 1e-9))
    return np.r_[0.0, east * slower], np.r_[0.0, north * slower]


def nodes_of(track: Track, model: Model) -> Nodes:
    """The parameters of `model` along a resampled track. Raises ModelError for a missing value or an unknown model."""
    for column in ("vmax_ms", "pcen_hpa", "penv_hpa", "rmax_km"):
        if np.isnan(getattr(track, column)).any():
            row = int(np.argmax(np.isnan(getattr(track, column))))
            raise ModelError(f"{track.storm} row {row}: {column} is missing; `completed` fills it in")
    east, north = motion_of(track)
    motion = np.hypot(east, north)
    rmax, lat = track.rmax_km, track.lat
    drop = np.fmax(track.penv_hpa - track.pcen_hpa, 0.0)
    f, own = wp.coriolis(lat), np.fmax(track.vmax_ms - motion, 0.0)
    within = model in ("H08", "H10")
    profile: Profile
    if model == "H1980":
        b = wp.holland_1980_b(drop, own / wp.GRADIENT_TO_SURFACE)

        def profile(r: F8, k: Steps) -> F8:
            return wp.GRADIENT_TO_SURFACE * wp.holland(r, rmax[k], b[k], drop[k], f[k])

    elif model in ("H08", "H10"):
        b = wp.holland_2008_b(drop, _rate(track), lat, motion)
        if model == "H08":

            def profile(r: F8, k: Steps) -> F8:
                return wp.holland(r, rmax[k], b[k], drop[k], f[k])

        else:
            vmax = wp.holland_2008_vmax(b, drop)
            outer = wp.holland_2010_outer(rmax, b, vmax)

            def profile(r: F8, k: Steps) -> F8:
                return wp.holland_2010(r, rmax[k], b[k], vmax[k], outer[k])

    elif model == "ER11":

        def profile(r: F8, k: Steps) -> F8:
            return wp.emanuel_rotunno_2011(r, rmax[k], own[k], f[k])

    elif model == "W06":
        flight = own / wp.GRADIENT_TO_SURFACE
        rmax = wp.willoughby_rmax(flight, lat)
        shape = wp.willoughby_shape(rmax, flight, lat)

        def profile(r: F8, k: Steps) -> F8:
            return wp.willoughby_2006(r, rmax[k], own[k], *(column[k] for column in shape))

    else:
        raise ModelError(f"unknown wind model {model!r}; choose from {', '.join(MODELS)}")
    return Nodes(lat, track.lon, east, north, rmax, profile, within)


def _rate(track: Track) -> F8:
    """Change of the central pressure in hPa/h, backwards."""
    return np.asarray(np.r_[0.0, np.diff(track.pcen_hpa) / np.diff(track.hours)])


def sustained(
    track: Track, grid: Grid, model: Model = "H08", *, dt_h: float | None = 0.25, points: int = STRIP_POINTS
) -> F8:
    """The largest 1-minute wind over open sea at 10 m, f8[rows, columns] in m/s; 0 where it stays below 17.5.

    `dt_h`: time step in hours; None takes the track's own positions. `points`: of the grid, computed at once; memory
    grows with it and the result does not depend on it. Raises ModelError.
    """
    nodes = nodes_of(track if dt_h is None else resampled(track, dt_h), model)
    if points < 1:
        raise ModelError(f"points must be a whole number >= 1; got {points}")
    reach = reach_of(nodes)
    best = np.zeros(grid.shape)
    lon = grid.lon
    middle = (lon[0] + lon[-1]) / 2
    strip = max(1, points // grid.columns)
    around = nodes.lon + 360 * np.round((middle - nodes.lon) / 360)  # the short way round
    for top in range(0, grid.rows, strip):
        _move_over(best[top : top + strip], grid.lat[top : top + strip], lon, nodes, around, reach)
    wind = np.sqrt(best)
    wind[wind < FLOOR_MS] = 0.0
    return wind


def reach_of(nodes: Nodes) -> F8:
    """How far from the eye, in km, the wind may reach 17.5 m/s; 0 for a step without such wind. No further than 300 km.

    The largest radius of a fine scale at which angular wind and motion together do, and one step more.
    """
    scale = np.arange(1.0, REACH_KM + 1)
    each = np.arange(nodes.lat.size)[:, None]
    damped = np.fmin(1.0, nodes.rmax_km[each] / scale) * nodes.motion[each]
    wind = nodes.profile(scale, each)
    enough = (np.fmax(wind, damped) if nodes.within else wind + damped) >= FLOOR_MS
    last = scale.size - 1 - np.argmax(enough[:, ::-1], axis=1)
    reach = np.where(enough.any(axis=1), np.fmin(scale[last] + 1.0, REACH_KM), 0.0)
    reach[0] = 0.0  # nobody knows yet how it moves
    return reach


def _move_over(best: F8, lats: F8, lons: F8, nodes: Nodes, around: F8, reach: F8) -> None:
    """Raise the squares of the winds in `best` to those of each time step."""
    gap = np.fmax(lats[0] - nodes.lat, nodes.lat - lats[-1]) * DEGREE_KM
    per_degree = DEGREE_KM * np.cos(np.radians(nodes.lat))
    beside = np.fmax(lons[0] - around, around - lons[-1]) * per_degree
    for k in np.flatnonzero((reach > 0) & (gap < reach) & (beside < reach)):
        span = np.sqrt(reach[k] ** 2 - max(gap[k], 0.0) ** 2) / per_degree[k]
        a, b = np.searchsorted(lons, [around[k] - span, around[k] + span])
        c, d = np.searchsorted(lats, [nodes.lat[k] - reach[k] / DEGREE_KM, nodes.lat[k] + reach[k] / DEGREE_KM])
        if a < b and c < d:
            x, y = (lons[a:b] - around[k]) * per_degree[k], (lats[c:d, None] - nodes.lat[k]) * DEGREE_KM
            np.fmax(best[c:d, a:b], _squared(x, y, nodes, int(k)), out=best[c:d, a:b])


def _squared(x: F8, y: F8, nodes: Nodes, k: int) -> F8:
    """The wind's square at these offsets from the eye (km; a row and a column), 0 beyond 300 km.

    |V t + a c|^2 = V^2 + a (2 V c.t + a c^2) with t the tangent and a = min(1, rmax/r) (Mouton & Nordbeck 2005).
    """
    square = np.fmax(x * x + y * y, NEAREST_KM**2)
    r = np.sqrt(square)
    wind = nodes.profile(r, k)
    east, north, motion = nodes.east[k], nodes.north[k], np.hypot(nodes.east[k], nodes.north[k])
    if nodes.lat[k] < 0:
        east, north = -east, -north  # the tangent turns the other way
    damp = np.fmin(1.0, nodes.rmax_km[k] / r)
    if nodes.within:
        wind = np.fmax(wind - damp * motion, 0.0)  # no storm turns the other way in its eye, however fast it moves
    along = (x * north - y * east) / r
    whole = wind * wind + damp * (2.0 * wind * along + damp * motion**2)
    whole[square > REACH_KM**2] = 0.0
    return np.asarray(whole)


def gust_factor(land: Mask | None = None) -> F4 | float:
    """From the 1-minute wind over open sea to the 3-second gust at 10 m: 1.11 at sea; on land 1.49 of the 0.8 that is
    left of it."""
    if land is None:
        return SEA_GUST
    return np.where(land, np.float32(LAND_GUST * LAND_MEAN), np.float32(SEA_GUST))


def footprint(
    track: Track,
    grid: Grid,
    model: Model = "H08",
    *,
    land: Mask | None = None,
    dt_h: float | None = 0.25,
    points: int = STRIP_POINTS,
) -> F4:
    """The largest 3-second gust at 10 m of the passage, f4[rows, columns] in m/s. `land`: of the grid's points; all sea
    without it. Other arguments and errors as of `sustained`."""
    return gusts(sustained(track, grid, model, dt_h=dt_h, points=points), land)


def gusts(wind: F8 | F4, land: Mask | None = None) -> F4:
    """3-second gusts of 1-minute winds over open sea."""
    if land is not None and land.shape != wind.shape:
        raise ModelError(f"the land mask has shape {land.shape}, the grid {wind.shape}")
    return np.asarray(wind * gust_factor(land), dtype=np.float32)
