"""From gusts to an event loss table that the reinsurance half takes, and the command that makes it all."""

import gzip

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import footprints, tables
from model.errors import ModelError
from model.simulate import sample_losses
from model.wind_events import comes_near, hurricanes
from model.wind_field import footprint, gust_factor
from model.wind_fortran import compiler
from model.wind_grid import EAST_COAST, Grid, land_on
from model.wind_loss import EventLoss, damage, event_loss, footprint_table, gusts_of, insured_values, loss_table
from model.wind_tracks import ATLANTIC, storm

GRID = Grid.between(24, 28, -84, -79, 0.1)


def test_damage_begins_at_25_7_and_is_a_half_at_74_7():
    """Emanuel 2011 as in CLIMADA's ImpfTropCyclone.from_emanuel_usa: 0, 1/2, and 1/9 half-way."""
    assert damage(np.array([0.0, 25.7, 74.7, 50.2])) == pytest.approx([0, 0, 0.5, 1 / 9])
    assert damage(np.array([1e6])) == pytest.approx([1.0])


def test_damage_cannot_be_half_before_it_begins():
    with pytest.raises(ModelError, match=r"half_ms must be above 25\.7"):
        damage(np.zeros(1), half_ms=20)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 90), st.floats(0, 1e9)), min_size=1, max_size=30))
def test_a_loss_always_has_a_beta_distribution(points):
    wind, value = (np.array(column)[None, :] for column in zip(*points, strict=True))
    loss = event_loss(1, np.float32(wind * gust_factor()), value)
    assert 0 <= loss.mean <= loss.exposure * (1 + 1e-12)
    assert loss.sd**2 <= loss.mean * (loss.exposure - loss.mean) + 1e-6 * loss.exposure**2


def test_a_loss_is_the_damage_of_the_value_where_the_wind_was():
    gust = np.array([[74.7 * 1.11, 0.0, 30.0]], dtype=np.float32)
    loss = event_loss(7, gust, np.array([[100.0, 1000.0, 10.0]]))
    assert loss.mean == pytest.approx(50.0, rel=1e-3)
    assert (loss.event_id, loss.exposure) == (7, 110.0)


def test_the_losses_of_two_places_spread_as_ratios_correlated_by_a_fifth():
    """One half is destroyed, +- 0.3 of the most that there can be: 15 of 100, and of two places 0.8 and 0.2 between."""
    half = np.float64(74.7 * 1.11)
    one, two = (event_loss(7, np.full((1, n), half), np.full((1, n), 100.0)).sd for n in (1, 2))
    assert one == pytest.approx(15.0)
    assert two == pytest.approx(np.sqrt(0.8 * 2 * 15.0**2 + 0.2 * 30.0**2))


@pytest.mark.parametrize("value", [np.zeros((2, 2)), np.full((1, 3), -1.0), np.full((1, 3), np.nan)])
def test_values_that_are_wrong_name_the_event(value):
    with pytest.raises(ModelError, match="event 7: "):
        event_loss(7, np.zeros((1, 3), np.float32), value)


def test_values_are_on_land_and_add_up_to_the_cities_on_the_grid():
    land = land_on(GRID)
    value = insured_values(GRID, land)
    assert value[~land].sum() == 0
    assert value.sum() == pytest.approx(150_000 * 1000 * (2783 + 619 + 5565))  # Tampa, Fort Myers, Miami


def test_a_footprint_survives_its_rows_to_a_tenth():
    gust = footprint(storm("AL112017"), GRID, land=land_on(GRID))
    table = footprint_table(201711, gust)
    assert table.num_rows == (gust > 0).sum()
    assert np.abs(gusts_of(table, GRID) - gust).max() <= 0.0501
    with pytest.raises(ModelError, match="leaves the grid of 10 x 10 points"):
        gusts_of(table, Grid(24.0, -84.0, 0.1, 10, 10))


def test_the_loss_table_is_sorted_has_a_rate_and_no_event_without_loss():
    losses = [EventLoss(9, 5.0, 1.0, 10.0), EventLoss(3, 2.0, 0.5, 10.0), EventLoss(4, 0.0, 0.0, 10.0)]
    elt = loss_table(losses, 49)
    assert (elt.event_id.tolist(), elt.mean.tolist(), elt.rate.tolist()) == ([3, 9], [2.0, 5.0], [1 / 49] * 2)
    with pytest.raises(ModelError, match="none of 1 events did any damage"):
        loss_table(losses[2:], 49)
    with pytest.raises(ModelError, match="without duplicates"):
        loss_table([losses[0], losses[0]], 49)


def test_hurricanes_that_never_come_near_are_left_out():
    grid = Grid.between(*EAST_COAST, 0.5)
    near = hurricanes(grid)
    assert storm("AL041992") in near
    assert 200 < len(near) < 325
    assert [t.name for t in hurricanes(grid, [storm("AL112017"), storm("AL172017")])] == ["IRMA"]
    assert not comes_near(storm("AL172017"), grid)  # Ophelia, which went to Ireland


@pytest.mark.parametrize("kernel", ["numpy", "fortran"])
def test_the_command_writes_footprints_losses_and_a_map(tmp_path, capsys, monkeypatch, kernel):
    if kernel == "fortran" and compiler() is None:
        pytest.skip("there is no Fortran compiler here")
    monkeypatch.setenv("FNMAP_MODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        footprints, "hurricanes", lambda grid: [storm("AL112017"), storm("AL041992"), storm("AL252005")]
    )
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--resolution", "0.25", "--kernel", kernel, "--store", str(tmp_path / "store")]
    assert footprints.main(arguments) == 0
    said = capsys.readouterr().out
    assert "3 hurricanes on 89 x 129 points" in said
    assert "Andrew 1992" in said
    rows = pq.read_table(out / "footprints")
    assert sorted(set(rows["event_id"].to_pylist())) == [199204, 200525, 201711]
    assert sorted(p.name for p in (out / "footprints").iterdir()) == ["season=1992", "season=2005", "season=2017"]
    elt = tables.elt_from_table(tables.read(out / "elt.parquet", "elt"))
    assert elt.event_id.tolist() == [199204, 200525, 201711]
    losses = sample_losses(elt.mean, elt.sd, elt.exposure, np.arange(3), np.random.default_rng(1))
    assert ((losses >= 0) & (losses <= elt.exposure * 1.0001)).all()
    pytest.importorskip("matplotlib")
    assert (out / "map.png").stat().st_size > 10_000


@pytest.mark.parametrize("arguments", [["--resolution", "0"], ["--resolution", "x"], ["--kernel", "cobol"], []])
def test_a_wrong_argument_is_told_in_a_line(arguments, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        footprints.main([*arguments, *(["--out", str(tmp_path)] if arguments else [])])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_place_to_run_that_does_not_exist_is_told_in_a_line(tmp_path, capsys):
    assert footprints.main(["--out", str(tmp_path), "--resolution", "2", "--on", "mars"]) == 1
    assert "got 'mars'" in capsys.readouterr().err


def test_storms_of_one_number_are_named_before_anything_is_computed(tmp_path, capsys):
    text = gzip.decompress(ATLANTIC.read_bytes()).decode()
    begin = text.index("AL041992")
    andrew = text[begin : text.index("AL051992")]
    tracks = tmp_path / "tracks.txt"
    tracks.write_text(andrew + andrew.replace("AL041992", "EP041992"))
    out = tmp_path / "out"
    assert footprints.main(["--out", str(out), "--resolution", "2", "--on", "inline", "--tracks", str(tracks)]) == 1
    assert "has AL041992 and EP041992: both have the number 199204" in capsys.readouterr().err


def test_a_run_into_the_folder_of_another_leaves_no_footprints_of_it(tmp_path, monkeypatch):
    arguments = ["--out", str(tmp_path), "--resolution", "0.5", "--on", "inline"]
    for name in ("AL112017", "AL041992"):
        monkeypatch.setattr(footprints, "hurricanes", lambda grid, name=name: [storm(name)])
        assert footprints.main(arguments) == 0
    assert set(pq.read_table(tmp_path / "footprints")["event_id"].to_pylist()) == {199204}


def test_without_a_compiler_numpy_takes_its_place(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FC", "no-such-compiler")
    monkeypatch.setattr(footprints, "hurricanes", lambda grid: [storm("AL041992")])
    arguments = ["--out", str(tmp_path), "--resolution", "0.5", "--kernel", "fortran", "--on", "inline"]
    assert footprints.main(arguments) == 0
    told = capsys.readouterr()
    assert "no Fortran compiler" in told.err
    assert "(numpy)" in told.out
