"""From an empty account to a map and back, with the real package in genuine runtime processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fnmap.testing.servers import Server

MAP = """
import fnmap, numpy as np
print(list(fnmap.map(lambda x: float(np.sqrt(x)), range(3), on="lambda")))
run = fnmap.map(lambda x: {"a": x, "b": np.arange(3)}, range(50), on="lambda", name="kept", chunksize=25)
print(run.table().num_rows, run.status.state)
"""
ATTACH = """
import fnmap
with fnmap.Session(on="lambda") as session:
    print(len(list(session.attach("kept"))), [run.name for run in session.runs()])
"""
PACKAGE = """
import fnmap, pytest
with fnmap.Session(on="lambda") as session:
    try:
        session.map(lambda x: pytest.approx(x), [1])
    except fnmap.errors.DeployError as error:
        print(error)
"""
GROW = """
import fnmap, os, select
def hold(mb):
    held = bytearray(b"x") * (mb << 20)
    select.select([], [], [], 0.4)
    return os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
print(list(fnmap.map(hold, [1, 400], on="lambda")))
"""


@pytest.fixture(scope="module")
def account(moto_server: Server, packages: Path) -> Iterator[dict[str, str]]:
    """An account with nothing in it: what a client's environment needs."""
    from fnmap.testing.aws_lambda import LambdaService

    url = moto_server.endpoint
    seen = {**moto_server.env, "AWS_ENDPOINT_URL_S3": url, "AWS_ENDPOINT_URL_SQS": url}
    with LambdaService(extra_env=seen) as service:
        yield {**os.environ, **service.env, "AWS_ENDPOINT_URL": url, "XDG_CACHE_HOME": str(packages)}


@pytest.fixture(scope="module")
def run(account) -> Any:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *command], env=account, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def fnmap_command(run) -> Any:
    def command(*arguments: str) -> str:
        done = run("-m", "fnmap", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return command


def script(run: Any, text: str) -> list[str]:
    done = run("-c", text)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_deploy_map_attach_destroy(run, fnmap_command):
    deployed = fnmap_command("deploy")
    assert deployed.count("create") >= 6
    assert "nothing to do" in fnmap_command("deploy")
    assert "all is well" in fnmap_command("doctor")
    assert script(run, MAP) == ["[0.0, 1.0, 1.4142135623730951]", "50 done"]
    assert script(run, ATTACH) == ["50 ['kept']"]
    (missing,) = script(run, PACKAGE)
    assert "needs the package 'pytest'" in missing
    assert "fnmap deploy --add pytest==" in missing
    assert "create  function     fnmap-2x" in fnmap_command("deploy", "--memory", "400", "--sizes", "2")
    assert "ok       sizes         fnmap-2x" in fnmap_command("doctor")
    assert script(run, GROW) == ["['400', '800']"]
    assert fnmap_command("destroy", "--yes").count("delete  function") == 2
    gone = run("-c", MAP)
    assert gone.returncode != 0
    assert "run `fnmap deploy`" in gone.stderr
