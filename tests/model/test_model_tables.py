"""Tables: a round trip through Parquet, and what is refused by name of column and row."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model import piwind, tables
from model.errors import ModelError
from model.losses import Yelt
from model.simulate import simulate


def test_losses_survive_the_round_trip_and_metadata_with_them(tmp_path):
    yelt = simulate(piwind.elt(), 500, seed=1)
    tables.write(tables.yelt_table(yelt), tmp_path / "yelt.parquet", "yelt", {"currency": "GBP"})
    back = tables.yelt_from_table(tables.read(tmp_path / "yelt.parquet", "yelt"), years=500)
    for name in ("ptr", "event_id", "day", "loss"):
        np.testing.assert_array_equal(getattr(back, name), getattr(yelt, name))
    assert pq.read_metadata(tmp_path / "yelt.parquet").metadata[b"currency"] == b"GBP"


def test_an_event_loss_table_survives_the_round_trip_to_single_precision(tmp_path):
    elt = piwind.elt()
    tables.write(tables.elt_table(elt), tmp_path / "elt.parquet", "elt")
    back = tables.elt_from_table(tables.read(tmp_path / "elt.parquet", "elt"))
    np.testing.assert_array_equal(back.rate, elt.rate)
    np.testing.assert_allclose(back.mean, elt.mean, rtol=1e-7)


def test_the_tuned_encodings_beat_the_defaults_on_simulated_losses(tmp_path):
    table = tables.yelt_table(simulate(piwind.elt(), 20_000, seed=1))
    tables.write(table, tmp_path / "tuned.parquet", "yelt")
    pq.write_table(table, tmp_path / "default.parquet")
    assert (tmp_path / "tuned.parquet").stat().st_size < 0.8 * (tmp_path / "default.parquet").stat().st_size


def yelt_rows(**changed):
    columns = {
        "Period": [1, 1, 2],
        "EventId": [1, 2, 1],
        "Day": [0, 4, 2],
        "SummaryId": [1, 1, 1],
        "Loss": [1.0, 2.0, 3.0],
    }
    return pa.table(columns | changed)


def test_validating_orders_columns_casts_types_and_drops_extras():
    table = tables.validate(yelt_rows(Note=["a", "b", "c"]).select([5, 4, 3, 2, 1, 0]), "yelt")
    assert table.schema.equals(tables.SCHEMAS["yelt"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (yelt_rows().drop_columns("Loss"), r"lacks the columns \['Loss'\]"),
        (yelt_rows(Loss=[1.0, -2.0, 3.0]), "yelt row 1: Loss must be finite and >= 0; got -2"),
        (yelt_rows(Loss=[1.0, 2.0, float("nan")]), "yelt row 2: Loss must be finite"),
        (yelt_rows(EventId=[1, None, 2]), "yelt row 1: EventId is missing"),
        (yelt_rows(EventId=["a", "b", "c"]), "wrong type"),
        (
            yelt_rows(Period=[2, 1, 1]),
            "yelt row 1 comes before its predecessor: sort by SummaryId, Period, Day",
        ),
    ],
)
def test_a_wrong_table_is_refused_by_column_and_row(table, message):
    with pytest.raises(ModelError, match=message):
        tables.validate(table, "yelt")


def test_repeated_keys_and_unknown_kinds_are_refused():
    ylt = pa.table({"SummaryId": [1, 1], "Period": [4, 4], "Loss": [1.0, 1.0], "ReinstPremium": [0.0, 0.0]})
    with pytest.raises(ModelError, match="ylt row 1 repeats its predecessor"):
        tables.validate(ylt, "ylt")
    with pytest.raises(ModelError, match="unknown kind of table 'plt'; choose from elt, yelt"):
        tables.validate(ylt, "plt")


def test_an_empty_table_is_valid():
    assert tables.validate(tables.SCHEMAS["ylt"].empty_table(), "ylt").num_rows == 0


def test_event_losses_of_a_hazard_model_come_in_any_order():
    columns = {"event_id": [7, 3], "rate": [0.1, 0.2], "mean": [5.0, 6.0], "sd": [1.0, 2.0], "exposure": [9.0, 8.0]}
    elt = tables.elt_from_events(pa.table(columns))
    assert elt.event_id.tolist() == [3, 7]
    assert elt.mean.tolist() == [6.0, 5.0]
    with pytest.raises(ModelError, match=r"row 1 \(event 3\): event_id must ascend without duplicates"):
        tables.elt_from_events(pa.table(columns | {"event_id": [3, 3]}))
    with pytest.raises(ModelError, match=r"row 0 \(event 3\): mean must be a finite number >= 0; got -1"):
        tables.elt_from_events(pa.table(columns | {"mean": [5.0, -1.0]}))
    with pytest.raises(ModelError, match=r"lacks the columns \['sd'\]"):
        tables.elt_from_events(pa.table(columns).drop_columns("sd"))
    with pytest.raises(ModelError, match="no events"):
        tables.elt_from_events(pa.table(columns).slice(0, 0))


def test_a_table_of_several_loss_sets_is_no_table_of_one():
    with pytest.raises(ModelError, match="this has SummaryId 1 to 2: filter it"):
        tables.yelt_from_table(yelt_rows(SummaryId=[1, 1, 2]), years=2)


def test_an_event_that_occurs_twice_on_a_day_is_written_once_with_both_losses():
    twice = Yelt(*(np.array(x) for x in ([0, 4], [5, 6, 5, 5], [3, 3, 3, 3])), np.array([1.0, 2.0, 4.0, 8.0]))
    back = tables.yelt_from_table(tables.yelt_table(twice), years=1)
    assert back.event_id.tolist() == [5, 6]
    assert back.loss.tolist() == [13.0, 2.0]
