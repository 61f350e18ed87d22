"""A user's own deals and losses: files as they come in, back to the last bit, and what is said of wrong ones."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from model import analytics, piwind, price_book
from model.book import book
from model.book_files import read_book, write_book
from model.book_pricing import price_of, subject_years
from model.errors import ModelError
from model.losses import Yelt
from model.pricing import Deal, price_years
from model.recoveries import apply
from model.rollup_command import main
from model.simulate import losses_on, timeline
from model.terms import Layer, Programme, QuotaShare

FX = "cur_from,cur_to,roe\nGBP,USD,1.25\n"
DEALS = """DealId,Type,Inures,Currency,LossSets,Covers,Share,Limit,Attachment,Reinstatements
1,QS,yes,GBP,1:0.5,,0.2,,,
1,XL,,,,,0.9,50,10,1.0;0.5
2,XL,,USD,1:0.5;2,,1,60,20,none
3,XL,,GBP,,1;2,1,30,5,
"""
MELT = """EventId,SummaryId,EventRate,MeanLoss,SDLoss,MaxLoss
7,1,0.5,80,30,200
3,1,0.2,40,10,100
3,2,0.2,90,20,150
"""


@pytest.fixture
def folder(tmp_path):
    """A book of three deals, the last of which covers the others."""
    made = tmp_path / "book"
    (made / "losses").mkdir(parents=True)
    for name, text in (("fx", FX), ("deals", DEALS), ("losses/melt", MELT)):
        (made / f"{name}.csv").write_text(text)
    return made


def rolled(folder, *more):
    return main(["--book", str(folder), "--years", "1000", "--views", "1", "--on", "inline", *more])


def edit(folder, name, old, new):
    path = folder / f"{name}.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_synthetic_portfolio_written_and_read_back_rolls_up_to_the_same_bits(tmp_path):
    size = ["--deals", "6", "--views", "1", "--years", "1000", "--on", "inline"]
    assert main(["--deals", "6", "--write-book", str(tmp_path / "book")]) == 0
    assert main([*size, "--out", str(tmp_path / "made")]) == 0
    assert main([*size, "--book", str(tmp_path / "book"), "--out", str(tmp_path / "read")]) == 0
    for name in ("deals", "capital", "ept", "palt", "summaries"):
        made, read = (pq.read_table(tmp_path / where / f"{name}.parquet") for where in ("made", "read"))
        assert read.equals(made), name
        assert read.num_rows


def test_what_is_written_is_what_was_there(tmp_path):
    wrote = book(30, seed=4, event_sets=4)
    write_book(wrote, tmp_path)
    again = read_book(tmp_path)
    assert again.deals == wrote.deals
    assert again.fx == wrote.fx
    assert {n: x.group for n, x in again.loss_sets.items()} == {n: x.group for n, x in wrote.loss_sets.items()}


def test_the_terms_of_a_table_are_those_of_deals(folder):
    one, two, three = read_book(folder).deals
    assert one.inuring == (QuotaShare(ceded=0.2),)
    assert one.layers == (Layer(limit=50, attachment=10, share=0.9, reinst=(1.0, 0.5)),)
    assert (two.currency, two.subject, two.layers[0].reinst) == ("USD", ((1, 0.5), (2, 1.0)), ())
    assert three.covers == (1, 2)


def test_rows_of_losses_may_come_in_any_order(folder):
    elt = read_book(folder).loss_sets[1].elt
    assert elt.event_id.tolist() == [3, 7]
    assert elt.mean.tolist() == [40, 80]


def test_losses_of_another_currency_are_converted(folder):
    (folder / "loss_sets.csv").write_text("LossSet,Currency,Peril\n1,USD,quake\n2,,\n")
    read = read_book(folder)
    assert read.loss_sets[1].elt.mean.tolist() == [40 / 1.25, 80 / 1.25]
    assert read.loss_sets[1].group == ("quake", "all", "all")


def test_a_table_may_be_parquet(folder):
    for name in ("fx", "deals", "losses/melt"):
        path = folder / f"{name}.csv"
        pq.write_table(pyarrow.csv.read_csv(path), path.with_suffix(".parquet"))
        path.unlink()
    assert len(read_book(folder).deals) == 3


@pytest.mark.parametrize("command", [price_book.main, main])
def test_prices_by_themselves_and_in_the_rollup_agree(command, folder, tmp_path):
    given = ["--book", str(folder), "--years", "1000", "--views", "2", "--on", "inline", "--out", str(tmp_path / "out")]
    assert command(given) == 0
    rows = pq.read_table(tmp_path / "out" / "deals.parquet").to_pylist()
    el = {row["DealId"]: row["EL"] for row in rows}
    read = read_book(folder)
    for deal in read.deals[:2]:
        assert el[deal.deal_id] == pytest.approx(price_of(deal, book=read, years=1000, views=2, seed=1).el, rel=1e-3)


def test_deals_are_priced_in_any_order_of_their_rows(folder, tmp_path):
    _, one, more, two, *_ = DEALS.splitlines(keepends=True)
    (folder / "deals.csv").write_text("".join([DEALS.splitlines(keepends=True)[0], two, one, more]))
    given = ["--book", str(folder), "--years", "1000", "--views", "1", "--on", "inline", "--out", str(tmp_path / "out")]
    assert price_book.main(given) == 0
    assert pq.read_table(tmp_path / "out" / "deals.parquet")["DealId"].to_pylist() == [1, 2]


def test_a_deal_whose_id_leaves_no_room_for_its_layers_is_named_before_anything_is_priced(folder, tmp_path, capsys):
    edit(folder, "deals", "2,XL", "900000000,XL")
    given = ["--book", str(folder), "--years", "1000", "--views", "1", "--on", "inline", "--out", str(tmp_path / "out")]
    assert price_book.main(given) == 1
    assert "deal 900000000, layer 1: in the table of curves" in capsys.readouterr().err
    assert price_book.main([*given, "--errors", "return"]) == 0
    assert "left out: deal 900000000, layer 1" in capsys.readouterr().out


def test_analytics_prices_a_deal_of_ones_own(folder, capsys):
    argv = ["--book", str(folder), "--years", "1000", "--calls", "2", "--on", "inline"]
    assert analytics.main([*argv, "--deal", "2"]) == 0
    assert "deal 2: 1,000 years" in capsys.readouterr().out
    assert analytics.main([*argv, "--deal", "9"]) == 1
    assert "has no deal 9; it has [1, 2, 3]" in capsys.readouterr().err


WRONG = [
    ("losses/melt", "40,10,100", "-40,10,100", "melt.csv line 3 (event 3): MeanLoss must be finite and >= 0; got -40"),
    (
        "losses/melt",
        "40,10,100",
        "nan,10,100",
        "melt.csv line 3 (event 3): MeanLoss must be finite and >= 0; got nothing (or NaN)",
    ),
    (
        "losses/melt",
        "40,10,100",
        "much,10,100",
        "melt.csv line 3 (event 3): MeanLoss must be finite and >= 0; got much",
    ),
    (
        "losses/melt",
        "40,10,100",
        "140,10,100",
        "line 3 (event 3): the mean loss, 140, exceeds the most that can be lost",
    ),
    ("losses/melt", "40,10,100", "40,60,100", "line 3 (event 3): no loss from 0 to 100 of mean 40 has a standard"),
    ("losses/melt", "7,1,", "3,1,", "melt.csv line 3: event 3 stands there a second time; merge its rows"),
    ("losses/melt", "3,2,0.2", "3,2,0.3", "loss set 2: event 3 has rate 0.3, and 0.2 in another loss set"),
    ("losses/melt", "3,2,0.2", "3,2,", "loss set 2: event 3 has no rate: give EventRate with the losses"),
    ("losses/melt", "MeanLoss", "Mean", "melt.csv has the columns ['EventId', 'SummaryId', 'EventRate', 'Mean', "),
    ("deals", "1:0.5;2", "1:0.5;4", "deal 2: unknown loss set 4; have [1, 2]"),
    ("deals", "USD", "XAU", "deal 2: no rate for XAU; fx has GBP, USD"),
    ("deals", "1,60,20", "1,-60,20", "deal 2: deals.csv line 4: layer -60 xs 20: limit must be > 0; got -60"),
    ("deals", "1,60,20", "1,60,-20", "deal 2: deals.csv line 4: layer 60 xs -20: attachment must be finite and >= 0"),
    (
        "deals",
        "1,60,20",
        "1,20,6000",
        "deal 2, layer 1 (20 xs 6000) attaches above the largest loss there can be, 312.5",
    ),
    ("deals", "1,60,20", "1,,20", "deal 2: deals.csv line 4: Limit must be a number; got nothing"),
    ("deals", "1,60,20", "1,60,nan", "deal 2: deals.csv line 4: layer 60 xs nan: attachment must be finite"),
    ("deals", "2,XL", "2,CAT", "deal 2: deals.csv line 4: Type must be one of XL, QS, SL; got CAT"),
    ("deals", "1;2,1", "1;3,1", "retrocession goes in a circle, each deal covering the next: 3 -> 3"),
    ("deals", "1;2,1", "1;8,1", "deal 3 covers deal 8, which is not in the portfolio"),
    ("deals", "Share", "Part", "deals.csv lacks the columns ['Share']"),
    ("deals", "2,XL", "two,XL", "deals.csv line 4: DealId must be a whole number >= 0; got two"),
    ("fx", "1.25\n", "1.25\nGBP,USD,1.5\n", "fx.csv line 3: GBP to USD is 1.5, and 1.25 besides"),
    ("fx", "1.25\n", "1.25\nGBP,GBP,1.5\n", "fx.csv line 3: GBP to GBP is 1.5, and 1 besides"),
    ("fx", "1.25", "0", "fx.csv line 2: roe must be a finite number > 0; got 0"),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), WRONG)
def test_what_is_wrong_in_a_file_is_told_in_one_line(name, old, new, said, folder, capsys):
    edit(folder, name, old, new)
    assert rolled(folder) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.startswith("rollup: ")
    assert told.count("\n") == 1


def test_amounts_too_small_for_the_steps_of_a_portfolio_are_refused_not_rounded_away(folder, capsys):
    """As of a book in millions, whose small losses would round to nothing."""
    edit(folder, "deals", "1,60,20", "0.05,60,20")
    edit(folder, "deals", "1:0.5;2", "1:0.5")
    assert rolled(folder) == 1
    told = "deal 2 pays at most 2.4 GBP for an event, and a portfolio counts in 1/64 GBP: give amounts in units"
    assert told in capsys.readouterr().err
    assert rolled(folder, "--errors", "return") == 0
    assert "left out: deal 2 pays at most" in capsys.readouterr().out


@pytest.mark.parametrize("command", [price_book.main, main])
def test_the_rest_is_priced_where_errors_are_returned(command, folder, tmp_path, capsys):
    edit(folder, "losses/melt", "90,20,150", "-90,20,150")
    (folder / "deals.csv").write_text(DEALS + "5,XL,,GBP,1,,1,0,10,\n6,XL,,GBP,,6,1,9,1,\n7,XL,,GBP,,8;1,1,9,1,\n")
    argv = ["--book", str(folder), "--years", "1000", "--views", "1", "--on", "inline", "--out", str(tmp_path / "out")]
    assert command([*argv, "--errors", "return"]) == 0
    out = capsys.readouterr().out
    assert "left out: deal 2: loss set 2: melt.csv line 4 (event 3): MeanLoss must be finite and >= 0; got -90" in out
    assert "left out: deal 5: deals.csv line 6: layer 0 xs 10: limit must be > 0; got 0.0" in out
    assert set(pq.read_table(tmp_path / "out" / "deals.parquet")["DealId"].to_pylist()) == {1}
    if command is main:
        assert "left out: deal 3 covers deal 2, which has no price" in out
        assert "left out: retrocession goes in a circle, each deal covering the next: 6 -> 6" in out
        assert "left out: deal 7 covers deal 8, which is not in the portfolio" in out


def test_what_is_missing_in_a_folder_is_named(folder, tmp_path, capsys):
    assert rolled(tmp_path / "nowhere") == 1
    assert "nowhere is not a directory: a book is a folder of deals.csv" in capsys.readouterr().err
    (folder / "losses" / "melt.csv").unlink()
    assert rolled(folder) == 1
    assert "has no losses/*.csv or losses/*.parquet" in capsys.readouterr().err
    (folder / "fx.csv").unlink()
    with pytest.raises(ModelError, match=r"has no fx\.csv"):
        read_book(folder)


def test_an_empty_loss_set_is_named(folder):
    (folder / "loss_sets.csv").write_text("LossSet\n1\n2\n3\n")
    with pytest.raises(ModelError, match="loss set 3 is empty: no row of losses has that SummaryId"):
        read_book(folder)
    read = read_book(folder, errors="return")
    assert sorted(read.loss_sets) == [1, 2]


def test_a_file_that_is_no_table_is_named(folder):
    (folder / "losses" / "more.parquet").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"more\.parquet cannot be read as a table"):
        read_book(folder)


def year_file(folder, header, rows):
    (folder / "losses" / "melt.csv").unlink()
    with (folder / "losses" / "plt.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    (folder / "deals.csv").write_text("DealId,Type,Currency,LossSets,Share,Limit,Attachment\n1,XL,GBP,1;2,1,50,10\n")


SPLT = ("Period", "PeriodWeight", "EventId", "Month", "Day", "SummaryId", "SampleId", "Loss")


def test_losses_by_period_are_priced_as_they_are(folder):
    """Two loss sets share event 7 of period 2: its loss is their sum. Samples are views."""
    year_file(
        folder,
        SPLT,
        [
            (2, 0.25, 7, 3, 1, 1, 1, 30),
            (2, 0.25, 7, 3, 1, 1, 2, 10),
            (2, 0.25, 7, 3, 1, 2, 1, 5),
            (4, 0.25, 9, 2, 29, 2, 2, 100),
        ],
    )
    read = read_book(folder)
    assert (read.years, read.views) == (4, 2)
    years = subject_years(read.deals[0], read, years=4, views=2)
    assert years.ptr.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert years.loss.tolist() == [35.0, 0.0, 10.0, 100.0]
    assert years.day.tolist()[:2] == [59, 58]  # 1 March; 29 February as the 28th
    assert price_of(read.deals[0], book=read, years=4, views=2).el == (25 + 0 + 0 + 50) / 8


def test_the_published_years_of_piwind_pay_what_they_pay_as_a_table(folder):
    table = piwind.published("gul", "splt")
    (folder / "losses" / "melt.csv").unlink()
    pyarrow.csv.write_csv(table, folder / "losses" / "splt.csv")
    text = "DealId,Type,Currency,LossSets,Share,Limit,Attachment\n1,XL,GBP,1,1,1e6,5e5\n"
    (folder / "deals.csv").write_text(text)
    read = read_book(folder)
    assert read.years == piwind.PERIODS
    known = price_years(read.deals[0], piwind.yelt("gul"))
    assert price_of(read.deals[0], book=read, years=read.years).layers == known.layers


def test_a_loss_by_period_with_moments_is_drawn_within_them(folder):
    header = ("Period", "EventId", "Day", "SummaryId", "SampleType", "MeanLoss", "SDLoss", "MaxLoss")
    year_file(folder, header, [(y, y, 5, n, 2, 40, 10 * (n - 1), 100) for y in (1, 2, 3) for n in (1, 2)])
    read = read_book(folder, years=10)
    sure, drawn = (losses_on(read.event_sets[1], read.loss_sets[n].elt, 10, seed=1, loss_set=n) for n in (1, 2))
    assert sure.tolist() == [40.0, 40.0, 40.0]
    assert len(set(drawn.tolist())) == 3
    assert timeline(read.event_sets[1], range(1, 3), seed=0).ptr.tolist() == [0, 1, 2]
    with pytest.raises(ModelError, match="has losses in period 3; there are only 2 years"):
        read_book(folder, years=2)


def test_periods_of_unequal_weights_are_refused(folder):
    year_file(folder, SPLT, [(1, 0.25, 7, 3, 1, 1, 1, 30), (2, 0.5, 7, 3, 1, 1, 1, 30)])
    with pytest.raises(ModelError, match=r"plt\.csv line 3: periods must have one weight > 0"):
        read_book(folder)


def test_an_occurrence_set_says_when_events_of_a_table_occur(folder):
    header = "event_id,period_no,occ_year,occ_month,occ_day\n"
    (folder / "occurrence.csv").write_text(header + "7,2,2,6,1\n3,2,2,1,1\n7,5,5,1,2\n99,4,4,1,1\n")
    (folder / "losses" / "melt.csv").write_text(MELT.replace("0.5,", ",").replace("0.2,", ","))
    read = read_book(folder, years=10)
    events = read.event_sets[1]
    assert events.event_id.tolist() == [3, 7]
    assert events.rate.tolist() == [0.1, 0.2]
    line = timeline(events, 10, seed=0)
    assert line.event_row.tolist() == [0, 1, 1]
    assert line.day.tolist() == [0, 151, 1]
    assert np.flatnonzero(np.diff(line.ptr)).tolist() == [1, 4]


def test_samples_and_quantiles_of_events_have_their_moments(folder):
    (folder / "losses" / "melt.csv").unlink()
    (folder / "events.csv").write_text("EventId,EventRate\n3,0.2\n7,0.5\n")
    (folder / "losses" / "selt.csv").write_text(
        "EventId,SummaryId,SampleId,Loss,ImpactedExposure\n3,1,-1,40,100\n3,1,1,20,100\n3,1,3,70,100\n7,1,2,9,90\n"
    )
    (folder / "losses" / "qelt.csv").write_text("EventId,SummaryId,Quantile,Loss\n3,2,1,100\n3,2,0,0\n")
    read = read_book(folder)
    samples, quantiles = read.loss_sets[1].elt, read.loss_sets[2].elt
    assert samples.mean.tolist() == [30.0, 3.0]
    assert samples.sd[0] == pytest.approx(np.std([20, 0, 70], ddof=1))
    assert samples.exposure.tolist() == [100.0, 90.0]
    assert quantiles.mean.tolist() == [50.0]
    assert quantiles.sd[0] == pytest.approx(100 / 12**0.5)  # of a uniform loss


def test_events_without_a_rate_are_named(folder):
    edit(folder, "losses/melt", "7,1,0.5", "7,1,")
    edit(folder, "losses/melt", "3,1,0.2", "3,1,")
    with pytest.raises(ModelError, match="loss set 1: event 3 has no rate: give EventRate with the losses"):
        read_book(folder)


@pytest.mark.parametrize("sample", ["", "x", "1.5"])
def test_a_loss_of_no_sample_is_named_not_left_out(sample, folder):
    year_file(folder, SPLT, [(1, 0.5, 7, 3, 1, 1, 1, 30), (2, 0.5, 7, 3, 1, 1, sample, 30)])
    with pytest.raises(ModelError, match=r"plt\.csv line 3 \(event 7\): SampleId must be a whole number; got"):
        read_book(folder)


def test_a_loss_of_no_sample_type_is_named_not_left_out(folder):
    (folder / "losses" / "melt.csv").write_text(
        "EventId,SummaryId,SampleType,EventRate,MeanLoss,SDLoss,MaxLoss\n7,1,1,0.5,80,30,200\n3,1,,0.2,40,10,100\n"
    )
    with pytest.raises(ModelError, match=r"melt\.csv line 3 \(event 3\): SampleType must be a whole number; got"):
        read_book(folder)


def test_an_event_with_two_rates_is_named(folder):
    (folder / "events.csv").write_text("EventId,EventRate\n3,0.2\n7,0.5\n3,0.4\n")
    with pytest.raises(ModelError, match=r"events\.csv line 4: event 3 stands there a second time"):
        read_book(folder)


COLUMNS = "ReinsNumber,ReinsLayerNumber,ReinsType,InuringPriority,ReinsCurrency,CededPercent,OccLimit,OccAttachment"
INFO = f"""{COLUMNS},PlacedPercent
1,1,QS,1,GBP,0.2,,,1
2,1,CXL,2,GBP,1,50,10,0.5
2,2,CXL,2,GBP,1,40,60,1
"""


@pytest.fixture
def oed(folder):
    (folder / "deals.csv").unlink()
    (folder / "ri_info.csv").write_text(INFO)
    (folder / "ri_scope.csv").write_text("ReinsNumber,PortNumber\n1,1\n2,1\n2,2\n")
    return folder


def test_oed_contracts_are_deals_on_loss_sets(oed):
    share, cat = read_book(oed).deals
    assert share == Deal(1, "GBP", ((1, 1.0),), (Layer(limit=np.inf, attachment=0.0, share=0.2),))
    assert cat.subject == ((1, 0.8), (2, 1.0))  # the quota share comes first
    assert [(x.limit, x.attachment, x.share) for x in cat.layers] == [(50, 10, 0.5), (40, 60, 1)]
    assert rolled(oed) == 0


def test_an_oed_layer_that_inures_comes_off_event_by_event(oed):
    (oed / "ri_scope.csv").write_text("ReinsNumber,PortNumber\n1,1\n2,1\n")
    edit(oed, "ri_info", "1,1,QS,1,GBP,0.2,,", "1,1,CXL,1,GBP,1,30,0")
    cat = read_book(oed).deals[1]
    paid = apply(Programme((cat.inuring, cat.layers)), Yelt.from_years([[100.0]]))
    assert paid.layer_loss[1:, 0].tolist() == [25.0, 10.0]  # of the 70 that are left


def test_a_contract_that_inures_in_another_currency_is_refused(oed, capsys):
    """Its limit would be taken for one of the deal's currency."""
    (oed / "ri_scope.csv").write_text("ReinsNumber,PortNumber\n1,1\n2,1\n")
    edit(oed, "ri_info", "1,1,QS,1,GBP,0.2,,", "1,1,CXL,1,USD,1,30,0")
    assert rolled(oed) == 1
    assert "deal 2: ReinsNumber 1 of InuringPriority 1 inures to 2: its ReinsCurrency is USD, and must be GBP" in (
        capsys.readouterr().err
    )


def test_a_deal_is_not_priced_without_what_inures_to_it(oed, capsys):
    edit(oed, "ri_info", "QS", "XX")
    (oed / "ri_info.csv").write_text((oed / "ri_info.csv").read_text() + "3,1,CXL,2,GBP,1,50,10,1\n")
    (oed / "ri_scope.csv").write_text("ReinsNumber,PortNumber\n1,1\n2,1\n3,2\n")
    assert rolled(oed, "--errors", "return") == 0
    out = capsys.readouterr().out
    assert "left out: deal 1: ri_info.csv line 2" in out
    assert "left out: deal 2: ReinsNumber 1 may inure to 2, and cannot be read" in out
    assert "left out: deal 3" not in out


@pytest.mark.parametrize("rows", ["1,1,1\n1,1,much\n", "1,1,0.5\n1,1,0.4\n", "1,1,1\n1,1,-1\n"])
def test_a_share_that_is_none_or_there_twice_is_named(rows, oed):
    (oed / "ri_scope.csv").write_text(f"ReinsNumber,PortNumber,CededPercent\n{rows}2,2,\n")
    with pytest.raises(ModelError, match=r"deal 1: ri_scope\.csv line 3: CededPercent must be a fraction in \(0, 1\]"):
        read_book(oed)
    assert [deal.deal_id for deal in read_book(oed, errors="return").deals] == [2]


OED_WRONG = [
    ("ri_info", "1,1,QS,1", "1,1,CXL,1", "ReinsNumber 1 of InuringPriority 1 inures to 2: only quota shares"),
    ("ri_info", "QS", "XX", "deal 1: ri_info.csv line 2: ReinsNumber 1: ReinsType must be one of FAC, QS"),
    ("ri_info", "QS", "FAC", "deal 1: ReinsNumber 1: a FAC by risk is no layer"),
    ("ri_scope", "1,1\n", "", "deal 1: ReinsNumber 1 covers no loss set; give ri_scope a row"),
    ("ri_scope", "2,2", "2,4", "deal 2: unknown loss set 4; have [1, 2]"),
    ("ri_info", "2,2,CXL,2,GBP", "2,2,CXL,2,USD", "deal 2: ReinsNumber 2: all its rows need one InuringPriority"),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), OED_WRONG)
def test_what_is_wrong_in_oed_files_is_told(name, old, new, said, oed, capsys):
    edit(oed, name, old, new)
    assert rolled(oed) == 1
    assert said in capsys.readouterr().err


def test_two_kinds_of_deals_are_refused(oed):
    (oed / "deals.csv").write_text(DEALS)
    with pytest.raises(ModelError, match="keep one kind"):
        read_book(oed)


def test_a_table_that_is_there_twice_is_refused(folder):
    pq.write_table(pa.table({"x": [1]}), folder / "fx.parquet")
    with pytest.raises(ModelError, match=r"has fx\.csv and fx\.parquet: keep one of them"):
        read_book(folder)
