"""`fnmap.task`: a function that carries the options it is mapped with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from fnmap.compute.base import Compute
from fnmap.errors import NotCallable
from fnmap.options import MapOptions, Optioned, Options, StarOptions, TaskOptions, check_names, shows
from fnmap.run import Run
from fnmap.storage.base import Store

P = ParamSpec("P")
R = TypeVar("R")


class Task(Optioned, Generic[P, R]):
    """A function with its options. Called, it is the function; `map`, `starmap` and `submit` run it elsewhere,
    as do the verbs of fnmap and of a Session: with its options, unless the call says otherwise."""

    def __init__(self, fn: Callable[P, R], options: Mapping[str, Any]) -> None:
        if not callable(fn):
            raise NotCallable(f"task decorates a function; got {fn!r}")
        functools.update_wrapper(self, fn)
        if isinstance(fn, Optioned):
            fn, options = fn.fn, {**fn.options, **options}
        self.fn, self.options = fn, options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)  # type: ignore[no-any-return]

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Task[..., R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Task[..., R]:
        """In a class, it is a method: of an object, it is bound as its function would be."""
        bind = getattr(type(self.fn), "__get__", None)
        return self if bind is None else Task(bind(self.fn, instance, owner), self.options)

    @shows(Options)
    def map(
        self,
        *iterables: Iterable[Any],
        on: str | Compute | None = None,
        store: str | Path | Store | None = None,
        **options: Unpack[Options],
    ) -> Run:
        """`fnmap.map` of the function with its options, which these overrule."""
        from fnmap import api

        return api.map(self, *iterables, on=on, store=store, **options)

    @shows(StarOptions)
    def starmap(
        self,
        iterable: Iterable[Iterable[Any]],
        *,
        on: str | Compute | None = None,
        store: str | Path | Store | None = None,
        **options: Unpack[StarOptions],
    ) -> Run:
        """`fnmap.starmap` likewise."""
        from fnmap import api

        return api.starmap(self, iterable, on=on, store=store, **options)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """One call, as of `fnmap.submit`, with the `retries` and `timeout` of the options, in the session that
        they name."""
        from fnmap import api

        return api.submit(self, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Task, (self.fn, self.options)


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], Task[P, R]]: ...
@shows(TaskOptions)
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorate a function, or a method, with the options of `map` that it should always run with:
    `@fnmap.task(retries=2, timeout=60)`.

    They hold for its own `map`, `starmap` and `submit`, and wherever it is mapped or submitted; what the call
    says overrules them. Raises UsageError for an option that is unknown or wrong, where it is decorated.
    """
    check_names(TaskOptions, "task", options)
    MapOptions.check({name: value for name, value in options.items() if name not in ("on", "store")})
    return Task(fn, options) if fn is not None else lambda f: Task(f, options)
