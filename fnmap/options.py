"""The options of a map: what may be said, what it must be, and one frozen record of it.

A new option is an entry in a TypedDict (what users may pass), a field of MapOptions (what the rest of fnmap
reads) and, if it can be wrong, a check.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from operator import index
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from fnmap.errors import UsageError
from fnmap.format.keys import check_name
from fnmap.planning.policy import ChunkPolicy, Retry, Tolerate
from fnmap.planning.schedule import Schedule
from fnmap.planning.spread import MOST_DIGITS

if TYPE_CHECKING:
    from pathlib import Path

    from fnmap.compute.base import Compute, Limits
    from fnmap.ledger import Errors
    from fnmap.observe.events import Listener
    from fnmap.storage.base import Store

F = TypeVar("F", bound=Callable[..., Any])


class CallOptions(TypedDict, total=False):
    """What `submit` heeds of the options of a task."""

    retries: int | Retry | None
    timeout: float | None


class StageOptions(CallOptions, total=False):
    """What a stage of a plan takes; `Plan.map` says what each is for."""

    chunksize: int | Literal["auto"]
    cost: Callable[..., float] | Iterable[float] | float | None
    limit: int | None
    idempotent: bool | None
    cache: bool | str
    on_upstream_error: Literal["fail", "skip", "pass"]


class ReduceOptions(CallOptions, total=False):
    """What `map_reduce` takes, as of `map`."""

    kwargs: Mapping[str, Any] | None
    errors: Errors
    chunksize: int | Literal["auto"]
    buffersize: int | None
    cost: Callable[..., float] | Iterable[float] | float | None
    limit: int | None
    idempotent: bool | None
    cache: bool | str
    priority: int
    results: Literal["pickle", "arrow"] | None
    progress: bool | None


class StarOptions(ReduceOptions, total=False):
    """What `starmap` takes, as of `map`."""

    ordered: bool
    name: str | None


class Options(StarOptions, total=False):
    """What `map` takes; its docstring says what each is for."""

    strict: bool


class TaskOptions(ReduceOptions, total=False):
    """What `task` takes: what a function may always want, but for the name of a run."""

    ordered: bool
    strict: bool
    on: str | Compute | None
    store: str | Path | Store | None


@dataclass(frozen=True, slots=True)
class MapOptions:
    """The options of one map, checked. The defaults are those that users are shown."""

    kwargs: Mapping[str, Any] | None = None
    ordered: bool = True
    errors: Errors = "raise"
    retries: Retry | None = None
    timeout: float | None = None
    chunksize: int | Literal["auto"] = "auto"
    buffersize: int | None = None
    strict: bool = True
    cost: Any = None
    limit: int | None = None
    idempotent: bool | None = None
    on_upstream_error: Literal["fail", "skip", "pass"] = "fail"
    priority: int = 0
    cache: bool | str = False
    name: str | None = None
    results: Literal["pickle", "arrow"] | None = None
    progress: bool | None = None

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> MapOptions:
        """The record of these options, whose names are known. Raises UsageError for a value that is wrong."""
        if not options:
            return DEFAULTS
        checked = {n: value if (check := _CHECKS.get(n)) is None else check(value) for n, value in options.items()}
        return cls(**checked)

    @property
    def retry(self) -> Retry:
        """How often, and when, a task that raised is tried again."""
        return self.retries or NO_RETRY

    def chunks(self, target_s: float) -> ChunkPolicy:
        """How many tasks travel together, for a compute whose calls should take `target_s`."""
        if self.chunksize != "auto":
            return ChunkPolicy(fixed=self.chunksize)
        return ChunkPolicy(target_s=target_s) if target_s > 0 else ChunkPolicy(fixed=1)

    def schedule(self, limits: Limits, costs: Sequence[float] | None) -> Schedule:
        """The schedule of a stage with these options on a compute with these limits."""
        return Schedule(
            slots=limits.slots,
            chunks=self.chunks(limits.chunk_s),
            retry=self.retry,
            costs=costs,
            limit=self.limit,
            backups=limits.backups if self.idempotent is None else self.idempotent,
        )


class SessionOptions(TypedDict, total=False):
    """What `Session`, `use` and `Executor` take besides `on` and `store`."""

    workers: int | None
    progress: bool | None
    listeners: tuple[Listener, ...]
    results: Literal["pickle", "arrow"] | None
    spread: int | None


DEFAULTS, NO_RETRY = MapOptions(), Retry(0)
_SHOWN = (
    {name: getattr(DEFAULTS, name) for name in Options.__optional_keys__ | StageOptions.__optional_keys__}
    | dict.fromkeys(("on", "store", "workers", "spread"))
    | {"listeners": ()}
)


class Optioned:
    """A function with options of its own, which hold wherever it is mapped, unless the call says otherwise."""

    fn: Callable[..., Any]
    options: Mapping[str, Any]


def resolve(kind: Any, verb: str, fn: Any, options: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """The function itself, and the options of `kind` to map it with: its own, and over them those of the call."""
    check_names(kind, verb, options)
    if not isinstance(fn, Optioned):
        return fn, options
    own = {name: value for name, value in fn.options.items() if name in kind.__optional_keys__}
    return fn.fn, {**own, **options}


def check_names(kind: Any, verb: str, options: Mapping[str, Any], *more: str) -> None:
    """Raise UsageError if there are options which are neither in `kind`, a TypedDict, nor in `more`."""
    known = kind.__optional_keys__
    if not options.keys() <= known and (unknown := options.keys() - known - {*more}):
        raise UsageError(f"{verb} does not take {sorted(unknown)}; it takes {', '.join(sorted({*known, *more}))}")


def shows(kind: Any) -> Callable[[F], F]:
    """Decorate a function that takes `**options` of `kind`: help() and notebooks show them one by one."""

    def decorate(fn: F) -> F:
        signature = inspect.signature(fn)
        before = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=_SHOWN[n], annotation=hint.__forward_arg__)
            for n, hint in kind.__annotations__.items()
        ]
        fn.__signature__ = signature.replace(parameters=[*before, *options])  # type: ignore[attr-defined]
        return fn

    return decorate


# -- what each must be ---------------------------------------------------------------------------------


def count(value: Any, least: int, must: str) -> int:
    """An int, or what stands for one as those of numpy do; True and False do not. `must`: what to say else."""
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise UsageError(f"{must}; got {value!r}")
    return number


def check_retries(retries: Any) -> Retry | None:
    if retries is None:
        return None
    if not isinstance(retries, Retry):
        return Retry(count(retries, 0, RETRIES))
    on = retries.on if isinstance(retries.on, tuple) else (retries.on,)
    if not all(isinstance(t, type) and issubclass(t, BaseException) for t in on):
        raise UsageError(f"retries=Retry(on=...) must be exception types; got {retries.on!r}")
    factor: Any = retries.memory_factor
    if factor is not None and not (isinstance(factor, Real) and 1 <= float(factor) <= MEMORY_FACTOR_MOST):
        raise UsageError(f"retries=Retry(memory_factor=...) must be 1 to {MEMORY_FACTOR_MOST}; got {factor!r}")
    return replace(retries, retries=count(retries.retries, 0, RETRIES), on=on)


RETRIES = "retries must be an int >= 0, or Retry(...)"
MEMORY_FACTOR_MOST = 1000


def check_errors(errors: Any) -> Any:
    if isinstance(errors, Tolerate):
        share: Any = errors.share
        if not isinstance(share, Real) or not 0 <= float(share) <= 1:
            raise UsageError(f"errors=Tolerate(share): share must be in 0..1; got {share!r}")
    elif errors not in ("raise", "return", "skip"):
        raise UsageError(f'errors must be "raise", "return", "skip" or Tolerate(share); got {errors!r}')
    return errors


def check_timeout(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float, Real)) or isinstance(timeout, bool) or not float(timeout) > 0:
        raise UsageError(f"timeout must be seconds > 0 for one task, or None; got {timeout!r}")
    return None if timeout == float("inf") else float(timeout)


def check_chunksize(chunksize: Any) -> int | Literal["auto"]:
    if isinstance(chunksize, str) and chunksize == "auto":
        return "auto"
    return count(chunksize, 1, "chunksize must be 'auto' or an int >= 1")


def check_kwargs(kwargs: Any) -> Mapping[str, Any] | None:
    if kwargs is not None and (not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs)):
        raise UsageError(f"kwargs must be a dict of keywords for the function; got {kwargs!r}")
    return kwargs


def check_cost(cost: Any) -> Any:
    if cost is None or callable(cost) or isinstance(cost, Iterable) or (isinstance(cost, Real) and float(cost) >= 0):
        return cost
    raise UsageError(f"cost must be a number >= 0, one for each item, or a function of the item; got {cost!r}")


def check_idempotent(idempotent: Any) -> bool | None:
    if idempotent is None or isinstance(idempotent, bool):
        return idempotent
    raise UsageError(f"idempotent must be True, False or None; got {idempotent!r}")


def check_cache(cache: Any) -> bool | str:
    if isinstance(cache, bool) or (isinstance(cache, str) and cache):
        return cache
    raise UsageError(f"cache must be True, False, or a text that is the version of the function; got {cache!r}")


def check_upstream(rule: Any) -> Any:
    if rule not in ("fail", "skip", "pass"):
        raise UsageError(f'on_upstream_error must be "fail", "skip" or "pass"; got {rule!r}')
    return rule


def check_results(results: Any) -> Any:
    if results not in (None, "pickle", "arrow"):
        raise UsageError(f'results must be "pickle" or "arrow"; got {results!r}')
    return results


def check_spread(spread: Any) -> int | None:
    must = f"spread must be None or an int from 1 to {MOST_DIGITS}: hex digits over which keys of parts are spread"
    digits = None if spread is None else count(spread, 1, must)
    if digits is not None and digits > MOST_DIGITS:
        raise UsageError(f"{must}; got {spread!r}")
    return digits


def check_priority(priority: Any) -> int:
    return count(priority, -(10**9), "priority must be an int; the higher goes first")


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "kwargs": check_kwargs,
    "errors": check_errors,
    "retries": check_retries,
    "timeout": check_timeout,
    "chunksize": check_chunksize,
    "buffersize": lambda size: None if size is None else count(size, 1, "buffersize must be an int >= 1, or None"),
    "cost": check_cost,
    "limit": lambda limit: None if limit is None else count(limit, 1, "limit must be an int >= 1: calls at once"),
    "idempotent": check_idempotent,
    "on_upstream_error": check_upstream,
    "priority": check_priority,
    "cache": check_cache,
    "results": check_results,
    "name": lambda name: None if name is None else check_name(name),
}
