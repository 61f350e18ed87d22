"""Which process wrote something, and does it still live?

An owner is `<host>.<pid>.<birth>`: host stands for one boot of one machine (or container), and birth
tells two processes apart that had the same pid.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from zlib import crc32


def me() -> str:
    """This process."""
    return _owner(os.getpid())


def is_here(owner: str) -> bool:
    """Whether the owner is a process of this host, so that `may_live` knows."""
    return owner.partition(".")[0] == _host()


def may_live(owner: str) -> bool:
    """False only if that process is known to be gone; one of another host cannot be asked."""
    _, pid, birth = owner.split(".")
    return not is_here(owner) or _lives(int(pid), birth)


@lru_cache(maxsize=1)  # keyed by pid, so that a forked child is itself
def _owner(pid: int) -> str:
    return f"{_host()}.{pid}.{_birth(pid)}"


def _lives(pid: int, birth: str) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives, and is another user's
        pass
    return _birth(pid) in (birth, "")


def _birth(pid: int) -> str:
    """When the process started, in ticks since the boot; "" where the system does not tell."""
    stat = _read(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""


def _host() -> str:
    """Changes with machine, boot and pid namespace: within one value, a pid means one process."""
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{crc32(f'{os.uname().nodename} {boot} {namespace}'.encode()):08x}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
