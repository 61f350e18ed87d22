"""Radial profiles of the 1-minute wind around a tropical cyclone, and the parameters that go into them.

Units: r and rmax km, wind m/s, pressure hPa, f 1/s, lat degrees. Everything broadcasts over arrays.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from model.arrays import F8

AIR_KG_M3 = 1.15
EARTH_ROTATION = 7.29e-5
GRADIENT_TO_SURFACE = 0.9
"""Surface over gradient wind: Franklin, Black & Valde 2003, Wea. Forecasting 18, 32-44."""
HOLLAND_2010_KM, HOLLAND_2010_MS = 300.0, 17.0  # an outer radius, and the wind that is assumed there
WILLOUGHBY_KM = 25.0  # the shorter of the two lengths over which the outer wind falls off

Value: TypeAlias = float | F8


def coriolis(lat: Value) -> F8:
    """The Coriolis parameter in 1/s, positive in both hemispheres."""
    return np.asarray(2 * EARTH_ROTATION * np.sin(np.radians(np.abs(lat))))


def holland_1980_b(drop_hpa: Value, gradient_ms: Value) -> F8:
    """Holland's B from the largest gradient wind and the pressure drop, in [1, 2.5] (Holland 1980, MWR 108, 1212)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        b = np.square(gradient_ms) * np.e * AIR_KG_M3 / np.multiply(drop_hpa, 100.0)
    return np.asarray(np.clip(np.nan_to_num(b, nan=1.0), 1.0, 2.5))


def holland_2008_b(drop_hpa: Value, drop_rate: Value, lat: Value, motion_ms: Value) -> F8:
    """b_s of the surface wind (Holland 2008, MWR 136, 3432, eq. 11), in [0.81, 2.025].

    `drop_rate`: of the central pressure, hPa/h; `motion_ms`: of the storm.
    """
    x = 0.6 * (1 - np.divide(drop_hpa, 215.0))
    b = -4.4e-5 * np.square(drop_hpa) + 0.01 * np.asarray(drop_hpa) + 0.03 * np.asarray(drop_rate)
    b = b - 0.014 * np.abs(lat) + 0.15 * np.power(motion_ms, x) + 1.0
    return np.asarray(np.clip(b, 0.81, 2.025))


def holland_2008_vmax(b: Value, drop_hpa: Value) -> F8:
    """The largest surface wind that goes with a pressure drop (ibid., eq. 7 with e: sqrt(b dp / (rho e)))."""
    return np.asarray(np.sqrt(np.multiply(b, drop_hpa) * 100.0 / (AIR_KG_M3 * np.e)))


def holland_2008_pressure_drop(vmax_ms: Value, lat: Value, motion_ms: float = 5.0) -> F8:
    """The pressure drop that goes with a largest surface wind: `holland_2008_vmax` inverted, for a steady storm."""
    drop = np.full(np.broadcast(vmax_ms, lat).shape, 30.0)
    for _ in range(50):  # b varies slowly with the drop: each round gains a digit
        drop = AIR_KG_M3 * np.e * np.square(vmax_ms) / holland_2008_b(drop, 0.0, lat, motion_ms) / 100.0
    return drop


def holland(r_km: Value, rmax_km: Value, b: Value, drop_hpa: Value, f: Value) -> F8:
    """V = sqrt(B/rho dp s e^-s + (r f/2)^2) - r f/2 with s = (rmax/r)^B (Holland 1980, eq. 4; 2008 with b_s).

    Gradient wind with the B of 1980, surface wind with that of 2008.
    """
    half = np.multiply(r_km, f) * 500.0
    s = np.exp(b * np.log(np.divide(rmax_km, r_km)))
    return np.asarray(np.sqrt(np.multiply(b, drop_hpa) * (100.0 / AIR_KG_M3) * s * np.exp(-s) + half * half) - half)


def holland_2010_outer(rmax_km: Value, b: Value, vmax_ms: Value) -> F8:
    """The exponent x_n at 300 km for which the wind is 17 m/s there (Holland, Belanger & Fritz 2010, MWR 138, 4393, eq.
    6)."""
    s = np.power(np.divide(rmax_km, HOLLAND_2010_KM), b)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.log(HOLLAND_2010_MS / np.asarray(vmax_ms)) / (np.log(s) + 1 - s)
    return np.asarray(np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0))


def holland_2010(r_km: Value, rmax_km: Value, b: Value, vmax_ms: Value, outer: Value) -> F8:
    """V = Vm (s e^(1-s))^x, x = 0.5 within rmax, linear from there through `outer` at 300 km, and not below 0.4 as in
    CLIMADA 6: the wind would grow again (ibid., eq. 6 and 10)."""
    log_s = b * np.log(np.divide(rmax_km, r_km))
    share = np.clip((np.asarray(r_km) - rmax_km) / (HOLLAND_2010_KM - np.asarray(rmax_km)), 0.0, None)
    x = np.fmax(0.5 + share * (np.asarray(outer) - 0.5), 0.4)
    return np.asarray(vmax_ms * np.exp(x * (log_s + 1 - np.exp(log_s))))


def emanuel_rotunno_2011(r_km: Value, rmax_km: Value, vmax_ms: Value, f: Value) -> F8:
    """From the angular momentum M = Mm 2q/(1+q), q = (r/rmax)^2, V = M/r - f r/2, so that V(rmax) = vmax; not below 0
    (Emanuel & Rotunno 2011, JAS 68, 2236, eq. 36 with Ck = Cd)."""
    q = np.square(np.divide(r_km, rmax_km))
    at_rmax = np.multiply(rmax_km, vmax_ms) + 500.0 * f * np.square(rmax_km)
    return np.asarray(np.fmax(at_rmax * 2 * q / (1 + q) / r_km - 500.0 * np.multiply(f, r_km), 0.0))


def willoughby_rmax(flight_ms: Value, lat: Value) -> F8:
    """The radius of maximum wind in km (Willoughby, Darling & Rahn 2006, MWR 134, 1102, eq. 7a)."""
    return np.asarray(46.4 * np.exp(-0.0155 * np.asarray(flight_ms) + 0.0169 * np.abs(lat)))


def willoughby_shape(rmax_km: Value, flight_ms: Value, lat: Value) -> tuple[F8, F8, F8, F8, F8]:
    """(n, A, X1 km, start km, width km) of the profile for its largest wind at flight level (ibid., eq. 10 and 2-3).

    The transition begins at `start`; where in it rmax lies makes the slope at rmax all but zero.
    """
    v, north = np.asarray(flight_ms), np.abs(lat)
    n = 0.4067 + 0.0144 * v - 0.0038 * north
    a = np.fmax(0.0696 + 0.0049 * v - 0.0064 * north, 0.0)
    x1 = 317.1 - 2.026 * v + 1.915 * north
    width = np.where(np.asarray(rmax_km) > 20, 25.0, 15.0)
    fall = n * ((1 - a) * x1 + WILLOUGHBY_KM * a)
    wanted = fall / (fall + rmax_km)
    low, high = np.zeros(wanted.shape), np.ones(wanted.shape)
    for _ in range(52):  # bisection, to the last bit
        middle = (low + high) / 2
        below = willoughby_blend(middle) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return n, a, x1, np.asarray(rmax_km - low * width), width


def willoughby_blend(xi: Value) -> F8:
    """The weight of the outer profile: 0 before the transition, 1 behind it (ibid., eq. 2)."""
    xi = np.clip(xi, 0.0, 1.0)
    return np.asarray(xi**5 * (126 + xi * (-420 + xi * (540 + xi * (-315 + xi * 70)))))


def willoughby_2006(
    r_km: Value, rmax_km: Value, vmax_ms: Value, n: Value, a: Value, x1_km: Value, start_km: Value, width_km: Value
) -> F8:
    """A power of r within rmax, two exponentials outside, blended between (ibid., eq. 1); the same at every level."""
    out = np.asarray(r_km) - rmax_km
    inner = np.exp(n * np.log(np.divide(r_km, rmax_km)))
    # no further in than the transition, where the weight is 0: exp of a large number would be
    out_there = np.fmax(out, start_km - rmax_km)
    outer = (1 - a) * np.exp(-out_there / x1_km) + a * np.exp(-out_there / WILLOUGHBY_KM)
    w = willoughby_blend((np.asarray(r_km) - start_km) / width_km)
    return np.asarray(vmax_ms * (inner * (1 - w) + outer * w))
