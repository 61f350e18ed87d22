"""A compute by its name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fnmap.compute.base import Compute
from fnmap.errors import UsageError

_OWN = {
    "inline": "fnmap.compute.inline:InlineCompute",
    "lambda": "fnmap.compute.aws_lambda:LambdaCompute",
    "lithops": "fnmap.compute.lithops:LithopsCompute",
    "local": "fnmap.compute.local:LocalCompute",
}
GROUP = "fnmap.computes"


def open_compute(on: str | Compute, **options: Any) -> Compute:
    """The compute `on`: one of ours, one that a package registers under the entry point group
    "fnmap.computes", or an object that is a Compute already. `options` go to its constructor."""
    if not isinstance(on, str):
        if isinstance(on, Compute):
            return on
        raise UsageError(f"on must be the name of a compute or an object with submit, close and limits; got {on!r}")
    if on in _OWN:
        module, _, name = _OWN[on].partition(":")
        factory = getattr(import_module(module), name)
    else:
        from importlib.metadata import entry_points

        plugins = {e.name: e for e in entry_points(group=GROUP)}
        if on not in plugins:
            raise UsageError(f"on must be one of {', '.join(sorted([*_OWN, *plugins]))}; got {on!r}")
        factory = plugins[on].load()
    try:
        compute: Compute = factory(**options)
    except TypeError as error:
        raise UsageError(f"on={on!r} does not take the options {sorted(options)}: {error}") from error
    return compute
