"""Any executable as a function: `fnmap.command("./wind {track} {out}", outputs={"out": "bytes"})`.

The command takes its program and files along, by content, so that it runs on any worker and its results can be cached.
Each call has a scratch directory of its own, in which files of the arguments are laid down and results are picked up.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from fnmap.errors import CommandFailed, CommandTimeout, UsageError
from fnmap.inputs import process
from fnmap.inputs.program import Files, Given, check_machine, gather
from fnmap.inputs.stored import Stored
from fnmap.inputs.template import FileName, as_word, bind, fields, file_name, render, split
from fnmap.storage.scratch import new_folder

Kind = Literal["bytes", "text", "table"]
Output = Kind | PurePath | Stored
_KINDS = ("bytes", "text", "table")
_STREAMS = ("stdout", "stderr")
TAIL_BYTES = 8 << 10  # of what a program printed, in an error
SHOWN_BYTES = 64 << 10  # of it, on to who runs it
SHOWN_LINES = 20  # of its standard error, in the message


def command(
    template: str,
    *,
    files: Given = (),
    env: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Output] | None = None,
    stdin: str | None = None,
    timeout_s: float | None = None,
) -> Command:
    """A function that runs a program once a call: to be mapped, planned and cached as any other.

    `template`: program and arguments, quoted as for a shell (none runs). `{name}` is filled in from the item: a mapping
    has values by name, others go to the names in order. A text or number stands for itself (`{n:03d}`), a path for
    the file there; of bytes or `fnmap.inputs.Stored` the program gets a file (`{track:.csv}` says its suffix). A
    program named by a path is read now and sent along with its run bit; one without a slash is looked up where it runs.

    `files`: what else to send along, as paths or `{name: path or bytes}`; they lie in the directory it runs in.
    `env`: variables to set, in which names are filled in too. `stdin`: the name whose value is its standard input.
    `outputs`: what to bring home, by name in the template, file name, "stdout" or "stderr": as "bytes", "text", "table"
    (a Parquet file as an Arrow table), moved to a `Path`, or kept as a `Stored`, in both of which names are filled in.
    One output is the result itself, several are a dict; without any it is standard output as text.
    `timeout_s`: kill it after that; `timeout=` of a map does as well, except inline.

    A call raises CommandFailed unless the program ends with 0 and has written its outputs. Raises UsageError.
    """
    words = split(template)
    wanted = _checked(outputs if outputs is not None else {"stdout": "text"})
    texts = {str(name): _text(name, value) for name, value in (env or {}).items()}
    if timeout_s is not None and not timeout_s > 0:
        raise UsageError(f"timeout_s must be a number > 0, or None; got {timeout_s!r}")
    if "{" in words[0]:
        raise UsageError(f"the program itself cannot be filled in: {words[0]!r}; make a command for each")
    words[0], taken = gather(words[0], files)
    named = fields(words, "command")
    places = [_place(kind) for kind in wanted.values() if not isinstance(kind, str)]
    others = {**fields(texts.values(), "env"), **fields(places, "outputs"), **({stdin: []} if stdin else {})}
    inputs = tuple(name for name in {**named, **others} if name not in wanted)
    along = {file.name.partition("/")[0] for file in taken.each}
    if clash := along & ({name + s for name, suffixes in named.items() for s in suffixes} | {*wanted}):
        raise UsageError(f"{sorted(clash)}: files sent along and arguments or outputs have one name; choose others")
    for name in wanted:
        file_name(name, named.get(name, []))
    return Command(tuple(words), taken, texts, wanted, stdin, timeout_s, inputs, named)


def _checked(outputs: Mapping[str, Output]) -> dict[str, Output]:
    if not isinstance(outputs, Mapping) or not outputs:
        raise UsageError(f"outputs must be a dict such as {{'out': 'bytes'}}; got {outputs!r}")
    for name, kind in outputs.items():
        if kind not in _KINDS if isinstance(kind, str) else not isinstance(kind, (PurePath, Stored)):
            raise UsageError(f"outputs[{name!r}] must be one of {_KINDS}, a Path or a Stored; got {kind!r}")
        if not isinstance(name, str) or PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise UsageError(f"outputs: {name!r} must be a name of the template or of a file that the program writes")
    return dict(outputs)


def _text(name: Any, value: Any) -> str:
    if not isinstance(name, str) or not isinstance(value, (str, int, float, os.PathLike)):
        raise UsageError(f"env must have texts for names; got {name!r}: {value!r}")
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _place(kind: PurePath | Stored) -> str:
    return kind.key if isinstance(kind, Stored) else str(kind)


@dataclass(frozen=True, eq=False)
class Command:
    """What `fnmap.command` returns. Two of the same words, files and options are the same function to the cache."""

    words: tuple[str, ...]
    files: Files
    env: Mapping[str, str]
    outputs: Mapping[str, Output]
    stdin: str | None
    timeout_s: float | None
    inputs: tuple[str, ...]
    suffixes: Mapping[str, list[str]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "__qualname__", PurePath(self.words[0]).name)  # what runs and plans call it

    def __repr__(self) -> str:
        return f"<command {' '.join(self.words)!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for these arguments. Raises CommandFailed, CommandTimeout, UsageError."""
        values = bind(self.inputs, args, kwargs)
        with _scratch() as work:
            self.files.link_into(work)
            texts = {name: as_word(name, value) for name, value in values.items()}
            for name, value in values.items():
                if isinstance(texts[name], FileName) and name != self.stdin:
                    _lay_down(work / self._file(name), value)
            made = {name: FileName(name) for name in self.outputs}
            words = [self.words[0], *(render(word, {**made, **texts}) for word in self.words[1:])]
            self._run(work, words, texts, self._source(work, values))
            results = {name: self._result(work, name, kind, texts) for name, kind in self.outputs.items()}
            _show(work.parent, self.outputs)
        return next(iter(results.values())) if len(results) == 1 else results

    def _file(self, name: str) -> str:
        return file_name(name, self.suffixes.get(name, []))

    def _source(self, work: Path, values: Mapping[str, Any]) -> Path:
        """A file that holds what the program reads from its standard input."""
        if self.stdin is None:
            return Path(os.devnull)
        value = values[self.stdin]
        if isinstance(value, os.PathLike):
            return Path(value)
        source = work.parent / "stdin"
        _lay_down(source, value if isinstance(value, (bytes, bytearray, memoryview, Stored)) else str(value).encode())
        return source

    def _run(self, work: Path, words: list[str], texts: Mapping[str, Any], source: Path) -> None:
        if "/" in words[0]:
            check_machine(work / words[0])
        env = {**os.environ, **{name: render(text, texts) for name, text in self.env.items()}}
        shown = " ".join(words)
        if not source.exists():
            raise CommandFailed(f"{shown}: there is no file {str(source)!r} on this machine to be its standard input")
        try:
            code = process.run(words, folder=work, env=env, stdin=source, limit_s=self.timeout_s)
        except process.OverTime:
            message = f"{shown}: ran over its limit of {self.timeout_s:g} s and was killed"
            raise _failed(CommandTimeout, message, work, None) from None
        if code:
            raise _failed(CommandFailed, f"{shown}: {_ended(code)}", work, code)

    def _result(self, work: Path, name: str, kind: Output, texts: Mapping[str, Any]) -> Any:
        path = work.parent / name if name in _STREAMS else work / self._file(name)
        if not path.is_file():
            there = sorted(p.name for p in work.iterdir() if not p.is_symlink())
            message = f"{self!r}: ended with 0, but wrote no file {path.name!r}; there are {there}"
            raise _failed(CommandFailed, message, work, 0)
        if kind == "bytes":
            return path.read_bytes()
        if kind == "text":
            return path.read_text(errors="replace")
        if isinstance(kind, Stored):
            stored = Stored(kind.store, render(kind.key, texts))
            stored.write(path.read_bytes())
            return stored
        if isinstance(kind, PurePath):
            return _move(path, Path(render(str(kind), texts)).absolute())
        return self._table(path)

    def _table(self, path: Path) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError) as error:
            raise CommandFailed(f"{self!r}: {path.name!r} is no Parquet file: {error}", returncode=0) from error


@contextmanager
def _scratch() -> Iterator[Path]:
    """A working directory for one call; beside it is room for what the program reads and prints. It goes with the call,
    or with the process if that is killed."""
    folder = new_folder()
    try:
        (folder / "work").mkdir()
        yield folder / "work"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():  # the program has left folders that nobody may write to
            for path, _, _ in os.walk(folder):
                Path(path).chmod(0o700)
            shutil.rmtree(folder, ignore_errors=True)


def _lay_down(path: Path, value: Any) -> None:
    with path.open("wb") as file:
        file.write(value.view() if isinstance(value, Stored) else value)


def _move(path: Path, to: Path) -> Path:
    """Into its place whole, also across file systems."""
    to.parent.mkdir(parents=True, exist_ok=True)
    fd, aside = tempfile.mkstemp(prefix=f".{to.name}.", dir=to.parent)
    try:
        with open(fd, "wb") as target, path.open("rb") as source:  # noqa: PTH123
            shutil.copyfileobj(source, target, 1 << 20)
        os.chmod(aside, 0o666 & ~_umask())  # noqa: PTH101
        Path(aside).replace(to)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return to


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _tail(path: Path, limit: int) -> str:
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - limit))
        return file.read().decode(errors="replace")
    return ""


def _failed(kind: type[CommandFailed], message: str, work: Path, code: int | None) -> CommandFailed:
    """With the tails of what it printed, the end of its complaints in the message too."""
    said, complained = (_tail(work.parent / name, TAIL_BYTES) for name in _STREAMS)
    lines = complained.strip().splitlines()[-SHOWN_LINES:]
    return kind("\n".join([message, *lines]), returncode=code, stdout=said, stderr=complained)


def _ended(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def _show(folder: Path, outputs: Mapping[str, Output]) -> None:
    """What it printed and nobody takes home goes where a Python function's prints go."""
    for name in _STREAMS:
        if name not in outputs and (text := _tail(folder / name, SHOWN_BYTES)):
            getattr(sys, name).write(text if text.endswith("\n") else text + "\n")
