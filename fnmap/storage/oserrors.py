"""What an OSError means to a user of a store, and what to do about it."""

from __future__ import annotations

import errno
from typing import Literal

from fnmap.errors import FnmapError, StoreError, StoreFull, StoreReadOnly, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_CLASH = (errno.ENOTDIR, errno.EISDIR)
_ADVICE = {
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or make the object smaller",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or let go of mapped objects",
    errno.ENAMETOOLONG: "choose a shorter key, or a root with a shorter path",
    errno.EXDEV: "keep the whole store on one file system",
    errno.EIO: "check the disk, or the network it is mounted over",
}


class explained:  # noqa: N801 - a context manager; one of contextlib's costs as much as a system call
    """Turn an OSError of the block into the error of the tree that it means."""

    __slots__ = ("_doing", "_path")

    def __init__(self, doing: Literal["read", "list", "write", "delete"], path: str) -> None:
        self._doing, self._path = doing, path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FnmapError):
            doing, what = self._doing, f"cannot {self._doing} {self._path}"
            raise _meaning(error, what, changing=doing in ("write", "delete")) from error


def _meaning(error: OSError, what: str, *, changing: bool) -> FnmapError:
    code, text = error.errno, f"{what}: {error.strerror or error}"
    meant: StoreFull | StoreReadOnly
    if code in _FULL:
        meant = StoreFull(f"{text}; free some space there, or choose a store elsewhere")
    elif changing and code in _READ_ONLY:
        meant = StoreReadOnly(f"{text}; make it writable for this user, or choose a store elsewhere")
    elif changing and code in _CLASH:
        return UsageError(f"{text}; a file and a folder cannot share a path: choose another key or root")
    else:
        return StoreError(f"{text}; {_ADVICE[code]}" if code in _ADVICE else text)
    meant.errno = code
    return meant
