"""Functions that are deployed to be compared with. They run without this repository."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any


def empty(event: Any, context: Any) -> None:
    """The least that a function can do."""


def one_object(event: Any, context: Any) -> None:  # noqa: ARG001 - as Lambda calls it
    """After PyWren: the function is one object, the input of each task one, and its output one."""
    s3, bucket, run, task = _s3(), event["bucket"], event["run"], event["task"]

    def get(key: str) -> Any:
        return pickle.loads(s3.get_object(Bucket=bucket, Key=f"{run}/{key}")["Body"].read())

    value = get("function")(get(f"in/{task}"))
    s3.put_object(Bucket=bucket, Key=f"{run}/out/{task}", Body=pickle.dumps(value))


@cache
def _s3() -> Any:
    import boto3

    return boto3.client("s3")
