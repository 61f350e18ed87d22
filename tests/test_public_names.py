"""What a user may rely on."""

from __future__ import annotations

import subprocess
import sys

import fnmap

NAMES = [
    "ComputeModel", "Executor", "FnmapError", "Plan", "PlanRun", "Retry", "Run", "Session", "StageRef", "Status",
    "TaskError", "TaskRef", "Tolerate", "attach", "close", "command", "errors", "gc", "load_plan", "map",
    "map_reduce", "plan", "runs", "share", "starmap", "submit", "task", "use",
]  # fmt: skip


def test_the_public_names_are_these():
    assert sorted(fnmap.__all__) == sorted(NAMES)


def test_every_public_name_is_there_and_no_module_takes_its_place():
    code = (
        "import fnmap, pkgutil, importlib\n"
        "mine = {n: getattr(fnmap, n) for n in fnmap.__all__}\n"
        "for m in pkgutil.walk_packages(fnmap.__path__, 'fnmap.'):\n"
        "    if not m.name.startswith(('fnmap.testing', 'fnmap.compute.lithops')): importlib.import_module(m.name)\n"
        "print([n for n in mine if getattr(fnmap, n) is not mine[n]])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_is_in_the_tree_drawn_at_its_top():
    errors = {name: e for name, e in vars(fnmap.errors).items() if isinstance(e, type) and issubclass(e, Exception)}
    assert all(issubclass(e, fnmap.FnmapError) for e in errors.values())
    assert all(name in (fnmap.errors.__doc__ or "") for name in errors)
