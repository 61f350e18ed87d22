"""Wheels for the machines of Lambda, put into a folder without Docker, and what is dead weight there taken away."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from fnmap.errors import DeployError

GLIBC = {"3.11": 26, "3.12": 34, "3.13": 34, "3.14": 34}
"""The C library (2.x) of each runtime: 3.11 runs on Amazon Linux 2, those after it on Amazon Linux 2023."""
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}

DEAD = frozenset({".a", ".pyi", ".pyx", ".pxd", ".pxi", ".h", ".hh", ".hpp", ".cc", ".cpp", ".lib"})
"""What is only read by compilers and type checkers."""
DEAD_IN = {
    "numpy": r"f2py/|_pyinstaller/|.*tests/|.*conftest\.py",
    "pyarrow": r"include|includes/|src/|tests/|.*conftest\.py|benchmark\.py|jvm\.py|cuda\.py"
    r"|_pyarrow_cpp_tests|_?flight\.|libarrow_(python_)?flight|_?gandiva\.|libgandiva|_(azure|gcs)fs\.|_hdfs\.",
    "pandas": r"tests/|conftest\.py",
    "scipy": r".*/tests/|conftest\.py",
}
"""Paths within these packages, as patterns, without which all else of them works."""


def install(requirements: Sequence[str], folder: Path, *, python: str, arch: str) -> None:
    """Put the wheels into the folder: in the versions that are installed here where there are such wheels for that
    runtime, else in the newest that there are."""
    pins = [f"{name}=={version}" for name in names_of(requirements) if (version := installed(name))]
    done = _pip(requirements, pins, folder, python, arch)
    if done.returncode and pins:
        shutil.rmtree(folder, ignore_errors=True)
        done = _pip(requirements, [], folder, python, arch)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise DeployError(
            f"no wheels of {', '.join(requirements)} for python {python} on {arch}, glibc 2.{GLIBC[python]}:\n  "
            + "\n  ".join(said[-4:])
            + "\nWhat has no wheel can be made one with `pip wheel`, and named by its path among the requirements; "
            "--python 3.12 and later take newer wheels."
        )


def _pip(
    requirements: Sequence[str], pins: Sequence[str], folder: Path, python: str, arch: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile", "--target", str(folder)]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    command += [part for tag in platforms(python, arch) for part in ("--platform", tag)]
    folder.mkdir(parents=True, exist_ok=True)
    constraints = folder.with_suffix(".constraints")
    constraints.write_text("\n".join(pins))
    command += ["--constraint", str(constraints), *requirements]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def platforms(python: str, arch: str) -> list[str]:
    """The tags of wheels that run there, the newest C library first: pip wants each of them named."""
    machine = MACHINES[arch]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC[python], 16, -1)] + [f"manylinux2014_{machine}"]
    if arch == "x86_64":
        tags += ["manylinux_2_12_x86_64", "manylinux2010_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64"]
    return tags


def names_of(requirements: Iterable[str]) -> list[str]:
    """The packages that the requirements name without a version."""
    return [line for line in requirements if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)]


def installed(name: str) -> str | None:
    """The version of a package here, if it is one that others can get."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    return None if "+" in version else version


def trim(folder: Path) -> None:
    """Take away what no program needs when it runs."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    dead = {package: re.compile(pattern) for package, pattern in DEAD_IN.items()}
    for path in list(_files(folder)):
        package, _, inside = path.relative_to(folder).as_posix().partition("/")
        if path.suffix in DEAD or (package in dead and dead[package].match(inside)) or _is_twin(path):
            path.unlink()


def _is_twin(path: Path) -> bool:
    """Is this library there again under the name by which others load it: lib.so.26 for lib.so and lib.so.26.1?"""
    found = re.fullmatch(r"(lib.+\.so)((?:\.\d+)*)", path.name)
    if found is None or found[2].count(".") == 1:
        return False
    return any(
        filecmp.cmp(path, other, shallow=False)
        for other in path.parent.glob(f"{found[1]}.*")
        if re.fullmatch(r"\.\d+", other.name.removeprefix(found[1]))
    )


def versions(folder: Path) -> dict[str, str]:
    """The packages in the folder, by name."""
    found = metadata.distributions(path=[str(folder)])
    return {one.metadata["Name"].lower(): one.version for one in sorted(found, key=lambda d: d.metadata["Name"])}


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each top-level name in the folder, the largest first; libraries go with their package."""
    found: dict[str, int] = {}
    for path in _files(folder):
        top = path.relative_to(folder).parts[0].removesuffix(".libs").partition("-")[0]
        found[top] = found.get(top, 0) + path.stat().st_size
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root) / name for name in names)
