"""The parameters of a task as a planner writes them: JSON text, or a dict or list that columns gave.

An object is the function's keywords, a list its positional arguments; an object with the key "$args", a list, has both.
{"$task": id} stands for the result of another task, at any depth. The results of a task are in the order in which
they are referred to, so that whoever fills them in needs no ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

TASK, ARGS, INPUTS = "$task", "$args", "inputs"


def parse(given: Any) -> Any:
    """The dict or list. Raises ValueError for text that is no JSON, or JSON of anything else."""
    value = json.loads(given) if isinstance(given, str) else given
    if isinstance(value, list) or (isinstance(value, dict) and isinstance(value.get(ARGS, []), list)):
        return value
    raise ValueError(f"an object or a list is needed, and {ARGS!r} in an object must be a list; got {value!r}")


def may_refer(given: Any) -> bool:
    """Could there be references? Nearly free for text, which need not be parsed then."""
    return not isinstance(given, str) or TASK in given


def is_reference(value: dict[str, Any]) -> bool:
    return len(value) == 1 and TASK in value


def references(value: Any) -> Iterator[Any]:
    """The ids that are referred to, in their order."""
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)
    elif isinstance(value, dict):
        if is_reference(value):
            yield value[TASK]
        else:
            for inner in value.values():
                yield from references(inner)


def arguments(given: Any, results: Iterator[Any], *, listed: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with results in the place of references. With `listed`, what refers to none gets all results as
    the keyword `inputs`."""
    value = parse(given)
    if may_refer(given) and next(references(value), value) is not value:
        value = _filled(value, results)
    elif listed:
        args, kwargs = _split(value)
        return args, {**kwargs, INPUTS: list(results)}
    return _split(value)


def _split(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(value, list):
        return tuple(value), {}
    return tuple(value.get(ARGS, ())), {name: inner for name, inner in value.items() if name != ARGS}


def _filled(value: Any, results: Iterator[Any]) -> Any:
    if isinstance(value, list):
        return [_filled(inner, results) for inner in value]
    if not isinstance(value, dict):
        return value
    if is_reference(value):
        return next(results)
    return {name: _filled(inner, results) for name, inner in value.items()}
