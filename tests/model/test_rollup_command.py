"""The rollup as a run: what is found again, what a change costs, what is left out, and the two commands."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import fnmap
from model import analytics, rollup_report
from model.book import book
from model.errors import ModelError
from model.metrics import at_return_periods
from model.rollup_command import main
from model.rollup_plan import Options, rollup
from model.tables import validate
from model.terms import Layer

BOOK = book(12, seed=3, event_sets=3, retro=0.2)
OPTIONS = Options(years=1500, views=2, seed=1)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    with fnmap.Session(on="inline", store=tmp_path_factory.mktemp("store"), progress=False) as session:
        yield session


def rolled(session, portfolio=BOOK, options=OPTIONS, **given):
    made = rollup(portfolio, options, **given)
    ended = session.run_plan(made.plan, cache=True, errors=given.get("errors", "raise"))
    ended.wait()
    return ended, rollup_report.collected(made, ended)


@pytest.fixture(scope="module")
def first(session):
    return rolled(session)


def ran(ended):
    return {name: s["done"] - s["cached"] for name, s in ended.report().items() if s["done"] > s["cached"]}


def test_an_unchanged_portfolio_is_found_again_whole(session, first):
    again, found = rolled(session)
    assert ran(again) == {}
    assert found.reports == first[1].reports


def test_a_changed_deal_runs_again_with_what_depends_on_it_alone(session, first):
    ended, _ = rolled(session, BOOK.changed(1))
    again = ran(ended)
    changed = next(a for a, b in zip(BOOK.deals, BOOK.changed(1).deals, strict=True) if a != b)
    chain = {changed.deal_id}
    for _ in BOOK.deals:
        chain |= {d.deal_id for d in BOOK.deals if chain & set(d.covers)}
    assert again["deals"] == OPTIONS.views
    assert again["groups"] == OPTIONS.views
    assert again.get("retro", 0) == OPTIONS.views * (len(chain) - 1)
    assert again["reports"] == len(BOOK.deals)  # their share of a portfolio that has changed
    assert not again.keys() & {"occurrences", "timelines", "losses"}


def test_tasks_that_are_split_by_their_cost_give_the_same_to_the_last_bit(session, first):
    ended, found = rolled(session, options=replace(OPTIONS, task_s=0.001))
    assert len(ended["deals"]) > 3 * len(first[0]["deals"])
    assert found.reports == first[1].reports
    assert found.curves.equals(first[1].curves)


def test_the_portfolio_is_the_sum_of_its_deals(first):
    found = first[1]
    net, gross, ceded = (rollup_report.annual(found, which) for which in ("net", "gross", "ceded"))
    np.testing.assert_array_equal(net, gross - ceded)
    assert (net >= 0).all()
    table = rollup_report.capital_table(found)
    assert sum(table["EL"].to_pylist()) == pytest.approx(net.mean(), rel=1e-5)
    assert sum(table["CoTVaR"].to_pylist()) == pytest.approx(found.tail.tvar, rel=1e-12)
    assert found.tail.tvar == pytest.approx(at_return_periods(net, (100.0,)).tvar[0], rel=1e-12)


def test_curves_of_a_dimension_bound_those_of_the_portfolio(first):
    found = first[1]
    loss = {(r["SummaryId"], r["EPType"], r["ReturnPeriod"]): r["Loss"] for r in found.curves.to_pylist()}
    number = {pair: n for n, pair in found.summaries.items()}
    for dimension in ("peril", "region", "line"):
        members = [n for n, (kind, _) in found.summaries.items() if kind == dimension]
        tails = [loss[n, 4, 100.0] for n in members]
        assert max(tails) <= loss[number["portfolio", "gross"], 4, 100.0] * (1 + 1e-6) <= sum(tails) * (1 + 1e-5)
        assert max(loss[n, 1, 100.0] for n in members) <= loss[number["portfolio", "gross"], 1, 100.0] * (1 + 1e-6)


def wrong_deals():
    first_, second, *rest = BOOK.deals
    unknown = replace(first_, subject=((77, 1.0),))
    money = replace(second, currency="XAU")
    return replace(BOOK, deals=(unknown, money, *rest))


def test_a_wrong_deal_is_named_before_anything_runs():
    with pytest.raises(ModelError, match=r"deal 1: unknown loss set 77; have \[1, 2, 3"):
        rollup(wrong_deals(), OPTIONS)


def test_the_rest_of_the_portfolio_is_priced_where_errors_are_returned(session):
    _, found = rolled(session, wrong_deals(), errors="return")
    assert "unknown loss set 77" in found.failed[1]
    assert "no rate for XAU" in found.failed[2]
    covering = {d.deal_id for d in BOOK.deals if set(d.covers) & {1, 2}}
    assert all(f"deal {n} covers deal" in found.failed[n] for n in covering)
    assert found.reports.keys() == {d.deal_id for d in BOOK.deals} - found.failed.keys()
    assert "left out: deal 1: unknown loss set 77" in rollup_report.summary(found)


def test_a_deal_that_fails_as_it_is_priced_is_left_out_by_name(session):
    """Layers that overlap cede more of an event than there is: seen only when there are events."""
    deal = BOOK.deals[0]
    twice = replace(deal, layers=2 * (Layer(limit=1e12, attachment=0.0),))
    portfolio = replace(BOOK, deals=(twice, *(d for d in BOOK.deals[1:] if not d.covers)))
    ended, found = rolled(session, portfolio, errors="return")
    assert found.failed.keys() == {1}
    assert any("deal 1: stage 1 cedes more of event" in str(error) for error in ended.errors.values())
    assert rollup_report.annual(found, "gross").mean() > 0


def test_a_portfolio_without_a_deal_is_refused():
    with pytest.raises(ModelError, match="no inward deal"):
        rollup(replace(BOOK, deals=()), OPTIONS)


def test_what_a_plan_takes_is_foretold():
    made = rollup(BOOK, OPTIONS)
    forecast = made.plan.explain(on="lambda", workers=50, seconds=made.seconds)
    assert forecast.tasks == len(made.plan)
    assert forecast.makespan_s > 0
    assert forecast.total_dollars > 0


def test_the_command_prints_writes_and_finds_again(tmp_path, capsys):
    argv = ["--deals", "5", "--views", "1", "--years", "1000", "--on", "inline", "--store", str(tmp_path / "store")]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "0 of " in printed
    assert "TVaR 100 years, net" in printed
    validate(pq.read_table(tmp_path / "out" / "deals.parquet"), "deals")
    validate(pq.read_table(tmp_path / "out" / "ept.parquet"), "ept")
    capital = pq.read_table(tmp_path / "out" / "capital.parquet")
    assert capital.column_names == ["DealId", "EL", "CoTVaR", "MarginalTVaR"]
    assert main(argv) == 0
    total = len(rollup(book(5, 1, event_sets=12), Options(years=1000, views=1)).plan)
    assert f"{total} of {total} tasks were found in the store" in capsys.readouterr().out


def test_a_run_of_the_same_name_finds_all_that_it_did_before(tmp_path, capsys):
    argv = ["--deals", "3", "--views", "1", "--years", "1000", "--on", "inline", "--store", str(tmp_path / "store")]
    assert main([*argv, "--name", "mine"]) == 0
    capsys.readouterr()
    assert main([*argv, "--name", "mine"]) == 0
    total = len(rollup(book(3, 1, event_sets=12), Options(years=1000, views=1)).plan)
    assert f"{total} of {total} tasks were found in the store" in capsys.readouterr().out


def test_wrong_arguments_are_told_in_one_line(capsys):
    assert main(["--deals", "3", "--change", "9"]) == 1
    assert capsys.readouterr().err == "rollup: 0 to 3 deals can change; got 9\n"


def test_an_out_that_is_a_file_is_told_before_anything_runs(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    argv = ["--deals", "2", "--views", "1", "--years", "1000", "--on", "inline", "--out", str(tmp_path / "taken")]
    assert main(argv) == 1
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_one_deal_is_priced_again_and_again(capsys):
    argv = ["--years", "1000", "--calls", "3", "--on", "inline"]
    assert analytics.main(argv) == 0
    printed = capsys.readouterr().out
    assert "3 prices, each in p50" in printed
    assert "layers by premium" in printed


def test_a_counter_offer_changes_attachments_and_limits_together():
    before, after = BOOK.deals[0].layers[0], analytics.renegotiated(BOOK.deals[0], 10).layers[0]
    assert after.limit / before.limit == pytest.approx(after.attachment / before.attachment) == pytest.approx(1.01)
