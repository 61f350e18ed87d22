"""What the tests share: warm sessions, gates to synchronise with tasks, and scripts in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from gates import Gate

import fnmap
from fnmap.testing import servers
from fnmap.testing.servers import Server

PATIENCE_S = 10  # a test of these folders that takes longer hangs, unless its module says otherwise


@pytest.fixture(autouse=True)
def patience(request):
    """Turn a hang into a failure."""
    if request.path.parent.name not in ("api", "local"):
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


def serving(server: AbstractContextManager[Server]) -> Iterator[Server]:
    pytest.importorskip("boto3")
    try:
        with server as running:
            yield running
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def bucket(s3_server, monkeypatch) -> str:
    """An empty bucket of a real S3 server, which this process and its workers find by their environment."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server.make_bucket()


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
