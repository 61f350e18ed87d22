"""AWS on this machine, with fnmap deployed: real S3 and Lambda servers, SQS from moto.

with local_aws() as aws:
    os.environ.update(aws.env)
    fnmap.map(f, xs, on="lambda")

For tests, notebooks and benchmarks. The function is this very fnmap, and sees the packages of this interpreter; what
`fnmap deploy` builds is tested against the same servers with `LambdaService()` as it is by default.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fnmap
from fnmap.aws.deployment import HANDLER, function_of
from fnmap.aws.package import code_hash
from fnmap.compute.aws_handler import Environment
from fnmap.testing.aws_lambda import LambdaService
from fnmap.testing.servers import Server, moto_server, s3_server

PACKAGES = ("cloudpickle", "numpy", "obstore", "pandas", "pyarrow")  # as far as they are installed


@dataclass(frozen=True)
class LocalAws:
    """What runs. `env` leads a client here; `variables` are the function's own."""

    env: dict[str, str]
    service: LambdaService
    s3: Server
    bucket: str
    variables: dict[str, str]

    @property
    def client(self) -> Any:
        """A boto3 client of the Lambda service."""
        return boto3_client("lambda", self.env)

    def deploy(
        self, name: str, *, memory_mb: int = 1769, timeout_s: int = 60, sizes: Sequence[int] = (), **variables: str
    ) -> str:
        """Deploy fnmap under a name, with functions of so many times the memory besides; the name."""
        said, code = {"FNMAP_SIZES": " ".join(map(str, (1, *sizes)))}, own_zip()
        for times in (*sizes, 1):
            self.client.create_function(
                FunctionName=function_of(name, times), Runtime=f"python{sys.version_info[0]}.{sys.version_info[1]}",
                Handler=HANDLER, Role="arn:aws:iam::123456789012:role/fnmap", Code={"ZipFile": code},
                MemorySize=times * memory_mb, Timeout=timeout_s,
                Environment={"Variables": self.variables | said | variables},
            )  # fmt: skip
        return name


@contextmanager
def local_aws(
    *, light: bool = False, queues: bool | Server = False, function: str = "fnmap", memory_mb: int = 1769,
    sizes: Sequence[int] = (), timeout_s: int = 60, metrics: bool = False, s3: Server | None = None, role: str = "",
    **options: Any,
) -> Iterator[LocalAws]:  # fmt: skip
    """Start it all, and stop it at the end. `light`: environments are objects in one process, thousands of them;
    `queues`: SQS too, which detached calls need. These and `s3` may be servers that run already; `role`: the key that
    functions have in S3, one of `servers.MAY`, unless it is ours. `options` are those of LambdaService."""
    with ExitStack() as stack:
        s3 = s3 or stack.enter_context(s3_server())
        bucket, seen = s3.make_bucket(), dict(s3.env)
        if queues:
            sqs = stack.enter_context(moto_server()) if queues is True else queues
            seen["AWS_ENDPOINT_URL_SQS"] = sqs.endpoint
        variables = {
            "FNMAP_SECRET": os.urandom(32).hex(),
            "FNMAP_STORE": f"s3://{bucket}",
            "FNMAP_CODE": code_hash(),
            "FNMAP_PACKAGES": " ".join(f"{name}={version}" for name, version in _versions()),
            "FNMAP_METRICS": "1" if metrics else "0",
        }
        handler = light_handler({**seen, **variables}) if light else None
        theirs = {**seen, "AWS_ACCESS_KEY_ID": role} if role else seen
        service = stack.enter_context(LambdaService(extra_env=theirs, isolated=False, light=handler, **options))
        found = LocalAws({**service.env, **seen}, service, s3, bucket, variables)
        found.deploy(function, memory_mb=memory_mb, timeout_s=timeout_s, sizes=sizes)
        yield found


def boto3_client(service: str, env: dict[str, str]) -> Any:
    """A client of boto3 for these variables, whatever those of this process are."""
    import boto3  # type: ignore[import-untyped, unused-ignore]

    session = boto3.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], region_name=env["AWS_REGION"])
    return session.client(service, endpoint_url=env.get(f"AWS_ENDPOINT_URL_{service.upper()}"))


def light_handler(variables: dict[str, str]) -> Callable[[Any, Any], Any]:
    """The handler of light environments: each runs its calls in a thread of this process."""

    def handle(event: Any, context: Any) -> Any:
        here = context.environment
        if "fnmap" not in here:
            here["fnmap"] = Environment(variables, in_process=True)
        return here["fnmap"].handle(event, context)

    return handle


def own_zip() -> bytes:
    """fnmap's own sources, zipped: enough where the packages are found elsewhere."""
    out, root = io.BytesIO(), Path(fnmap.__file__).parent
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(root.rglob("*")):
            if path.is_file() and "testing" not in path.parts and "__pycache__" not in path.parts:
                packed.write(path, path.relative_to(root.parent))
    return out.getvalue()


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
