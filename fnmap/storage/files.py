# Not pathlib: it costs more than the system calls it wraps, and this is the path of every commit.
# Nor contextlib.suppress where nothing goes wrong, for the same reason.
# ruff: noqa: PTH100, PTH105, PTH106, PTH108, PTH111, PTH112, PTH116, PTH120, PTH123
"""A store in a directory: one file per object, on a local disk or one that the workers share."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fnmap.errors import MissingKey, UsageError
from fnmap.storage import disk
from fnmap.storage.base import Buffer
from fnmap.storage.checks import check_key, check_keys, check_prefix, plain
from fnmap.storage.oserrors import explained

if TYPE_CHECKING:
    from pathlib import Path

_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_TRIES = 100  # at a name in a folder that concurrent deletes keep removing
_MOST_KNOWN = 1000
_known: set[str] = set()  # folders that this process has seen


class FileStore:
    """Keeps the object `key` in the file `root/key`, and what is not yet whole in `root/.tmp/`.

    With `sync`, an object that `put` or `create` has returned from survives a loss of power: its bytes
    are flushed before it gets its name, and its name before the return; that costs several times the
    write. Without, an object survives the death of any process at any instruction, whole or not there;
    after a loss of power it may be damaged, which named runs notice, and do that chunk again.
    Deletions are not flushed. A folder cannot hold both the keys "a" and "a/b": UsageError.
    """

    by_name = True  # nothing of the user's is in it, so a plain pickle does

    def __init__(self, root: str | os.PathLike[str], *, sync: bool = False) -> None:
        self.root = _checked_root(root)
        self.sync = sync

    def get(self, key: str) -> bytes:
        """The whole object. Raises MissingKey."""
        with self._reading(key) as path, open(path, "rb", buffering=0) as file:
            return file.read()

    def map(self, key: str) -> memoryview:
        """The object as private copy-on-write memory: writable, and no write reaches the store."""
        with self._reading(key) as path, open(path, "rb", buffering=0) as file:
            return disk.mapped(file)

    def put(self, key: str, body: Buffer) -> None:
        """Write the object whole or not at all, replacing what was there."""
        path = self._path(key)
        with explained("write", path):
            self._write(path, (body,), _replace)

    def create(self, key: str, body: Buffer) -> bool:
        """Write the object exclusively: False, and nothing changed, if the key exists."""
        return self.create_parts(key, (body,))

    def create_parts(self, key: str, parts: Iterable[Buffer]) -> bool:
        """As `create`, of the concatenated parts, without joining them in memory first."""
        path = self._path(key)
        with explained("write", path):
            if path.rpartition("/")[0] in _known and _exists(path):  # most losers come late: spare them the writing
                return False
            return self._write(path, parts, self._claim)

    def adopt(self, key: str, path: str) -> bool:
        """Give a file that nobody changes any more a second name, as the object `key`. False, and nothing changed, if
        the key exists or the file lies on another file system."""
        target = self._path(key)
        with explained("write", target):
            try:
                disk.make_folder(os.path.dirname(target), sync=self.sync)
                os.link(path, target)
            except OSError as error:
                if error.errno in (errno.EXDEV, errno.EEXIST, *_NO_LINKS):
                    return False
                raise
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """The keys that start with `prefix`, in no particular order."""
        return self._walk(check_prefix(prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these keys, and folders left empty; a key that does not exist is not an error."""
        folders = set()
        for key in check_keys(keys):
            path = self._path(key)
            with explained("delete", path):
                if _remove(path):
                    folders.add(os.path.dirname(path))
        for folder in folders:
            self._remove_empty(folder)

    def path(self, key: str) -> Path:
        """The file that holds, or would hold, the object."""
        from pathlib import Path

        return Path(self._path(key))

    def url(self, key: str) -> str:
        """The absolute path of the object, which pyarrow, DuckDB and polars take as an address."""
        return self._path(key)

    def sweep(self) -> int:
        """Remove what killed writers left half written, and say how many; live writers are left alone."""
        with explained("list", self._aside):
            return disk.sweep(self._aside)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileStore) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __repr__(self) -> str:
        return f"FileStore({self.root!r}, sync={self.sync})"

    @property
    def _aside(self) -> str:
        return f"{self.root}/.tmp"

    def _path(self, key: str) -> str:
        return f"{self.root}/{check_key(key)}"

    @contextmanager
    def _reading(self, key: str) -> Iterator[str]:
        path = self._path(key)
        with explained("read", path):
            try:
                yield path
            except _ABSENT:
                raise MissingKey(f"no object {key!r} in {self!r}") from None

    def _write(self, path: str, parts: Iterable[Buffer], publish: Callable[[str, str], bool]) -> bool:
        aside = disk.write_aside(self._aside, parts, sync=self.sync)
        moved = False
        try:
            published = self._publish(aside, path, publish)
            moved = publish is _replace
        finally:
            if not moved:
                disk.discard(aside)
        if published and self.sync:
            disk.sync_folder(path.rpartition("/")[0])
        return published

    def _publish(self, aside: str, path: str, publish: Callable[[str, str], bool]) -> bool:
        """Make the folder unless it was there before; that it was is no promise that it is."""
        folder = path.rpartition("/")[0]
        made = folder in _known
        for _ in range(_TRIES):
            try:
                if not made:
                    disk.make_folder(folder, sync=self.sync)
                    _remember(folder)
                return publish(aside, path)
            except FileNotFoundError:
                made = False
        return publish(aside, path)

    def _claim(self, aside: str, path: str) -> bool:
        try:
            os.link(aside, path)
        except FileExistsError:
            if os.stat(aside).st_nlink > 1:  # over NFS, the repeat of a link whose answer was lost
                return True
            _exists(path)
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._claim_by_lock(aside, path)
        return True

    def _claim_by_lock(self, aside: str, path: str) -> bool:
        """Where the file system has no hard links: look and rename under a lock that ends with its holder."""
        import fcntl

        lock = os.open(f"{self._aside}/lock", os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return not _exists(path) and _replace(aside, path)
        finally:
            os.close(lock)

    def _walk(self, prefix: str) -> Iterator[str]:
        folders = [prefix.rpartition("/")[0]]
        while folders:
            folder = folders.pop()
            for entry in self._entries(folder):
                key = f"{folder}/{entry.name}" if folder else entry.name
                if key.startswith(prefix) and key != ".tmp" and plain(entry.name):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(key)
                    elif entry.is_file():
                        yield key

    def _entries(self, folder: str) -> Iterable[os.DirEntry[str]]:
        """All at once: what the reader does between two keys must not change what it sees of a folder."""
        path = f"{self.root}/{folder}"
        with explained("list", path):
            try:
                with os.scandir(path) as entries:
                    return tuple(entries)
            except _ABSENT:
                return ()

    def _remove_empty(self, folder: str) -> None:
        with suppress(OSError):  # not empty, most often; a writer that loses its folder makes it again
            while folder != self.root:
                os.rmdir(folder)
                folder = os.path.dirname(folder)


def _remember(folder: str) -> None:
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known.add(folder)


def _checked_root(root: str | os.PathLike[str]) -> str:
    text = os.fspath(root) if isinstance(root, (str, os.PathLike)) else ""
    if not text or "://" in text:
        raise UsageError(f"root must be the path of a directory, such as '/data/fnmap'; got {root!r}")
    path = there = os.path.abspath(os.path.expanduser(text))
    while not os.path.lexists(there):  # what is missing is made by the first write
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise UsageError(f"root must be a directory; got {path!r}, but {there!r} is a file")
    return path


def _exists(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except _ABSENT:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "other keys begin with this one")
    return True


def _replace(aside: str, path: str) -> bool:
    os.replace(aside, path)
    return True


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except _ABSENT:
        return False
    except PermissionError:  # what some systems answer for a folder, which holds no object of this key
        if os.path.isdir(path):
            return False
        raise
    return True
