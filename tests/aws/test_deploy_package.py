"""The zip of the function: what is in it, what it weighs, and that it works by itself."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fnmap.aws import package, wheels
from fnmap.aws.package import build_package, code_hash, read_requirements
from fnmap.errors import DeployError, UsageError

PYTHON = ".".join(platform.python_version_tuple()[:2])
RUNS_HERE = sys.platform == "linux" and platform.machine() == "x86_64" and PYTHON in wheels.GLIBC
needs_runtime = pytest.mark.skipif(not RUNS_HERE, reason="packages for Lambda run on Linux, x86_64")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, packages):
    """The package as it is deployed, built from real wheels, and the folder of what is in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(packages))
        built = build_package(PYTHON)
        return built, unpacked(built, tmp_path_factory.mktemp("whole"))


def unpacked(built, folder):
    with zipfile.ZipFile(built.path) as file:
        file.extractall(folder)
    return folder


def alone(folder, code):
    """What the code prints with nothing but the folder and the standard library on the path."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_runtime
def test_the_worker_runs_a_call_and_commits_it_from_the_package_alone(whole):
    code = """
import numpy, pyarrow, obstore, cloudpickle
import pyarrow.dataset, pyarrow.compute
import fnmap
with fnmap.Session(on="inline", store="memory://") as session:
    run = session.map(lambda x: numpy.float64(x) / 2, range(3), name="halves", progress=False)
    print(list(run), run.table().num_rows, session.runs()[0].state)
import os; os._exit(sys.stdout.flush() or 0)
"""
    assert alone(whole[1], code).endswith("3 done")


@needs_runtime
def test_what_lambda_must_take_is_far_below_its_limit(whole):
    built, folder = whole
    assert built.unzipped_bytes < 0.75 * package.UNZIPPED_LIMIT
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= built.unzipped_bytes
    assert not [p for p in folder.rglob("*") if p.suffix in (".pyi", ".pyx", ".h") or "flight" in p.name]


@needs_runtime
def test_no_wheel_needs_a_newer_c_library_than_the_runtime_has(whole):
    tags = [line for p in whole[1].glob("*.dist-info/WHEEL") for line in p.read_text().splitlines() if "Tag:" in line]
    for tag in tags:
        needs = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", tag)]
        assert not needs or min(needs) <= wheels.GLIBC[PYTHON], tag


def test_programs_stay_programs(wheel):
    stub = wheel("stub", {"stub/tool.sh": "#!/bin/sh", "stub/__init__.py": ""})
    with zipfile.ZipFile(build_package(PYTHON, requirements=[stub], base=()).path) as file:
        modes = {info.filename: info.external_attr >> 16 for info in file.infolist()}
    assert (modes["stub/tool.sh"], modes["stub/__init__.py"]) == (0o755, 0o644)


def test_the_same_input_gives_the_same_bytes(tmp_path, monkeypatch):
    bodies = set()
    for time in ("1", "2"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / time))
        bodies.add(build_package(PYTHON, base=()).path.read_bytes())
    assert len(bodies) == 1


def test_a_package_is_built_once(monkeypatch):
    first = build_package(PYTHON, base=())
    monkeypatch.setattr(package, "_build", lambda *_: pytest.fail("it was built again"))
    assert build_package(PYTHON, base=()) == first


def test_what_is_asked_for_counts_by_content(wheel):
    asked = {package._request(PYTHON, "x86_64", [wheel("stub", {"stub.py": text})]) for text in ("x=1", "x=2")}
    assert len(asked) == 2


def test_the_function_knows_itself_as_the_client_knows_it(stub, tmp_path):
    code = "from fnmap.aws.package import code_hash; print(code_hash())"
    assert alone(unpacked(stub, tmp_path / "stub"), code) == code_hash()


def test_other_sources_are_other_code(monkeypatch, tmp_path):
    before, own = code_hash(), list(package._own_files())
    changed = tmp_path / "worker.py"
    changed.write_text("changed = True")
    monkeypatch.setattr(package, "_own_files", lambda: [(n, changed if n == "fnmap/worker.py" else p) for n, p in own])
    assert code_hash() != before


def test_what_is_too_large_is_shown_by_package_with_the_way_out(monkeypatch):
    monkeypatch.setattr(package, "UNZIPPED_LIMIT", 100_000)
    with pytest.raises(DeployError, match=r"(?s)Lambda takes 0\.1.*fnmap +\d\.\d MB.*--requirements FILE"):
        build_package(PYTHON, base=())


def test_what_has_no_wheel_is_named(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        DeployError, match=r"(?s)no wheels of nothing==9 for python 3\.12 on arm64, glibc 2\.34.*pip wheel"
    ):
        build_package("3.12", "arm64", ["nothing==9"], base=())


@needs_runtime
def test_a_package_that_does_not_work_is_not_deployed(wheel):
    broken = wheel("obstore", {"obstore/__init__.py": "raise ImportError('torn')"})
    with pytest.raises(DeployError, match=r"(?s)does not work by itself.*torn.*requirements"):
        build_package(PYTHON, requirements=[broken], base=())


def test_a_library_of_three_names_is_kept_under_that_by_which_it_is_loaded(tmp_path):
    for name in ("libarrow_python.so", "libarrow_python.so.20", "libarrow_python.so.20.0.0", "lib.cpython-311.so"):
        (tmp_path / "pyarrow").mkdir(exist_ok=True)
        (tmp_path / "pyarrow" / name).write_bytes(b"the same")
    wheels.trim(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*.so*")) == ["lib.cpython-311.so", "libarrow_python.so.20"]


def test_a_requirements_file_is_read_with_its_paths(tmp_path):
    (tmp_path / "mine-1.0.whl").write_text("")
    file = tmp_path / "requirements.txt"
    file.write_text("# what we need\nscipy==1.15  # newer ones are larger\n\n./mine-1.0.whl\n")
    assert read_requirements(file) == ["scipy==1.15", str((tmp_path / "mine-1.0.whl").resolve())]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: build_package("2.7"), r"python must be one of 3\.11"),
        (lambda: build_package("3.12", "sparc"), r"arch must be 'x86_64' or 'arm64'; got 'sparc'"),
        (lambda: read_requirements("/nowhere/at/all"), r"No such file.*'/nowhere/at/all'"),
        (lambda: read_requirements(Path(__file__).parent / "options.txt"), r"one a line.*got '-r"),
    ],
)
def test_what_cannot_be_built_is_refused(make, says, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Path, "read_text", lambda path, **_: "-r other.txt" if path.name == "options.txt" else _read(path)
    )
    with pytest.raises(UsageError, match=says):
        make()


def _read(path):
    with path.open() as file:
        return file.read()
