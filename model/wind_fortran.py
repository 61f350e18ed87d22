"""The wind field as a program: `fortran/wind.f90`, compiled when it is needed, fed by text files, read as binary ones.

The numpy of `wind_field` is the same model, and takes its place where there is no Fortran compiler.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np

from model.arrays import F4
from model.errors import ModelError
from model.wind_field import MODELS, Model
from model.wind_grid import Grid
from model.wind_tracks import Track, resampled

SOURCE = Path(__file__).parent / "fortran" / "wind.f90"
FLAGS = ("-O3", "-ffast-math", "-fno-finite-math-only", "-fopenmp-simd", "-static-libgfortran", "-static-libgcc")
WIDE = "-march=x86-64-v3"  # AVX2 and FMA: what all of a cloud's machines have
TOLERANCE_MS = 1e-3
"""By how much the program, whose points are in single precision, may differ from numpy (a test holds it to that)."""
COMMAND = "./wind {track} {out}"
"""How the program is called, for `fnmap.command`; `outputs={"out": "bytes"}` are what `read_field` reads."""


def compiler() -> str | None:
    """The Fortran compiler: FC, or gfortran; None if there is none."""
    return shutil.which(os.environ.get("FC") or "gfortran")


def build(folder: str | Path | None = None) -> Path | None:
    """The program, compiled unless that was done before; None where there is no compiler.

    It is kept in `folder`, by default FNMAP_MODEL_CACHE or ~/.cache/fnmap-model, under a name made of source, flags and
    compiler. Raises ModelError with what the compiler said if that fails.
    """
    fortran = compiler()
    if fortran is None:
        return None
    flags = [*FLAGS, WIDE] if _is_wide() else list(FLAGS)
    about = blake2b(SOURCE.read_bytes() + repr((flags, fortran, Path(fortran).stat().st_mtime)).encode(), digest_size=8)
    home = Path(folder or os.environ.get("FNMAP_MODEL_CACHE") or Path.home() / ".cache" / "fnmap-model")
    program = home / about.hexdigest() / "wind"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as aside:
        made = Path(aside) / "wind"
        done = subprocess.run(
            [fortran, *flags, "-o", str(made), "-J", aside, str(SOURCE)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ModelError(f"{fortran} cannot compile {SOURCE.name}:\n{done.stderr[-2000:]}")
        made.replace(program)  # whole or not at all: another process may be doing the same
    return program


def _is_wide() -> bool:
    """May the program use AVX2 and FMA? It runs where it is compiled, or on workers that are no older."""
    if platform.machine() != "x86_64":
        return False
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        return all(f" {name}" in flags for name in ("avx2", "fma", "bmi2", "movbe"))
    return False


def track_file(track: Track, grid: Grid, model: Model = "H08", *, dt_h: float | None = 0.25) -> bytes:
    """What the program reads: model, grid and resampled track (as it is if `dt_h` is None). Raises ModelError."""
    if model not in MODELS:
        raise ModelError(f"unknown wind model {model!r}; choose from {', '.join(MODELS)}")
    track = track if dt_h is None else resampled(track, dt_h)
    columns = (track.hours, track.lat, track.lon, track.vmax_ms, track.pcen_hpa, track.penv_hpa, track.rmax_km)
    rows = "\n".join(" ".join(map(repr, row)) for row in np.stack(columns, axis=1).tolist())
    place = f"{float(grid.south)!r} {float(grid.west)!r} {float(grid.step)!r} {grid.rows} {grid.columns}"
    return f"{model}\n{place}\n{track.time.size}\n{rows}\n".encode()


def read_field(body: bytes) -> F4:
    """The largest 1-minute wind over open sea, f4[rows, columns], as the program writes it. Raises ModelError."""
    rows, columns = np.frombuffer(body[:8], "<i4") if len(body) >= 8 else (0, 0)
    if len(body) != 8 + 4 * int(rows) * int(columns) or rows < 1:
        raise ModelError(f"the field has {len(body)} bytes, which is not what {rows} x {columns} points take")
    return np.frombuffer(body, "<f4", offset=8).reshape(rows, columns)


def sustained(
    program: Path, track: Track, grid: Grid, model: Model = "H08", *, dt_h: float | None = 0.25, repeat: int = 1
) -> F4:
    """As `wind_field.sustained`, by the program, here and now. `repeat`: how often it does the work, to measure it."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        (there / "track").write_bytes(track_file(track, grid, model, dt_h=dt_h))
        words = [str(program), str(there / "track"), str(there / "field"), str(repeat)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ModelError(f"the wind program ended with {done.returncode}: {done.stderr.strip()}")
        return read_field((there / "field").read_bytes())
