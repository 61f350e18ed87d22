"""The modules that each call of a function imports: those that are certain, and no others."""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from fnmap.format.needs import needed


def needs(fn):
    return set(needed(fn))


def plain(x):
    import scipy.stats

    return scipy.stats.norm(x)


def named(x):
    from yaml import safe_load as load

    return load(x)


def checked(x):
    if x < 0:
        raise ValueError(x)
    from yaml import safe_load

    return safe_load(x)


class Model:
    def __init__(self, x):
        import yaml

        self.x = yaml.load(x)

    def __call__(self, y):
        import yaml

        return self.price(yaml.load(y))

    def price(self, y):
        import scipy

        return scipy.price(y)

    def plot(self):
        import matplotlib

        return matplotlib.draw(self.x)


NEEDS = [
    (plain, {"scipy.stats"}),
    (named, {"yaml"}),
    (checked, {"yaml"}),
    (functools.partial(functools.partial(plain), 1), {"scipy.stats"}),
    (functools.lru_cache(plain), {"scipy.stats"}),
    (object.__new__(Model), {"yaml"}),
    (object.__new__(Model).price, {"scipy"}),
]


@pytest.mark.parametrize(("fn", "modules"), NEEDS, ids=lambda value: getattr(value, "__qualname__", None))
def test_what_each_call_imports_is_needed(fn, modules):
    assert needs(fn) == modules


# -- what a function may do without --------------------------------------------------------------------


def looped(xs):
    total = 0
    for x in xs:
        total += sum(plain(y) for y in x)
    return total


def listed(xs):
    return [plain(x) for x in xs]


def nested(x):
    def inner(y):
        import yaml

        return yaml.load(y)

    return inner(x)


def generated(xs):
    import yaml

    for x in xs:
        yield yaml.load(x)


async def awaited(xs):
    import yaml

    async for x in xs:
        await yaml.load(x)


def in_a_for(xs):
    for x in xs:
        import yaml

        yaml.load(x)
    return xs


def chosen(x, kind="np"):
    return {"scipy": plain, "np": abs}[kind](x)


def attempt(fn, x):
    try:
        return fn(x)
    except ImportError:
        return None


def handed_on(x):
    return attempt(plain, x)


def decorated(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args)

    return wrapper


def tried(x):
    try:
        import yaml
    except ImportError:
        return None
    return yaml.load(x)


def tried_further_out(x):
    try:
        return plain(x)
    except Exception:
        return None


def passed_over(x):
    with suppress(ImportError):
        import yaml

        x = yaml.load(x)
    return x


def conditional(x):
    if x:
        import yaml

        return yaml.load(x)
    return x


def returned_before(x):
    if not x:
        return x
    import yaml

    return yaml.load(x)


def typed(x):
    if TYPE_CHECKING:
        import yaml
    y: yaml.Node = x
    return y


def in_a_while(x):
    while x:
        import yaml

        x = yaml.load(x)
    return x


def skipped(xs):
    for x in xs:
        if not x:
            continue
        import yaml

        yaml.load(x)
    return xs


def skipped_in_a_long_loop(xs):
    for x in xs:
        if not x:
            continue
        xs = [x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + 7, x + 8, x + 9, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6]
        xs = [x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + 7, x + 8, x + 9, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6]
        xs = [x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + 7, x + 8, x + 9, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6]
        xs = [x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + 7, x + 8, x + 9, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6]
        import yaml

        yaml.load(xs)
    return xs


def left_at_once(xs):
    for x in xs:
        if x:
            break
        import yaml

        yaml.load(x)
    return xs


def else_where(x):
    return plain(x) if x else x


def either(x):
    return x or plain(x)


def inner_that_is_not_called(x):
    def draw():
        import matplotlib

        return matplotlib.draw(x)

    return draw() if x else x


DOES_WITHOUT = [
    tried, tried_further_out, passed_over, conditional, returned_before, typed, in_a_while, in_a_for, skipped,
    skipped_in_a_long_loop, left_at_once, else_where, either, inner_that_is_not_called, looped, listed, nested, chosen,
    handed_on, decorated(plain), generated, awaited, Model, lambda x: plain(x) + 1,
]  # fmt: skip


@pytest.mark.parametrize("fn", DOES_WITHOUT, ids=lambda fn: getattr(fn, "__qualname__", "made"))
def test_what_a_call_may_do_without_is_not_needed(fn):
    assert needs(fn) == set()


def test_relative_imports_are_the_users_own(tmp_path, monkeypatch):
    package = tmp_path / "relative"
    package.mkdir()
    (package / "__init__.py").write_text("def f(x):\n    from . import other\n    from .other import y\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from relative import f

    assert needs(f) == set()


def test_installed_functions_are_not_looked_into():
    import json

    assert needs(json.dumps) == set()
