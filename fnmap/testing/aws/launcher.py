"""The first lines of a process environment: dies with the service, then is the genuine runtime.

Run as a script, where fnmap cannot be imported: `python -P launcher.py LIFELINE HANDLER`.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import select
import signal
import sys


def die_with_service(lifeline: int) -> None:
    """Have the kernel kill this process group when the service's end of the pipe closes, however that comes about."""
    os.set_inheritable(lifeline, False)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, getattr(fcntl, "F_SETSIG", 10), signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it was closed before the kernel was asked
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    die_with_service(int(sys.argv[1]))
    sys.argv = ["awslambdaric", sys.argv[2]]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)
