"""S3 and AWS Lambda on this machine, in a process of their own that counts what is asked of them.

A benchmark's CPU is then its client's, and no proxy is in the way of those who ask much: the S3 server itself says how
many requests it has had. `python -m benchmarks.aws OPTIONS` is that process.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch
from urllib.request import urlopen

from benchmarks import ROOT
from benchmarks.processes import tree_cpu_s

FUNCTIONS = Path(__file__).with_name("aws_functions.py")  # what is deployed besides fnmap
HANDLERS = ("empty", "one_object")
S3_REQUESTS = re.compile(r"^SeaweedFS_s3_request_total\{.*\} (\S+)$", re.MULTILINE)


class Aws:
    """The servers as their client sees them. `options` are those of `fnmap.testing.local_aws`, and `env`, variables of
    all environments. Those of AWS lead there as long as it is open."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.aws", json.dumps(self.options)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
        )
        said = self._hear()
        self.env, self.bucket = said["env"], said["bucket"]
        self._patched = patch.dict(os.environ, self.env)
        self._patched.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patched.stop()
        self._process.communicate()

    def counts(self) -> dict[str, float]:
        """Since the start: requests to `s3`; `invocations`, `throttled` ones and `cold_starts`; and `cpu_s` of the
        environments, in all and of each function."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self._hear()

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client of one of the servers."""
        import boto3
        from botocore.config import Config

        return boto3.client(service, config=Config(**config))

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the servers did not start")
        found: dict[str, Any] = json.loads(line)
        return found


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was asked between two counts."""
    return {key: value - before.get(key, 0) for key, value in after.items()}


def serve(options: dict[str, Any]) -> None:
    """Start all, say where it is, and tell the counts for each line that comes in."""
    from fnmap.testing.local_aws import local_aws
    from fnmap.testing.servers import free_ports, s3_server

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = free_ports(1)[0]
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_server(arguments=(f"-metricsPort={port}",)))
        s3 = replace(s3, env={**s3.env, **options.pop("env", {})})
        aws = stack.enter_context(local_aws(s3=s3, **options))
        for name in HANDLERS:
            _create(aws, name)
        _say(env=aws.env, bucket=aws.bucket)
        for _ in sys.stdin:
            _say(s3=_asked_of_s3(port), **dict(_of_lambda(aws.service)))


def _create(aws: Any, name: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.write(FUNCTIONS, FUNCTIONS.name)
    aws.client.create_function(
        FunctionName=name, Runtime=f"python{sys.version_info[0]}.{sys.version_info[1]}", Timeout=60, MemorySize=1769,
        Role="arn:aws:iam::123456789012:role/bench", Handler=f"{FUNCTIONS.stem}.{name}",
        Code={"ZipFile": packed.getvalue()},
    )  # fmt: skip


def _asked_of_s3(port: int) -> int:
    """By the server's own metrics. It counts a request when it has answered it."""
    time.sleep(0.05)
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return sum(int(float(number)) for number in S3_REQUESTS.findall(answer.read().decode()))


def _of_lambda(service: Any) -> Iterator[tuple[str, float]]:
    for name in ("invocations", "throttled", "cold_starts"):
        yield name, service.counts.get(name, 0)
    cpu = dict[str, float]()
    for environment in service.environments():
        if environment.pid is not None:
            name = f"cpu_s_{environment.function}"
            cpu[name] = cpu.get(name, 0.0) + tree_cpu_s(environment.pid)
    yield from cpu.items()
    yield "cpu_s", sum(cpu.values())


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
