"""How figures become rows, and rows tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import noop_map, table
from benchmarks.child import find
from benchmarks.harness import Tally
from benchmarks.histogram import BINS, by_worker, told
from benchmarks.processes import Outcome
from benchmarks.question import Part
from benchmarks.rows import keep, kept
from benchmarks.show import cells, headline, histograms, shown, verdicts

QUESTION = noop_map.QUESTION
PART = Part(("a_s", "b_s"))


def row(system, **metrics):
    return {
        "question": QUESTION.name, "system": system, "metrics": metrics, "note": "", "error": "", "toy": False,
        "date": "2026-11-22 12:00", "commit": "abc", "python": "3.11", "workers": 2, "cores": 2, "load": 0.1,
    }  # fmt: skip


def test_the_median_of_the_runs_counts():
    tally = Tally()
    for seconds in (3.0, 1.0, 2.0):
        tally.add(PART, Outcome({"a_s": seconds, "b_s": 1.0}))
    assert tally.metrics() == {"a_s": 2.0, "b_s": 1.0}
    assert tally.spread()["a_s"] == [1.0, 3.0]


def test_workers_of_all_runs_have_a_histogram_each():
    tally = Tally()
    for workers in ([[1.0, 2.0], [3.0]], [[2.0]]):
        tally.add(Part(("gflops",)), Outcome({"gflops": 5.0, "each_gflops": workers}))
    assert tally.metrics() == {"gflops": 5.0}
    kept = told(tally.workers["each_gflops"])
    assert kept["figures"] == [[1.0, 2.0], [3.0], [2.0]]
    assert (kept["edges"][0], kept["edges"][-1], len(kept["edges"])) == (1.0, 3.0, BINS + 1)
    assert [sum(counts) for counts in kept["counts"]] == [2, 1, 1]
    assert (kept["counts"][0][0], kept["counts"][0][BINS // 2], kept["counts"][1][-1]) == (1, 1, 1)


@given(st.lists(st.lists(st.floats(0.001, 1e6), min_size=1), min_size=1))
def test_every_figure_is_in_one_bin(workers):
    kept = told(workers)
    assert kept["edges"] == sorted(kept["edges"])
    assert [sum(counts) for counts in kept["counts"]] == [len(own) for own in workers]


def test_figures_are_told_apart_by_worker():
    assert by_worker([(7, 1.0), (8, 2.0), (7, 3.0)]) == [[1.0, 3.0], [2.0]]


def test_workers_are_drawn_on_one_scale_and_many_by_their_medians():
    flops = table.load("flops")
    rows = [
        row("fnmap") | {"histograms": {"each_gflops": told([[0.0, 0.0, 0.0, 16.0], [8.0]])}},
        row("raw") | {"histograms": {"each_gflops": told([[float(at)] for at in range(9)])}},
    ]
    ((heads, one, two, many),) = histograms(flops, rows)
    assert heads[2] == "GFLOPS of a worker's tasks: 0 to 16 GFLOPS"
    assert one == ["fnmap", "1", "█" + "·" * 14 + "▃", "0 GFLOPS", "4"]
    assert two == ["fnmap", "2", "·" * 8 + "█" + "·" * 7, "8 GFLOPS", "1"]
    assert many == ["raw", "medians of 9", "█" * 9 + "·" * 7, "4 GFLOPS", "9"]


def test_the_page_shows_the_bars(tmp_path):
    mine = row("fnmap", gflops=1.0) | {"question": "flops", "histograms": {"each_gflops": told([[1.0, 2.0]])}}
    keep([mine], tmp_path)
    assert "| fnmap | 1 | `█··············█` | 1.5 GFLOPS | 2 |" in table.filled(table.MARK, tmp_path)


def test_a_system_that_was_cut_says_so_and_is_not_run_again():
    tally = Tally()
    tally.add(PART, Outcome({"a_s": 1.0}, cut="> 60 s"))
    assert tally.metrics() == {"a_s": 1.0, "b_s": "> 60 s"}
    assert not tally.wants(PART)
    assert not tally.wants(Part(("c_mb",), needs="b_s"))


def test_a_wrong_answer_is_no_figure():
    tally = Tally()
    tally.add(PART, Outcome({}, error="WrongAnswer: 41 is not 42"))
    assert tally.metrics() == {"a_s": "wrong"}


def test_a_slow_system_is_measured_once():
    tally = Tally()
    tally.add(PART, Outcome({"a_s": 25.0, "b_s": 1.0}, seconds=30.0))
    assert not tally.wants(PART)


def test_of_yes_and_no_the_worse_counts():
    tally = Tally()
    for named in (True, False, True):
        tally.add(Part(("named",)), Outcome({"named": named}))
    assert tally.metrics() == {"named": False}


def test_a_new_row_takes_the_place_of_the_last_of_its_system(tmp_path):
    keep([row("fnmap", s_1000000=1.0), row("mp", s_1000000=2.0)], tmp_path)
    keep([row("fnmap", s_1000000=0.5)], tmp_path)
    found = kept(tmp_path / "noop_map.jsonl")
    assert [(r["system"], r["metrics"]["s_1000000"]) for r in found] == [("mp", 2.0), ("fnmap", 0.5)]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00712, "s", "7.12 ms"),
        (12.34, "s", "12.3 s"),
        (0.4321, "ms", "0.432 ms"),
        (1234.0, "MB", "1.23 GB"),
        (0.97654, "share", "0.977"),
        (True, "yes", "yes"),
        (199, "count", "199"),
        ("> 60 s", "s", "> 60 s"),
        (None, "s", "-"),
    ],
)
def test_a_figure_has_three_digits_and_its_unit(value, unit, text):
    assert shown(value, unit) == text


def test_ratios_are_to_the_reference_of_the_same_run():
    _, mine, theirs = cells(QUESTION, [row("fnmap", s_1000000=0.5), row("mp", s_1000000=1.0)])
    assert (mine[-2], theirs[-2]) == ("0.5x", "1x")


def test_a_goal_is_judged_only_where_its_figures_are():
    assert verdicts(QUESTION, [row("fnmap", s_1000000=0.5)]) == []
    told = verdicts(QUESTION, [row("fnmap", s_1000000=1.5), row("mp", s_1000000=1.0)])
    assert told == ["MISSED: 1 M no-ops against mp.Pool.map: 1.5 x, goal <= 1 x"]


def test_the_best_comes_first_in_a_headline():
    rows = [row("mp", s_1000000=1.0), row("dask", s_1000000="> 60 s"), row("fnmap", s_1000000=0.5)]
    assert headline(QUESTION.columns[0], rows) == "1 M tasks: fnmap 500 ms, mp 1 s, dask > 60 s"


def test_a_figure_of_a_smaller_size_says_so_and_has_no_ratio():
    capped = row("lithops", s_1000000=0.1) | {"note": "measured at 1 k"}
    rows = [row("mp", s_1000000=1.0), capped]
    assert headline(QUESTION.columns[0], rows) == "1 M tasks: lithops 100 ms (measured at 1 k), mp 1 s"
    assert cells(QUESTION, rows)[2][-2:] == ["-", "measured at 1 k"]


def test_the_page_is_filled_from_the_rows_and_its_text_stays(tmp_path):
    keep([row("fnmap", s_1000000=0.5), replaced_toy("mp")], tmp_path)
    page = table.filled(f"# Text\n\n{table.MARK}\nyesterday", tmp_path)
    assert page.startswith(f"# Text\n\n{table.MARK}\n")
    assert "1 M tasks: fnmap 500 ms |" in page
    assert "not measured yet" in page
    assert "yesterday" not in page


def replaced_toy(system):
    return row(system, s_1000000=1e-6) | {"toy": True}


def test_a_question_names_only_systems_that_there_are():
    for question in map(table.load, table.QUESTIONS):
        assert all(find(question, name) for name in (*question.systems, *question.toy_systems))
        assert set(question.caps) <= set(question.systems)
