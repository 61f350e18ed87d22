"""A name stands for one call: other inputs are refused under it, however alike they look."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest

import fnmap
from fnmap.errors import UsageError
from fnmap.storage.memory import MemoryStore

LONG = np.arange(5000)
OTHER = np.where(LONG == 2500, -1, LONG)  # is shown as LONG is


@pytest.fixture
def kept():
    with fnmap.Session(on="inline", store=MemoryStore()) as session:
        yield session


@dataclass(eq=False)
class Quiet:
    """Says nothing of what it is."""

    value: int

    def __repr__(self):
        return "Quiet"


def total(values, rate=1):
    return int(np.sum(values)) * rate


def show(*args, **kwargs):
    return f"{args} {sorted(kwargs.items())}"


def show_list(values):
    return str(values)


class Unknown:
    """Its content cannot be told but by its pickle."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return Unknown, (self.value,)

    def __repr__(self):
        return "Unknown"


@pytest.mark.parametrize(
    ("before", "now"),
    [(LONG, OTHER), (Quiet(1), Quiet(2)), ({"a": LONG}, {"a": OTHER}), (1, True), (1, 1.0), (Unknown(1), Unknown(2))],
    ids=str,
)
def test_other_items_are_refused_though_they_look_or_compare_alike(kept, before, now):
    kept.map(show, [0, before], name="n").wait()
    with pytest.raises(UsageError, match=r"name='n'.*item 1 .*choose another name"):
        kept.map(show, [0, now], name="n")


@pytest.mark.parametrize(
    "make",
    [LONG.copy, lambda: Quiet(1), lambda: Unknown(1), lambda: {"b", "a"}, lambda: float("nan"), lambda: len],
)
def test_the_same_items_made_anew_are_the_same(kept, make):
    kept.map(show, [make(), 7], kwargs={"more": make()}, name="n").wait()
    assert len(list(kept.map(show, [make(), 7], kwargs={"more": make()}, name="n"))) == 2


@pytest.mark.parametrize(
    ("before", "now"), [({"rate": 1}, {"rate": 5}), (None, {"rate": 1}), ({"rate": LONG}, {"rate": OTHER})], ids=str
)
def test_other_keywords_are_refused(kept, before, now):
    kept.map(show, [1, 2], kwargs=before, name="n").wait()
    with pytest.raises(UsageError, match=r"name='n'.*other keywords.*rate.*choose another name"):
        kept.map(show, [1, 2], kwargs=now, name="n")


def test_items_that_are_passed_in_another_way_are_refused(kept):
    kept.map(show, [(1, 2)], name="n").wait()
    with pytest.raises(UsageError, match="in another way"):
        kept.starmap(show, [(1, 2)], name="n")


def planned(*, source=0, item=LONG, more=1, by="xy", column=None, swap=False):
    """A plan that differs from another in one place."""
    with fnmap.plan("p") as p:
        firsts = [p.map(total, [item, item], name=name) for name in "ab"]
        taken = firsts[source] if column is None else firsts[source][column]
        order = [[5, 6], taken] if swap else [taken, [5, 6]]
        shown = p.map(show, *order, kwargs={"more": more}, name="shown")
        p.reduce(show_list, shown, by=list(by), name="last")
    return p


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": 1}, "stage 'shown' depends on other tasks"),
        ({"column": "x"}, "stage 'shown' has its arguments from elsewhere"),
        ({"swap": True}, "stage 'shown' has its arguments from elsewhere"),
        ({"item": OTHER}, "stage 'a' has other items: item 0"),
        ({"more": 2}, "stage 'shown' has other keywords: 'more' was 1, and is 2 now"),
        ({"by": "xz"}, "stage 'last' has groups by other items: item 1 was 'y', and is 'z' now"),
    ],
    ids=str,
)
def test_a_plan_with_other_inputs_is_refused(kept, change, said):
    first = kept.run_plan(planned(), name="n").result()
    assert kept.run_plan(planned(), name="n").result() == first
    with pytest.raises(UsageError, match=re.escape(said)):
        kept.run_plan(planned(**change), name="n")
