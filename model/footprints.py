"""Wind footprints and losses of all Atlantic hurricanes of 1970-2018: ``python -m model.footprints --out wind``.

A plan of fnmap: each storm's footprint, by numpy or by a Fortran program that is run once a storm; from each its loss;
and the worst gust of all at each point. Writes `footprints/season=*/`, `elt.parquet` (an event loss table as
the reinsurance half reads it, in USD) and `map.png`. Of this library only the commands know fnmap.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import fnmap
from model import tables
from model.arrays import F4
from model.command_line import Parser, at_least
from model.errors import ModelError
from model.losses import Elt
from model.wind_decay import DECAYS, Decay
from model.wind_events import footprint_from, footprint_of, hurricanes, loss_of, program_input, worst
from model.wind_field import MODELS
from model.wind_fortran import COMMAND, build, compiler
from model.wind_grid import EAST_COAST, Grid, land_on
from model.wind_loss import insured_values, loss_table
from model.wind_tracks import YEARS, Track, read_hurdat2

SEASONS = YEARS[1] - YEARS[0] + 1
SUMMARY_ID = 9001  # of the table's rows: this loss set
TOP = 8


def _degrees(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.005 <= value <= 2:
        raise argparse.ArgumentTypeError(f"must be a number of degrees in 0.005..2; got {text}")
    return value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="footprints", description="Wind footprints and losses of all Atlantic hurricanes, 1970-2018.")
    parser.add_argument("--out", type=Path, required=True, help="folder for footprints, event loss table and map")
    parser.add_argument("--kernel", choices=("numpy", "fortran"), default="numpy", help="what computes (%(default)s)")
    parser.add_argument("--model", choices=MODELS, default="H08", help="radial profile (%(default)s)")
    parser.add_argument(
        "--decay", choices=DECAYS, default="missing", help="inland, of what? (%(default)s: no measured wind)"
    )
    parser.add_argument("--tracks", type=Path, help="of your own, simulated ones say, as a HURDAT2 file")
    parser.add_argument("--seasons", type=at_least(1), help="years that those are of (first to last season)")
    parser.add_argument("--resolution", type=_degrees, default=0.05, help="degrees between points (%(default)s)")
    parser.add_argument("--on", default="local", help="where to run: local, inline, lithops, a plugin (%(default)s)")
    parser.add_argument("--store", help="keep results there, and use what earlier runs have computed")
    parser.add_argument("--name", help="of the run: the same name again takes it up")
    return parser.parse_args(argv)


def planned(
    tracks: Sequence[Track], grid: Grid, *, kernel: str = "numpy", model: Any = "H08", decay: Decay = "missing"
) -> fnmap.plans.Plan:
    """Its stages: `footprints`, with the Fortran kernel `wind` before it, `losses`, and the tree `worst`."""
    land = land_on(grid)
    ids = [track.event_id for track in tracks]
    steps = [float(track.hours[-1]) for track in tracks]
    plan = fnmap.plan("footprints")
    if kernel == "fortran":
        program = build()
        if program is None:
            raise ModelError("there is no Fortran compiler here: install gfortran, or take --kernel numpy")
        run = fnmap.command(COMMAND, files={"wind": program}, outputs={"out": "bytes"})
        fields = plan.map(run, [program_input(track, grid, model, decay) for track in tracks], cost=steps, name="wind")
        rows = plan.map(footprint_from, fields, ids, kwargs={"land": land}, name="footprints")
    else:
        options = {"grid": grid, "land": land, "model": model, "decay": decay}
        rows = plan.map(footprint_of, tracks, kwargs=options, cost=steps, name="footprints")
    value = insured_values(grid, land)
    plan.map(loss_of, rows, ids, kwargs={"grid": grid, "land": land, "value": value}, name="losses")
    plan.reduce(partial(worst, grid=grid), rows, fan_in=16, name="worst")
    return plan


def asked(args: argparse.Namespace, grid: Grid) -> tuple[list[Track], int]:
    """The hurricanes that come near the grid, of a file or of all, and how many seasons they are of."""
    if args.tracks is None:
        return hurricanes(grid), args.seasons or SEASONS
    tracks = read_hurdat2(args.tracks)
    near = hurricanes(grid, tracks)
    if not near:
        raise ModelError(f"{args.tracks} has {len(tracks)} storms; none is a hurricane that comes near the grid")
    one = {track.event_id: track for track in near}
    if again := [track for track in near if one[track.event_id] is not track]:
        other = one[again[0].event_id]
        raise ModelError(f"{args.tracks} has {again[0].storm} and {other.storm}: both have the number {other.event_id}")
    years = [track.event_id // 100 for track in tracks]
    return near, args.seasons or max(years) - min(years) + 1


def write(out: Path, footprints: Sequence[pa.Table], elt: Elt, about: dict[str, str]) -> None:
    """The footprints by season, in place of those of an earlier run, and the event loss table, with `about` in their
    footers."""
    for earlier in (out / "footprints").glob("season=*/0.parquet"):
        earlier.unlink()
    seasons: dict[int, list[pa.Table]] = {}
    for table in footprints:
        if table.num_rows:
            seasons.setdefault(table["event_id"][0].as_py() // 100, []).append(table)
    for season, parts in seasons.items():
        folder = out / "footprints" / f"season={season}"
        folder.mkdir(parents=True, exist_ok=True)
        whole = pa.concat_tables(parts).replace_schema_metadata(about)
        pq.write_table(whole, folder / "0.parquet", compression="zstd")
    tables.write(tables.elt_table(elt, SUMMARY_ID), out / "elt.parquet", "elt", {**about, "currency": "USD"})


def summary(elt: Elt, tracks: Sequence[Track]) -> str:
    """The costliest storms, and what a year costs on average."""
    names = {track.event_id: f"{track.name.title()} {track.event_id // 100}" for track in tracks}
    worst_first = (-elt.mean).argsort()[:TOP]
    lines = [f"{'storm':<18}{'mean loss':>14}{'sd':>12}   (USD million; insured values are made up)"]
    for row in worst_first:
        mean, sd = elt.mean[row] / 1e6, elt.sd[row] / 1e6
        lines.append(f"{names[int(elt.event_id[row])]:<18}{mean:>14,.0f}{sd:>12,.0f}")
    return "\n".join(
        [*lines, f"average annual loss {elt.aal / 1e6:,.0f} million, of {elt.event_id.size} damaging storms"]
    )


def _picture(out: Path, gust: F4, grid: Grid, tracks: Sequence[Track]) -> str:
    from model.wind_map import save

    years = [track.event_id // 100 for track in tracks]
    title = f"Strongest gusts of {len(tracks)} hurricanes, {min(years)}-{max(years)}"
    try:
        save(out / "map.png", gust, grid, land_on(grid), tracks, title=title)
    except ImportError:
        return "no map was drawn: that takes matplotlib"
    return f"map in {out / 'map.png'}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, or 1 after saying in one line what went wrong."""
    args = _arguments(argv)
    kernel = args.kernel
    if kernel == "fortran" and compiler() is None:
        sys.stderr.write("footprints: there is no Fortran compiler (gfortran, or FC); numpy computes the same\n")
        kernel = "numpy"
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        grid = Grid.between(*EAST_COAST, args.resolution)
        tracks, seasons = asked(args, grid)
        start = time.perf_counter()
        plan = planned(tracks, grid, kernel=kernel, model=args.model, decay=args.decay)
        run = plan.run(name=args.name, on=args.on, store=args.store, cache=args.store is not None)
        gust: F4 = run.result()
        footprints, losses = list(run["footprints"]), list(run["losses"])
        seconds = time.perf_counter() - start
        elt = loss_table(losses, seasons)
        about = {
            "units": "gust in 0.1 m/s",
            "grid": repr(grid),
            "model": args.model,
            "kernel": kernel,
            "decay": args.decay,
        }
        write(args.out, footprints, elt, about)
        picture = _picture(args.out, gust, grid, tracks)
    except (ModelError, fnmap.FnmapError, OSError) as error:
        sys.stderr.write(f"footprints: {error}\n")
        return 1
    cells = sum(table.num_rows for table in footprints)
    sys.stdout.write(
        f"{summary(elt, tracks)}\n\n{len(tracks)} hurricanes on {grid.rows} x {grid.columns} points, {cells:,} rows"
        f" in {seconds:.1f} s ({kernel}); tables in {args.out}, {picture}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
