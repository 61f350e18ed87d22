"""HURDAT2: what is read, what is filled in, and how rows that are wrong are told."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from model.errors import ModelError
from model.wind_tracks import (
    KNOT_MS,
    atlantic,
    completed,
    is_hurricane,
    parse_hurdat2,
    read_hurdat2,
    resampled,
    rmax_from_pressure,
    storm,
)

HEAD = "AL112017,               IRMA,      3,\n"
ROWS = [
    "20170830, 0000,  , TD, 16.1N,  26.9W,  30, 1008,     0,",
    "20170830, 0600,  , TS, 16.2N,  28.3W, -99, -999,    30,",
    "20170830, 0700, L, HU, 16.3S,  29.7E, 100,  960,    30,",
]


def hurdat(*rows, head=HEAD):
    return head + "\n".join(rows or ROWS) + "\n"


def test_the_file_of_1970_to_2018_is_read_whole():
    assert (len(atlantic()), sum(t.time.size for t in atlantic())) == (797, 21475)


@pytest.mark.parametrize(
    ("name", "knots", "hpa"),
    [("AL112017", 155, 914), ("AL041992", 150, 922), ("AL252005", 160, 882), ("AL081988", 160, 888)],
)  # Irma, Andrew, Wilma, Gilbert, as in the National Hurricane Center's reports on them
def test_famous_storms_are_as_strong_as_the_hurricane_center_says(name, knots, hpa):
    track = storm(name)
    assert np.nanmax(track.vmax_ms) / KNOT_MS == pytest.approx(knots)
    assert np.nanmin(track.pcen_hpa) == hpa


def test_a_file_that_is_cut_off_is_named(tmp_path):
    cut, other = tmp_path / "cut.gz", tmp_path / "other.gz"
    cut.write_bytes(gzip.compress(hurdat().encode())[:-20])
    other.write_bytes(b"hello")
    for path in (cut, other):
        with pytest.raises(ModelError, match=rf"{path.name} is no whole gzip file"):
            read_hurdat2(path)


def test_a_row_becomes_time_place_wind_and_pressure():
    (track,) = parse_hurdat2(hurdat())
    assert (track.storm, track.name, track.event_id) == ("AL112017", "IRMA", 201711)
    assert track.hours.tolist() == [0, 6, 7]
    assert (track.lat.tolist(), track.lon.tolist()) == ([16.1, 16.2, -16.3], [-26.9, -28.3, 29.7])
    assert track.status == ("TD", "TS", "HU")
    assert is_hurricane(track)


def test_codes_of_missing_values_are_not_numbers():
    (track,) = parse_hurdat2(hurdat())
    assert np.isnan(track.vmax_ms).tolist() == np.isnan(track.pcen_hpa).tolist() == [False, True, False]
    assert np.isnan(track.rmax_km).all()


def test_files_may_be_plain_or_compressed(tmp_path):
    (tmp_path / "plain.txt").write_text(hurdat())
    assert read_hurdat2(tmp_path / "plain.txt")[0].name == "IRMA"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rubbish\n", "line 1: expected the head of a storm"),
        (hurdat(*ROWS[:2]), r"line 1: AL112017 announces 3 rows; the file ends after 2"),
        (hurdat(*ROWS[:2], HEAD), "line 4 of AL112017: the next storm begins before all announced rows"),
        (hurdat(ROWS[0], ROWS[1].replace("TS", "XX"), ROWS[2]), "line 3 of AL112017: status 'XX' is none of"),
        (hurdat(ROWS[0].replace("16.1N", "16.1"), *ROWS[1:]), "line 2 of AL112017: '16.1' is no position"),
        (hurdat(ROWS[0].replace("  30, 1008", "   x, 1008"), *ROWS[1:]), "wind 'x' is no number; a missing one is -99"),
        (hurdat(ROWS[0].replace("  30, 1008", "  -5, 1008"), *ROWS[1:]), r"wind -5 is not in 0\.\.250"),
        (hurdat(ROWS[0].replace("1008", "  80"), *ROWS[1:]), r"pressure 80 is not in 800\.\.1100; a missing one"),
        (hurdat(ROWS[0].replace("20170830", "20171330"), *ROWS[1:]), "no such time: 20171330 0000"),
        (hurdat(ROWS[1], ROWS[0], ROWS[2]), "AL112017 row 1: time 2017-08-30T00:00:00 is not after"),
        (hurdat(ROWS[0], ROWS[0], ROWS[2]), "row 1: time .* is not after"),
        (hurdat(ROWS[0].replace("16.1N", "96.1N"), *ROWS[1:]), "row 0: no place on Earth: lat 96.1"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(text, message):
    with pytest.raises(ModelError, match=message):
        parse_hurdat2(text)


def test_a_track_goes_past_the_date_line_without_a_jump():
    text = hurdat(*(r.replace("26.9W", "179.5E").replace("28.3W", "179.9W").replace("29.7E", "179.0W") for r in ROWS))
    (track,) = parse_hurdat2(text)
    assert track.lon.tolist() == pytest.approx([179.5, 180.1, 181.0])


def test_what_is_missing_is_filled_in():
    (track,) = parse_hurdat2(hurdat())
    full = completed(track)
    assert full.vmax_ms[1] / KNOT_MS == pytest.approx(30 + 70 * 6 / 7)
    assert full.pcen_hpa[1] == pytest.approx(1008 - 48 * 6 / 7)
    assert full.rmax_km == pytest.approx(rmax_from_pressure(full.pcen_hpa))


def test_a_pressure_far_from_any_other_goes_with_the_wind():
    ike = storm("AL092008")
    unseen = completed(replace(ike, pcen_hpa=np.full(ike.time.size, np.nan)))
    assert abs(unseen.pcen_hpa - ike.pcen_hpa).mean() < 12
    assert unseen.pcen_hpa.min() < 950


def test_a_storm_without_any_wind_is_named():
    rows = [row.replace("  30, 1008", " -99, 1008").replace(" 100,  960", " -99,  960") for row in ROWS]
    with pytest.raises(ModelError, match=r"AL112017 \(IRMA\): no row has a wind speed"):
        completed(parse_hurdat2(hurdat(*rows))[0])


def test_a_position_between_the_six_hourly_ones_bends_no_track():
    clock = [(f"2017083{day}", f"{hour:02}00") for day in (0,) for hour in (0, 3, 6, 12, 18)]
    rows = [f"{day}, {hour},  , TS, {16 + n}.0N,  30.0W,  50, 1000," for n, (day, hour) in enumerate(clock)]
    rows[1] = rows[1].replace("17.0N", "19.0N")
    (track,) = parse_hurdat2(hurdat(*rows, head="AL112017, IRMA, 5,\n"))
    fine = resampled(track, 3.0)
    assert (np.diff(fine.lat) > 0).all()
    assert fine.lat[1] < 18


def test_resampling_keeps_six_hourly_positions_and_every_intensity():
    track, fine = storm("AL112017"), resampled(storm("AL112017"), 0.25)
    known = np.isin(fine.time, track.time)
    six_hourly = (track.time - track.time.astype("datetime64[D]")) / np.timedelta64(1, "h") % 6 == 0
    assert fine.vmax_ms[known] == pytest.approx(track.vmax_ms)
    assert fine.lat[known][six_hourly] == pytest.approx(track.lat[six_hourly])
    assert np.diff(fine.hours) == pytest.approx(0.25)
    assert np.abs(np.diff(fine.lat, 2)).max() < 0.01  # no jerks


@pytest.mark.parametrize("dt_h", [0, -1, np.nan, np.inf])
def test_a_time_step_is_a_positive_number(dt_h):
    with pytest.raises(ModelError, match="the time step must be a number of hours > 0"):
        resampled(storm("AL112017"), dt_h)


def test_every_storm_of_the_file_can_be_completed_or_says_why_not():
    bare = [t.storm for t in atlantic() if np.isnan(t.vmax_ms).all()]
    for track in atlantic():
        if track.storm not in bare:
            full = completed(track)
            assert not np.isnan([full.vmax_ms, full.pcen_hpa, full.rmax_km]).any(), track.storm
