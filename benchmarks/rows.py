"""A row: what one system answered to one question, with when, where and with what it was measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = (
    "fnmap", "cloudpickle", "numpy", "pyarrow", "joblib", "mpire", "dask", "distributed", "ray", "lithops", "duckdb",
)  # fmt: skip

Row = dict[str, Any]


def about_here() -> Row:
    """When, on what and with which versions something is measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def keep(rows: Iterable[Row], folder: Path) -> None:
    """Append the rows to the file of their question, dropping what was there of the same system."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        path = folder / f"{row['question']}.jsonl"
        others = [other for other in kept(path) if other["system"] != row["system"]]
        path.write_text("".join(json.dumps(r) + "\n" for r in [*others, row]))


def kept(path: Path) -> list[Row]:
    """The rows of a file, if there is one."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    """Which fnmap it was; empty outside of a checkout. "-dirty": with changes that are not committed."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
    return told.stdout.decode().strip()
