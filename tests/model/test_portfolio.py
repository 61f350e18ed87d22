"""A portfolio event by event: adding up is exact, cuts of the years do not matter, retrocession takes the net."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.book import book
from model.capital import allocate, kreps_load, tail_of
from model.errors import ModelError
from model.metrics import co_tvar
from model.portfolio import SETS, Claims, Timeline, add_claims, deal_years, joined, on_grid, retro_years
from model.pricing import Deal, price_deal, rate_of
from model.retro import in_order
from model.simulate import losses_on, timeline
from model.terms import Layer, QuotaShare, StopLoss

YEARS = 600
BOOK = book(24, seed=2, event_sets=3, retro=0.15)
LINES = {e: timeline(events, YEARS, seed=5) for e, events in BOOK.event_sets.items()}
TIMES = {e: Timeline.of(line, place) for place, (e, line) in enumerate(LINES.items())}
LOSSES = {
    n: losses_on(BOOK.event_sets[one.event_set], one.elt, YEARS, seed=5, loss_set=n, line=LINES[one.event_set])
    for n, one in BOOK.loss_sets.items()
}


def covered(deal):
    members = {e: [part for part in deal.subject if BOOK.loss_sets[part[0]].event_set == e] for e in BOOK.event_sets}
    return [(TIMES[e], [(share, LOSSES[n]) for n, share in part]) for e, part in members.items() if part]


def years_of(deal, years=range(YEARS)):
    return deal_years(deal, covered(deal), rate_of(deal, BOOK.fx), years)


PAID = {}
for one in in_order(BOOK.deals):
    rate = rate_of(one, BOOK.fx)
    sources = [PAID[other] for other in one.covers]
    PAID[one.deal_id] = retro_years(one, sources, rate, range(YEARS)) if sources else years_of(one)
INWARD = [deal for deal in BOOK.deals if not deal.covers]
RETRO = [deal for deal in BOOK.deals if deal.covers]


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


amounts = st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1e9, width=32)), unique_by=lambda x: x[0], max_size=20)


def claims(rows):
    number = np.array(sorted(n for n, _ in rows), dtype=np.int64)
    paid = on_grid(np.array([p for _, p in sorted(rows)], dtype=np.float64))
    return Claims(number, (number // 4).astype(np.int32), (number % 4).astype(np.int16), paid)


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(amounts, min_size=3, max_size=3))
def test_adding_up_is_associative_and_commutative_to_the_last_bit(parts):
    a, b, c = map(claims, parts)
    whole = add_claims([a, b, c])
    for other in (add_claims([add_claims([a, b]), c]), add_claims([a, add_claims([b, c])]), add_claims([c, b, a])):
        assert same(whole, other)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, YEARS - 1), unique=True, max_size=5), deal=st.sampled_from(INWARD))
def test_any_cut_of_the_years_of_a_deal_gives_the_same_to_the_last_bit(cuts, deal):
    ends = [0, *sorted(cuts), YEARS]
    parts = [years_of(deal, range(a, b)) for a, b in pairwise(ends)]
    assert same(joined([(0, part) for part in parts]), joined([(0, PAID[deal.deal_id])]))


def test_a_deal_pays_what_its_price_says():
    """The years of a portfolio and those that `price_deal` draws are different samples of one distribution: the mean of
    what an unlimited number of occurrences is paid depends on rates alone, not on clustering."""
    deal = Deal(99, "EUR", ((1, 0.3), (3, 0.2)), (Layer(limit=2e6, attachment=5e5), Layer(limit=5e6, attachment=3e6)))
    mine = years_of(deal).claims().annual(YEARS)[1] * BOOK.fx["EUR"]
    elts = {n: one.elt for n, one in BOOK.loss_sets.items()}
    priced = price_deal(deal, loss_sets=elts, fx=BOOK.fx, years=8000)
    assert priced.el > 0
    assert mine.mean() == pytest.approx(priced.el, abs=4 * np.hypot(mine.std() / np.sqrt(YEARS), priced.se))


def test_layers_and_events_tell_the_same_years():
    for deal_id, paid in PAID.items():
        by_layer = np.bincount(paid.layer_year, weights=paid.loss, minlength=YEARS)
        np.testing.assert_allclose(paid.claims().annual(YEARS)[1], by_layer, rtol=1e-5, atol=1, err_msg=str(deal_id))


def test_retrocessions_take_no_more_than_there_is_and_leave_the_rest():
    for deal in RETRO:
        paid, before = PAID[deal.deal_id], add_claims([PAID[other].net() for other in deal.covers])
        after = add_claims([paid.net(), paid.claims()])
        assert set(after.number) == set(before.number)
        np.testing.assert_allclose(after.paid, before.paid, atol=1 / 32, rtol=1e-6)


def test_a_retrocession_of_a_retrocession_sees_its_net():
    chained = [deal for deal in RETRO if any(other > len(INWARD) for other in deal.covers)]
    assert chained
    for deal in chained:
        inner = next(other for other in deal.covers if other > len(INWARD))
        seen = add_claims([PAID[other].net() for other in deal.covers])
        there = np.isin(PAID[inner].number, seen.number)
        assert there.all()
        assert (PAID[inner].left < PAID[inner].paid + PAID[inner].left).any()


def test_loss_sets_on_one_event_are_one_loss_to_a_layer():
    line = Timeline(0, np.array([0, 1, 1], np.int32), np.array([5], np.int16))
    deal = Deal(1, "GBP", ((1, 1.0), (2, 0.5)), (Layer(limit=100.0, attachment=50.0),))
    losses = [(1.0, np.array([40.0], np.float32)), (0.5, np.array([60.0], np.float32))]
    found = deal_years(deal, [(line, losses)], 1.0, range(2))
    assert found.paid.tolist() == [20.0]  # 40 + 30 over 50
    assert found.net().paid.tolist() == [20.0]
    apart = [(line, losses[:1]), (replace(line, place=1), losses[1:])]
    assert deal_years(deal, apart, 1.0, range(2)).paid.size == 0


def test_small_losses_count_where_a_stop_loss_comes_first():
    line = Timeline(0, np.array([0, 2], np.int32), np.array([1, 9], np.int16))
    losses = [(1.0, np.array([30.0, 70.0], np.float32))]
    terms = {"layers": (Layer(limit=100.0, attachment=50.0),), "inuring": (StopLoss(limit=1000.0, attachment=80.0),)}
    deal = Deal(1, "GBP", ((1, 1.0),), **terms)
    assert deal_years(deal, [(line, losses)], 1.0, range(1)).paid.tolist() == []  # 30 and 50 are left of 30 and 70


def test_amounts_on_the_grid_are_near_and_stay_there():
    amount = np.random.default_rng(1).lognormal(12, 4, 1000)
    there = on_grid(amount)
    assert (there * 64 == np.rint(there.astype(np.float64) * 64)).all()
    np.testing.assert_allclose(there, amount, rtol=1e-6, atol=1 / 64)


# Capital.

ANNUAL = np.stack([np.bincount(PAID[d.deal_id].claims().year, weights=PAID[d.deal_id].claims().paid, minlength=YEARS)
                   * (-1 if d.covers else 1) for d in BOOK.deals])  # fmt: skip


def parts():
    tail = tail_of(ANNUAL.sum(axis=0), 25.0)
    hits = [np.flatnonzero(row) for row in ANNUAL]
    return tail, [allocate(tail, hit, row[hit]) for hit, row in zip(hits, ANNUAL, strict=True)]


def test_co_tvar_adds_up_to_the_tail_and_is_that_of_the_whole_matrix():
    tail, found = parts()
    assert sum(part.co_tvar for part in found) == pytest.approx(tail.tvar, rel=1e-12)
    assert [part.co_tvar for part in found] == pytest.approx(co_tvar(ANNUAL, 25.0), rel=1e-12)


def test_marginal_capital_is_what_leaving_the_deal_out_saves():
    tail, found = parts()
    known = 0
    for row, part in zip(ANNUAL, found, strict=True):
        without = np.sort(ANNUAL.sum(axis=0) - row)[::-1][: tail.k].mean()
        if not np.isnan(part.marginal):
            assert part.marginal == pytest.approx(tail.tvar - without, abs=1e-6)
            known += 1
    assert known >= len(INWARD) // 2


def test_marginal_capital_is_not_told_where_other_years_might_be_worse():
    tail = tail_of(np.arange(1000.0), 1000.0)
    everything = np.arange(1000.0) * (np.arange(1000) > 900)
    assert np.isnan(allocate(tail, np.arange(1000), everything).marginal)


def test_marginal_capital_counts_with_years_that_a_retrocession_spared():
    """Without it a year that is not kept may be among the worst; by less than that, none can be."""
    tail = tail_of(np.arange(1000.0), 1000.0)
    for spared, known in ((5.0, True), (500.0, False)):
        assert np.isnan(allocate(tail, np.array([100]), np.array([-spared])).marginal) != known


def test_a_tail_of_losses_that_are_no_numbers_is_refused():
    with pytest.raises(ModelError, match="year 1: annual losses must be finite"):
        tail_of(np.array([3.0, np.nan, 5.0]), 2.0)


def test_a_tail_of_more_years_than_there_are_is_refused():
    with pytest.raises(ModelError, match="return periods of 1 to 10; got 11"):
        tail_of(np.ones(10), 11.0)


def test_kreps_load_by_hand():
    """y z / (1 + y) (S' - S), Kreps 1990: 20 % on two standard deviations of 3 more."""
    assert kreps_load(13.0, 10.0, z=2.0, target=0.2) == pytest.approx(0.2 * 2 / 1.2 * 3)


# What is wrong with deals.

LAYERS = (Layer(limit=1.0, attachment=1.0),)


def deal(number, *covers):
    return Deal(number, "GBP", () if covers else ((1, 1.0),), LAYERS, covers=covers)


def test_deals_come_behind_those_that_they_cover():
    order = [d.deal_id for d in in_order([deal(9, 7), deal(7, 1, 2), deal(1), deal(2), deal(3)])]
    assert order.index(9) > order.index(7) > max(order.index(1), order.index(2))


@pytest.mark.parametrize(
    ("deals", "message"),
    [
        ([deal(1), deal(2, 3), deal(3, 4), deal(4, 2)], r"in a circle, .*: 2 -> 3 -> 4 -> 2|3 -> 4 -> 2 -> 3|4 -> 2"),
        ([deal(1, 1)], "in a circle, each deal covering the next: 1 -> 1"),
        ([deal(1), deal(2, 5)], "deal 2 covers deal 5, which is not in the portfolio"),
        ([deal(1), deal(2, 1), deal(3, 1)], "deals 2 and 3 both cover deal 1"),
        ([deal(1), deal(1)], "deal 1 is in the portfolio twice"),
    ],
)
def test_wrong_retrocession_names_the_deals(deals, message):
    with pytest.raises(ModelError, match=message):
        in_order(deals)


def test_a_deal_covers_losses_or_deals_and_a_portfolio_has_so_many_event_sets():
    with pytest.raises(ModelError, match="deal 5 covers loss sets and deals"):
        Deal(5, "GBP", ((1, 1.0),), LAYERS, covers=(1,))
    with pytest.raises(ModelError, match="deal 5 covers deals net of inuring terms"):
        Deal(5, "GBP", (), LAYERS, inuring=(QuotaShare(ceded=0.5),), covers=(1,))
    with pytest.raises(ModelError, match=r"deal 5 covers deals \[1\], so it has a price only in a portfolio"):
        price_deal(deal(5, 1), loss_sets={})
    with pytest.raises(ModelError, match="at most 1024 event sets"):
        Timeline.of(LINES[1], SETS)
    with pytest.raises(ModelError, match="no years of the deal"):
        joined([])


def test_a_book_is_the_same_for_its_seed_and_changes_where_it_is_told():
    assert book(5, seed=2, event_sets=3).deals[:5] == BOOK.deals[:5]
    changed = BOOK.changed(3)
    assert sum(a != b for a, b in zip(BOOK.deals, changed.deals, strict=True)) == 3
    with pytest.raises(ModelError, match="0 to 24 deals can change; got 25"):
        BOOK.changed(25)
    with pytest.raises(ModelError, match="at least one deal and one event set"):
        book(0)


def test_annual_terms_are_used_up_in_order_of_days_and_on_one_day_of_numbers():
    number, year, day = np.array([9, 1, 5, 7]), np.array([0, 0, 0, 1], np.int32), np.array([3, 8, 3, 0], np.int16)
    claims = Claims(number, year, day, np.ones(4)).in_time()
    assert claims.number.tolist() == [5, 9, 1, 7]
