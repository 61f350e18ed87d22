"""A reinsurance deal in, its price out: `price_deal`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.arrays import F8, I8
from model.errors import ModelError
from model.losses import Elt, Yelt, merge
from model.metrics import STANDARD_RETURN_PERIODS, aal_sd, at_return_periods
from model.recoveries import Paid, Recovered, recover
from model.simulate import simulate
from model.terms import Layer, Programme, Term


@dataclass(frozen=True)
class Deal:
    """A cedent's excess-of-loss programme, as submitted for a quote.

    `subject` says which losses it covers: (loss set, share of it) pairs. A retrocession covers what other deals
    leave instead: `covers` has their ids (see `model.retro`). `inuring` terms (a quota share, say) come off before
    the layers, which all see what is left. Amounts in `currency`; a layer's own `premium` plays no part in its
    price. Raises ModelError naming the deal for no layers, nothing covered or a bad share.
    """

    deal_id: int
    currency: str
    subject: tuple[tuple[int, float], ...]
    layers: tuple[Layer, ...]
    inuring: tuple[Term, ...] = ()
    covers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise ModelError(f"deal {self.deal_id} has no layers; give at least one")
        if not self.subject and not self.covers:
            raise ModelError(f"deal {self.deal_id} covers no loss set; give (loss set, share) pairs as subject")
        if self.subject and self.covers:
            raise ModelError(f"deal {self.deal_id} covers loss sets and deals: make it two deals")
        if self.inuring and self.covers:
            raise ModelError(f"deal {self.deal_id} covers deals net of inuring terms: make those a deal that it covers")
        if len({loss_set for loss_set, _ in self.subject}) < len(self.subject):
            raise ModelError(f"deal {self.deal_id} names a loss set twice: add its shares up")
        for loss_set, share in self.subject:
            if not (np.isfinite(share) and share > 0):
                raise ModelError(f"deal {self.deal_id}, loss set {loss_set}: share must be > 0; got {share}")


@dataclass(frozen=True, kw_only=True)
class Loads:
    """What a premium carries besides the expected loss.

    `risk` per unit of standard deviation, then `brokerage` and `expense` as fractions of the premium.
    Raises ModelError if `risk` is negative or the fractions leave nothing of the premium.
    """

    risk: float = 0.2
    brokerage: float = 0.10
    expense: float = 0.05

    def __post_init__(self) -> None:
        loads = (self.risk, self.brokerage, self.expense)
        if not all(0 <= load < np.inf for load in loads) or not self.brokerage + self.expense < 1:
            raise ModelError(f"loads must be finite and >= 0, brokerage and expense together below 1; got {self}")


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """The price of the placed share of one layer; amounts in the deal's currency.

    limit and attachment are the layer's, for 100 %; el and sd the mean and standard deviation of the annual
    recovery, se the standard error of el; attach_prob the chance of a recovery in a year, exhaust_prob that
    of a year that uses the annual limit up (0 if there is none); tvar100 the tail mean at 100 years and
    pml250 the loss at 250 years of the annual recovery; reinst_factor the expected reinstatement
    premium per unit of premium; premium the technical one (`technical_premium`); rol the premium
    per unit of placed limit; oep and aep the curves of the largest and the summed recovery of
    a year at `STANDARD_RETURN_PERIODS`, with their tail means. NaN: too few years to tell.
    """

    limit: float
    attachment: float
    share: float
    el: float
    sd: float
    se: float
    attach_prob: float
    exhaust_prob: float
    tvar100: float
    pml250: float
    reinst_factor: float
    premium: float
    rol: float
    oep: tuple[float, ...]
    oep_tail: tuple[float, ...]
    aep: tuple[float, ...]
    aep_tail: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class DealResult:
    """The price of a deal: all layers together, then each in the order of the deal. Amounts in `currency`.

    `events` is the number of simulated losses; gross_aal the mean annual subject loss before any reinsurance.
    """

    deal_id: int
    currency: str
    years: int
    events: int
    gross_aal: float
    el: float
    sd: float
    se: float
    tvar100: float
    pml250: float
    premium: float
    layers: tuple[LayerResult, ...]


def technical_premium(el: float, sd: float, reinst_factor: float, loads: Loads) -> float:
    """(EL + risk SD) / ((1 - brokerage - expense) (1 + reinst_factor)): the standard deviation principle.

    Expected reinstatement premium, `reinst_factor` per unit of initial premium, is income too, so the initial
    premium falls by it: with no loads this is Sundt's premium (`model.exact.sundt_premium`).
    """
    return (el + loads.risk * sd) / ((1.0 - loads.brokerage - loads.expense) * (1.0 + reinst_factor))


def price_deal(
    deal: Deal,
    *,
    loss_sets: Mapping[int, Elt],
    fx: Mapping[str, float] | None = None,
    years: int = 10_000,
    views: int = 1,
    seed: int = 0,
    loads: Loads | None = None,
) -> DealResult:
    """Simulate the subject losses of `deal`, run them through its programme, and price each layer.

    `loss_sets` by id, all in one currency; `fx` is what one unit of it is worth in each other currency
    (default: none other needed). Each of `years` years is sampled `views` times
    (`model.simulate.simulate`); standard errors count years only, as the views of a year share its events.
    Pure: the same arguments give the same result in any process and any order, and deals on a loss set see
    the same losses. Raises ModelError naming the deal and what is unknown or out of range.
    """
    subject = simulated(deal, loss_sets=loss_sets, fx=fx, years=years, views=views, seed=seed)
    return price_years(deal, subject, views=views, loads=loads)


def price_years(deal: Deal, subject: Yelt, *, views: int = 1, loads: Loads | None = None) -> DealResult:
    """Price `deal` on years of subject losses that are there already, in its currency: a stored table, say.

    The years are `views` samplings of the same years, one after the other. Raises ModelError naming the deal.
    """
    paid, n = pay(deal, subject).terms, subject.years
    gross = float(subject.loss.sum(dtype=np.float64)) / n
    return price_paid(deal, paid, n, views=views, loads=loads, events=subject.loss.size, gross_aal=gross)


def price_paid(
    deal: Deal,
    paid: Sequence[Paid],
    years: int,
    *,
    views: int = 1,
    loads: Loads | None = None,
    events: int,
    gross_aal: float,
) -> DealResult:
    """Price `deal` on what each of its layers pays (per unit of premium) in years, views one after the other."""
    total = np.zeros(years)
    for term in paid:
        total[term.year] += term.loss
    hit = np.flatnonzero(total != 0)  # of truths it takes a seventh of the time
    loss = total[hit]
    priced = zip(deal.layers, paid, strict=True)
    layers = tuple(_price(layer, term, years, views, loads or Loads()) for layer, term in priced)
    el, sd = aal_sd(loss, periods=years)
    tail = at_return_periods(loss, (100.0, 250.0), years)
    return DealResult(
        deal_id=deal.deal_id,
        currency=deal.currency,
        years=years,
        events=events,
        gross_aal=gross_aal,
        el=el,
        sd=sd,
        se=std_error(hit, loss, years, views),
        tvar100=float(tail.tvar[0]),
        pml250=float(tail.loss[1]),
        premium=sum(x.premium for x in layers),
        layers=layers,
    )


def simulated(
    deal: Deal, *, loss_sets: Mapping[int, Elt], fx: Mapping[str, float] | None, years: int, views: int, seed: int
) -> Yelt:
    """The simulated subject losses of `deal`, in its currency; arguments as of `price_deal`."""
    rate, parts = rate_of(deal, fx), []
    if deal.covers:
        raise ModelError(f"deal {deal.deal_id} covers deals {list(deal.covers)}, so it has a price only in a portfolio")
    for loss_set, share in deal.subject:
        if loss_set not in loss_sets:
            raise ModelError(f"deal {deal.deal_id}: unknown loss set {loss_set}; have {sorted(loss_sets)}")
        try:
            part = simulate(loss_sets[loss_set], years, seed=seed, loss_set=loss_set, views=views)
        except ModelError as e:
            raise ModelError(f"deal {deal.deal_id}, loss set {loss_set}: {e}") from e
        parts.append(replace(part, loss=part.loss * np.float32(share * rate)))
    check_reach(deal, rate * sum(share * float(loss_sets[n].exposure.max()) for n, share in deal.subject))
    return merge(parts)


def check_reach(deal: Deal, largest: float) -> None:
    """Raise ModelError naming a layer that no loss can reach, the largest being that (in the deal's currency)."""
    for number, layer in enumerate(deal.layers, 1):
        if layer.attachment >= largest:
            raise ModelError(
                f"deal {deal.deal_id}, layer {number} ({layer.limit:g} xs {layer.attachment:g}) attaches above the"
                f" largest loss there can be, {largest:.6g}: are limit and attachment interchanged?"
            )


def rate_of(deal: Deal, fx: Mapping[str, float] | None) -> float:
    """What one unit of the loss sets' currency is in that of `deal`. Raises ModelError naming one without a rate."""
    if fx is None:
        return 1.0
    if deal.currency not in fx:
        raise ModelError(f"deal {deal.deal_id}: no rate for {deal.currency}; fx has {', '.join(sorted(fx))}")
    if not 0 < fx[deal.currency] < np.inf:
        raise ModelError(f"deal {deal.deal_id}: the rate for {deal.currency} must be > 0; got {fx[deal.currency]}")
    return fx[deal.currency]


def pay(deal: Deal, subject: Yelt, *, by_event: bool = False) -> Recovered:
    """What the deal's layers pay, with premium 1 in place of theirs: it is what is to be found."""
    layers = tuple(replace(layer, premium=1.0) for layer in deal.layers)
    programme = Programme((deal.inuring, layers) if deal.inuring else (layers,))
    try:
        found = recover(programme, subject, by_event=by_event)
    except ModelError as e:
        raise ModelError(f"deal {deal.deal_id}: {e}") from e
    return replace(found, terms=found.terms[len(deal.inuring) :])


def _price(layer: Layer, paid: Paid, years: int, views: int, loads: Loads) -> LayerResult:
    el, sd = aal_sd(paid.loss, periods=years)
    factor = float(paid.reinst_premium.sum()) / years / layer.share
    premium = technical_premium(el, sd, factor, loads)
    oep, aep = (at_return_periods(x, STANDARD_RETURN_PERIODS, years) for x in (paid.occ_max, paid.loss))
    full = layer.share * layer.annual_limit * (1 - 1e-6)  # losses may have gone through single precision
    return LayerResult(
        limit=layer.limit,
        attachment=layer.attachment,
        share=layer.share,
        el=el,
        sd=sd,
        se=std_error(paid.year, paid.loss, years, views),
        attach_prob=int((paid.loss > 0).sum()) / years,
        exhaust_prob=int((paid.loss >= full).sum()) / years,
        tvar100=float(aep.tvar[STANDARD_RETURN_PERIODS.index(100.0)]),
        pml250=float(aep.loss[STANDARD_RETURN_PERIODS.index(250.0)]),
        reinst_factor=factor,
        premium=premium,
        rol=premium / (layer.share * layer.limit),
        oep=tuple(oep.loss.tolist()),
        oep_tail=tuple(oep.tvar.tolist()),
        aep=tuple(aep.loss.tolist()),
        aep_tail=tuple(aep.tvar.tolist()),
    )


def std_error(year: I8, loss: F8, years: int, views: int) -> float:
    """Standard error of the mean of annual losses: years are independent, the views of a year are not.

    `loss` f8[A] falls in 0-based `year` i8[A] of `years`, the views one after the other.
    """
    if views > 1:
        loss = np.bincount(year % (years // views), weights=loss) / views
    return aal_sd(loss, periods=years // views)[1] / float(np.sqrt(years // views))
