"""A store as a file system of pyarrow's, so that it reads datasets through all that the store does: credentials,
retries, checksums and seals."""

from __future__ import annotations

from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.fs as pafs

from fnmap.errors import MissingKey, UsageError
from fnmap.storage.base import GetRange

WHOLE_BYTES = 8 << 20  # what is no larger is read with one request


def file_system(store: GetRange) -> Any:
    """The objects of the store as files, to be read."""
    return pafs.PyFileSystem(_Files(store))


class _Files(pafs.FileSystemHandler):  # type: ignore[misc, unused-ignore]
    def __init__(self, store: GetRange) -> None:
        self.store = store

    def get_type_name(self) -> str:
        return "fnmap"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[Any]:
        return [self._info(path) for path in paths]

    def open_input_file(self, path: str) -> Any:
        size = self.store.size(path)
        if size <= WHOLE_BYTES:
            return pa.BufferReader(self.store.get(path))
        return pa.PythonFile(_Ranges(self.store, path, size), mode="r")

    open_input_stream = open_input_file

    def _info(self, path: str) -> Any:
        try:
            return pafs.FileInfo(path, pafs.FileType.File, size=self.store.size(path))
        except MissingKey:
            return pafs.FileInfo(path, pafs.FileType.NotFound)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(f"{self.store!r} is only read through this file system")

    get_file_info_selector = _refuse
    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Files) and self.store == other.store

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.store)


class _Ranges:
    """A large object as a file of Python's: each read is a request, so that columns which nobody asks for stay."""

    closed = False

    def __init__(self, store: GetRange, key: str, size: int) -> None:
        self._store, self._key, self._size, self._at = store, key, size, 0

    def read(self, count: int | None = None) -> bytes:
        left = self._size - self._at
        count = left if count is None or count < 0 else min(count, left)
        body = self._store.get_range(self._key, self._at, count) if count > 0 else b""
        self._at += len(body)
        return body

    def seek(self, to: int, whence: int = 0) -> int:
        self._at = to + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True
