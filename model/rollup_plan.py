"""A rollup as a plan: which task takes the results of which, and what each is expected to take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import fnmap
from fnmap import StageRef, TaskRef
from model import rollup_tasks as tasks
from model.book import Book
from model.errors import ModelError
from model.pricing import Deal, Loads, rate_of
from model.retro import in_order, sound_in_order


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a rollup: simulated years, views of each (independent samplings of its losses), and how deals are priced.

    A task that is expected to take longer than `task_s` is split by years.
    """

    years: int = 100_000
    views: int = 10
    seed: int = 1
    return_period: float = 100.0
    task_s: float = 0.5
    loads: Loads = field(default_factory=Loads)


class Costs(list[float]):
    """Seconds that the tasks of a stage are expected to take, in their order."""

    def __repr__(self) -> str:
        return f"<costs {id(self)}>"  # the options of a stage are compared by their repr


# Seconds on one core, reading and writing of results included: fixed, and for a million occurrences or claims.
LINE_S = (0.003, 0.085)
LOSSES_S = (0.003, 0.105)
DEAL_S = (0.004, 0.045)
RETRO_S = (0.005, 0.10)
ADD_S = (0.002, 0.035)
YEARS_S = (0.005, 0.026)
REPORT_S = (0.005, 0.045)
# And for a million years, of all views where a task takes them together.
VIEW_YEARS_S = 0.7
DEAL_YEARS_S = 0.055
TAIL_S = (0.001, 0.03)
CURVE_S = (0.002, 0.09)
CLAIMS = 0.15  # of a deal, as a share of the occurrences that it covers


def seconds(kind: tuple[float, float], rows: float) -> float:
    """What a task of this kind on so many rows is expected to take."""
    return kind[0] + kind[1] * rows / 1e6


@dataclass(eq=False)
class Rollup:
    """The plan of a rollup, and where in it is what one wants to see.

    `dimensions`: of each (dimension, value) the number that its curves have as SummaryId. `refused`: what is wrong with
    deals that were left out, by id. `seconds`: what tasks are expected to take, by stage.
    """

    plan: Any
    book: Book
    deals: list[Deal]
    summaries: dict[int, tuple[str, str]]
    refused: dict[int, str]
    seconds: dict[str, Any]


def rollup(book: Book, options: Options, *, errors: str = "raise", work: Sequence[float] | None = None) -> Rollup:
    """Plan the rollup of a portfolio.

    `errors`: "raise" what is wrong with a deal, or "return" it with a plan of the others. `work`: for each deal, how
    many times as long as expected its tasks take (for forecasts of heavier models).
    """
    return _Planner(book, options, errors, work).planned()


class _Planner:
    def __init__(self, book: Book, options: Options, errors: str, work: Sequence[float] | None) -> None:
        self.book, self.options, self.errors = book, options, errors
        self.plan: Any = fnmap.plan("rollup")
        self.refused: dict[int, str] = {}
        self.deals = self._sound()
        self.work = dict(zip((d.deal_id for d in book.deals), work or [1.0] * len(book.deals), strict=True))
        self.rows = {e: options.years * float(events.rate.sum()) for e, events in book.event_sets.items()}
        self.claims: dict[int, float] = {}  # expected, of a deal in one view
        self.parts: dict[int, list[tuple[int, int, TaskRef]]] = {}  # of a deal: view, first year, task
        self.costs: dict[str, Any] = {}

    def _sound(self) -> list[Deal]:
        """The deals that the book can price, each behind those that it covers."""
        if self.errors == "raise":
            for deal in self.book.deals:
                self._check(deal)
            return in_order(self.book.deals)
        kept, self.refused = sound_in_order(self.book.deals, self._check, self.book.refused)
        return kept

    def _check(self, deal: Deal) -> None:
        self.book.check(deal)
        self.book.check_units(deal)

    def planned(self) -> Rollup:
        # Those of a group stand together, as they read the same losses and are added up together.
        inward = sorted((deal for deal in self.deals if not deal.covers), key=self.book.group)
        self.deals = [*inward, *(deal for deal in self.deals if deal.covers)]
        if not inward:
            raise ModelError("there is no inward deal to roll up; " + "; ".join(self.refused.values()))
        lines, losses = self._simulate(inward)
        groups = self._price(inward, lines, losses)
        ceded = self._retro([deal for deal in self.deals if deal.covers])
        years = self._years(groups, ceded)
        self._report(years)
        summaries = self._curves(groups, years)  # last: the latest stage that can run goes first, and these are long
        return Rollup(self.plan, self.book, self.deals, summaries, self.refused, self.costs)

    def _simulate(self, inward: Sequence[Deal]) -> tuple[dict[int, TaskRef], dict[tuple[int, int], TaskRef]]:
        """The time line of each event set that is needed, and the losses of each loss set and view."""
        options, book = self.options, self.book
        used = sorted({loss_set for deal in inward for loss_set, _ in deal.subject})
        sets = sorted({book.loss_sets[n].event_set for n in used})
        cost = [seconds(LINE_S, self.rows[e]) for e in sets]
        drawn = self.plan.map(
            tasks.draw_line,
            [book.event_sets[e] for e in sets],
            kwargs={"years": options.years, "seed": options.seed},
            name="occurrences",
            cost=cost,
        )
        lines = self.plan.map(tasks.place_line, drawn, range(len(sets)), name="timelines", cost=0.001)
        costs, losses = Costs(), {}
        for view in range(options.views):
            for n in used:
                one = book.loss_sets[n]
                draw = tasks.Draw(book.event_sets[one.event_set], one.elt, n, view, options.seed)
                costs.append(seconds(LOSSES_S, self.rows[one.event_set]))
                losses[n, view] = self._add(tasks.draw_losses, "losses", costs, draw, drawn[sets.index(one.event_set)])
        self.costs |= {"occurrences": cost, "timelines": 0.001}
        return dict(zip(sets, lines, strict=True)), losses

    def _price(
        self, inward: Sequence[Deal], lines: dict[int, TaskRef], losses: dict[tuple[int, int], TaskRef]
    ) -> StageRef:
        """What each inward deal pays in each view, and each group of them."""
        book, costs, keys = self.book, Costs(), []
        for view in range(self.options.views):
            for deal in inward:
                sets = book.event_sets_of(deal)
                members = [[part for part in deal.subject if book.loss_sets[part[0]].event_set == e] for e in sets]
                shares = tuple(tuple(share for _, share in part) for part in members)
                inputs = [
                    ref
                    for e, part in zip(sets, members, strict=True)
                    for ref in (lines[e], *(losses[n, view] for n, _ in part))
                ]
                rows = sum(self.rows[e] for e in sets)
                self.claims[deal.deal_id] = CLAIMS * rows
                for first, last, cost in self._split(seconds(DEAL_S, rows) * self.work[deal.deal_id]):
                    job = tasks.Job(deal, view, rate_of(deal, book.fx), first, last, shares)
                    costs.append(cost)
                    task = self._add(tasks.price_years_of, "deals", costs, job, *inputs)
                    self.parts.setdefault(deal.deal_id, []).append((view, first, task))
                    keys.append((*book.group(deal), view))
        stage = task.whole
        groups: StageRef = self.plan.reduce(
            tasks.add_up_events, stage, by=keys, name="groups", on_upstream_error=self._skip
        )
        self._reduced("groups", len(inward) * self.options.views, sum(self.claims.values()) / len(inward))
        return groups

    def _split(self, expected_s: float) -> Iterator[tuple[int, int, float]]:
        """(first year, last year, seconds) of the tasks of a deal in one view."""
        years = self.options.years
        n = min(max(-int(-expected_s // self.options.task_s), 1), years)
        for k in range(n):
            yield k * years // n, (k + 1) * years // n, expected_s / n

    def _retro(self, retro: Sequence[Deal]) -> list[TaskRef]:
        """What all retrocessions pay, by view."""
        costs, keys, task = Costs(), [], None
        for deal in retro:
            self.claims[deal.deal_id] = rows = sum(self.claims[other] for other in deal.covers)
            for view in range(self.options.views):
                inputs = [ref for other in deal.covers for v, _, ref in self.parts[other] if v == view]
                job = tasks.Job(deal, view, rate_of(deal, self.book.fx), 0, self.options.years)
                costs.append(seconds(RETRO_S, rows) * self.work[deal.deal_id])
                task = self._add(tasks.retrocede, "retro", costs, job, *inputs)
                self.parts.setdefault(deal.deal_id, []).append((view, 0, task))
                keys.append(view)
        if task is None:
            return []
        stage = task.whole
        ceded: StageRef = self.plan.reduce(
            tasks.add_up_events, stage, by=keys, name="ceded", on_upstream_error=self._skip
        )
        self._reduced("ceded", len(keys), sum(self.claims[d.deal_id] for d in retro) / len(retro))
        return list(ceded)

    def _years(self, groups: StageRef, ceded: Sequence[TaskRef]) -> StageRef:
        """The years of each peril, region and line, and of the portfolio."""
        views, costs = range(self.options.views), Costs()
        members: dict[int, list[tuple[tuple[str, ...], TaskRef]]] = {view: [] for view in views}
        for key, ref in zip(groups.keys or (), groups, strict=True):
            members[key[3]].append((key[:3], ref))
        rows = sum(self.claims[deal.deal_id] for deal in self.deals)
        for view in views:
            costs.append(seconds(YEARS_S, rows) + VIEW_YEARS_S * self.options.years / 1e6)
            names = tuple(key for key, _ in members[view])
            inputs = [ref for _, ref in members[view]]
            task = self._add(
                tasks.view_years, "years", costs, self.options.years, names, *inputs, *ceded[view : view + 1]
            )
        return task.whole

    def _curves(self, groups: StageRef, years: StageRef) -> dict[int, tuple[str, str]]:
        """The curves of each peril, region and line, and of the portfolio; their numbers."""
        pairs = sorted({(d, key[k]) for key in groups.keys or () for k, d in enumerate(tasks.DIMENSIONS)})
        pairs += [("portfolio", which) for which in ("gross", "ceded", "net")]
        summaries = dict(enumerate(pairs, 1))
        for dimension in (*tasks.DIMENSIONS, "portfolio"):
            mine = [(n, tasks.column(*pair)) for n, pair in summaries.items() if pair[0] == dimension]
            chosen = [f"{what} {name}" for _, name in mine for what in ("largest", "sum")]
            cost = len(mine) * seconds(CURVE_S, self.options.years * self.options.views)
            self.plan.gather(
                tasks.curves, years[chosen], kwargs={"summaries": mine}, name=f"curves by {dimension}", cost=cost
            )
            self.costs[f"curves by {dimension}"] = cost
        return summaries

    def _report(self, years: StageRef) -> None:
        """Capital, and each deal's part in it."""
        options, costs = self.options, Costs()
        net = years[f"sum {tasks.column('portfolio', 'net')}"]
        periods = options.years * options.views
        cost = seconds(TAIL_S, periods)
        tail = self.plan.gather(
            tasks.find_tail, net, kwargs={"return_period": options.return_period}, name="tail", cost=cost
        )
        self.costs["tail"] = cost
        for deal in self.deals:
            parts = self.parts[deal.deal_id]
            firsts = tuple(view * options.years for view, _, _ in parts)
            asked = tasks.Asked(deal, rate_of(deal, self.book.fx), options.years, options.views, firsts, options.loads)
            costs.append(seconds(REPORT_S, self.claims[deal.deal_id] * options.views) + DEAL_YEARS_S * periods / 1e6)
            self._add(tasks.report, "reports", costs, asked, tail[0], *(ref for _, _, ref in parts))

    @property
    def _skip(self) -> Any:
        """What to do where an input failed: go on without it, if errors are to be returned."""
        return "fail" if self.errors == "raise" else "skip"

    def _add(self, fn: Any, name: str, costs: Costs, *args: Any) -> TaskRef:
        self.costs[name] = costs
        task: TaskRef = self.plan.add_with({"name": name, "cost": costs}, fn, *args)
        return task

    def _reduced(self, name: str, tasks_below: int, rows: float) -> None:
        """Seconds for the stages of a reduction of so many tasks of so many rows."""
        mine = [s for s in self.plan.stages if s.name == name or s.name.startswith(f"{name}.")]
        for stage in mine:
            self.costs[stage.name] = seconds(ADD_S, rows * tasks_below / stage.count)
