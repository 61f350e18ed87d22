"""Where the large payloads of live runs lie: a directory of temporary files that goes with its process.

In shared memory where there is room for it: a file there is written at the speed of memory, and no disk
is troubled for what is gone a second later. FNMAP_SCRATCH names another directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from fnmap.errors import StoreError, StoreReadOnly
from fnmap.storage.base import Store
from fnmap.storage.files import FileStore
from fnmap.storage.owner import may_live, me

SHARED_MEMORY = Path("/dev/shm")
ROOMY_BYTES = 2 << 30
_PREFIX = "fnmap-scratch-"


def new_scratch() -> Store:
    """An empty store of this process; what dead processes have left is removed on the way."""
    base = _base()
    _sweep(base)
    return FileStore(tempfile.mkdtemp(prefix=f"{_PREFIX}{me()}-", dir=base), sync=False)


def new_folder() -> Path:
    """An empty folder of this process, on a file system from which programs may run; shared memory often forbids it."""
    base = _folders()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        raise StoreReadOnly(f"{base} belongs to another user: set FNMAP_SCRATCH to a directory of your own")
    _sweep_once(base, os.getpid())
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{me()}-", dir=base))


@lru_cache(maxsize=8)
def _sweep_once(base: Path, _: int) -> None:
    """When a process first needs a folder, what those before it have left."""
    _sweep(base)


def sweep_folders() -> None:
    """Remove the folders of processes that have died."""
    _sweep(_folders())


def _folders() -> Path:
    return Path(os.environ.get("FNMAP_SCRATCH") or tempfile.gettempdir(), f"fnmap-folders-{os.getuid()}")


def _base() -> Path:
    if named := os.environ.get("FNMAP_SCRATCH"):
        return Path(named)
    with contextlib.suppress(OSError):
        room = os.statvfs(SHARED_MEMORY)
        if room.f_bavail * room.f_frsize >= ROOMY_BYTES and os.access(SHARED_MEMORY, os.W_OK):
            return SHARED_MEMORY
    return Path(tempfile.gettempdir())


def remove_scratch(store: Store) -> None:
    """Delete a scratch store. Memory that is mapped from it stays valid."""
    if isinstance(store, FileStore):
        shutil.rmtree(store.root, ignore_errors=True)
    else:
        with contextlib.suppress(StoreError):  # what is left expires
            store.delete(list(store.list("")))


def _sweep(base: Path) -> None:
    with contextlib.suppress(OSError):
        for path in base.glob(f"{_PREFIX}*"):
            owner = path.name.removeprefix(_PREFIX).rpartition("-")[0]
            if owner.count(".") == 2 and not may_live(owner):
                shutil.rmtree(path, ignore_errors=True)
