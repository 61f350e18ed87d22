"""The zip of the deployed function: the worker and the packages it stands on, the same bytes for the same input.

It holds compiled files beside the sources: /var/task is read-only, so each cold start would compile them again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import fnmap
from fnmap.aws import wheels
from fnmap.errors import DeployError, UsageError

BASE = ("numpy", "pyarrow", "cloudpickle", "obstore")
UNZIPPED_LIMIT = 262_144_000
KEPT = 4  # packages in the cache
FORM = 1  # of the package: a new number makes those in the cache stale
TRIES = {
    "fnmap": "import fnmap",
    "obstore": "import obstore.store",
    "cloudpickle": "import cloudpickle, fnmap.worker; assert cloudpickle.loads(cloudpickle.dumps(lambda: 1))() == 1",
    "pyarrow": "import numpy, pyarrow as pa, pyarrow.parquet as pq, pyarrow.compute as pc, pyarrow.dataset\n"
    "import fnmap.format.parts, fnmap.format.table\n"
    "out = pa.BufferOutputStream(); pq.write_table(pa.table({'x': numpy.arange(3)}), out)\n"
    "read = pq.read_table(pa.BufferReader(out.getvalue()), use_threads=False)\n"  # threads may crash a quick exit
    "assert pc.sum(read['x']).as_py() == 3",
}
"""What must work with nothing but the package on the path."""


@dataclass(frozen=True, slots=True)
class Package:
    """A zip that Lambda takes. `sizes`: unzipped bytes of each package, the largest first; `sha256`: of the zip."""

    path: Path
    zipped_bytes: int
    unzipped_bytes: int
    versions: Mapping[str, str]
    sizes: Mapping[str, int]
    sha256: str


def build_package(
    python: str = "3.11", arch: str = "x86_64", requirements: Sequence[str] = (), *, base: Sequence[str] = BASE
) -> Package:
    """The package of fnmap, `base` and the requirements (lines as pip takes them), from the cache if it is there.

    Raises DeployError if there are no such wheels, or if it is larger than Lambda takes.
    """
    if python not in wheels.GLIBC:
        raise UsageError(f"python must be one of {', '.join(wheels.GLIBC)}, the runtimes of Lambda; got {python!r}")
    if arch not in wheels.MACHINES:
        raise UsageError(f"arch must be 'x86_64' or 'arm64'; got {arch!r}")
    wanted = [*base, *requirements]
    place = _cache() / _request(python, arch, wanted)
    if not (place / "package.json").is_file():
        with tempfile.TemporaryDirectory(prefix="fnmap-package-") as work:
            made = _build(Path(work), wanted, python, arch)
            _keep(made, place)
    return _read(place)


def code_hash() -> str:
    """What fnmap's own sources are, as the function has them: client and function are of one code if this is equal."""
    found = hashlib.sha256()
    for name, path in _own_files():
        found.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def read_requirements(file: str | Path) -> list[str]:
    """The lines of a requirements file, with relative paths made absolute."""
    path = Path(file)
    try:
        lines = [line.partition(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UsageError(f"requirements: {error.strerror}: {str(file)!r}") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if options := [line for line in lines if line.startswith("-")]:
        raise UsageError(f"{file}: packages and paths only, one a line, as in 'scipy==1.15'; got {options[0]!r}")
    return [str((path.parent / line).resolve()) if _is_path(path.parent / line) else line for line in lines]


def described(package: Package) -> str:
    """The size of the package and of what is in it, a line each."""
    mb = 1e6
    lines = [f"{name:<24}{size / mb:8.1f} MB" for name, size in package.sizes.items() if size >= 0.05 * mb]
    total = (
        f"{package.unzipped_bytes / mb:8.1f} MB of {UNZIPPED_LIMIT / mb:.1f}; zipped {package.zipped_bytes / mb:.1f}"
    )
    return "\n".join([*lines, f"{'in all':<24}{total}"])


# -- how it is made --------------------------------------------------------------------------------------


def _build(work: Path, wanted: Sequence[str], python: str, arch: str) -> Path:
    """A folder with package.zip and package.json."""
    tree, made = work / "tree", work / "made"
    made.mkdir()
    tree.mkdir()
    if wanted:
        wheels.install(wanted, tree, python=python, arch=arch)
        wheels.trim(tree)
    for name, path in _own_files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tree / name)
    if _runs_here(python, arch):
        _try(tree)
        _compile(tree)
    sizes = wheels.sizes(tree)
    if sum(sizes.values()) > UNZIPPED_LIMIT:
        raise DeployError(_too_large(sizes))
    _zip(tree, made / "package.zip")
    package = Package(
        path=made / "package.zip",
        zipped_bytes=(made / "package.zip").stat().st_size,
        unzipped_bytes=sum(sizes.values()),
        versions=wheels.versions(tree),
        sizes=sizes,
        sha256=hashlib.sha256((made / "package.zip").read_bytes()).hexdigest(),
    )
    (made / "package.json").write_text(json.dumps(asdict(package) | {"path": "package.zip"}))
    return made


def _too_large(sizes: Mapping[str, int]) -> str:
    shown = "\n".join(f"  {name:<24}{size / 1e6:8.1f} MB" for name, size in list(sizes.items())[:20])
    return (
        f"the package is {sum(sizes.values()) / 1e6:.1f} MB unzipped and Lambda takes {UNZIPPED_LIMIT / 1e6:.1f}:\n"
        f"{shown}\n"
        "Leave out of the requirements what the functions do not import, or deploy a second function for those "
        "that need the large packages: fnmap deploy --name OTHER --requirements FILE"
    )


def _runs_here(python: str, arch: str) -> bool:
    """Can this interpreter load the package?"""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (here, sys.platform, platform.machine()) == (python, "linux", wheels.MACHINES[arch])


def _try(tree: Path) -> None:
    """Import what the worker uses, with nothing else on the path."""
    code = "\n".join(code for name, code in TRIES.items() if (tree / name).exists())
    code += f"\nassert all(m.__file__.startswith({str(tree)!r}) for n, m in sys.modules.items() if n in {[*TRIES]})"
    command = [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path.insert(0, {str(tree)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeployError(
            f"the package does not work by itself:\n{done.stderr[-2000:]}\n"
            "If a requirement is to blame, name another version of it in the requirements file."
        )


def _compile(tree: Path) -> None:
    """Beside each source its compiled form, which is taken without a look at the source. In a process of its own, whose
    hashes are not random: the order of a set of constants is that of their hashes."""
    code = (
        "import compileall, py_compile, sys\n"
        "compileall.compile_dir(sys.argv[1], maxlevels=99, quiet=2, stripdir=sys.argv[1], prependdir='/var/task',"
        " invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"
    )
    subprocess.run([sys.executable, "-c", code, str(tree)], env=os.environ | {"PYTHONHASHSEED": "0"}, check=True)


def _zip(tree: Path, target: Path) -> None:
    """Names in order, one time for all, and only those bits that decide whether a file can be run."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as out:
        for path in sorted(p for p in tree.rglob("*") if p.is_file()):
            name = path.relative_to(tree).as_posix()
            if name.endswith(("/RECORD", "/direct_url.json", "/INSTALLER", "/REQUESTED")):
                continue  # of the installer, and not the same each time
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if path.stat().st_mode & 0o100 else 0o644) << 16
            info.create_system = 3
            out.writestr(info, path.read_bytes())


def _own_files() -> Iterator[tuple[str, Path]]:
    """fnmap's files, but for what only tests use, in the order of their names."""
    root = Path(fnmap.__file__).parent
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if path.is_file() and inside.parts[0] != "testing" and "__pycache__" not in inside.parts:
            yield f"fnmap/{inside.as_posix()}", path


# -- where it is kept ------------------------------------------------------------------------------------


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fnmap" / "packages"


def _request(python: str, arch: str, wanted: Sequence[str]) -> str:
    """What is asked for, by content: files and folders among it too."""
    pins = [f"{name}=={wheels.installed(name)}" for name in wheels.names_of(wanted)]
    content = [_digest(Path(line)) for line in wanted if _is_path(line)]
    compiled = _runs_here(python, arch)
    asked = [FORM, python, arch, compiled, code_hash(), UNZIPPED_LIMIT, *wanted, *pins, *content]
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:24]


def _is_path(line: str | Path) -> bool:
    return os.sep in str(line) and Path(line).exists()


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    for file in (
        [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and ".git" not in p.parts)
    ):
        found.update(f"{file.relative_to(path)}\0".encode() + file.read_bytes())
    return found.hexdigest()


def _keep(made: Path, place: Path) -> None:
    """Into the cache, whole or not at all; the oldest make room."""
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix="new-", dir=place.parent))
    shutil.copytree(made, aside, dirs_exist_ok=True)
    try:
        aside.rename(place)
    except OSError:  # another process was first
        shutil.rmtree(aside, ignore_errors=True)
    for old in sorted(place.parent.iterdir(), key=lambda p: p.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


@cache
def _read(place: Path) -> Package:
    said = json.loads((place / "package.json").read_text())
    return Package(**said | {"path": place / "package.zip"})
