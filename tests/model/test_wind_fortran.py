"""The Fortran program: the same winds as numpy, and what it says of what it cannot read."""

import subprocess

import numpy as np
import pytest

import fnmap
from fnmap.errors import CommandFailed
from model import wind_fortran as fortran
from model.errors import ModelError
from model.wind_field import MODELS, sustained
from model.wind_grid import Grid
from model.wind_tracks import storm

GRID = Grid(23.0, -84.0, 0.1, 80, 70)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if fortran.compiler() is None:
        pytest.skip("there is no Fortran compiler here")
    return fortran.build(tmp_path_factory.mktemp("program"))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["AL112017", "AL041992", "AL182012"])
def test_it_has_the_winds_of_numpy(program, model, name):
    expected = sustained(storm(name), GRID, model)
    field = fortran.sustained(program, storm(name), GRID, model)
    assert (field.dtype, field.shape) == (np.float32, GRID.shape)
    near_floor = np.abs(np.fmax(expected, field) - 17.5) < fortran.TOLERANCE_MS
    assert np.abs(field - expected)[~near_floor].max() < fortran.TOLERANCE_MS
    assert expected.max() > 20


def test_south_of_the_equator_and_across_the_date_line_too(program):
    irma = storm("AL112017")
    from dataclasses import replace

    south = replace(irma, lat=-irma.lat, lon=irma.lon - 100)
    grid = Grid.between(-30, -24, 177, -177, 0.1)
    expected = sustained(south, grid)
    assert expected.max() > 40
    assert fortran.sustained(program, south, grid) == pytest.approx(expected, abs=fortran.TOLERANCE_MS)


def test_it_is_compiled_once(program):
    before = program.stat().st_mtime_ns
    assert fortran.build(program.parent.parent) == program
    assert program.stat().st_mtime_ns == before


def test_without_a_compiler_there_is_no_program(monkeypatch, tmp_path):
    monkeypatch.setenv("FC", "no-such-compiler")
    assert fortran.build(tmp_path) is None


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    (tmp_path / "fc").write_text("#!/bin/sh\necho out of ink >&2; exit 1\n")
    (tmp_path / "fc").chmod(0o755)
    monkeypatch.setenv("FC", str(tmp_path / "fc"))
    with pytest.raises(ModelError, match=r"cannot compile wind.f90:\nout of ink"):
        fortran.build(tmp_path)


@pytest.mark.parametrize(
    ("track", "code", "message"),
    [
        (b"", 4, "the track is empty"),
        (b"H99\n", 4, "unknown wind model H99; choose from H1980"),
        (b"H08\n1 2 3\n", 4, "line 2 must be: south west step rows columns"),
        (b"H08\n1 2 0 3 3\n", 4, "a grid needs points, and a step > 0"),
        (b"H08\n1 2 .1 3 3\n0\n", 4, "line 3 must be the number of nodes"),
        (b"H08\n1 2 .1 3 3\n1\n1 2 x 4 5 6 7\n", 4, "node 1 must be seven numbers"),
        (b"H08\n1 2 .1 3 3\n2\n1 2 3 4 5 6 7\n", 4, "node 2 must be seven numbers"),
        (b"H08\n1 2 .1 3 3\n1\n1 2 3 nan 5 6 7\n", 4, "node 1 has a missing value"),
        (b"H08\n1 2 .1 3 3\n2\n1 2 3 4 5 6 7\n1 2 3 4 5 6 7\n", 4, "node 2 is not later"),
        (b"H08\n1 2 .1 3 3\n2\n1 2 3 4 5 6\n2 2 3 4 5 6 7\n", 4, "node 1 must be seven numbers"),
        (b"H08\n1 2 .1 3 3\n1\n1 2 3 inf 5 6 7\n", 4, "node 1 has a missing value"),
        (b"H08\n1 2 .1 3 3\n1\n1 2 3 4 5 6 7\n2 2 3 4 5 6 7\n", 4, "there are more nodes than line 3 announces"),
    ],
)  # fmt: skip
def test_what_it_cannot_read_is_in_the_error_of_the_task(program, track, code, message):
    run = fnmap.command(fortran.COMMAND, files={"wind": program}, outputs={"out": "bytes"})
    with pytest.raises(CommandFailed, match=message) as caught:
        run(track)
    assert caught.value.returncode == code


def test_a_missing_track_or_argument_has_an_exit_code_of_its_own(program, tmp_path):
    assert subprocess.run([program], capture_output=True, check=False).returncode == 2
    assert subprocess.run([program, tmp_path / "absent", "x"], capture_output=True, check=False).returncode == 3


def test_a_torn_field_is_told():
    with pytest.raises(ModelError, match="has 12 bytes, which is not what 1 x 2 points take"):
        fortran.read_field(b"\1\0\0\0\2\0\0\0\0\0\0\0")


def test_as_a_command_in_workers_it_gives_what_it_gives_here(program):
    run = fnmap.command(fortran.COMMAND, files={"wind": program}, outputs={"out": "bytes"})
    names = ["AL112017", "AL041992", "AL182012"]
    bodies = fnmap.map(run, [fortran.track_file(storm(name), GRID) for name in names], on="local", progress=False)
    for name, body in zip(names, bodies, strict=True):
        assert (fortran.read_field(body) == fortran.sustained(program, storm(name), GRID)).all()
