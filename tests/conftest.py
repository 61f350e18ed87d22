"""What the tests share: warm sessions, gates to synchronise with tasks, and scripts in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from zlib import crc32

import pytest
from gates import Gate
from hypothesis import settings

import fnmap
from fnmap.testing import servers
from fnmap.testing.servers import Server

settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

PATIENCE_S = 30  # a test of these folders that takes longer hangs, unless its module says when


@pytest.fixture(autouse=True)
def patience(request):
    """Turn a hang into a failure."""
    if request.path.parent.name not in ("api", "local") and not hasattr(request.module, "PATIENCE_S"):
        yield
        return
    seconds = getattr(request.module, "PATIENCE_S", PATIENCE_S)
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"hangs: over {seconds} s"))
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def local() -> Iterator[fnmap.Session]:
    session = fnmap.Session(workers=2)
    yield session
    session.close()  # without waiting for what a test may have left behind


@pytest.fixture(scope="session")
def inline() -> Iterator[fnmap.Session]:
    session = fnmap.Session(on="inline")
    yield session
    session.close()


@pytest.fixture(params=["local", "inline"])
def session(request) -> fnmap.Session:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """A real S3 server for all tests of this process."""
    yield from serving(servers.s3_server())


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    """moto's imitation of all of AWS."""
    yield from serving(servers.moto_server())


def serving(server: AbstractContextManager[Any]) -> Iterator[Any]:
    pytest.importorskip("boto3")
    try:
        with server as running:
            yield running
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def aws_environment(s3_server, monkeypatch) -> None:
    """This process and its workers find the real S3 server by their environment."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(s3_server, aws_environment) -> str:
    """A bucket of the test's own. For objects `s3_url` is quicker: the server makes room for a bucket at its first."""
    return s3_server.make_bucket()


@pytest.fixture(scope="session")
def shared_bucket(s3_server) -> str:
    return s3_server.make_bucket("fnmap-shared")  # of one name: a FaultyProxy rolls its dice by the paths


@pytest.fixture
def s3_url(shared_bucket, aws_environment, request) -> str:
    """An empty place in a bucket of a real S3 server, the same in each session: "s3://bucket/prefix"."""
    return f"s3://{shared_bucket}/{crc32(request.node.nodeid.encode()):08x}"


@pytest.fixture
def gate(tmp_path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.free()


@pytest.fixture
def begun(tmp_path) -> Gate:
    return Gate(tmp_path / "begun")


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python script in a process of its own; it is killed with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
        script = tmp_path / f"script{len(started)}.py"
        script.write_text(text)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, str(script), *map(str, arguments)], **(pipes | options)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def local_aws(s3_server, moto_server) -> Iterator[Any]:
    """Lambda, S3 and SQS on this machine, with fnmap deployed; each environment is a process."""
    from fnmap.testing.local_aws import local_aws

    yield from serving(local_aws(s3=s3_server, queues=moto_server, delay_scale=0.005))


@pytest.fixture
def make_aws(s3_server, moto_server, monkeypatch) -> Iterator[Callable[..., Any]]:
    """A Lambda service of the test's own, which this process finds: with light environments unless said otherwise."""
    pytest.importorskip("boto3")
    from fnmap.testing.local_aws import local_aws

    with ExitStack() as stack:

        def make(**options: Any) -> Any:
            options = {"light": True, "queues": moto_server, "delay_scale": 0.005} | options
            aws = stack.enter_context(local_aws(s3=s3_server, **options))
            for name, value in aws.env.items():
                monkeypatch.setenv(name, value)
            if options["light"]:  # their process is this one
                monkeypatch.setenv("FNMAP_SECRET", aws.variables["FNMAP_SECRET"])
            return aws

        yield make


@pytest.fixture
def aws_here(local_aws, monkeypatch) -> Any:
    """As `local_aws`, with the environment of this process leading there."""
    for name, value in local_aws.env.items():
        monkeypatch.setenv(name, value)
    return local_aws


@pytest.fixture
def deploy(local_aws) -> Callable[..., str]:
    """Deploy fnmap under another name, with other variables, memory, sizes or time-out."""

    def make(name: str, **options: Any) -> str:
        if name not in {f["FunctionName"] for f in local_aws.client.list_functions()["Functions"]}:
            local_aws.deploy(name, **options)
        return name

    return make
