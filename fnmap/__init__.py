"""fnmap: map a Python function over many inputs, on the cores of a laptop or on thousands of cloud workers.

run = fnmap.map(price_deal, deals)   # starts at once, never blocks
prices = list(run)                   # in the order of the deals
run.table()                          # the same as an Arrow table
"""

from fnmap import errors
from fnmap.api import attach, close, map, map_reduce, runs, starmap, submit, use  # noqa: A004 - meant like the builtin
from fnmap.errors import FnmapError, TaskError
from fnmap.executor import Executor
from fnmap.planning.policy import Retry, Tolerate
from fnmap.run import Run, Status
from fnmap.session import Session
from fnmap.tasks import task

__version__ = "0.1.0"

__all__ = [
    "Executor",
    "FnmapError",
    "Retry",
    "Run",
    "Session",
    "Status",
    "TaskError",
    "Tolerate",
    "attach",
    "close",
    "errors",
    "map",
    "map_reduce",
    "runs",
    "starmap",
    "submit",
    "task",
    "use",
]
