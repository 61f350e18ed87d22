"""Every benchmark runs, keeps its rows, and notices a wrong answer."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import ROOT
from benchmarks.model_pricing import Model
from benchmarks.peers import Fnmap, System
from benchmarks.plan_scale import Plan
from benchmarks.question import WrongAnswer
from benchmarks.resume import ResumedMap
from benchmarks.rollup import Rollup
from benchmarks.table import QUESTIONS, load

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="CPU and memory of trees of processes are read in /proc"
)


class Inline(System):
    """Calls in this very process."""

    name = "inline"

    def map(self, fn, items):
        return [fn(item) for item in items]

    def call(self, fn, item):
        return fn(item)


class Wrong(Inline):
    """As fast as it is wrong: the first result is that of the last item."""

    name = "wrong"

    def map(self, fn, items):
        right = super().map(fn, items)
        return [right[-1], *right[1:]]

    def call(self, fn, item):
        return self.map(fn, [item, item[1:] if isinstance(item, bytes) else item + 1])[0]


class WrongFnmap(Fnmap):
    """A run in which results have changed places."""

    def map_each(self, fn, items):
        return super().map_each(fn, items)[::-1]


class ForgetfulPlan(Plan):
    """A plan that is not told what its last stage waits for."""

    tasks = 1000

    def settle(self, flow, stage, tasks):
        if stage == 0:
            super().settle(flow, stage, tasks)


class Mixed(ResumedMap):
    """A run that was taken up in the wrong place."""

    def results(self, run):
        return super().results(run)[::-1]


class Dearer(Model):
    """A deal with a layer too few."""

    def asked(self, path, deal, yelt):
        return super().asked(path, replace(deal, layers=deal.layers[1:]), yelt)


class Swapped(Rollup):
    """Deals with the prices of others."""

    def reports(self, run):
        return super().reports(run)[::-1]


def measured(system, question):
    figures = {}
    for part in question.parts:
        for some in question.measure(system, **{**question.toy, **part.params}):
            figures |= some
    return figures


OFTEN = ("noop_map", "plan_scale", "resume", "lambda_call")  # of each kind one: `scripts/bench --toy` runs them all


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in QUESTIONS]
)
def test_a_toy_run_keeps_a_row_for_each_system(name, tmp_path):
    systems = load(name).toy_systems
    command = [sys.executable, "-m", f"benchmarks.{name}", "--toy", "--results", str(tmp_path)]
    command += ["--systems", ",".join(systems)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    assert [row["system"] for row in rows] == list(systems)
    assert not any(row["error"] for row in rows)
    numbers = [value for row in rows for value in row["metrics"].values()]
    assert numbers
    assert not any(isinstance(value, str) for value in numbers), ended.stdout
    assert all(row["versions"]["fnmap"] and row["python"] and row["cores"] for row in rows)


OWN = ("killed_worker", "plan_scale", "resume", "forecast", "model_pricing", "rollup")  # of systems of their own


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name not in OWN])
def test_a_wrong_answer_is_noticed(name):
    with pytest.raises(WrongAnswer):
        measured(Wrong(1), load(name))


def test_results_in_the_wrong_place_are_noticed_when_a_worker_was_killed():
    with pytest.raises(WrongAnswer):
        measured(WrongFnmap(2), load("killed_worker"))


def test_a_plan_of_which_some_is_left_is_noticed():
    with pytest.raises(WrongAnswer):
        measured(ForgetfulPlan(1), load("plan_scale"))


def test_results_in_the_wrong_place_are_noticed_when_the_driver_was_killed():
    with pytest.raises(WrongAnswer):
        measured(Mixed(2), load("resume"))


def test_another_price_is_noticed():
    with pytest.raises(WrongAnswer):
        measured(Dearer(1), load("model_pricing"))


def test_prices_of_other_deals_are_noticed():
    with pytest.raises(WrongAnswer):
        measured(Swapped(1), load("rollup"))
