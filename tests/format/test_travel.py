"""User code travels: by value what is the user's own, by name what is installed."""

from __future__ import annotations

import functools
import importlib
import json
import operator
import pickle
import subprocess
import sys
from collections import Counter

import cloudpickle
import pytest

import fnmap
from fnmap.format import travel
from fnmap.format.travel import dump_function, user_modules


@pytest.fixture(scope="module")
def far():
    """A session with one worker, which keeps what it has loaded."""
    session = fnmap.Session(workers=1)
    yield session
    session.close()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of the user's; called again, it is edited."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = set()

    def write(name: str, text: str):
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()
        found = importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)
        written.add(name)
        return found

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_an_edited_module_is_sent_again(far, module):
    first = module("edited", "def f(x): return x + 1")
    assert list(far.map(first.f, [1])) == [2]
    second = module("edited", "def f(x): return x + 100")
    assert list(far.map(second.f, [1])) == [101]


def test_so_is_a_module_that_the_function_only_uses(far, module):
    helper = module("helper", "def h(x): return 1")
    user = module("user", "import helper\nfrom helper import h\ndef f(x): return h(x), helper.h(x)")
    assert list(far.map(user.f, [0])) == [(1, 1)]
    module("helper", "def h(x): return 2")
    user = module("user", "import helper\nfrom helper import h\ndef f(x): return h(x), helper.h(x)")
    assert list(far.map(user.f, [0])) == [(2, 2)]
    assert helper is sys.modules["helper"]


def test_a_module_that_took_the_place_of_another_is_no_trouble(far, module):
    module("gone", "x = 1")
    assert list(far.map(lambda x: x, [1])) == [1]
    del sys.modules["gone"]
    newcomer = module("newcomer", "def f(x): return x + 1")
    assert list(far.map(newcomer.f, [1])) == [2]


def test_a_changed_global_is_sent_again(far, module):
    settings = module("settings", "K = 1\ndef f(x): return x * K")
    assert list(far.map(settings.f, [5])) == [5]
    settings.K = 3
    assert list(far.map(settings.f, [5])) == [15]


def test_classes_of_the_user_s_modules_are_the_same_both_ways(far, module):
    shapes = module(
        "shapes",
        "import enum, dataclasses, typing\n"
        "class Kind(enum.Enum): A = 1\n"
        "@dataclasses.dataclass(frozen=True)\nclass Box:\n    n: int\n    kind: Kind = Kind.A\n"
        "class Pair(typing.NamedTuple):\n    a: int\n    b: int\n"
        "class Oops(Exception): pass\n"
        "def f(box): return isinstance(box, Box), box.kind is Kind.A, Box(box.n + 1), Pair(1, 2), Kind.A\n"
        "def g(box): raise Oops(box)\n",
    )
    ((is_box, is_kind, box, pair, kind),) = far.map(shapes.f, [shapes.Box(1)])
    assert (is_box, is_kind, box, pair) == (True, True, shapes.Box(2), shapes.Pair(1, 2))
    assert (type(box), type(pair), kind) == (shapes.Box, shapes.Pair, shapes.Kind.A)
    with pytest.raises(shapes.Oops):
        list(far.map(shapes.g, [shapes.Box(1)]))


def test_packages_and_relative_imports_travel(far, module):
    module("pack.__init__", "")
    module("pack.base", "class Base:\n    def __init__(self, n): self.n = n")
    top = module("pack.top", "from .base import Base\nclass Top(Base): pass\ndef f(x): return Top(x)")
    (back,) = far.map(top.f, [4])
    assert (type(back), back.n) == (top.Top, 4)


def test_a_class_made_in_a_function_is_the_same_when_it_comes_home(far):
    class Local:
        def __init__(self, n):
            self.n = n

    (back,) = far.map(lambda local: Local(local.n + isinstance(local, Local)), [Local(1)])
    assert (type(back), back.n) == (Local, 2)


def test_a_cached_function_travels_with_its_cache_s_size(far):
    @functools.lru_cache(maxsize=7)
    def cached(x):
        return cached.cache_info().maxsize

    assert list(far.map(cached, [1])) == [7]


def test_functions_come_home_as_results(far):
    (add,) = far.map(lambda n: lambda x: x + n, [3])
    assert add(4) == 7


def test_recursive_and_mutually_recursive_functions_travel(far):
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert list(far.map(even, range(4))) == [True, False, True, False]


def test_what_is_installed_goes_by_name():
    for fn in (json.dumps, fnmap.Retry, cloudpickle.dumps):
        _, (frame, *_) = dump_function(fn, {}, None)
        assert len(frame) < 200


def test_the_key_of_a_function_names_its_content():
    def make(n):
        return lambda x: x + n

    keys = {n: dump_function(make(n), {}, None)[0] for n in (1, 2)}
    assert keys[1] != keys[2]
    assert dump_function(make(1), {"k": 1}, None)[0] != dump_function(make(1), {"k": 2}, None)[0]


def test_installed_packages_are_not_the_user_s():
    names = {m.__name__.partition(".")[0] for m in user_modules()}
    assert not names & {"json", "pytest", "numpy", "pyarrow", "cloudpickle", "fnmap", "hypothesis"}


def test_cloudpickle_s_own_registry_is_left_as_it_was():
    before = set(cloudpickle.list_registry_pickle_by_value())
    dump_function(lambda x: x, {}, None)
    assert set(cloudpickle.list_registry_pickle_by_value()) == before


def test_the_client_needs_no_cloudpickle_to_read_plain_results(far):
    (back,) = far.map(lambda x: {"a": [x]}, [1])
    assert pickle.loads(pickle.dumps(back)) == {"a": [1]}


def test_dependencies_that_lie_in_a_folder_of_their_own_travel_or_load(tmp_path):
    """As with pip install --target: third-party packages outside of site-packages, cloudpickle among them."""
    source = cloudpickle.__path__[0]
    (tmp_path / "cloudpickle").symlink_to(source)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fnmap, cloudpickle\n"
        "print(cloudpickle.__file__); print(list(fnmap.map(lambda x: x + 1, [1])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == f"{tmp_path}/cloudpickle/__init__.py\n[2]\n", done.stderr


def test_what_is_pickled_together_is_taken_apart_once_and_each_pickle_has_all_of_it(module, monkeypatch):
    mine = module(
        "mine",
        "class Deal:\n    def __init__(self, x): self.x = x\n"
        "def twice(x): return 2 * x\n"
        "def price(x): return twice(Deal(x).x)\n"
        "def report(x): return twice(Deal(x).x) + 1\n",
    )
    taken_apart, reduced = Counter(), travel._Whole._reduced
    monkeypatch.setattr(travel._Whole, "_reduced", lambda *at: (taken_apart.update([at[1]]), reduced(*at))[1])
    with travel.together():
        frames = [dump_function(fn, {}, None)[1] for fn in (mine.price, mine.report)]
    assert [taken_apart[mine.twice], taken_apart[mine.Deal]] == [1, 1]
    assert [in_a_new_process(pickled, 3) for (pickled,) in frames] == [6, 7]
    dump_function(mine.price, {}, None)
    assert taken_apart[mine.twice] == 2


def in_a_new_process(pickled: bytes, x: int) -> int:
    """The result of a pickled function there, where nothing of this process is."""
    code = f"import pickle, sys; print(pickle.load(sys.stdin.buffer)[0]({x}))"
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)
    return int(done.stdout)


class Often:
    """Pickled in one way or another, each by what it holds."""

    def __init__(self, held):
        self.held = held

    def __reduce__(self):
        return (Often, (self.held,)) if self.held else (dict, ())


def test_instances_of_one_class_are_each_pickled_as_they_say():
    assert [type(one) for one in pickle.loads(travel.dumps([Often(1), Often(0), Often(2)]))] == [Often, dict, Often]
    errors = pickle.loads(travel.dumps([OSError(2, "a"), OSError(3, "b")]))
    assert [error.errno for error in errors] == [2, 3]


class Proxy:
    """Stands for another object, as lazy ones do."""

    def __init__(self, of):
        self._of = of

    __class__ = property(lambda self: type(self._of))

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "_of"), name)

    def __reduce_ex__(self, protocol):
        return operator.neg, (5,)


def test_what_stands_for_a_function_goes_as_one_whatever_was_sent_before():
    def shout(text):
        return text.upper()

    number, function = pickle.loads(travel.dumps([Proxy(5), Proxy(shout)]))
    assert (number, function("a")) == (-5, "A")
