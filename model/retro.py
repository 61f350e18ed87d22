"""Retrocession: deals that cover what other deals leave. Which come first, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from model.errors import ModelError
from model.pricing import Deal


def in_order(deals: Sequence[Deal]) -> list[Deal]:
    """The deals, each behind those that it covers; else in their order.

    Raises ModelError naming the deals if an id stands twice, a deal covers one that is not there or that another
    covers already (so that no loss is recovered twice), or deals cover each other in a circle.
    """
    by_id: dict[int, Deal] = {}
    covered: dict[int, int] = {}
    for deal in deals:
        if deal.deal_id in by_id:
            raise ModelError(f"deal {deal.deal_id} is in the portfolio twice; give every deal an id of its own")
        by_id[deal.deal_id] = deal
    for deal in deals:
        for other in deal.covers:
            if other not in by_id:
                raise ModelError(f"deal {deal.deal_id} covers deal {other}, which is not in the portfolio")
            if other in covered:
                raise ModelError(
                    f"deals {covered[other]} and {deal.deal_id} both cover deal {other}, whose losses could be"
                    " recovered twice: let one of them cover the other"
                )
            covered[other] = deal.deal_id
    try:
        order = list(TopologicalSorter({deal.deal_id: deal.covers for deal in deals}).static_order())
    except CycleError as e:
        circle = " -> ".join(map(str, reversed(e.args[1])))
        raise ModelError(f"retrocession goes in a circle, each deal covering the next: {circle}") from e
    place = {deal_id: k for k, deal_id in enumerate(order)}
    depth: dict[int, int] = {}
    for deal_id in sorted(by_id, key=place.__getitem__):
        depth[deal_id] = 1 + max((depth[other] for other in by_id[deal_id].covers), default=-1)
    return sorted(deals, key=lambda deal: depth[deal.deal_id])
