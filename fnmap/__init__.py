"""fnmap: map a Python function over many inputs, on the cores of a laptop or on thousands of cloud workers.

run = fnmap.map(price_deal, deals)   # starts at once, never blocks
prices = list(run)                   # in the order of the deals
run.table()                          # the same as an Arrow table
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnmap import errors
    from fnmap.api import attach, close, gc, map, map_reduce, plan, runs, starmap, submit, use  # noqa: A004 - as the builtin
    from fnmap.errors import FnmapError, TaskError
    from fnmap.executor import Executor
    from fnmap.inputs.command import command
    from fnmap.plan_file import load_plan
    from fnmap.plan_parts import StageRef, TaskRef
    from fnmap.plan_run import PlanRun
    from fnmap.planning.models import ComputeModel
    from fnmap.planning.policy import Retry, Tolerate
    from fnmap.plans import Plan
    from fnmap.run import Run, Status
    from fnmap.session import Session
    from fnmap.shared import share
    from fnmap.tasks import task

__version__ = "0.1.0"

__all__ = [
    "ComputeModel",
    "Executor",
    "FnmapError",
    "Plan",
    "PlanRun",
    "Retry",
    "Run",
    "Session",
    "StageRef",
    "Status",
    "TaskError",
    "TaskRef",
    "Tolerate",
    "attach",
    "close",
    "command",
    "errors",
    "gc",
    "load_plan",
    "map",
    "map_reduce",
    "plan",
    "runs",
    "share",
    "starmap",
    "submit",
    "task",
    "use",
]

_HOMES = {
    "fnmap.api": "attach close gc map map_reduce plan runs starmap submit use",
    "fnmap.errors": "FnmapError TaskError",
    "fnmap.executor": "Executor",
    "fnmap.inputs.command": "command",
    "fnmap.plan_file": "load_plan",
    "fnmap.plan_parts": "StageRef TaskRef",
    "fnmap.plan_run": "PlanRun",
    "fnmap.planning.models": "ComputeModel",
    "fnmap.planning.policy": "Retry Tolerate",
    "fnmap.plans": "Plan",
    "fnmap.run": "Run Status",
    "fnmap.session": "Session",
    "fnmap.shared": "share",
    "fnmap.tasks": "task",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: a worker, which imports this too, needs little of it."""
    if name == "errors":
        return import_module("fnmap.errors")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fnmap' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
