"""A command line with `{names}` in it: its words, and what each becomes for one item."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Number
from os import PathLike
from pathlib import Path
from string import Formatter
from typing import Any

from fnmap.errors import UsageError
from fnmap.inputs.stored import Stored

_BYTES = (bytes, bytearray, memoryview)


@dataclass(frozen=True)
class FileName:
    """A file of the scratch directory: in a word, its name, with what is behind the colon as its suffix."""

    name: str

    def __format__(self, suffix: str) -> str:
        return self.name + suffix


def split(template: str) -> list[str]:
    """The words of a command line, quoted as for a shell. No shell runs."""
    if not isinstance(template, str):
        raise UsageError(f"a command is a text such as './wind {{track}} {{out}}'; got {template!r}")
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise UsageError(f"command {template!r}: {error}") from error
    if not words:
        raise UsageError("a command needs a program: its template is empty")
    return words


def fields(texts: Iterable[str], what: str) -> dict[str, list[str]]:
    """The names in these texts, in their order, with all that stands behind the colons of each."""
    found: dict[str, list[str]] = {}
    for text in texts:
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise UsageError(f"{what} {text!r}: {error}; a brace that is meant is written twice") from error
        for _, name, spec, conversion in parts:
            if name is None:
                continue
            if not name.isidentifier() or conversion:
                raise UsageError(f"{what} {text!r}: {{{name}}} must be a plain name, such as {{track}} or {{n:03d}}")
            if (spec or "") not in found.setdefault(name, []):
                found[name].append(spec or "")
    return found


def file_name(name: str, suffixes: list[str]) -> str:
    """What the file of this name is called. Raises UsageError if the words do not agree."""
    if len(suffixes) > 1:
        raise UsageError(f"the file {{{name}}} stands there with the suffixes {suffixes}; it can have one")
    return name + "".join(suffixes)


def render(text: str, values: Mapping[str, Any]) -> str:
    """The text for these values. Raises UsageError for a value that does not fit what is behind the colon."""
    try:
        return Formatter().vformat(text, (), values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{text!r} cannot be filled in: {error}") from error


def as_word(name: str, value: Any) -> Any:
    """What stands for a value in a word. Raises UsageError for what no program can take."""
    if isinstance(value, (*_BYTES, Stored)):
        return FileName(name)
    if isinstance(value, PathLike):
        return str(Path(value).absolute())  # the program runs elsewhere
    if isinstance(value, (str, Number)):
        return value
    raise UsageError(
        f"argument {name!r} is a {type(value).__qualname__}: a program takes a text, a number, a path, or bytes and"
        " Stored as files"
    )


def bind(names: Iterable[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name: a mapping is taken as names and values, others go to the names in their order."""
    names, given = list(names), dict(kwargs)
    free = [name for name in names if name not in given]
    if len(args) == 1 and isinstance(args[0], Mapping):
        pairs = list(args[0].items())
    elif len(args) > len(free):
        raise UsageError(f"the command has {len(free)} arguments to fill in, {free}, and got {len(args)} values")
    else:
        pairs = list(zip(free, args, strict=False))
    for name, value in pairs:
        if name in given:
            raise UsageError(f"argument {name!r} is there twice")
        given[name] = value
    missing, unknown = [n for n in names if n not in given], [n for n in given if n not in names]
    if missing or unknown:
        lacks = f"lacks {missing}" if missing else f"does not know {unknown}"
        raise UsageError(f"the command {lacks}: its arguments are {names}")
    return {name: given[name] for name in names}
