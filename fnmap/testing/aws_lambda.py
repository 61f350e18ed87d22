"""AWS Lambda on this machine, without Docker: what boto3 and fnmap ask of it, with the real limits and failures.

with LambdaService(extra_env={"AWS_ENDPOINT_URL_S3": ...}) as service:
    client = boto3.client("lambda", endpoint_url=service.endpoint)

or `python -m fnmap.testing.aws_lambda --port 9001`. Each environment is a process of the genuine `awslambdaric` on the
unpacked zip; with `light=handler` it is an object, and thousands of them fit. Processes need Linux.

Where the real service does otherwise:

- Signatures, roles and policies are not checked; a request only has to be signed. There are no permissions to add.
- There are no versions, aliases, images, function URLs, event sources, streamed answers, provisioned
  concurrency, SnapStart, VPC or durable functions. A request that wants one is refused. Changes take effect at once:
  State is never Pending.
- One runtime: the Python of this interpreter. An environment has all cores, however little memory it is given, and no
  file system of its own: TMPDIR says where it may write; /tmp is that of the machine, the code could be written to,
  and EphemeralStorage is kept but not enforced. With `isolated=False` it sees packages of this interpreter that the
  zip lacks.
- Layers lie in folders of their own on PYTHONPATH, not in /opt: only their Python packages are found.
- Of an environment that is out of memory, the process is killed that the kernel would choose. Memory is looked at every
  50 ms, and the peak of the main process after each call: what its children held for less may go unseen. It is the
  resident memory of the processes, in which shared pages count for each.
- The ramp is a bucket that fills evenly; the reason given for its 429 is that of concurrency, for want of a
  documented one. There is no limit of requests per second, neither of an environment (10/s) nor of the management
  calls (15/s).
- The asynchronous queue tries an event again 1, 2, 4 ... 300 s after a 429, and 60 and 120 s after errors, without
  jitter; its destinations are queues of SQS only; a reserved concurrency of 0 does not fail an event at once. An
  event is lost or doubled only as `lose` and `duplicate` say.
- No more than `starts` processes start at the same time: the others wait, as part of their cold start.
- Init Duration is of the start as a whole. The output of the start stands in the log of the first invocation. Logs
  are not sent to CloudWatch: `service.logs(name)` has the last thousand. Billed Duration does not bill the init.
- A light environment captures no output, enforces no memory, cannot stop a thread that runs over its time, and counts
  the wait for one of `threads` threads towards the time-out. Code is taken, but not looked into.
- A service that is killed by SIGKILL takes its environments with it and leaves its temporary folder behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import re
import resource
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from fnmap.testing.aws.api import Api
from fnmap.testing.aws.events import Events
from fnmap.testing.aws.fleet import Account, Environment, every
from fnmap.testing.aws.functions import Config
from fnmap.testing.aws.http import Server
from fnmap.testing.aws.light import LightEnvironment, resolve
from fnmap.testing.aws.process import ProcessEnvironment
from fnmap.testing.aws.settings import Settings

REAP = 4  # looks in the time that an environment may be idle


@dataclass(frozen=True, slots=True)
class Alive:
    """An environment that there is."""

    number: int
    function: str
    pid: int | None
    busy: bool


class LambdaService:
    """The service, in a thread. The options are those of `fnmap.testing.aws.settings.Settings`."""

    def __init__(self, *, port: int = 0, **options: Any) -> None:
        self._seen = dict(options.pop("extra_env", {}))
        self.settings = Settings(extra_env=self._seen, **options)
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fnmap-lambda-service", daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._failed: BaseException | None = None
        self._account: Account | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failed:
            self._thread.join()
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """The URL for clients."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The variables that lead a client here, besides those given as `extra_env`."""
        keys = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret"}
        region = {"AWS_REGION": self.settings.region, "AWS_DEFAULT_REGION": self.settings.region}
        return {**keys, **region, **self.settings.extra_env, "AWS_ENDPOINT_URL_LAMBDA": self.endpoint}

    @property
    def counts(self) -> dict[str, int]:
        """invocations, errors, cold_starts, throttled, peak (of one function at once), events, lost, duplicated,
        given_up and letters_lost, as far as there were any."""
        return dict(self.account.counts)

    @property
    def account(self) -> Account:
        """What the service keeps; only while it runs."""
        if self._account is None:
            raise RuntimeError("the Lambda service does not run: enter it first")
        return self._account

    def environments(self) -> list[Alive]:
        """Those that there are, the oldest first."""
        there = [*self.account.environments.values()]
        return [Alive(e.number, e.config.name, e.pid, e.busy) for e in there]

    def logs(self, function: str) -> list[str]:
        """What its last thousand invocations have written."""
        return [log.decode(errors="replace") for log in self.account.fleets[function].logs]

    def kill_environment(self, number: int) -> None:
        """End an environment as a crash would, with SIGKILL; a call that runs there fails."""
        environment = self.account.environments[number]
        self._loop.call_soon_threadsafe(environment.kill)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as e:  # told to whoever waits for the start
            self._failed = e
        finally:
            self._ready.set()
            self._loop.run_until_complete(_end_all())
            self._loop.close()

    async def _serve(self) -> None:
        with tempfile.TemporaryDirectory(prefix="fnmap-lambda-", ignore_cleanup_errors=True) as root:
            self.settings = replace(self.settings, root=Path(root))
            pool = ThreadPoolExecutor(self.settings.threads, "fnmap-lambda")
            self._account = account = Account(self.settings, self._builder(pool))
            events = Events(account)
            api = Api(account, events)
            server = Server(api.answer)
            self.port = await server.open(self.port)
            self._seen.setdefault("AWS_ENDPOINT_URL_LAMBDA", self.endpoint)  # functions call functions
            api.management.endpoint = self.endpoint
            chores = [every(self.settings.idle_s / REAP, account.reap)]
            if self.settings.light is None:
                runtime(Path(root) / "runtime")
                chores.append(every(self.settings.memory_poll_s, account.watch_memory))
            tasks = [asyncio.create_task(chore) for chore in chores]
            self._ready.set()
            await self._stop.wait()
            for task in tasks:
                task.cancel()
            server.close()
            await events.close()
            account.close()
            pool.shutdown(wait=False, cancel_futures=True)

    def _builder(self, pool: ThreadPoolExecutor) -> Any:
        settings = self.settings
        if settings.light is None:
            starts = asyncio.Semaphore(settings.starts)
            return lambda number, config: ProcessEnvironment(number, config, settings, starts)
        handler = resolve(settings.light)

        def build(number: int, config: Config) -> Environment:
            return LightEnvironment(number, config, settings, handler, pool)

        return build


async def _end_all() -> None:
    """Cancel what still waits in this loop, and wait for its threads."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


def runtime(folder: Path) -> None:
    """A folder with what the real service's Python has besides its standard library: links to awslambdaric and boto3
    of this interpreter, and what they need."""
    folder.mkdir()
    left, seen = ["awslambdaric", "boto3"], set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            package = importlib.metadata.distribution(name)
            for top in {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}:
                (folder / top).symlink_to(Path(str(package.locate_file(top))).resolve())
            needed = [need for need in package.requires or () if "extra ==" not in need]
            left += [re.split(r"[^\w.-]", need, maxsplit=1)[0] for need in needed]


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is told to end; one line says where."""
    parser = argparse.ArgumentParser(
        prog="python -m fnmap.testing.aws_lambda", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--port", type=int, default=0, help="a free one if not given")
    parser.add_argument("--light", metavar="MODULE.HANDLER", help="environments without processes")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for every environment")
    parser.add_argument(
        "--not-isolated", dest="isolated", action="store_false", help="show this interpreter's packages"
    )
    parser.add_argument("--freeze", action="store_true", help="stop idle processes")
    numbers = ("concurrency", "starts", "ramp", "threads", "seed", "unreserved_minimum")
    for name in (*numbers, "ramp_s", "cold_s", "idle_s", "init_s", "delay_scale", "lose", "duplicate"):
        kind = int if name in numbers else float
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(Settings, name))
    options = vars(parser.parse_args(arguments))
    options["extra_env"] = dict(pair.split("=", 1) for pair in options.pop("env"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    with LambdaService(**options) as service:
        print(f"Lambda service ready at {service.endpoint}", flush=True)  # noqa: T201 the one line it is asked for
        told.wait()
    sys.exit(0)


if __name__ == "__main__":
    main()
