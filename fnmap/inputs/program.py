"""The files that a command takes along: read where it is made, laid down once a process where it runs."""

from __future__ import annotations

import atexit
import os
import pickle
import platform
import shutil
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

from fnmap.errors import CommandFailed, UsageError
from fnmap.storage.scratch import new_folder

_MACHINES = {3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64",
             243: "riscv64", 258: "loongarch64"}  # fmt: skip
_ALSO_RUNS = {"x86_64": {"i386"}, "amd64": {"x86_64", "i386"}, "aarch64": {"arm"}, "arm64": {"aarch64"},
              "armv7l": {"arm"}, "ppc64le": {"ppc64"}}  # fmt: skip
_MACH_O = {b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe"}
_STARTS = (b"\x7fELF", b"#!")  # bytes that are a program, whatever their run bit


class File:
    """A file by name, content and run bit. Its pickle has the content beside it: a large one is stored once."""

    __slots__ = ("content", "digest", "name", "runs")

    def __init__(self, name: str, content: Any, runs: bool, digest: str = "") -> None:
        self.name, self.content, self.runs = name, memoryview(content), bool(runs)
        self.digest = digest or blake2b(self.content, digest_size=16).hexdigest()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        content = pickle.PickleBuffer(self.content) if protocol >= 5 else bytes(self.content)
        return File, (self.name, content, self.runs, self.digest)


@dataclass(frozen=True)
class Files:
    """All files of a command, under names relative to its working directory."""

    each: tuple[File, ...]

    def folder(self) -> Path:
        """Where they lie in this process, laid down at the first call."""
        digest = blake2b(repr([(f.name, f.runs, f.digest) for f in self.each]).encode(), digest_size=16).hexdigest()
        with _lock:
            if (known := _laid.get((os.getpid(), digest))) is not None:
                return known
            path = new_folder()
            atexit.register(_remove, os.getpid(), path)
            for file in self.each:
                _write(path / file.name, file)
            return _laid.setdefault((os.getpid(), digest), path)

    def link_into(self, work: Path) -> None:
        """Let a working directory have them all, at the cost of a link each."""
        if not self.each:
            return
        folder = self.folder()
        for file in self.each:
            link = work / file.name
            if "/" in file.name:
                link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder / file.name)


_lock = threading.Lock()
_laid: dict[tuple[int, str], Path] = {}  # by process: a forked child has no right to its parent's


def _write(path: Path, file: File) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.content)
    path.chmod(0o555 if file.runs else 0o444)  # many tasks read it: none may write


def _remove(pid: int, path: Path) -> None:
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)


Given = Sequence[str | os.PathLike[str]] | Mapping[str, Any]


def gather(program: str, given: Given) -> tuple[str, Files]:
    """Read what a command takes along: its program, if that is named by a path, and its files. The program's word as it
    is where it runs, and the files. Raises UsageError naming the file that cannot be read."""
    found: dict[str, File] = {}
    pairs = given.items() if isinstance(given, Mapping) else [(Path(_path(g)).name, g) for g in given]
    for name, value in pairs:
        for file in _read(_relative(name), value):
            if file.name in found:
                raise UsageError(f"files: two of them are called {file.name!r}; name them in a dict {{name: path}}")
            found[file.name] = file
    if "/" not in program:  # of the system: looked up where it runs
        return program, Files(tuple(found.values()))
    name = str(PurePosixPath(program)).removeprefix("./")
    name = name if name in found else Path(program).name
    if name not in found:
        (found[name],) = _read(name, program, program=True)
    elif not found[name].runs:
        if not isinstance(given, Mapping) or isinstance(given.get(name), (str, os.PathLike)):
            raise UsageError(_not_run(name))
        found[name] = File(name, found[name].content, True)
    return f"./{name}", Files(tuple(found.values()))


def _path(given: Any) -> str:
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(f"files must be paths, or a dict of names and paths or bytes; got {given!r}")
    return os.fspath(given)


def _relative(name: Any) -> str:
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
    if path.is_absolute() or not path.name or ".." in path.parts:
        raise UsageError(f"files: {name!r} must be a name below the working directory, such as 'data/roughness.txt'")
    return str(path)


def _read(name: str, value: Any, *, program: bool = False) -> list[File]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return [File(name, bytes(value), bytes(value[:4]).startswith(_STARTS))]
    path = Path(_path(value)).expanduser()
    if path.is_dir() and not program:
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        return [File(f"{name}/{p.relative_to(path).as_posix()}", p.read_bytes(), os.access(p, os.X_OK)) for p in inside]
    try:
        body = path.read_bytes()
    except OSError as error:
        which = "program" if program else "file"
        raise UsageError(f"the {which} {str(value)!r} cannot be read: {error.strerror}; it is sent along") from error
    runs = os.access(path, os.X_OK)
    if program and not runs:
        raise UsageError(_not_run(str(value)))
    return [File(name, body, runs)]


def _not_run(name: str) -> str:
    return f"the program {name!r} may not be run: chmod +x {name}"


def check_machine(program: Path) -> None:
    """Raise CommandFailed if a program was compiled for another kind of machine than this."""
    try:
        with program.open("rb") as file:
            head = file.read(20)
    except OSError:
        return  # what is wrong with it is told when it is started
    here = platform.machine()
    if head[:4] in _MACH_O:
        made_for = "macOS" if platform.system() != "Darwin" else ""
    elif head[:4] == b"\x7fELF" and len(head) == 20:
        (number,) = struct.unpack_from(">H" if head[5] == 2 else "<H", head, 18)
        machine = _MACHINES.get(number, f"machine {number}")
        made_for = "" if machine in {here, *_ALSO_RUNS.get(here, ())} else machine
    else:
        return
    if made_for:
        raise CommandFailed(
            f"{program.name} is a program for {made_for}, and this worker is {here}: compile it for that"
        )
