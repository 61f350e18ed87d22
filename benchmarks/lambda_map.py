"""What does a map of tasks that do nothing take on AWS Lambda, and what does it ask of Lambda and S3?

All have the same S3 server and the same Lambda service, of genuine runtime processes of which a few run at once.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any, ClassVar

from benchmarks.aws import Aws, spent
from benchmarks.peers import Fn, System, _plain
from benchmarks.processes import peak_bytes
from benchmarks.question import Cap, Column, Goal, Metrics, Part, Question, check, timed

SEVERAL = 5  # of what is over in no time
POLL_S = 0.02
NAP_S = 0.3


def nothing(item: int) -> int:
    """The least that a task can do."""
    return item


def nap(item: int) -> int:
    """Long enough for every environment to be needed."""
    time.sleep(NAP_S)
    return item


class OnLambda(System):
    """A system, and the servers that it is given. `environments`: how many of its calls run at once."""

    environments = 8

    def start(self) -> None:
        self.stack = ExitStack()
        self.aws = self.stack.enter_context(Aws(concurrency=self.environments + 2, delay_scale=0.01))
        self.connect()

    def connect(self) -> None:
        """Make what maps."""
        raise NotImplementedError

    def close(self) -> None:
        self.stack.close()


class Fnmap(OnLambda):
    """fnmap as it is: direct calls."""

    name, module = "fnmap", "aiohttp"

    def connect(self) -> None:
        import fnmap
        from fnmap.compute.aws_lambda import LambdaCompute

        self.session = self.stack.enter_context(fnmap.Session(on=LambdaCompute(workers=self.environments)))

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return list(self.session.map(fn, items))


class FnmapNamed(Fnmap):
    """Named runs: all results are committed to S3."""

    name: ClassVar[str] = "fnmap-named"
    runs = count(1)

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return list(self.session.map(fn, items, name=f"run-{next(self.runs)}"))


class Lithops(OnLambda):
    """Its own aws_lambda backend, deployed by itself, with its aws_s3 storage, and told how many may run at once."""

    name, module = "lithops", "lithops"

    def connect(self) -> None:
        import io
        import os
        import tempfile
        import zipfile

        os.environ["HOME"] = folder = tempfile.mkdtemp()  # it remembers there what it has deployed
        os.chdir(folder)  # and packs its handler in the working directory
        import lithops
        from lithops.serverless.backends.aws_lambda import aws_lambda as backend
        from lithops.version import __version__

        client, empty = self.aws.client("lambda"), io.BytesIO()
        with zipfile.ZipFile(empty, "w") as packed:
            packed.writestr("python/none.txt", "its dependencies are in the environments already")
        user, python = "abcd", f"v{sys.version_info[0]}{sys.version_info[1]}"
        layer = f"lithops_v{__version__.replace('.', '')}_{user}_default-runtime-{python}_layer"
        client.publish_layer_version(LayerName=layer, Content={"ZipFile": empty.getvalue()})
        request, host = backend.AWSRequest, self.aws.env["AWS_ENDPOINT_URL_LAMBDA"].removeprefix("http://")

        def to_service(method: str, url: str, data: Any, headers: dict[str, str]) -> Any:
            """Its address is a part of its code: `https://lambda.<region>.amazonaws.com`."""
            path = url.partition("amazonaws.com")[2]
            return request(method=method, url=f"http://{host}{path}", data=data, headers={**headers, "Host": host})

        backend.AWSRequest = to_service
        keys = {"access_key_id": "testkey", "secret_access_key": "testsecret", "account_id": "123456789012"}
        role = {"execution_role": "arn:aws:iam::123456789012:role/bench", "max_workers": self.environments}
        self.executor = lithops.FunctionExecutor(
            config={
                "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
                "aws": {**keys, "user_id": f"xx{user}", "region": self.aws.env["AWS_REGION"]},
                "aws_lambda": {**role, "runtime_memory": 1769},
                "aws_s3": {"storage_bucket": self.aws.bucket},
            },
            log_level=None,
        )

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        futures = self.executor.map(_plain(fn), [(item,) for item in items])
        found: list[Any] = self.executor.get_result(futures, show_progressbar=False)
        return found


class OneObject(OnLambda):
    """PyWren's way, in its simplest form: an object for each input and each output, an asynchronous invocation for each
    task, and lists of what is there."""

    name, module = "one-object", "boto3"
    runs = count(1)

    def connect(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        pooled = {"max_pool_connections": self.environments}
        self.s3, self.function = self.aws.client("s3", **pooled), self.aws.client("lambda", **pooled)
        self.pool = self.stack.enter_context(ThreadPoolExecutor(self.environments))

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        run = f"run-{next(self.runs)}"
        self._put(f"{run}/function", cloudpickle.dumps(_plain(fn)))
        started, there = 0, set[str]()
        while len(there) < len(items):
            fresh = range(started, min(len(items), len(there) + self.environments))
            list(self.pool.map(lambda task: self._start(run, task, items[task]), fresh))
            started += len(fresh)
            there |= self._finished(run, there)
            if started - len(there) == self.environments:
                time.sleep(POLL_S)
        return list(self.pool.map(lambda task: self._result(run, task), range(len(items))))

    def _start(self, run: str, task: int, item: Any) -> None:
        import json
        import pickle

        self._put(f"{run}/in/{task}", pickle.dumps(item))
        event = json.dumps({"bucket": self.aws.bucket, "run": run, "task": task})
        self.function.invoke(FunctionName="one_object", InvocationType="Event", Payload=event)

    def _finished(self, run: str, there: set[str]) -> set[str]:
        """The outputs that there are, a thousand a request."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.aws.bucket, Prefix=f"{run}/out/")
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])} - there

    def _put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.aws.bucket, Key=key, Body=body)

    def _result(self, run: str, task: int) -> Any:
        import pickle

        return pickle.loads(self.s3.get_object(Bucket=self.aws.bucket, Key=f"{run}/out/{task}")["Body"].read())


def measure(system: System, sizes: Sequence[int], environments: int) -> Iterator[Metrics]:
    """Seconds for each size; and for the largest, CPU and requests a task, and the memory that the client has had."""
    if isinstance(system, OnLambda):
        system.environments = environments
    with system:
        mapped(system, nap, environments)
        size, wall_s, used = 0, 0.0, dict[str, float]()
        for size in sizes:
            wall_s, used = mapped(system, nothing, size)
            again = [mapped(system, nothing, size)[0] for _ in range(SEVERAL - 1)] if wall_s < 1 else []
            yield {f"s_{size}": statistics.median([wall_s, *again])}
        yield {"s_most": wall_s, "client_mb": peak_bytes() / 1e6}
        yield {f"{key}_task": value / size * (1e3 if key.endswith("ms") else 1) for key, value in used.items()}


def mapped(system: System, fn: Fn, size: int) -> tuple[float, dict[str, float]]:
    """Wall seconds of one map; and in all, CPU seconds here (`client_ms`) and there (`worker_ms`), and requests."""
    items = list(range(size))
    aws = system.aws if isinstance(system, OnLambda) else None
    before, cpu_s = aws.counts() if aws else {}, time.process_time()
    wall_s, results = timed(system.map, fn, items)
    cpu_s = time.process_time() - cpu_s
    check(results == items, f"{size} no-ops did not give their items back")
    used = spent(before, aws.counts()) if aws else {"s3": 0, "invocations": 0, "cpu_s": 0}
    return wall_s, {
        "client_ms": cpu_s, "worker_ms": used["cpu_s"], "s3": used["s3"], "invocations": used["invocations"],
    }  # fmt: skip


QUESTION = Question(
    name="lambda_map",
    asks=(__doc__ or "").partition("\n\n")[0],
    measure=measure,
    parts=(
        Part(
            ("s_1", "s_100", "s_1000", "s_10000", "client_mb", "client_ms_task", "worker_ms_task", "s3_task",
             "invocations_task")
        ),
    ),
    columns=(
        Column("s_most", "most tasks"),
        Column("s_1", "1 task"),
        Column("s_100", "100"),
        Column("s_1000", "1 k"),
        Column("s_10000", "10 k"),
        Column("s3_task", "S3 requests a task", "share"),
        Column("invocations_task", "invocations a task", "share"),
        Column("client_ms_task", "client's CPU a task", "ms"),
        Column("worker_ms_task", "workers'", "ms"),
        Column("client_mb", "client", "MB"),
    ),
    systems=("fnmap", "fnmap-named", "one-object", "lithops"),
    toy_systems=("fnmap", "fnmap-named", "one-object"),
    full={"sizes": (1, 100, 1_000, 10_000), "environments": 8},
    toy={"sizes": (1, 20), "environments": 2},
    caps={
        "one-object": Cap("measured at 1 k", {"sizes": (1, 100, 1_000)}),
        "lithops": Cap("measured at 1 k", {"sizes": (1, 100, 1_000)}),
    },
    goals=(
        Goal("10 k no-ops against 1 k of Lithops", "fnmap", "s_most", 0.05, against="lithops"),
        Goal("10 k no-ops, committed, against 1 k of Lithops", "fnmap-named", "s_most", 0.05, against="lithops"),
        Goal("S3 requests a task against Lithops'", "fnmap", "s3_task", 0.02, against="lithops"),
        Goal("S3 requests a task, committed, against Lithops'", "fnmap-named", "s3_task", 0.02, against="lithops"),
        Goal("memory of the client", "fnmap-named", "client_mb", 200.0),
        Goal("memory of the client, direct", "fnmap", "client_mb", 200.0),
    ),
    own=(Fnmap, FnmapNamed, Lithops, OneObject),
    reference="fnmap",
    limit_s=600.0,
    repeat=1,
)  # fmt: skip

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
