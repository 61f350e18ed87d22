"""`fnmap.task`: a function that carries the options it is mapped with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Generic, ParamSpec, TypeVar, overload

from fnmap.errors import NotCallable, UsageError
from fnmap.run import Run

P = ParamSpec("P")
R = TypeVar("R")

OPTIONS = frozenset(
    "kwargs ordered errors retries timeout chunksize buffersize strict cost on store progress".split()  # noqa: SIM905
)


class Task(Generic[P, R]):
    """A function with its options. Called, it is the function; `map`, `starmap` and `submit` run it elsewhere."""

    def __init__(self, fn: Callable[P, R], options: dict[str, Any]) -> None:
        if not callable(fn):
            raise NotCallable(f"task decorates a function; got {fn!r}")
        functools.update_wrapper(self, fn)
        self.fn, self.options = fn, options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)

    def map(self, *iterables: Iterable[Any], **options: Any) -> Run:
        """`fnmap.map` of the function with its options, which `options` overrule."""
        from fnmap import api

        return api.map(self.fn, *iterables, **{**self.options, **options})

    def starmap(self, iterable: Iterable[Iterable[Any]], **options: Any) -> Run:
        """`fnmap.starmap` likewise."""
        from fnmap import api

        kept = {k: v for k, v in self.options.items() if k != "strict"}
        return api.starmap(self.fn, iterable, **{**kept, **options})

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """One call in the session that the options name."""
        from fnmap import api

        session = api.session_for(self.options.get("on"), self.options.get("store"))
        return session.submit(self.fn, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Task, (self.fn, self.options)


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorate a function with the options of `map` that it should always run with:
    `@fnmap.task(retries=2, timeout=60)`. Options that are unknown raise UsageError."""
    if unknown := options.keys() - OPTIONS:
        raise UsageError(f"task does not take {sorted(unknown)}; it takes {', '.join(sorted(OPTIONS))}")
    return Task(fn, options) if fn is not None else lambda f: Task(f, options)
