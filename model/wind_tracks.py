"""Tropical cyclone tracks: HURDAT2 read and checked, what is missing filled in, and resampled in time.

Units: degrees (east and north positive), m/s, hPa, km, hours. Missing is NaN.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from model.arrays import F8
from model.errors import ModelError
from model.wind_profiles import holland_2008_pressure_drop

KNOT_MS = 1852 / 3600
NAUTICAL_MILE_KM = 1.852
ENVIRONMENT_HPA = 1010.0
"""Pressure around North Atlantic storms, where a track says nothing of it."""
ATLANTIC = Path(__file__).parent / "data" / "hurdat2" / "hurdat2_atl_1970_2018.txt.gz"
YEARS = (1970, 2018)
"""First and last season of `ATLANTIC`."""
GAP_H = 24.0  # over which a missing value is interpolated between its neighbours in time

_HEAD = re.compile(r"([A-Z]{2})(\d{2})(\d{4})")
_STATUS = frozenset({"TD", "TS", "HU", "EX", "SD", "SS", "LO", "WV", "DB", "ET"})  # ET: one row of the file has it


@dataclass(frozen=True, eq=False)
class Track:
    """A storm: n positions in order of time, each column f8[n].

    `lon` is continuous: it goes past 180 rather than jump to -180. `fixed` marks positions at 00, 06, 12 and 18 UTC;
    those between say when a peak or landfall was. Raises ModelError naming storm and row.
    """

    storm: str
    name: str
    time: np.ndarray[Any, np.dtype[np.datetime64]]
    lat: F8
    lon: F8
    vmax_ms: F8
    pcen_hpa: F8
    penv_hpa: F8
    rmax_km: F8
    status: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = self.time.size
        for column in ("lat", "lon", "vmax_ms", "pcen_hpa", "penv_hpa", "rmax_km"):
            if getattr(self, column).shape != (n,):
                raise ModelError(f"{self.storm}: {column} has shape {getattr(self, column).shape}, time ({n},)")
        if n == 0:
            raise ModelError(f"{self.storm}: the track has no positions")
        late = np.diff(self.time) <= np.timedelta64(0, "s")
        if late.any():
            row = int(np.argmax(late)) + 1
            raise ModelError(f"{self.storm} row {row}: time {self.time[row]} is not after that of the row before")
        wrong = ~(np.abs(self.lat) <= 90) | ~(np.abs(self.lon) <= 540)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ModelError(f"{self.storm} row {row}: no place on Earth: lat {self.lat[row]}, lon {self.lon[row]}")

    @property
    def event_id(self) -> int:
        """A number for tables: 201711 for AL112017."""
        found = _HEAD.fullmatch(self.storm)
        if not found:
            raise ModelError(f"storm {self.storm!r} is not named as in HURDAT2 (AL112017), so it has no event number")
        return int(found[3]) * 100 + int(found[2])

    @property
    def hours(self) -> F8:
        """Hours since the first position."""
        return np.asarray((self.time - self.time[0]) / np.timedelta64(1, "s"), dtype=np.float64) / 3600


def read_hurdat2(source: str | Path) -> list[Track]:
    """The storms of a HURDAT2 file (Landsea & Franklin 2013, MWR 141, 3576), plain or .gz, with -99 and -999 as NaN.

    Raises ModelError naming line and storm for what does not follow the format.
    """
    path = Path(source)
    body = path.read_bytes()
    try:
        text = (gzip.decompress(body) if path.suffix == ".gz" else body).decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is no text: {error}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ModelError(f"{path} is no whole gzip file: {error}") from error
    return parse_hurdat2(text)


@cache
def atlantic() -> tuple[Track, ...]:
    """The storms of the North Atlantic, 1970-2018."""
    return tuple(read_hurdat2(ATLANTIC))


def storm(name: str) -> Track:
    """The Atlantic storm of this id, e.g. "AL112017" for Irma. Raises ModelError if there is none."""
    found = next((t for t in atlantic() if t.storm == name), None)
    if found is None:
        raise ModelError(f"no storm {name!r} among those of {YEARS[0]}-{YEARS[1]}; they are named AL112017")
    return found


def parse_hurdat2(text: str) -> list[Track]:
    """As `read_hurdat2`, of the text."""
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    tracks, at = [], 0
    while at < len(lines):
        number, line = lines[at]
        head = [part.strip() for part in line.split(",")]
        if len(head) < 3 or not _HEAD.fullmatch(head[0]) or not head[2].isdigit():
            raise ModelError(f"line {number}: expected the head of a storm such as 'AL112017, IRMA, 66,'; got {line!r}")
        rows = lines[at + 1 : at + 1 + int(head[2])]
        if len(rows) < int(head[2]):
            raise ModelError(f"line {number}: {head[0]} announces {head[2]} rows; the file ends after {len(rows)}")
        tracks.append(_track(head[0], head[1], rows))
        at += 1 + len(rows)
    return tracks


def _track(storm: str, name: str, rows: list[tuple[int, str]]) -> Track:
    parsed = [_row(storm, number, line) for number, line in rows]
    time, status, lat, lon, vmax, pcen, rmax = zip(*parsed, strict=True)
    f8 = [np.array(column, dtype=np.float64) for column in (lat, lon, vmax, pcen, rmax)]
    around = np.full(len(rows), ENVIRONMENT_HPA)
    lons = np.unwrap(f8[1], period=360)
    return Track(storm, name, np.array(time, "datetime64[s]"), f8[0], lons, f8[2], f8[3], around, f8[4], status)


def _row(storm: str, number: int, line: str) -> tuple[str, str, float, float, float, float, float]:
    parts = [part.strip() for part in line.split(",")]
    where = f"line {number} of {storm}"
    if _HEAD.fullmatch(parts[0]):
        raise ModelError(f"{where}: the next storm begins before all announced rows are there")
    if len(parts) < 8 or not re.fullmatch(r"\d{8}", parts[0]) or not re.fullmatch(r"\d{4}", parts[1]):
        raise ModelError(f"{where}: expected 'YYYYMMDD, HHMM, , HU, 25.0N, 80.0W, 100, 940, ...'; got {line!r}")
    if parts[3] not in _STATUS:
        raise ModelError(f"{where}: status {parts[3]!r} is none of {', '.join(sorted(_STATUS))}")
    day, clock = parts[0], parts[1]
    time = f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:]}:00"
    try:
        np.datetime64(time)
    except ValueError as error:
        raise ModelError(f"{where}: no such time: {day} {clock}") from error
    vmax = _number(where, "wind", parts[6], (-99, -999), 0, 250) * KNOT_MS
    pcen = _number(where, "pressure", parts[7], (-999, -99), 800, 1100)
    rmax = (
        _number(where, "radius of maximum wind", parts[20] or "-999", (-999, -99), 0, 999)
        if len(parts) > 20
        else np.nan
    )
    return (
        time,
        parts[3],
        _degrees(where, parts[4], "NS"),
        _degrees(where, parts[5], "EW"),
        vmax,
        pcen,
        rmax * NAUTICAL_MILE_KM,
    )


def _degrees(where: str, text: str, signs: str) -> float:
    if not re.fullmatch(rf"\d{{1,3}}(\.\d+)?[{signs}]", text):
        raise ModelError(f"{where}: {text!r} is no position; expected degrees such as 25.0{signs[0]}")
    return float(text[:-1]) * (1 if text[-1] == signs[0] else -1)


def _number(where: str, what: str, text: str, missing: tuple[int, int], low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ModelError(f"{where}: {what} {text!r} is no number; a missing one is {missing[0]}") from error
    if value in missing:
        return np.nan
    if not low <= value <= high:
        raise ModelError(f"{where}: {what} {text} is not in {low:g}..{high:g}; a missing one is {missing[0]}")
    return value


def is_hurricane(track: Track) -> bool:
    """Did it reach 64 kt while tropical?"""
    return "HU" in track.status


def completed(track: Track) -> Track:
    """Without missing values. A wind is interpolated in time, before and after all known ones the nearest. A pressure
    is so too within a day, else what goes with the wind (Holland 2008); so is rmax, else what goes with the pressure.

    Raises ModelError if the track has no wind and no pressure at all.
    """
    if np.isnan(track.vmax_ms).all():
        raise ModelError(f"{track.storm} ({track.name}): no row has a wind speed; leave the storm out or fill them in")
    hours = track.hours
    vmax = interpolated(hours, track.vmax_ms, np.inf)
    pcen = interpolated(hours, track.pcen_hpa, GAP_H)
    drop = holland_2008_pressure_drop(vmax, track.lat)
    pcen = np.where(np.isnan(pcen), track.penv_hpa - drop, pcen)
    rmax = interpolated(hours, track.rmax_km, GAP_H)
    rmax = np.where(np.isnan(rmax) | (rmax <= 0), rmax_from_pressure(pcen), rmax)
    return replace(track, vmax_ms=vmax, pcen_hpa=pcen, rmax_km=rmax)


def interpolated(hours: F8, column: F8, gap_h: float) -> F8:
    """NaN between two known values at most `gap_h` apart becomes what lies between; without a limit the ends are filled
    too."""
    known = ~np.isnan(column)
    if not known.any():
        return column
    filled = np.interp(hours, hours[known], column[known])
    if gap_h == np.inf:
        return np.asarray(filled)
    after = np.searchsorted(hours[known], hours)
    at = np.r_[-np.inf, hours[known], np.inf]
    near = at[after + 1] - at[after] <= gap_h
    return np.where(known | near, filled, np.nan)


def rmax_from_pressure(pcen_hpa: F8) -> F8:
    """Radius of maximum wind in km from central pressure, where a track has none: linear between points that CLIMADA 6
    has fitted to IBTrACS (`estimate_rmw`, r2 = 0.79)."""
    known = [872.0, 940.0, 980.0, 1021.0], [14.907318, 15.726927, 25.742142, 56.856522]
    return np.asarray(np.interp(pcen_hpa, *known)) * NAUTICAL_MILE_KM


def resampled(track: Track, dt_h: float = 0.25) -> Track:
    """The completed track every `dt_h` hours, and at its end.

    Positions follow a cubic through those at 00, 06, 12 and 18 UTC (Catmull & Rom 1974, with real times), for between
    these a tenth of a degree of rounding would pass for speed; winds and pressures are linear between all rows, so that
    the peak at landfall counts. Raises ModelError.
    """
    if not (np.isfinite(dt_h) and dt_h > 0):
        raise ModelError(f"the time step must be a number of hours > 0; got {dt_h}")
    track = completed(track)
    hours = track.hours
    when = np.append(np.arange(0, hours[-1], dt_h), hours[-1]) if hours[-1] > 0 else np.zeros(1)
    seconds = (track.time - track.time.astype("datetime64[D]")) / np.timedelta64(1, "s")
    fixed = seconds % (6 * 3600) == 0
    fixed[[0, -1]] = True
    lat, lon = (_cubic(when, hours[fixed], column[fixed]) for column in (track.lat, track.lon))
    columns = track.vmax_ms, track.pcen_hpa, track.penv_hpa, track.rmax_km
    at_steps = [np.asarray(np.interp(when, hours, column)) for column in columns]
    time = track.time[0] + np.round(when * 3600).astype("timedelta64[s]")
    vmax, pcen, penv, rmax = at_steps
    return Track(track.storm, track.name, time, lat, lon, vmax, pcen, penv, rmax)


def _cubic(at: F8, x: F8, y: F8) -> F8:
    """A cubic Hermite curve through (x, y), with slopes of second order."""
    if x.size < 3:
        return np.asarray(np.interp(at, x, y))
    slope = np.gradient(y, x, edge_order=2)
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, x.size - 2)
    h = x[k + 1] - x[k]
    t = (at - x[k]) / h
    a, b = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2 * h
    c, d = t**2 * (3 - 2 * t), t**2 * (t - 1) * h
    return np.asarray(a * y[k] + b * slope[k] + c * y[k + 1] + d * slope[k + 1])
