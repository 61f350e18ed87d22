"""Exceptions of the user's own come back as what they are, whatever their constructors ask for."""

from __future__ import annotations

import dataclasses

import pytest


class OwnError(Exception):
    pass


class Demanding(Exception):
    """Its constructor asks for more than it hands on."""

    def __init__(self, code, *, where):
        super().__init__(f"{code} at {where}")
        self.code, self.where = code, where


class Formatting(OSError):
    """Its constructor, called again, would format what is formatted."""

    def __init__(self, code):
        super().__init__(code, f"<{code}>", "file")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    where: str = dataclasses.field(kw_only=True)


class Grouping(ExceptionGroup):
    def __new__(cls, *errors):
        return super().__new__(cls, "several", errors)


class Misleading(Exception):
    """What it says of how to pickle it is wrong."""

    def __init__(self, code, *, where):
        super().__init__(f"{code} at {where}")

    def __reduce__(self):
        return Misleading, self.args


@pytest.mark.parametrize("kind", [Demanding, Misleading])
def test_an_exception_with_a_demanding_constructor_comes_as_itself(local, kind):
    def fail(x):
        error = kind(x, where="here")
        error.add_note("noted")
        raise error from ValueError("the cause")

    with pytest.raises(kind) as caught:
        list(local.map(fail, [5]))
    first, *_, last = caught.value.__notes__
    assert (str(caught.value), first, "the cause" in last) == ("5 at here", "noted", True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Demanding(5, where="here"),
        lambda: Formatting(5),
        lambda: Frozen(5, where="here"),
        lambda: Grouping(OwnError(1), Demanding(5, where="here")),
    ],
    ids=["keyword-only", "an OSError", "frozen", "a group"],
)
def test_an_exception_is_rebuilt_whole_without_its_constructor(local, make):
    def fail(x):
        raise make()

    (failed,) = local.map(fail, [1], errors="return")
    again, made = failed.exception, make()
    assert (type(again), str(again), repr(again)) == (type(made), str(made), repr(made))
    assert repr((again.args, vars(again))) == repr((made.args, vars(made)))


def test_exceptions_are_items_and_results_like_others(local):
    (back,) = local.map(lambda error: error, [Formatting(5)])
    assert (type(back), back.errno, back.strerror, back.filename) == (Formatting, 5, "<5>", "file")


def test_an_exception_of_a_script_comes_as_itself(start):
    script = start(
        "import fnmap\n"
        "class Bad(Exception):\n"
        "    def __init__(self, code, *, where):\n"
        "        super().__init__(f'{code} at {where}')\n"
        "        self.where = where\n"
        "def fail(x): raise Bad(x, where='here')\n"
        "try: list(fnmap.map(fail, [5]))\n"
        "except Bad as error: print(error, error.where)\n"
    )
    assert script.communicate()[0] == "5 at here here\n"
