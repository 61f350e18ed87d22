"""Which of several live stages gives the next chunk: by priority, then by fair share, then downstream first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from fnmap.planning.schedule import Chunk, Schedule


class Live(Protocol):
    """A stage as the board sees it."""

    @property
    def schedule(self) -> Schedule: ...


@dataclass(slots=True, eq=False)
class Party:
    """The stages of one run, which share its turn. `out`: its calls that are out."""

    priority: int = 0
    number: int = 0  # when it came
    out: int = 0
    stages: list[Any] = field(default_factory=list)

    def is_over(self) -> bool:
        """Will nothing more come of any of its stages?"""
        return all(stage.over for stage in self.stages)


class Board:
    """The live runs. The one of highest priority is asked first; among equals the one with the fewest calls out,
    and among those the one that was asked longest ago. Of a run, the last stage that has work: what is
    nearly done is finished before more is begun, so that less lies in between."""

    def __init__(self) -> None:
        self.parties: dict[int, Party] = {}
        self._count = 0

    def add(self, stages: list[Any], priority: int = 0) -> Party:
        """A run with these stages, in an order in which each comes after those that it depends on."""
        party = Party(priority, self._count, 0, list(reversed(stages)))
        self.parties[party.number] = party
        self._count += 1
        return party

    def remove(self, party: Party) -> None:
        self.parties.pop(party.number, None)

    def next(self, now: float, *, since: int = 0, within_s: float | None = None) -> tuple[Party, Any, Chunk] | None:
        """The next chunk to submit, of the runs that came at or after the one numbered `since`. `within_s`: of
        stages only whose tasks are known to take no longer."""
        for party in self._in_turn(since):
            for stage in party.stages:
                schedule = stage.schedule
                if within_s is not None and (schedule.task_s is None or schedule.task_s > within_s):
                    continue
                chunk = schedule.next(now)
                if chunk is not None:
                    party.out += 1
                    if len(self.parties) > 1:
                        self.parties[party.number] = self.parties.pop(party.number)  # the others come first now
                    return party, stage, chunk
        return None

    def stages(self) -> Iterator[Any]:
        """All stages of all runs."""
        for party in list(self.parties.values()):
            yield from party.stages

    def wake_at(self) -> float | None:
        """When to ask again, if nothing else happens."""
        times = [at for stage in self.stages() if (at := stage.schedule.wake_at()) is not None]
        return min(times, default=None)

    def _in_turn(self, since: int) -> list[Party]:
        parties = [p for p in self.parties.values() if p.number >= since]
        if len(parties) > 1:
            parties.sort(key=lambda p: (-p.priority, p.out))  # stable: who was asked longest ago comes first
        return parties
