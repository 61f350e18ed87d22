"""What does an invocation cost the client of AWS Lambda that makes ten thousand of them, hundreds at a time?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

from benchmarks.aws import Aws
from benchmarks.lambda_map import nothing
from benchmarks.peers import Fn, System
from benchmarks.processes import peak_bytes
from benchmarks.question import Cap, Column, Goal, Metrics, Part, Question, check, timed

IN_FLIGHT = 600
THREADS = 32
PING = json.dumps({"ping": 1}).encode()


class OnLight(System):
    """A system, and a Lambda service of light environments in another process."""

    def start(self) -> None:
        self.stack = ExitStack()
        self.aws = self.stack.enter_context(Aws(light=True))
        self.connect()

    def connect(self) -> None:
        """Make what invokes."""
        raise NotImplementedError

    def close(self) -> None:
        self.stack.close()


class Fnmap(OnLight):
    """A map whose tasks travel one by one: everything from the item to the result."""

    name, module = "fnmap", "aiohttp"

    def connect(self) -> None:
        import fnmap
        from fnmap.compute.aws_lambda import LambdaCompute

        self.session = self.stack.enter_context(fnmap.Session(on=LambdaCompute(workers=IN_FLIGHT)))

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return list(self.session.map(fn, items, chunksize=1))


class Pinging(OnLight):
    """Invocations that carry nothing: the function says that it is there, and results are computed here."""

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        answers = self.ping(len(items))
        check(all("pong" in json.loads(answer) for answer in answers), "not every ping was answered")
        return [fn(item) for item in items[: len(answers)]]

    def ping(self, number: int) -> list[bytes]:
        """So many invocations."""
        raise NotImplementedError


class Boto3(Pinging):
    """From threads."""

    name, module = "boto3", "boto3"

    def connect(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.invoke = self.aws.client("lambda", max_pool_connections=THREADS).invoke
        self.pool = self.stack.enter_context(ThreadPoolExecutor(THREADS))

    def ping(self, number: int) -> list[bytes]:
        def one(_: int) -> bytes:
            answer: bytes = self.invoke(FunctionName="fnmap", Payload=PING)["Payload"].read()
            return answer

        return list(self.pool.map(one, range(number)))


class Aiohttp(Pinging):
    """aiohttp and the signatures of fnmap, and nothing else."""

    name: ClassVar[str] = "aiohttp"
    module: ClassVar[str] = "aiohttp"

    def connect(self) -> None:
        from fnmap.aws.requests import Service, function_path

        self.service = Service("lambda")
        self.path = function_path("fnmap", "/invocations")

    def ping(self, number: int) -> list[bytes]:
        import asyncio

        return asyncio.run(self._ping(number))

    async def _ping(self, number: int) -> list[bytes]:
        import asyncio

        import aiohttp

        left, answers = iter(range(number)), list[bytes]()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def line() -> None:
                for _ in left:
                    async with session.post(self.url, data=PING, headers=self.signed()) as answer:
                        answers.append(await answer.read())

            await asyncio.gather(*(line() for _ in range(IN_FLIGHT)))
        return answers

    @property
    def url(self) -> str:
        return self.service.url + self.path

    def signed(self) -> dict[str, str]:
        """The headers of one ping."""
        from fnmap.aws.signing import sign

        here = self.service
        return sign(here.who(), here.name, here.region, "POST", self.url, {"content-type": "application/json"}, PING)


class OwnClient(Aiohttp):
    """fnmap's HTTP client and signatures, and nothing else."""

    name = "own-client"

    async def _ping(self, number: int) -> list[bytes]:
        import asyncio

        from fnmap.aws.http import Connections

        left, answers, connections = iter(range(number)), list[bytes](), Connections()

        async def line() -> None:
            for _ in left:
                answers.append((await connections.ask("POST", self.url, self.signed(), PING, 60.0)).body)

        await asyncio.gather(*(line() for _ in range(IN_FLIGHT)))
        connections.close()
        return answers


def measure(system: System, invocations: int) -> Iterator[Metrics]:
    """CPU of this process and wall time of an invocation, and the memory that this process has had."""
    items = list(range(invocations))
    with system:
        check(system.map(nothing, items[:100]) == items[:100], "the first results are wrong")
        cpu_s = time.process_time()
        wall_s, results = timed(system.map, nothing, items)
        cpu_s = time.process_time() - cpu_s
        check(results == items, "no-ops did not give their items back")
    yield {"cpu_us": cpu_s / invocations * 1e6, "wall_us": wall_s / invocations * 1e6}
    yield {"client_mb": peak_bytes() / 1e6}


QUESTION = Question(
    name="lambda_fanout",
    asks=(__doc__ or ""),
    measure=measure,
    parts=(Part(("cpu_us", "wall_us", "client_mb")),),
    columns=(
        Column("cpu_us", "client's CPU an invocation", "us"),
        Column("wall_us", "an invocation", "us"),
        Column("client_mb", "client", "MB"),
    ),
    systems=("fnmap", "own-client", "aiohttp", "boto3"),
    toy_systems=("fnmap", "own-client", "aiohttp", "boto3"),
    full={"invocations": 10_000},
    toy={"invocations": 200},
    caps={"boto3": Cap("measured at 2 k", {"invocations": 2_000})},
    goals=(
        Goal("client's CPU an invocation", "fnmap", "cpu_us", 500.0),
        Goal("an answer by the own client against aiohttp", "own-client", "cpu_us", 0.6, against="aiohttp"),
        Goal("memory of the client", "fnmap", "client_mb", 200.0),
    ),
    own=(Fnmap, OwnClient, Aiohttp, Boto3),
    reference="aiohttp",
    limit_s=180.0,
)

if __name__ == "__main__":
    from benchmarks.harness import main

    main(QUESTION)
