"""How many environments there are: taken, given back, started no faster than allowed, refused with 429."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

from fnmap.testing.aws.errors import invalid, not_found, throttled
from fnmap.testing.aws.functions import Config
from fnmap.testing.aws.invocation import Invocation, Outcome
from fnmap.testing.aws.settings import Settings

NAME = re.compile(r"(?:arn:aws:lambda:[^:]+:\d+:function:|(?:\d+:)?(?:function:)?)([^:]+)(?::([^:]+))?")


class Environment(Protocol):
    """Runs the invocations of one function, one at a time."""

    number: int
    config: Config
    dead: bool
    busy: bool

    @property
    def pid(self) -> int | None:
        """The process, if it is one."""

    async def run(self, invocation: Invocation) -> Outcome:
        """One invocation."""

    def freeze(self) -> None:
        """It is idle from now on."""

    def watch_memory(self) -> None:
        """Kill it if it has too much."""

    def kill(self) -> None:
        """As if it had crashed."""

    def close(self) -> None:
        """End it."""


class Account:
    """All fleets, and what they share."""

    def __init__(self, settings: Settings, build: Callable[[int, Config], Environment]) -> None:
        self.settings, self.build = settings, build
        self.fleets: dict[str, Fleet] = {}
        self.environments: dict[int, Environment] = {}
        self.counts: Counter[str] = Counter()
        self.numbers = itertools.count(1)

    def named(self, name: str, qualifier: str = "$LATEST") -> Fleet:
        """The function that a name, or a whole or part of an ARN, says."""
        found = NAME.fullmatch(name)
        qualifier = (found and found[2]) or qualifier
        if not found or found[1] not in self.fleets or qualifier != "$LATEST":
            arn = self.settings.arn(found[1] if found else name)
            raise not_found(arn if qualifier == "$LATEST" else f"{arn}:{qualifier}")
        return self.fleets[found[1]]

    def unreserved(self, without: Fleet | None = None) -> int:
        """Concurrency that no function (but that one) has reserved."""
        taken = sum(fleet.reserved or 0 for fleet in self.fleets.values() if fleet is not without)
        return self.settings.concurrency - taken

    def admit(self, fleet: Fleet) -> None:
        """Refuse with 429 where too many are busy."""
        if fleet.reserved is not None:
            if fleet.busy >= fleet.reserved:
                raise throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
            return
        busy = sum(other.busy for other in self.fleets.values() if other.reserved is None)
        if busy >= self.unreserved():
            raise throttled("ConcurrentInvocationLimitExceeded")

    def watch_memory(self) -> None:
        """Look at all that are busy."""
        for environment in [*self.environments.values()]:
            if environment.busy:
                environment.watch_memory()

    def reap(self) -> None:
        """End what was idle for too long."""
        for fleet in self.fleets.values():
            fleet.reap(time.monotonic() - self.settings.idle_s)

    def close(self) -> None:
        """End all."""
        for environment in [*self.environments.values()]:
            environment.close()


class Fleet:
    """The environments of one function."""

    def __init__(self, account: Account, config: Config) -> None:
        self.account, self.config = account, config
        self.reserved: int | None = None
        self.event_config: dict[str, Any] | None = None
        self.tags: dict[str, str] = {}
        self.logs: deque[bytes] = deque(maxlen=1000)
        self.busy = 0
        self._idle: list[tuple[float, Environment]] = []
        self._bucket, self._filled = float(account.settings.ramp), time.monotonic()

    def reserve(self, concurrency: int | None) -> None:
        """Set or lift the function's own limit."""
        settings = self.account.settings
        if concurrency is not None and self.account.unreserved(self) - concurrency < settings.unreserved_minimum:
            raise invalid(
                "Specified ReservedConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{settings.unreserved_minimum}]."
            )
        self.reserved = concurrency

    async def invoke(self, event: bytes, request_id: str, client_context: str | None = None) -> Outcome:
        """One invocation in an environment, or Refused."""
        environment = self._take()
        trace_id = f"Root=1-{int(time.time()):08x}-{request_id.replace('-', '')[:24]};Sampled=0"
        outcome: Outcome | None = None
        try:
            outcome = await environment.run(Invocation(request_id, event, client_context, trace_id))
        finally:
            self._give_back(environment, whole=outcome is not None)
        self.account.counts["errors"] += outcome.failed
        self.logs.append(outcome.log)
        return outcome

    def change(self, config: Config) -> None:
        """From now on there are only environments of this state; those that are busy finish."""
        self.config = config
        self.retire()

    def retire(self) -> None:
        """End the idle ones."""
        self.reap(float("inf"))

    def reap(self, before: float) -> None:
        """End those that are idle since then."""
        kept = [(since, e) for since, e in self._idle if since >= before and not e.dead]
        gone = [e for since, e in self._idle if since < before or e.dead]
        self._idle = kept
        for environment in gone:
            self._end(environment)

    def _take(self) -> Environment:
        counts = self.account.counts
        try:
            self.account.admit(self)
            environment = self._warm() or self._cold()
        except Exception:
            counts["throttled"] += 1
            raise
        environment.busy = True
        self.busy += 1
        counts["invocations"] += 1
        counts["peak"] = max(counts["peak"], self.busy)
        return environment

    def _warm(self) -> Environment | None:
        while self._idle:
            _, environment = self._idle.pop()  # the last one first, so that the others grow old
            if not environment.dead:
                return environment
            self._end(environment)
        return None

    def _cold(self) -> Environment:
        settings, now = self.account.settings, time.monotonic()
        self._bucket += (now - self._filled) * settings.ramp / settings.ramp_s
        self._bucket, self._filled = min(self._bucket, float(settings.ramp)), now
        if self._bucket < 1:
            raise throttled("ConcurrentInvocationLimitExceeded")
        self._bucket -= 1
        environment = self.account.build(next(self.account.numbers), self.config)
        self.account.environments[environment.number] = environment
        self.account.counts["cold_starts"] += 1
        return environment

    def _give_back(self, environment: Environment, *, whole: bool) -> None:
        self.busy -= 1
        environment.busy = False
        deleted = self.account.fleets.get(self.config.name) is not self
        if not whole or deleted or environment.dead or environment.config is not self.config:
            self._end(environment)
            return
        environment.freeze()
        self._idle.append((time.monotonic(), environment))

    def _end(self, environment: Environment) -> None:
        self.account.environments.pop(environment.number, None)
        environment.close()


def new_id() -> str:
    """A request id."""
    return str(uuid.uuid4())


async def every(seconds: float, act: Callable[[], None]) -> None:
    """Do something again and again, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        act()
