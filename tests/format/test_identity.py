"""When a function is the same as before, and when it is another; when that cannot be told."""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fnmap
from fnmap.errors import NotCacheable
from fnmap.format.identity import function_identity


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a module of the user's and import it afresh."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = set()

    def load(text: str, name: str = "mine"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        written.add(name)
        return importlib.import_module(name)

    yield load
    for name in written:
        sys.modules.pop(name, None)


def of(text, load, **options):
    return function_identity(load(text).f, **options)


SAME = {
    "reformatted": (
        "def f(x, y=1):\n    return g(x, y) if x and y else [i for i in (x, y)]\ndef g(a, b): return (a + b) * 2",
        """
        def f(
            x,
            y = 1,
        ):
            return (
                g(
                    x,
                    y,
                )
                if x
                and y
                else [i for i in (x, y)]
            )


        def g(a, b): return (a +
            b) * 2
        """,
    ),
    "moved": ("def f(x):\n    return x + 1", "import math\n\n\n\n\ndef g(): ...\n\n\ndef f(x):\n    return x + 1"),
    "comments": ("def f(x):\n    return x + 1", "def f(x):\n    # add one\n    return x + 1  # here"),
    "docstring": (
        'def f(x):\n    "Old."\n    if x: return 1',
        'def f(x):\n    """New,\n    longer."""\n    if x: return 1',
    ),
    "docstring added": ("def f(x):\n    if x: return 1", 'def f(x):\n    "New."\n    if x: return 1'),
    "type hints": ("def f(x): return x", "def f(x: int) -> 'int': return x"),
    "a pass": (
        "def f(x):\n    if x:\n        return 1",
        "def f(x):\n    pass\n    if x:\n        pass\n        return 1",
    ),
    "an unused neighbour": ("K = 1\ndef f(x): return x", "K = 2\ndef f(x): return x"),
    "docstring of a class": ("class C:\n  'a'\n  z = 1\ndef f(x): return C", "class C:\n  z = 1\ndef f(x): return C"),
    "an unused part of a module": (
        "import mine\nK = 1\nL = 1\ndef f(x): return mine.K",
        "import mine\nK = 1\nL = 2\ndef f(x): return mine.K",
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_does_not_change_results_does_not_change_the_identity(load, case):
    before, after = SAME[case]
    assert of(before, load) == of(after, load)


DECORATED = """
import functools
def d(k):
    def e(g):
        @functools.wraps(g)
        def h(x): return g(x) + k
        return h
    return e
@d(K)
def f(x): return x
"""
SUPER = """
class B:
    def m(self): return K
class C(B):
    def m(self): return super().m()
def f(x): return C().m()
"""
OTHER = {
    "body": ("def f(x): return x + 1", "def f(x): return x + 2"),
    "operator": ("def f(x): return x + 1", "def f(x): return x - 1"),
    "type of a constant": ("def f(x): return x + 1", "def f(x): return x + 1.0"),
    "true for one": ("def f(x): return x, 1", "def f(x): return x, True"),
    "attribute": ("def f(x): return x.a", "def f(x): return x.b"),
    "handler": (
        "def f(x):\n    try: g()\n    except OSError: return 1\ndef g(): ...",
        "def f(x):\n    g()\n    try: 1\n    except OSError: return 1\ndef g(): ...",
    ),
    "default": ("def f(x, y=1): return x + y", "def f(x, y=2): return x + y"),
    "keyword default": ("def f(x, *, y=1): return x + y", "def f(x, *, y=2): return x + y"),
    "closure": (
        "def make(k):\n    def f(x): return x + k\n    return f\nf = make(1)",
        "def make(k):\n    def f(x): return x + k\n    return f\nf = make(2)",
    ),
    "inner function": (
        "def f(x):\n    def g(y): return y + 1\n    return g(x)",
        "def f(x):\n    def g(y): return y + 2\n    return g(x)",
    ),
    "global": ("K = 1\ndef f(x): return x + K", "K = 2\ndef f(x): return x + K"),
    "global of an inner function": ("K = 1\ndef f(x): return lambda: K", "K = 2\ndef f(x): return lambda: K"),
    "order of a dict": ("K = dict(a=1, b=2)\ndef f(x): return K", "K = dict(b=2, a=1)\ndef f(x): return K"),
    "called function": ("def g(x): return 1\ndef f(x): return g(x)", "def g(x): return 2\ndef f(x): return g(x)"),
    "recursive function": (
        "def f(x): return x and f(x - 1)",
        "def f(x): return x and f(x - 2)",
    ),
    "one of two that call each other": (
        "def f(x): return x and g(x - 1)\ndef g(x): return x and f(x - 1)",
        "def f(x): return x and g(x - 1)\ndef g(x): return x and f(x - 2)",
    ),
    "method": (
        "class C:\n    def m(self): return 1\ndef f(x): return C().m()",
        "class C:\n    def m(self): return 2\ndef f(x): return C().m()",
    ),
    "property": (
        "class C:\n    @property\n    def m(self): return 1\ndef f(x): return C().m",
        "class C:\n    @property\n    def m(self): return 2\ndef f(x): return C().m",
    ),
    "class attribute": ("class C:\n    k = 1\ndef f(x): return C.k", "class C:\n    k = 2\ndef f(x): return C.k"),
    "method of a base": (
        "class B:\n    def m(self): return 1\nclass C(B): ...\ndef f(x): return C()",
        "class B:\n    def m(self): return 2\nclass C(B): ...\ndef f(x): return C()",
    ),
    "base": (
        "class A: ...\nclass B: ...\nclass C(A): ...\ndef f(x): return C",
        "class A: ...\nclass B: ...\nclass C(B): ...\ndef f(x): return C",
    ),
    "method through super": (SUPER.replace("K", "1"), SUPER.replace("K", "2")),
    "field of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    k: int = 1\ndef f(x): return C()",
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    k: int = 2\ndef f(x): return C()",
    ),
    "member of an enum": (
        "import enum\nclass C(enum.Enum):\n    A = 1\ndef f(x): return C.A",
        "import enum\nclass C(enum.Enum):\n    A = 2\ndef f(x): return C.A",
    ),
    "decorator": (
        "def d(g): return lambda x: g(x) + 1\n@d\ndef f(x): return x",
        "def d(g): return lambda x: g(x) + 2\n@d\ndef f(x): return x",
    ),
    "what is decorated": (
        "import functools\n@functools.lru_cache\ndef f(x): return 1",
        "import functools\n@functools.lru_cache\ndef f(x): return 2",
    ),
    "what is dispatched to": (
        "import functools\n@functools.singledispatch\ndef f(x): return 1\n@f.register\ndef _(x: int): return 1",
        "import functools\n@functools.singledispatch\ndef f(x): return 1\n@f.register\ndef _(x: int): return 2",
    ),
    "argument of a decorator": (DECORATED.replace("K", "1"), DECORATED.replace("K", "2")),
    "argument of a partial": (
        "import functools\ndef g(a, x): return a\nf = functools.partial(g, 1)",
        "import functools\ndef g(a, x): return a\nf = functools.partial(g, 2)",
    ),
    "state of an instance": (
        "class C:\n    def __init__(self, k): self.k = k\n    def m(self, x): return self.k\nf = C(1).m",
        "class C:\n    def __init__(self, k): self.k = k\n    def m(self, x): return self.k\nf = C(2).m",
    ),
    "method of many": (
        "class C:\n    def m(self, x): return 1\n    def n(self, x): return 1\nf = C().m",
        "class C:\n    def m(self, x): return 1\n    def n(self, x): return 1\nf = C().n",
    ),
    "callable instance": (
        "class C:\n    def __call__(self, x): return 1\nf = C()",
        "class C:\n    def __call__(self, x): return 2\nf = C()",
    ),
    "attribute of the function": ("def f(x): return f.k\nf.k = 1", "def f(x): return f.k\nf.k = 2"),
    "array": (
        "import numpy as np\nK = np.array([1, 2])\ndef f(x): return K[x]",
        "import numpy as np\nK = np.array([1, 3])\ndef f(x): return K[x]",
    ),
    "builtin": ("def f(x): return min(x)", "def f(x): return max(x)"),
    "hidden builtin": ("def f(x): return min(x)", "def min(x): return 1\ndef f(x): return min(x)"),
    "bound builtin": ("K = [1].count\ndef f(x): return K(x)", "K = [2].count\ndef f(x): return K(x)"),
    "library": ("def f(x):\n    import json\n    return json", "def f(x):\n    import yaml as json\n    return json"),
    "generator": ("def f(x): return [1]", "def f(x): yield [1]"),
    "circle of lists": (
        "K = [1]\nK.append(K)\ndef f(x): return K",
        "K = [2]\nK.append(K)\ndef f(x): return K",
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_what_may_change_results_changes_the_identity(load, case):
    before, after = OTHER[case]
    assert of(before, load) != of(after, load)
    assert of(before, load) == of(before, load)


USES = {
    "by attribute": "import helper\ndef f(x): return helper.h(x)",
    "by name": "from helper import h\ndef f(x): return h(x)",
    "inside": "def f(x):\n    import helper\n    return helper.h(x)",
    "inside under another name": "def f(x):\n    import helper as other\n    y = x\n    return other.h(y)",
    "inside by name": "def f(x):\n    from helper import h\n    return h(x)",
    "as a value": "import helper\ndef f(x): return getattr(helper, 'h')(x)",
    "inside as a value": "def f(x):\n    import helper\n    return getattr(helper, 'h')(x)",
    "by a function inside": "def f(x):\n    import helper\n    return [helper.h(y) for y in x]",
}


@pytest.mark.parametrize("case", USES)
def test_an_edit_two_modules_away_changes_the_identity(load, case):
    identities = []
    for constant in (1, 2, 1):
        sys.modules.pop("helper", None)
        load(f"def g(x): return {constant}", name="deep")
        load("import deep\ndef h(x): return deep.g(x)", name="helper")
        identities.append(of(USES[case], load))
    assert identities[0] == identities[2] != identities[1]


def test_a_function_is_the_same_in_another_module(load):
    text = "K = {'a', 'b'}\ndef g(x): return x in K\ndef f(x): return g(x)"
    assert function_identity(load(text, "one").f) == function_identity(load(text, "two").f)


def test_a_class_is_not_for_results_may_be_its_instances(load):
    text = "class C: ...\ndef f(x): return C()"
    assert function_identity(load(text, "one").f) != function_identity(load(text, "two").f)


SCRIPT = """
import collections, dataclasses, enum, sys
from fnmap.format.identity import function_identity
from fnmap.format.task_keys import item_keys
NAMES = {"alpha", "beta", "gamma", "delta"}
class Color(enum.Enum):
    RED = "r"
    BLUE = "b"
@dataclasses.dataclass(frozen=True)
class Deal:
    kind: Color
    tags: frozenset
COLORS = {Color.RED, Color.BLUE}
DEALS = {Deal(Color.RED, frozenset(NAMES)), Deal(Color.BLUE, frozenset("abc"))}
def price(x):
    class Inner:
        def method(self): self.alpha, self.beta, self.gamma = x
    return x in {"one", "two", "three"} and NAMES and COLORS and DEALS and collections.Counter(x) and Inner
items = [NAMES, Deal(Color.RED, frozenset(NAMES)), {"b": NAMES, "a": 1}, 1, "x"]
sys.stdout.write(function_identity(price) + item_keys("base", items, "item").tobytes().hex())
"""


def run(path, seed):
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, check=True).stdout


def test_processes_hash_seeds_and_file_names_make_no_difference(tmp_path):
    told = set()
    for seed, name, text in [("1", "a.py", SCRIPT), ("2", "b.py", SCRIPT), ("3", "c.py", "\n# moved\n" + SCRIPT)]:
        (tmp_path / name).write_text(text)
        told.add(run(tmp_path / name, seed))
    assert len(told) == 1
    assert len(told.pop()) == 32 + 5 * 32


def test_notebooks_with_functions_of_the_same_name_are_told_apart():
    cells = ["def price(deal):\n    return deal + 1", "def price(deal):\n    return deal + 2"]
    books = [{"__name__": "__main__"}, {"__name__": "__main__"}, {"__name__": "__main__"}]
    for book, cell in zip(books, [*cells, cells[0]], strict=True):
        exec(compile(cell, "<cell>", "exec"), book)
    one, other, again = (function_identity(book["price"]) for book in books)
    assert one == again != other


def test_running_a_function_does_not_change_it():
    def f(x):
        return sum(i * 1.5 for i in range(x))

    before = function_identity(f)
    for _ in range(1000):
        f(3)  # the interpreter specialises its byte code meanwhile
    assert function_identity(f) == before


def test_pickling_an_instance_does_not_change_its_class(load):
    mine = load("class C:\n    def m(self, x): return 1\nc = C()\ndef f(x): return c")
    before = function_identity(mine.C)
    assert "__slotnames__" not in vars(mine.C)
    pickle.dumps(mine.c)
    assert "__slotnames__" in vars(mine.C)
    assert function_identity(mine.C) == before


PADDED = np.dtype("i1,f8", align=True)  # with seven bytes between the fields that mean nothing
VALUES = {
    "arrays": (np.arange(3), np.arange(3), np.arange(3.0)),
    "memory layouts": (np.ones((2, 3)), np.asfortranarray(np.ones((2, 3))), np.ones((3, 2))),
    "object arrays": (np.array([1, "a"], object), np.array([1, "a"], object), np.array([1, "b"], object)),
    "records": (
        np.array([(1, 2.0)], PADDED), np.frombuffer(b"\1???????" + np.float64(2).tobytes(), PADDED),
        np.array([(1, 3.0)], PADDED),
    ),
    "scalars": (np.float64(1), np.float64(1), np.float32(1)),
    "frames": (
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), pd.DataFrame({"b": ["x", "y"], "a": [1, 2]})[["a", "b"]],
        pd.DataFrame({"a": [1, 2], "b": ["x", "z"]}),
    ),
    "series": (pd.Series([1.0], name="a"), pd.Series([1.0], name="a"), pd.Series([1.0], name="b")),
    "tables": (
        pa.table({"a": [1, 2]}), pa.concat_tables([pa.table({"a": [1]}), pa.table({"a": [2]})]),
        pa.table({"a": [1, 3]}),
    ),
    "sets": ({"a", "b", "c"}, {"c", "b", "a"}, {"a", "b", "d"}),
    "bytes": (bytearray(b"a"), bytearray(b"a"), b"a"),
    "sharing": ([[1], [1]], [[1]] * 2, [[1], [2]]),
    "types": ((1, 2), (1, 2), [1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_values_count_by_content(case):
    one, equal, other = (function_identity(len, {"k": value}) for value in VALUES[case])
    assert one == equal != other


def test_keywords_count_by_name_and_in_any_order():
    assert function_identity(len, {"a": 1, "b": 2}) == function_identity(len, {"b": 2, "a": 1})
    assert function_identity(len, {"a": 1}) != function_identity(len, {"b": 1})
    assert function_identity(len) != function_identity(len, {"a": None})


@pytest.mark.parametrize(
    "value", [[1, 2, 3], {"a": [1]}, (1, (2, [3])), "text", 1.5, None], ids=lambda value: type(value).__name__
)
def test_a_circle_is_not_what_it_looks_like_from_near(value):
    circle = [value]
    circle.append(circle)
    longer = [value, [value]]
    longer[1].append(longer)
    deep = [value, [value, [value, [value, None]]]]
    assert function_identity(len, {"k": circle}) == function_identity(len, {"k": longer})
    assert function_identity(len, {"k": circle}) != function_identity(len, {"k": deep})


class Holder:
    def __init__(self):
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: {"k": threading.Lock()}, "keyword 'k' of len is a _thread.lock"),
        (lambda: {"k": (i for i in ())}, "keyword 'k' of len is a generator"),
        (
            lambda: {"k": {"a": [Holder()]}},
            "attribute 'lock' of item 0 of ['a'] of keyword 'k' of len is a _thread.lock",
        ),
        (lambda: {"k": sys.__stdout__}, "keyword 'k' of len is a _io.TextIOWrapper"),
        (lambda: {"k": socket.socket()}, "keyword 'k' of len is a socket.socket"),
        (lambda: {"k": fnmap.Session(on="inline")}, "keyword 'k' of len is a fnmap.session.Session"),
    ],
    ids=["lock", "generator", "inside", "file", "socket", "session"],
)
def test_what_has_no_identity_is_named_with_the_way_to_it(make, said):
    with pytest.raises(NotCacheable) as caught:
        function_identity(len, made := make())
    assert said in str(caught.value)
    assert "make it inside the function" in str(caught.value).lower()
    if hasattr(made["k"], "close") and made["k"] is not sys.__stdout__:
        made["k"].close()


def test_a_connection_of_a_helper_is_named_too(load):
    load("import sqlite3\nconn = sqlite3.connect(':memory:')\ndef query(x): return conn", name="helper")
    mine = load("import helper\ndef price_deal(x): return helper.query(x)")
    with pytest.raises(NotCacheable) as caught:
        function_identity(mine.price_deal)
    assert "global 'conn' of global 'helper.query' of price_deal is a sqlite3.Connection" in str(caught.value)
    assert function_identity(mine.price_deal, version="v1")


def test_with_a_version_the_code_is_not_looked_at(load):
    one, other = "K = 1\ndef f(x): return K", "K = 2\ndef f(x): return K + x"
    assert of(one, load, version="v1") == of(other, load, version="v1")
    assert of(one, load, version="v1") != of(one, load, version="v2")
    assert of(one, load, version="v1") != of("def g(x): ...\nf = g", load, version="v1")
    assert of(one, load, version="v1") != of(one, load)


def test_lambdas_of_one_version_are_told_apart_by_their_code(load):
    told = [of(f"f = lambda x: x + {n}", load, version="v1") for n in (1, 2, 1)]
    assert told[0] == told[2] != told[1]


def test_a_module_that_is_imported_inside_is_the_same_before_and_after_it_was_loaded(load):
    load("def h(x): return 1", name="helper")
    text = "def f(x):\n    import colorsys\n    from . import nothing\n    import helper\n    return helper.h(colorsys)"
    for name in ("helper", "colorsys"):
        sys.modules.pop(name, None)
    before = of(text, load)
    importlib.import_module("colorsys")
    assert of(text, load) == before


def test_with_a_version_what_the_function_is_bound_to_still_counts(load):
    text = "import functools\ndef make(k): return lambda x: k\nclass C:\n  def m(self, x): ...\nc = C()"
    mine = load(text)
    bound = [mine.make(1), mine.make(2), functools.partial(mine.make, 1), functools.partial(mine.make, 2), mine.c.m]
    identities = {function_identity(fn, version="v1") for fn in bound}
    identities.add(function_identity(bound[0], {"a": 1}, version="v1"))
    assert len(identities) == 6


def test_an_installed_function_is_its_name_and_version(monkeypatch):
    from fnmap.format import identity

    before = function_identity(pa.table)
    assert before == function_identity(pa.table) != function_identity(pa.array)
    monkeypatch.setattr(identity, "version_of", lambda module: "99")
    assert function_identity(pa.table) != before
