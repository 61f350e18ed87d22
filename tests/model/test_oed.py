"""Reinsurance in OED's words: against what Oasis computed, by hand, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest

from model.errors import ModelError
from model.losses import Yelt
from model.oed import Contract, Scope, inure, programme, surplus
from model.recoveries import apply
from model.terms import INF, Layer

DATA = Path(__file__).parent / "data" / "oasis_ri"


def rows(name):
    with (DATA / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


INFO, SCOPE, LOSSES = rows("reinsinfo"), rows("reinsscope"), rows("losses")


@pytest.mark.parametrize("row", INFO, ids=[row["Unit"] for row in INFO])
def test_each_contract_leaves_what_oasis_leaves(row):
    risks = [r for r in LOSSES if r["Unit"] == row["Unit"]]
    scopes = [Scope.of(r) for r in SCOPE if r["Unit"] == row["Unit"]]
    gross, net = (np.array([[float(r[c])] for r in risks]) for c in ("GrossLoss", "NetLoss"))
    left, taken = inure([Contract.of(row)], scopes, risks, gross)
    np.testing.assert_allclose(left, net, rtol=0, atol=1e-6 * gross.max())
    assert taken[int(row["ReinsNumber"])] == pytest.approx((gross - left).sum(axis=0))


TWO = [{"AccNumber": "A", "LocNumber": n} for n in "12"]
ALL = [Scope(n, {"AccNumber": "A"}) for n in (1, 2)]
LOSS = np.array([[100.0, 0.0], [300.0, 60.0]])


def test_contracts_of_the_next_priority_see_what_is_left():
    quota = Contract(ReinsNumber=1, ReinsType="QS", CededPercent=0.5)
    cat = Contract(ReinsNumber=2, ReinsType="CXL", OccAttachment=50.0, OccLimit=100.0, InuringPriority=2)
    net, taken = inure([cat, quota], ALL, TWO, LOSS)
    assert taken[1].tolist() == [200.0, 30.0]
    assert taken[2].tolist() == [100.0, 0.0]  # of 200 and 30
    assert net.tolist() == [[25.0, 0.0], [75.0, 30.0]]  # shared as the losses are


def test_contracts_of_one_priority_see_the_same_losses():
    pair = [Contract(ReinsNumber=n, ReinsType="QS", CededPercent=0.5) for n in (1, 2)]
    net, _ = inure(pair, ALL, TWO, LOSS)
    assert net.max() == 0.0
    with pytest.raises(ModelError, match="ReinsNumber 1, 2 of one InuringPriority take more than the loss"):
        inure([pair[0], Contract(ReinsNumber=2, ReinsType="QS", CededPercent=0.6)], ALL, TWO, LOSS)


def test_a_surplus_treaty_takes_what_exceeds_the_line_up_to_its_lines():
    assert surplus(100.0, line=150.0, lines=4) == 0.0
    assert surplus(500.0, line=100.0, lines=9) == pytest.approx(0.8)
    assert surplus(2000.0, line=100.0, lines=9) == pytest.approx(0.45)
    treaty = Contract(ReinsNumber=1, ReinsType="SS")
    scopes = [Scope(1, risk, surplus(s, line=100.0, lines=9)) for risk, s in zip(TWO, (500.0, 2000.0), strict=True)]
    _, taken = inure([treaty], scopes, TWO, LOSS)
    assert taken[1] == pytest.approx([80 + 135, 27])
    with pytest.raises(ModelError, match="line must be > 0"):
        surplus(100.0, line=0.0, lines=1)


def test_contracts_on_all_losses_are_a_programme_of_layers():
    """20 % of the losses in full, 50 % of 30 xs 20 of that share placed: both readings pay alike."""
    cat = Contract(ReinsNumber=1, ReinsType="CXL", CededPercent=0.2, OccAttachment=5, OccLimit=30, PlacedPercent=0.5)
    events = np.array([[20.0, 100.0, 400.0]])
    _, taken = inure([cat], [Scope(1)], [{}], events)
    paid = apply(programme([cat]), Yelt.from_years([[x] for x in events[0]]))
    assert paid.layer_loss[0].tolist() == taken[1].tolist() == [0.0, 7.5, 15.0]


def test_an_aggregate_cover_works_on_the_year():
    cover = Contract(ReinsNumber=1, ReinsType="AXL", AggAttachment=50.0, AggLimit=20.0)
    assert apply(programme([cover]), Yelt.from_years([[30.0, 25.0], [90.0]])).layer_loss.tolist() == [[5.0, 20.0]]
    with pytest.raises(ModelError, match="ReinsNumber 1: an aggregate cover needs years"):
        inure([cover], [Scope(1)], [{}], np.ones((1, 1)))


@pytest.mark.parametrize(
    "layer",
    [
        Layer(limit=10.0, attachment=20.0, share=0.3, aad=5.0, reinst=(1.0, 0.5)),
        Layer(limit=INF, attachment=0.0, aad=50.0, aal=20.0),
    ],
)
def test_a_layer_survives_its_row(layer):
    row = vars(Contract.from_layer(layer, 7))
    assert Contract.of(row).as_layer() == layer


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ReinsType": "XOL"}, "ReinsNumber 9: ReinsType must be one of FAC, QS, SS, PR, CXL, AXL; got XOL"),
        ({"CededPercent": "20"}, "ReinsNumber 9: CededPercent must be a fraction in"),
        ({"PlacedPercent": "0"}, "ReinsNumber 9: PlacedPercent must be"),
        ({"OccLimit": "-1"}, "ReinsNumber 9: OccLimit must be finite and >= 0"),
        ({"OccAttachment": "nan"}, "ReinsNumber 9: OccAttachment must be"),
        ({"OccLimit": "1 million"}, "ReinsNumber 9: could not convert"),
        ({"RiskLevel": "CITY"}, "ReinsNumber 9: RiskLevel must be"),
    ],
)
def test_a_wrong_row_is_named(changed, message):
    with pytest.raises(ModelError, match=message):
        Contract.of({"ReinsNumber": "9", "ReinsType": "CXL"} | changed)


def test_what_covers_nothing_or_has_no_losses_is_refused():
    cat = Contract(ReinsNumber=3, ReinsType="CXL")
    with pytest.raises(ModelError, match="ReinsNumber 3 covers no risk"):
        inure([cat], ALL, TWO, LOSS)
    with pytest.raises(ModelError, match="losses must be finite"):
        inure([cat], [Scope(3)], TWO, -LOSS)
    with pytest.raises(ModelError, match="lacks ReinsType"):
        Contract.of({"ReinsNumber": 1})
    with pytest.raises(ModelError, match="a PR by risk is no layer"):
        Contract(ReinsNumber=1, ReinsType="PR").as_layer()


def test_the_aggregate_terms_of_a_share_are_those_of_what_is_ceded():
    """Of 100 a half is ceded: 50, less 20, and of these 30 at most 25."""
    cover = Contract(ReinsNumber=1, ReinsType="AXL", CededPercent=0.5, AggAttachment=20.0, AggLimit=25.0)
    assert apply(programme([cover]), Yelt.from_years([[60.0, 40.0]])).layer_loss.tolist() == [[25.0]]
    cover = Contract(ReinsNumber=1, ReinsType="AXL", CededPercent=0.5, AggAttachment=20.0, AggLimit=99.0)
    assert apply(programme([cover]), Yelt.from_years([[60.0, 40.0]])).layer_loss.tolist() == [[30.0]]
