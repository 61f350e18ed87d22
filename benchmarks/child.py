"""The process in which one system answers one part of a question: `python -m benchmarks.child JSON FD`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

from benchmarks.peers import SYSTEMS, System
from benchmarks.question import Question


def find(question: Question, name: str) -> type[System]:
    """The system of this name, the question's own first."""
    return {**SYSTEMS, **{system.name: system for system in question.own}}[name]


def answer(order: dict[str, Any], fd: int) -> None:
    """Measure, and write each figure to `fd` as soon as it is there, a line of JSON for each."""

    def tell(**said: Any) -> None:
        os.write(fd, json.dumps(said).encode() + b"\n")

    try:
        question: Question = importlib.import_module(order["module"]).QUESTION
        system = find(question, order["system"])(order["workers"])
        for metrics in question.measure(system, **order["params"]):
            tell(metrics=metrics)
    except Exception as error:  # told to the harness, which shows it in the row
        traceback.print_exc()
        tell(error=f"{type(error).__name__}: {error}")
    tell(end=True)


if __name__ == "__main__":
    answer(json.loads(sys.argv[1]), int(sys.argv[2]))
