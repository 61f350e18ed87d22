"""Wind profiles and fields against CLIMADA, closed forms, and what must hold of any."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import model
from model import wind_field as wf
from model import wind_profiles as wp
from model.errors import ModelError
from model.wind_decay import decay, decayed, inland, prepared
from model.wind_field import MODELS, footprint, gusts, motion_of, nodes_of, reach_of, sustained
from model.wind_grid import Grid, land_on
from model.wind_tracks import KNOT_MS, Track, resampled, rmax_from_pressure, storm

CLIMADA = Path(model.__file__).parent / "data" / "climada" / "irma_climada610_0p1deg.npz"
HOURS = np.datetime64("2020-09-01T00:00:00", "s") + np.arange(13) * np.timedelta64(1800, "s")


def straight(east_per_step=0.0, north_per_step=0.0, *, lat=25.0, lon=-75.0, vmax=50.0, pcen=950.0, rmax=30.0):
    """A steady storm on a straight line, in the middle of it after six steps."""
    n, k = HOURS.size, np.arange(HOURS.size) - 6
    full = (np.full(n, v, dtype=float) for v in (vmax, pcen, 1010.0, rmax))
    return Track("AL012020", "TEST", HOURS, lat + k * north_per_step, lon + k * east_per_step, *full)


# -- oracles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["H08", "H1980"])
def test_irma_is_as_climada_6_has_it(name):
    with np.load(CLIMADA) as z:
        pcen = z["track_pcen_hpa"]
        winds = z["track_vmax_kt"] * KNOT_MS, pcen, z["track_penv_hpa"], rmax_from_pressure(pcen)
        track = Track("AL112017", "IRMA", z["track_time"], z["track_lat"], z["track_lon"], *winds)
        field = sustained(track, Grid(23.05, -83.95, 0.1, 80, 80), name, dt_h=None)
        assert (field > 0).tolist() == (z[name] > 0).tolist()
        assert np.abs(field - z[name]).max() < 1e-9


def test_holland_1980_has_climadas_golden_values():
    """climada/hazard/test/test_trop_cyclone_windfields.py, with and without the Earth's turning."""
    r, storm_ = np.array([299.450, 291.074, 292.544, 40.665]), (40.665455, 1.486076, 39.12)
    assert wp.holland(r, *storm_, 3.54921922e-5) == pytest.approx([11.28, 11.68, 11.61, 42.41], abs=1e-2)
    assert wp.holland(r, *storm_, 0.0) == pytest.approx([15.72, 16.04, 15.98, 43.13], abs=1e-2)
    weak = wp.holland(np.array([293.6067, 298.2652, 70.0]), 75.547903, 1.265552, 4.73, 3.10598e-5)
    assert weak == pytest.approx([5.38, 5.28, 12.76], abs=1e-2)


def test_holland_2010_has_climadas_golden_values():
    """Ibid.: a moderate storm, one whose exponent reaches its floor, a very weak and a very strong one."""
    rmax, vmax, b = (np.array(c)[:, None] for c in ([75, 75, 75, 90], [35.0, 35, 16, 90], [1.75, 2.5, 1.9, 1.6]))
    r = np.array([[20, 75, 220, 300], [30, 74, 170, 300], [21, 76, 230, 300], [32, 91, 270, 300.0]])
    speed = wp.holland_2010(r, rmax, b, vmax, wp.holland_2010_outer(rmax, b, vmax))
    assert speed[:, 1:] == pytest.approx(
        np.array(
            [
                [35.000000, 21.181497, 17.000000],
                [34.990037, 21.593755, 12.891313],
                [15.997500, 9.712006, 8.087240],
                [89.992938, 24.381965, 17.000000],
            ]
        ),
        abs=1e-6,
    )
    assert speed[1:, 0] == pytest.approx([1.296480, 0.321952, 24.823469], abs=1e-6)


def test_emanuel_and_rotunno_2011_has_climadas_momentum():
    """Ibid.: there the wind is M/r, of which we subtract f r/2."""
    r, f = np.array([35, 70, 75, 220.0]), 4.98665369e-5
    ours = wp.emanuel_rotunno_2011(r, 75.0, 35.0, f) + 500 * f * r
    assert ours == pytest.approx([28.258025, 36.782418, 36.869995, 22.521237])


def test_b_of_holland_2008_has_climadas_golden_values():
    """Ibid., before 2024, with all digits."""
    drop = 1010 - np.array([1005.263333333329, 1005.268166666671])
    rate = np.array([1005.263333333329 - 1005.258500000000, 1005.268166666671 - 1005.263333333329])
    motion = np.array([5.241999541820597, 5.123882725120426])
    assert wp.holland_2008_b(drop, rate, 12.3, motion) == pytest.approx(
        [1.270856908796045, 1.265551666104679], abs=1e-6
    )


def test_b_and_vmax_have_climadas_golden_values():
    """Ibid.: B of 1980 is capped at 2.5, and the largest wind of Holland 2008."""
    assert wp.holland_1980_b(np.array([15.0, 30.0]), np.array([35.0, 40.0])) == pytest.approx([2.5, 1.667213], abs=1e-6)
    assert wp.holland_2008_vmax(np.array([2.5, 1.67]), np.array([15.0, 30.0])) == pytest.approx([34.635341, 40.033421])


def test_kaplan_and_demaria_begin_at_nine_tenths_and_end_at_their_background():
    assert decay(60.0, 0.0) == pytest.approx(54.0)
    assert decay(60.0, np.inf) == pytest.approx(26.7 * KNOT_MS)
    assert decay(100 * KNOT_MS, 10.0) / KNOT_MS == pytest.approx(26.7 + (90 - 26.7) * np.exp(-0.95))


def test_the_pressure_drop_of_a_wind_inverts_the_wind_of_a_pressure_drop():
    drop = wp.holland_2008_pressure_drop(np.array([20.0, 50.0, 80.0]), 25.0)
    assert wp.holland_2008_vmax(wp.holland_2008_b(drop, 0.0, 25.0, 5.0), drop) == pytest.approx([20.0, 50.0, 80.0])


# -- profiles ------------------------------------------------------------------------------------------

winds, radii, lats = st.floats(20, 80), st.floats(10, 80), st.floats(5, 45)
R = np.linspace(1, 280, 2791)


@settings(max_examples=50, deadline=None)
@given(winds, radii, lats)
def test_the_largest_wind_is_at_rmax(vmax, rmax, lat):
    ten = wp.holland_2010(R, rmax, 1.5, vmax, wp.holland_2010_outer(rmax, 1.5, vmax))
    eleven = wp.emanuel_rotunno_2011(R, rmax, vmax, 0.0)  # the Earth's turning moves it inwards
    assert wp.emanuel_rotunno_2011(rmax, rmax, vmax, wp.coriolis(lat)) == pytest.approx(vmax)
    radius = wp.willoughby_rmax(vmax / 0.9, lat)
    six = wp.willoughby_2006(R, radius, vmax, *wp.willoughby_shape(radius, vmax / 0.9, lat))
    for speed, at, near in ((ten, rmax, 0.11), (eleven, rmax, 0.11), (six, radius, 0.05 * radius)):
        assert speed.max() == pytest.approx(vmax, rel=5e-3)
        assert abs(R[speed.argmax()] - at) <= near


@settings(max_examples=50, deadline=None)
@given(st.floats(5, 120), radii, st.floats(1, 2.5))
def test_without_the_earths_turning_holland_is_largest_at_rmax_in_closed_form(drop, rmax, b):
    """Holland 1980, eq. 6 and 8: V(rmax) = sqrt(B dp / (rho e)), the cyclostrophic limit."""
    speed = wp.holland(R, rmax, b, drop, 0.0)
    assert wp.holland(rmax, rmax, b, drop, 0.0) == pytest.approx(np.sqrt(b * drop * 100 / (1.15 * np.e)))
    assert abs(R[speed.argmax()] - rmax) <= 0.11
    assert (wp.holland(R, rmax, b, drop, 5e-5) <= speed + 1e-12).all()


def test_the_blend_of_willoughby_goes_smoothly_from_0_to_1():
    xi = np.linspace(-0.5, 1.5, 201)
    w = wp.willoughby_blend(xi)
    assert (w[0], w[100], w[-1]) == (0, 0.5, 1)
    assert (np.diff(w) >= -1e-15).all()


# -- fields --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_storm_that_stands_still_blows_the_same_on_all_sides(name):
    field = sustained(straight(), Grid.between(23, 27, -77, -73, 0.05), name, dt_h=None)
    assert field.max() > 20
    assert field == pytest.approx(field[:, ::-1], abs=1e-6)
    assert field[40, 45] == pytest.approx(field[40, 35], abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("lat", "stronger"), [(25.0, "east"), (-25.0, "west")])
def test_a_storm_that_goes_north_is_stronger_on_the_right_in_the_north_and_on_the_left_in_the_south(
    name, lat, stronger
):
    grid = Grid.between(lat - 0.2, lat + 0.2, -77, -73, 0.1)
    row = sustained(straight(north_per_step=0.1, lat=lat), grid, name, dt_h=None)[2]
    west, east = row[:20].max(), row[21:].max()
    assert (east > west + 2) if stronger == "east" else (west > east + 2)


def test_motion_is_backward_and_capped_at_30_knots():
    east, north = motion_of(straight(east_per_step=0.05))
    assert (east[0], north[3]) == (0, 0)
    assert east[3] == pytest.approx(0.05 * np.cos(np.radians(25)) * 111120 / 1800)
    assert np.hypot(*motion_of(straight(0.3, 0.4)))[1:] == pytest.approx(30 * KNOT_MS)


tracks = st.sampled_from(["AL112017", "AL041992", "AL182012", "AL091988"])


@settings(max_examples=25, deadline=None)
@given(tracks, st.sampled_from(MODELS), st.integers(1, 5000), st.integers(1, 59), st.integers(1, 47))
def test_no_cutting_of_the_grid_changes_a_bit(name, model, points, rows, columns):
    track, grid = storm(name), Grid(22.0, -85.0, 0.2, 60, 48)
    whole = sustained(track, grid, model, dt_h=1.0)
    assert (sustained(track, grid, model, dt_h=1.0, points=points) == whole).all()
    north = replace(grid, south=grid.south + rows * grid.step, rows=60 - rows)
    east = replace(grid, west=grid.west + columns * grid.step, columns=48 - columns)
    if (north.lat == grid.lat[rows:]).all():
        assert (sustained(track, north, model, dt_h=1.0) == whole[rows:]).all()
    if (east.lon == grid.lon[columns:]).all():
        assert (sustained(track, east, model, dt_h=1.0) == whole[:, columns:]).all()


@settings(max_examples=20, deadline=None)
@given(tracks, st.sampled_from(MODELS))
def test_no_wind_of_17_5_is_farther_out_than_the_reach(name, model):
    nodes = nodes_of(resampled(storm(name), 2.0), model)
    reach = reach_of(nodes)
    x = np.linspace(-300, 300, 121)
    for k in range(1, nodes.lat.size, 7):
        strong = wf._squared(x, x[:, None], nodes, k) >= wf.FLOOR_MS**2
        assert np.hypot(x, x[:, None])[strong].max(initial=0.0) <= reach[k]


def test_across_the_date_line_the_field_is_that_of_anywhere():
    here = sustained(straight(0.05, lon=-75.0), Grid.between(23, 27, -77, -73, 0.1), dt_h=None)
    for lon, west, east in ((180.0, 178, -178), (-180.0, 178, -178), (180.0, 178, 182)):
        there = sustained(straight(0.05, lon=lon), Grid.between(23, 27, west, east, 0.1), dt_h=None)
        assert there == pytest.approx(here, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid.between(10, 20, -170, 170, 0.1), "spans 340 degrees of longitude.*such as 175 and -175"),
        (lambda: Grid.between(20, 10, 0, 1, 0.1), r"south \(20\) is north of north \(10\)"),
        (lambda: Grid.between(10, 20, 0, 1, 0), "step of a grid must be"),
        (lambda: Grid.between(10, 99, 0, 1, 0.1), "north must be a number of degrees"),
        (lambda: Grid.between(10, np.nan, 0, 1, 0.1), "north must be"),
        (lambda: Grid(80, 0, 1, 20, 5), r"latitudes 80\.\.99 leave"),
        (lambda: Grid(0, 0, 1, 0, 5), "a grid needs points"),
        (lambda: Grid(0, 400, 1, 2, 5), "western edge"),
        (lambda: land_on(Grid.between(10, 20, 175, -175, 0.5)), "land is known for 0-60N, 110-10W only"),
        (lambda: sustained(straight(), Grid(0, 0, 1, 2, 2), "H99"), "unknown wind model 'H99'; choose from H1980, H08"),
        (lambda: sustained(straight(), Grid(0, 0, 1, 2, 2), points=0), "points must be"),
        (lambda: sustained(straight(pcen=np.nan), Grid(0, 0, 1, 2, 2), dt_h=None), "row 0: pcen_hpa is missing"),
        (lambda: gusts(np.zeros((2, 2)), np.zeros((3, 2), bool)), "mask has shape"),
    ],
)  # fmt: skip
def test_a_wrong_grid_or_model_is_told(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_gusts_are_higher_than_the_wind_and_highest_for_their_wind_on_land():
    grid = Grid.between(25, 28, -83, -79, 0.1)
    land = land_on(grid)
    wind, gust = sustained(storm("AL112017"), grid), footprint(storm("AL112017"), grid, land=land)
    assert 0.2 < land.mean() < 0.8
    assert (wind > 0).mean() > 0.5
    assert gust[~land] == pytest.approx(1.11 * wind[~land])
    assert gust[land] == pytest.approx(1.49 * 0.8 * wind[land])


def test_places_are_land_or_sea():
    for (lat, lon), expected in {
        (28.5, -81.4): True,
        (26.0, -86.0): False,
        (40.8, -74.5): True,
        (35.0, -70.0): False,
    }.items():
        assert land_on(Grid(lat, lon, 0.05, 1, 1)).item() is expected


def test_a_storm_decays_over_land_and_no_sooner():
    track = resampled(storm("AL041992"), 0.5)  # Andrew, over Florida
    weaker = decayed(replace(track, vmax_ms=np.full(track.time.size, 70.0), pcen_hpa=np.full(track.time.size, 930.0)))
    crossing = np.flatnonzero(weaker.vmax_ms < 70)
    assert weaker.vmax_ms[crossing[0]] == pytest.approx(0.9 * 70)
    assert (weaker.lat[crossing[0]], weaker.lon[crossing[0]]) == pytest.approx((25.5, -80.3), abs=0.3)
    assert (weaker.pcen_hpa[crossing] > 930).all()


def test_the_pressure_drop_over_land_goes_with_the_square_of_the_wind():
    track = resampled(storm("AL041992"), 1.0)
    full = replace(track, vmax_ms=np.full(track.time.size, 70.0), pcen_hpa=np.full(track.time.size, 930.0))
    weaker = decayed(full)
    over = weaker.vmax_ms < 70
    assert over.any()
    drop = (weaker.penv_hpa - weaker.pcen_hpa) / (full.penv_hpa - 930.0)
    assert drop == pytest.approx((weaker.vmax_ms / 70) ** 2)


def test_a_best_track_is_not_decayed_a_second_time():
    track = storm("AL041992")
    assert np.array_equal(prepared(track).vmax_ms, resampled(track).vmax_ms)
    assert not np.array_equal(prepared(track, "always").vmax_ms, prepared(track, "never").vmax_ms)


def test_where_nothing_was_measured_inland_the_last_wind_decays():
    """Andrew without its rows behind the landfall in Louisiana: 0.9 of the wind at the coast, then by the law."""
    track = storm("AL041992")
    late = track.time > np.datetime64("1992-08-26T09:00")
    bare = replace(
        track, vmax_ms=np.where(late, np.nan, track.vmax_ms), pcen_hpa=np.where(late, np.nan, track.pcen_hpa)
    )
    steps = prepared(bare)
    at = np.flatnonzero(steps.time > np.datetime64("1992-08-26T09:00"))
    before = steps.vmax_ms[at[0] - 1]
    hours = steps.hours[at] - steps.hours[at[0]]
    np.testing.assert_allclose(steps.vmax_ms[at], inland(0.9 * before, hours))
    assert (prepared(bare, "never").vmax_ms[at] == before).all()
    lower = replace(bare, pcen_hpa=track.pcen_hpa)  # a pressure that was measured has decayed
    assert np.array_equal(prepared(lower).pcen_hpa, resampled(lower).pcen_hpa)


def test_an_unknown_decay_is_refused():
    with pytest.raises(ModelError, match="unknown decay 'twice'; choose from missing, always, never"):
        prepared(storm("AL041992"), "twice")


def test_from_a_wind_that_was_measured_inland_decay_goes_on_without_the_step_at_the_coast():
    wind = np.array([60.0, 54.0, 50.0, 50.0, 50.0])
    line = np.full(5, 29.0)  # from the sea over Florida
    lon = np.array([-80.3, -81.2, -81.4, -81.6, -81.8])
    time = np.datetime64("2000-09-01T00:00") + 6 * np.arange(5) * np.timedelta64(1, "h")
    steps = Track("AL012000", "X", time, line, lon, wind, 980 + 0 * wind, 1010 + 0 * wind, 40 + 0 * wind)
    found = decayed(steps, np.array([True, True, True, False, False]))
    assert found.vmax_ms == pytest.approx([60.0, 54.0, 50.0, inland(50.0, 6.0), inland(50.0, 12.0)])
