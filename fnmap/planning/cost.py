"""What a run on AWS is billed: dated price lists, and bills by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from fnmap.errors import PlanError

if TYPE_CHECKING:
    from fnmap.planning.models import ComputeModel

LATEST = "aws-us-east-1-2025-01"


@dataclass(frozen=True, slots=True)
class Used:
    """What was used. `worker_s`: seconds of workers that are paid for; `log_bytes`: written to the logs."""

    worker_s: float = 0.0
    requests: Mapping[str, float] | None = None  # by kind
    log_bytes: float = 0.0


@cache
def price_list(name: str = LATEST) -> Mapping[str, Any]:
    """A price list that comes with fnmap, by its name: tables of dollars by unit, with source and date."""
    import tomllib
    from importlib.resources import files

    folder = files("fnmap.planning") / "prices"
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))
        raise PlanError(f"there is no price list {name!r}; there are {', '.join(known)}")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def bill(model: ComputeModel, used: Used, prices: Mapping[str, Any]) -> dict[str, float]:
    """Dollars by line. A compute of one's own costs nothing; no line is there that it does not have."""
    if model.billing == "none":
        return {}
    requests = dict(used.requests or {})
    lines = {"compute": _compute(model, used.worker_s, prices)}
    if "lambda" in requests:
        lines["requests"] = requests.pop("lambda") * prices["lambda"]["request"]
    unpriced = sorted(requests.keys() - prices["requests"].keys())
    if unpriced:
        raise PlanError(f"the price list of {prices['date']} has no price for requests of kind {', '.join(unpriced)}")
    for line, kinds in LINES.items():
        if not kinds.isdisjoint(requests):
            lines[line] = sum(requests[kind] * prices["requests"][kind] for kind in sorted(kinds & requests.keys()))
    lines["logs"] = used.log_bytes / 1e9 * prices["logs"]["gb"]
    return lines


LINES = {"storage requests": frozenset({"s3_put", "s3_get"}), "queue requests": frozenset({"sqs"})}


def _compute(model: ComputeModel, worker_s: float, prices: Mapping[str, Any]) -> float:
    if model.billing == "lambda":
        return float(worker_s * model.memory_gb * prices["lambda"][model.arch]["gb_second"])
    of = prices["fargate"][model.arch]
    return float(worker_s / 3600 * (model.vcpus * of["vcpu_hour"] + model.memory_gb * of["gb_hour"]))
