"""How wind falls off over land: Kaplan & DeMaria 1995, for what nobody has measured.

A best track (HURDAT2) has the intensity that a storm had over land, so it has decayed already: applied once more the
law would count twice. It is for simulated tracks, and for the positions inland where a track has neither wind nor
pressure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from model.arrays import F8, Mask
from model.errors import ModelError
from model.wind_grid import is_land
from model.wind_tracks import GAP_H, KNOT_MS, Track, interpolated, resampled

Decay = Literal["missing", "always", "never"]
DECAYS: tuple[Decay, ...] = ("missing", "always", "never")
DECAY_KEPT, DECAY_FLOOR_MS, DECAY_PER_H = 0.9, 26.7 * KNOT_MS, 0.095
"""Reduction at the coast, background wind and rate (Kaplan & DeMaria 1995, JAM 34, 2499)."""


def decay(landfall_ms: float | F8, hours: float | F8) -> F8:
    """The largest wind so many hours after landfall: Vb + (0.9 V0 - Vb) e^(-0.095 t), without the term for the distance
    from the coast (Kaplan & DeMaria 1995, JAM 34, 2499, eq. 7); never above what it was at sea."""
    kept = DECAY_KEPT * np.asarray(landfall_ms)
    return inland(np.fmax(kept, 0.0), hours)


def inland(wind_ms: float | F8, hours: float | F8) -> F8:
    """The largest wind so many hours after it was `wind_ms` over land: as `decay`, without the step at the coast."""
    later = DECAY_FLOOR_MS + (np.asarray(wind_ms) - DECAY_FLOOR_MS) * np.exp(-DECAY_PER_H * np.asarray(hours))
    return np.fmin(later, wind_ms)


def decayed(track: Track, measured: Mask | None = None) -> Track:
    """The resampled track as the decay law would have it over land, until it is at sea again, or `measured`.

    From a landfall on the law is `decay`, from a measured wind over land on `inland`. The pressure drop goes with the
    square of the wind.
    """
    over = is_land(track.lat, track.lon)
    if measured is not None:
        over &= ~measured
    coast = ~is_land(track.lat, track.lon)
    vmax, hours, wind = track.vmax_ms.copy(), track.hours, 0.0
    since = -1
    for k in range(vmax.size):
        if not over[k]:
            since = -1
        elif k and since < 0:
            at_sea = bool(coast[k - 1])
            since, wind = (k, DECAY_KEPT * track.vmax_ms[k - 1]) if at_sea else (k - 1, track.vmax_ms[k - 1])
        if since >= 0:
            vmax[k] = min(float(inland(wind, hours[k] - hours[since])), wind)
    share = np.square(vmax / np.fmax(track.vmax_ms, 0.1))
    drop = np.fmax(track.penv_hpa - track.pcen_hpa, 0.0) * share
    return replace(track, vmax_ms=vmax, pcen_hpa=np.where(over, track.penv_hpa - drop, track.pcen_hpa))


def prepared(track: Track, decay: Decay = "missing", dt_h: float = 0.25) -> Track:
    """The track resampled, and decayed over land: "always", "never", or where its wind and pressure are "missing".

    Missing is what lies over a day from a known value, or behind the last one; between two that are nearer the track is
    interpolated. Raises ModelError.
    """
    if decay not in DECAYS:
        raise ModelError(f"unknown decay {decay!r}; choose from {', '.join(DECAYS)}")
    steps = resampled(track, dt_h)
    if decay == "never":
        return steps
    return decayed(steps, None if decay == "always" else _measured(track, steps))


def _measured(track: Track, steps: Track) -> Mask:
    """Which steps lie between rows with a wind or a pressure, or with one near enough in time."""
    columns = [interpolated(track.hours, column, GAP_H) for column in (track.vmax_ms, track.pcen_hpa)]
    known = ~np.isnan(columns[0]) | ~np.isnan(columns[1])
    return np.asarray(np.interp(steps.hours, track.hours, known.astype(np.float64)) == 1)
