"""What does a small object cost the client that writes it to S3 and reads it, and how many a second are there?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, ClassVar

from benchmarks.peers import Fn, System
from benchmarks.question import Column, Goal, Metrics, Part, Question, check

BYTES, THREADS = 1024, 32


def written(item: int) -> int:
    """What is known of an object that was written."""
    return item


def read(item: int) -> bytes:
    """What is read of it."""
    return item.to_bytes(4, "little") * (BYTES // 4)


class Client(System):
    """A client of a real S3 server that was started for it, used from many threads."""

    put: Callable[[str, bytes], Any]
    get: Callable[[str], bytes]

    def start(self) -> None:
        from fnmap.testing.servers import s3_server

        self.stack = ExitStack()
        self.server = self.stack.enter_context(s3_server())
        self.bucket = self.server.make_bucket()
        self.connect()
        self.pool = self.stack.enter_context(ThreadPoolExecutor(THREADS))
        for _ in range(THREADS):
            self.put("warm", b"x")

    def connect(self) -> None:
        """Set `put` and `get`."""
        raise NotImplementedError

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        if fn is written:
            list(self.pool.map(lambda item: self.put(f"o/{item}", read(item)), items))
            return list(items)
        return list(self.pool.map(lambda item: self.get(f"o/{item}"), items))

    def close(self) -> None:
        self.stack.close()


class Fnmap(Client):
    """fnmap's store: obstore with checksums, a pace and retries."""

    name, module = "fnmap", "obstore"

    def connect(self) -> None:
        from unittest.mock import patch

        from fnmap.storage.s3 import S3Store

        self.stack.enter_context(patch.dict("os.environ", self.server.env))
        store = S3Store(self.bucket)
        self.put, self.get = store.put, store.get


class Sealed(Fnmap):
    """The same with a seal on each object."""

    name: ClassVar[str] = "fnmap-sealed"

    def connect(self) -> None:
        super().connect()
        from fnmap.storage.s3 import S3Store

        store = S3Store(self.bucket, secret=bytes(32))
        self.put, self.get = store.put, store.get


class Obstore(Client):
    name, module = "obstore", "obstore"

    def connect(self) -> None:
        import obstore
        from obstore.store import S3Store

        env = self.server.env
        store = S3Store(
            self.bucket,
            endpoint=self.server.endpoint,
            region=env["AWS_REGION"],
            access_key_id=env["AWS_ACCESS_KEY_ID"],
            secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )
        self.put = lambda key, body: obstore.put(store, key, body, use_multipart=False)
        self.get = lambda key: bytes(obstore.get(store, key).bytes())


class Boto3(Client):
    name, module = "boto3", "boto3"

    def connect(self) -> None:
        import boto3
        from botocore.config import Config

        env = self.server.env
        client = boto3.client(
            "s3",
            endpoint_url=self.server.endpoint,
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            config=Config(max_pool_connections=THREADS),
        )
        self.put = lambda key, body: client.put_object(Bucket=self.bucket, Key=key, Body=body)
        self.get = lambda key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read()


class PyArrow(Client):
    name, module = "pyarrow", "pyarrow"

    def connect(self) -> None:
        from pyarrow import fs

        env = self.server.env
        files = fs.S3FileSystem(
            access_key=env["AWS_ACCESS_KEY_ID"],
            secret_key=env["AWS_SECRET_ACCESS_KEY"],
            region=env["AWS_REGION"],
            endpoint_override=self.server.endpoint.removeprefix("http://"),
            scheme="http",
            check_directory_existence_before_creation=False,
        )

        def put(key: str, body: bytes) -> None:
            with files.open_output_stream(f"{self.bucket}/{key}") as file:
                file.write(body)

        def get(key: str) -> bytes:
            with files.open_input_stream(f"{self.bucket}/{key}") as file:
                return file.read()

        self.put, self.get = put, get


def measure(system: System, objects: int) -> Iterator[Metrics]:
    """Requests a second, and CPU of the client for each, of objects of 1 KB from 32 threads."""
    items = range(objects)
    with system:
        for key, fn in (("put", written), ("get", read)):
            begin, cpu = time.perf_counter(), time.process_time()
            answers = system.map(fn, items)
            seconds, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
            check(answers == [fn(item) for item in items], f"{key}: wrong objects")
            yield {f"{key}_cpu_us": cpu_s / objects * 1e6, f"{key}_us": seconds / objects * 1e6}


QUESTION = Question(
    name="s3_clients",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("put_cpu_us", "put_us", "get_cpu_us", "get_us")),),
    columns=(
        Column("put_cpu_us", "CPU a put", "us"),
        Column("put_us", "a put, 32 at a time", "us"),
        Column("get_cpu_us", "CPU a get", "us"),
        Column("get_us", "a get, 32 at a time", "us"),
    ),
    systems=("fnmap", "fnmap-sealed", "obstore", "boto3", "pyarrow"),
    toy_systems=("fnmap", "obstore", "boto3"),
    full={"objects": 3000},
    toy={"objects": 50},
    goals=(Goal("CPU of a put against boto3's", "fnmap", "put_cpu_us", 0.25, against="boto3"),),
    own=(Fnmap, Sealed, Obstore, Boto3, PyArrow),
    reference="obstore",
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
