"""Event loss tables and year event loss tables: what they hold and what they refuse."""

import numpy as np
import pytest

from model.errors import ModelError
from model.losses import Elt, Yelt, merge


def elt(**changed):
    columns = {
        "event_id": np.array([3, 5, 9], dtype=np.int32),
        "rate": np.array([0.1, 0.2, 0.05]),
        "mean": np.array([10.0, 20.0, 100.0]),
        "sd": np.array([5.0, 0.0, 40.0]),
        "exposure": np.array([50.0, 60.0, 300.0]),
    }
    return Elt(**columns | {name: np.asarray(value) for name, value in changed.items()})


def rows(period, event, day, loss, years=3):
    ids = (np.array(x, dtype=np.int32) for x in (period, event))
    return Yelt.from_rows(*ids, np.array(day, dtype=np.int16), np.array(loss, dtype=np.float32), years=years)


def test_an_elt_knows_its_mean_and_spread_in_closed_form():
    assert elt().aal == pytest.approx(1.0 + 4.0 + 5.0)
    assert elt().annual_sd == pytest.approx(np.sqrt(0.1 * 125 + 0.2 * 400 + 0.05 * 11600))


def test_scaling_an_elt_scales_every_amount_and_no_rate():
    scaled = elt().scaled(2.0)
    assert (scaled.aal, scaled.annual_sd) == pytest.approx((2 * elt().aal, 2 * elt().annual_sd))
    assert scaled.exposure.tolist() == [100.0, 120.0, 600.0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean": [10.0, -20.0, 100.0]}, r"row 1 \(event 5\): mean must be a finite number >= 0; got -20"),
        ({"sd": [5.0, np.nan, 0.0]}, r"row 1 \(event 5\): sd must be a finite number >= 0; got nan"),
        ({"rate": [0.1, 0.1, np.inf]}, r"row 2 \(event 9\): rate"),
        ({"mean": [60.0, 20.0, 100.0]}, r"row 0 \(event 3\): mean must not exceed the exposure"),
        ({"event_id": [3, 9, 5]}, r"row 2 \(event 5\): event_id must ascend.*sort the rows"),
        ({"event_id": [3, 3, 5]}, r"row 1 \(event 3\): event_id must ascend without duplicates"),
        ({"mean": [1.0, 2.0]}, "mean has shape"),
        (dict.fromkeys(("event_id", "rate", "mean", "sd", "exposure"), ()), "no events"),
    ],
)
def test_a_wrong_elt_names_row_event_and_remedy(changed, message):
    with pytest.raises(ModelError, match=message):
        elt(**changed)


def test_losses_are_not_scaled_by_nothing_or_less():
    with pytest.raises(ModelError, match="got 0"):
        elt().scaled(0.0)


def test_a_year_is_a_slice_and_empty_years_cost_nothing():
    table = rows([1, 1, 3], [7, 8, 7], [0, 200, 5], [1.0, 2.0, 4.0])
    assert table.ptr.tolist() == [0, 2, 2, 3]
    assert [table.loss[table.rows(y)].tolist() for y in range(3)] == [[1.0, 2.0], [], [4.0]]
    assert table.year().tolist() == [0, 0, 2]


def test_an_empty_year_has_no_loss_even_before_a_year_that_has():
    largest, total = rows([2, 2], [1, 2], [0, 1], [3.0, 4.0]).annual()
    assert largest.tolist() == [0.0, 4.0, 0.0]
    assert total.tolist() == [0.0, 7.0, 0.0]


def test_no_losses_at_all_are_years_of_zero():
    table = Yelt.from_years([[], []])
    assert [x.tolist() for x in table.annual()] == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ([2, 1], [1, 2], [0, 0], [1.0, 1.0]),
            r"row 1 \(event 2\) comes before its predecessor: sort by Period, Day",
        ),
        (([1, 1], [1, 2], [9, 3], [1.0, 1.0]), "sort by Period, Day"),
        (([1, 1, 1], [4, 2, 4], [9, 9, 9], [1.0, 1.0, 1.0]), "row 2: event 4 stands twice on one day"),
        (([0, 1], [1, 2], [0, 0], [1.0, 1.0]), r"Period must lie in 1\.\.3; got 0\.\.1"),
        (([1, 4], [1, 2], [0, 0], [1.0, 1.0]), r"Period must lie in 1\.\.3"),
        (([1, 1], [1, 2], [0, 365], [1.0, 1.0]), r"Day must lie in 0\.\.364"),
        (([1, 1], [1, 2], [0, 0], [1.0, -1.0]), r"row 1 \(event 2\): loss must be finite and >= 0; got -1"),
        (
            ([1, 1], [1, 2], [0, 0], [np.nan, 1.0]),
            r"row 0 \(event 1\): loss must be finite and >= 0; got nan",
        ),
    ],
)
def test_wrong_rows_are_named(columns, message):
    with pytest.raises(ModelError, match=message):
        rows(*columns)


def test_pointers_that_do_not_fit_the_losses_are_refused():
    with pytest.raises(ModelError, match="ascend from 0 to the number of losses, 1"):
        Yelt(np.array([0, 2]), np.ones(1, dtype=np.int32), np.zeros(1, dtype=np.int16), np.ones(1))


def test_merging_keeps_every_loss_and_the_order_of_days():
    merged = merge([rows([1, 2], [1, 1], [50, 9], [1.0, 2.0]), rows([1, 1], [7, 8], [10, 90], [4.0, 8.0])])
    assert merged.loss.tolist() == [4.0, 1.0, 8.0, 2.0]
    assert merged.day.tolist() == [10, 50, 90, 9]
    assert merged.ptr.tolist() == [0, 3, 4, 4]


def test_only_tables_of_one_time_line_merge():
    with pytest.raises(ModelError, match=r"years \[1, 2\]"):
        merge([Yelt.from_years([[1.0]]), Yelt.from_years([[1.0], []])])
    with pytest.raises(ModelError, match="no loss set"):
        merge([])
