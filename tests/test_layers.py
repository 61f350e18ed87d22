"""Imports run down only: cli > api > session > compute > worker, run > planning, format, storage > observe, errors."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fnmap

ROOT = Path(fnmap.__file__).parent
LEVELS = [
    {"errors", "observe", "clock", "chores"},
    {"planning", "format", "storage", "aws", "inputs"},
    {
        "worker",
        "run",
        "cache",
        "ledger",
        "telling",
        "results",
        "stage",
        "source",
        "tables",
        "options",
        "alarm",
        "shared",
        "ahead",
    },
    {"compute"},
    {
        "session",
        "driver",
        "mapping",
        "lone",
        "awaited",
        "collect",
        "build",
        "durable",
        "durable_plan",
        "same",
        "caching",
        "lease",
        "attach",
        "attached",
        "reduction",
        "plan_run",
        "plan_start",
        "last_stage",
        "links",
    },
    {
        "api",
        "tasks",
        "executor",
        "plans",
        "plan_parts",
        "plan_tree",
        "plan_forecast",
        "plan_file",
        "plan_save",
        "__init__",
    },
    {"cli", "__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path) -> set[str]:
    """The dotted names that a module imports, also late ones, but for those that are only there for types."""
    found: set[str] = set()
    left: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        left += [child for child in ast.iter_child_nodes(node) if not for_types(child)]
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def rooms(names: set[str]) -> set[str]:
    """The rooms of fnmap that these names are in."""
    inside = {name.split(".")[1] for name in names if name.startswith("fnmap.")}
    return {r if r in LEVEL or (ROOT / r).is_dir() else "__init__" for r in inside}


OURS = [p for p in modules(ROOT) if room(p) != "testing"]


@pytest.mark.parametrize("path", OURS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_nothing_from_above(path):
    assert room(path) in LEVEL, f"say in LEVELS where {room(path)} belongs"
    above = {r for r in rooms(imports(path)) if LEVEL.get(r, 99) > LEVEL[room(path)]}
    assert not above


@pytest.mark.parametrize(
    ("of", "allowed"),
    [
        ("planning", {"planning", "errors"}),
        ("observe", {"observe", "errors"}),
        ("errors", set()),
        ("storage", {"storage", "errors"}),
        ("worker", {"worker", "format", "storage", "errors"}),
    ],
)
def test_a_room_imports_only_what_it_may(of, allowed):
    used = set().union(*(rooms(imports(p)) for p in OURS if room(p) == of))
    assert used <= allowed


def test_the_heart_names_no_backend():
    backends = {f"fnmap.compute.{p.stem}" for p in modules(ROOT / "compute")} - {
        f"fnmap.compute.{seam}" for seam in ("__init__", "base", "open")
    }
    for path in OURS:
        if room(path) != "compute":
            assert not {i for i in imports(path) if i.rpartition(".")[0] in backends}, path


def test_no_product_code_imports_its_own_tests():
    assert not [p for p in OURS if "testing" in rooms(imports(p))]


def test_fnmap_and_model_do_not_know_each_other():
    model = ROOT.parent / "model"
    assert not [p for p in modules(ROOT) for i in imports(p) if i.partition(".")[0] == "model"]
    knowing = [p.name for p in modules(model) if any(i.partition(".")[0] == "fnmap" for i in imports(p))]
    commands = {"analytics.py", "footprints.py", "price_book.py", "rollup_command.py", "rollup_plan.py"}
    assert set(knowing) <= commands


def test_importing_fnmap_imports_nothing_large():
    code = "import sys, fnmap; print(sorted({'numpy', 'pyarrow', 'pandas', 'tqdm', 'boto3'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_map_of_plain_values_imports_nothing_large():
    code = (
        "import sys, fnmap; run = fnmap.map(abs, [1, -2], progress=False); assert list(run) == [1, 2]\n"
        "print(sorted({'numpy', 'pyarrow', 'pandas', 'tqdm'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
