"""The runner: a book priced, printed and written, and one line for what is wrong."""

import pyarrow.parquet as pq
import pytest

fnmap = pytest.importorskip("fnmap")
if not hasattr(fnmap, "map"):
    pytest.skip("fnmap.map is not there yet", allow_module_level=True)

from model.price_book import main, price  # noqa: E402
from model.pricing import price_deal  # noqa: E402
from model.synth import portfolio  # noqa: E402


@pytest.mark.parametrize("on", ["inline", "local"])
def test_a_book_is_priced_printed_and_written(on, tmp_path, capsys):
    assert main(["--deals", "6", "--years", "1000", "--views", "2", "--on", on, "--out", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr().out
    assert "layers by premium" in printed
    assert "6 deals, 1,000 years x 2 views" in printed
    deals = pq.read_table(tmp_path / "new" / "deals.parquet")
    curves = pq.read_table(tmp_path / "new" / "ep_curves.parquet")
    assert set(deals["DealId"].to_pylist()) == set(range(1, 7))
    assert curves.num_rows == 4 * 14 * deals.num_rows
    assert deals.schema.metadata == {b"years": b"1000", b"views": b"2", b"seed": b"1"}


def test_mapped_prices_are_those_of_a_plain_loop():
    book = portfolio(5, seed=2)
    mapped = price(book, years=1000, views=1, seed=9)
    assert mapped == [
        price_deal(d, loss_sets=book.loss_sets, fx=book.fx, years=1000, views=1, seed=9) for d in book.deals
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--deals", "0", "--out", "x"], "--deals: must be a whole number >= 1; got 0"),
        (["--deals", "many", "--out", "x"], "--deals: must be a whole number >= 1; got many"),
        (["--years", "999", "--out", "x"], "--years: must be a whole number >= 1000; got 999"),
        (["--on", "mars", "--out", "x"], "invalid choice: 'mars'"),
        ([], "required: --out"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in said
    assert said.count("\n") == 1


def test_an_out_that_is_a_file_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["--deals", "1", "--out", str(tmp_path / "taken")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
