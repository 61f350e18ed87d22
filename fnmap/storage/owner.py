"""Which process wrote something, and does it still live?

An owner is `<host>.<pid>.<birth>`: host stands for one boot of one machine (or container), and birth
tells two processes apart that had the same pid.
"""

from __future__ import annotations

import os
from fnmap.storage import disk


def me() -> str:
    """This process."""
    return disk._owner(os.getpid())


def may_live(owner: str) -> bool:
    """False only if that process is known to be gone; one of another host cannot be asked."""
    host, pid, birth = owner.split(".")
    return host != disk._host() or disk._lives(int(pid), birth)
