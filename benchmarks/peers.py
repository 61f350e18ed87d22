"""fnmap and its peers behind the same verbs: start, map, call, close.

Each does what its manual shows first, with as many workers as all the others, and imports what it needs
only when it starts, so that a cold start is its own. Where there are two ways, both are here as systems.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from concurrent.futures import Future

    import pyarrow as pa

Fn = Callable[[Any], Any]


class System:
    """One way to map a function. `module` is what one imports for it; `closures`: it can ship them."""

    name: ClassVar[str]
    module: ClassVar[str] = "sys"
    closures: ClassVar[bool] = True

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def start(self) -> None:
        """Ready for the first call. The workers themselves may start with it."""

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        """The function's results, in the order of the items."""
        raise NotImplementedError

    def call(self, fn: Fn, item: Any) -> Any:
        """The result of one call."""
        raise NotImplementedError

    def prepared(self, array: Any) -> Any:
        """A large array as the system would have it for many tasks, if it asks for more than the array itself."""
        return array

    def map_each(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        """As `map`, with the exception of a task that failed in the place of its result, if that is on offer."""
        return self.map(fn, items)

    def table(self, fn: Fn, items: Sequence[Any]) -> pa.Table:
        """One Arrow table of the tables that the function returns."""
        import pyarrow as pa

        return pa.concat_tables(self.map(fn, items))

    def close(self) -> None:
        """Stop the workers."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Fnmap(System):
    name, module = "fnmap", "fnmap"

    def start(self) -> None:
        import fnmap

        self.session = fnmap.Session(workers=self.workers)

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return list(self.session.map(fn, items))

    def call(self, fn: Fn, item: Any) -> Any:
        return self.session.submit(fn, item).result()

    def map_each(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return list(self.session.map(fn, items, errors="return"))

    def table(self, fn: Fn, items: Sequence[Any]) -> pa.Table:
        return self.session.map(fn, items).table()

    def close(self) -> None:
        self.session.close()


class FnmapShare(Fnmap):
    """A large array is put into shared memory first, by `fnmap.share`, and its original dropped."""

    name = "fnmap-share"

    def prepared(self, array: Any) -> Any:
        import fnmap

        return fnmap.share(array)


class FnmapCost(Fnmap):
    """Told the cost of each item, which is the item itself where this is used."""

    name = "fnmap-cost"

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return list(self.session.map(fn, items, cost=float))


class FnmapDurable(Fnmap):
    """Named runs: each result is committed to a store on disk, under a name never used before."""

    name = "fnmap-durable"

    def start(self) -> None:
        import tempfile

        import fnmap

        self.folder = tempfile.mkdtemp()  # the harness deletes it
        self.session = fnmap.Session(workers=self.workers, store=self.folder)
        self.runs = 0

    def run(self, fn: Fn, items: Sequence[Any]) -> Any:
        """A named run, which outlasts its results."""
        self.runs += 1
        return self.session.map(fn, items, name=f"run-{self.runs}")

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return list(self.run(fn, items))

    def call(self, fn: Fn, item: Any) -> Any:
        return self.map(fn, [item])[0]

    def table(self, fn: Fn, items: Sequence[Any]) -> pa.Table:
        return self.run(fn, items).table()


class Pool(System):
    """multiprocessing.Pool with the chunk size that it chooses itself."""

    name, module, closures = "mp", "multiprocessing.pool", False
    chunksize: ClassVar[int | None] = None

    def start(self) -> None:
        import multiprocessing

        self.pool = multiprocessing.Pool(self.workers)

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return self.pool.map(fn, items, chunksize=self.chunksize)

    def call(self, fn: Fn, item: Any) -> Any:
        return self.pool.apply(fn, (item,))

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


class PoolByOne(Pool):
    """One task at a time, for tasks of unequal length."""

    name, chunksize = "mp-1", 1


class Executor(System):
    """concurrent.futures.ProcessPoolExecutor with its default chunk size, one."""

    name, module, closures = "cf", "concurrent.futures.process", False

    def start(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.pool: Any = ProcessPoolExecutor(self.workers)

    def chunksize(self, count: int) -> int:
        """How many of so many items travel together."""
        return min(count, 1)

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(fn, items, chunksize=self.chunksize(len(items))))

    def call(self, fn: Fn, item: Any) -> Any:
        return self.pool.submit(fn, item).result()

    def map_each(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return [_outcome(future) for future in [self.pool.submit(fn, item) for item in items]]

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


class ExecutorChunks(Executor):
    """With the chunk size that multiprocessing.Pool would choose."""

    name = "cf-chunks"

    def chunksize(self, count: int) -> int:
        return -(-count // (4 * self.workers))


class Loky(Executor):
    """joblib's own executor, used by itself; chunks of one, its default."""

    name, module, closures = "loky", "joblib", True

    def start(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        self.pool = get_reusable_executor(self.workers)

    def map_each(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        outcomes = super().map_each(fn, items)
        self.start()  # a broken executor is replaced by asking again
        return outcomes

    def close(self) -> None:
        self.pool.shutdown(kill_workers=True)


class Joblib(System):
    name, module = "joblib", "joblib"

    def start(self) -> None:
        from joblib import Parallel

        self.parallel = Parallel(n_jobs=self.workers)
        self.parallel.__enter__()

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        from joblib import delayed

        return self.parallel(delayed(fn)(item) for item in items)

    def call(self, fn: Fn, item: Any) -> Any:
        return self.map(fn, [item])[0]

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        self.parallel.__exit__(None, None, None)
        get_reusable_executor().shutdown(kill_workers=True)


class Mpire(System):
    """An item goes in a tuple, as mpire unpacks items."""

    name, module, closures = "mpire", "mpire", False

    def start(self) -> None:
        from mpire import WorkerPool

        self.pool = WorkerPool(n_jobs=self.workers, keep_alive=True)

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return self.pool.map(fn, [(item,) for item in items])

    def call(self, fn: Fn, item: Any) -> Any:
        return self.pool.apply(fn, (item,))

    def close(self) -> None:
        self.pool.terminate()


class Dask(System):
    name, module = "dask", "distributed"

    def start(self) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=self.workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        self.client = Client(self.cluster)

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return self.client.gather(self.client.map(fn, items, pure=False))

    def call(self, fn: Fn, item: Any) -> Any:
        return self.client.submit(fn, item, pure=False).result()

    def map_each(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return [_outcome(future) for future in self.client.map(fn, items, pure=False)]

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


class DaskBag(Dask):
    """A bag with the number of partitions that it chooses itself."""

    name = "dask-bag"

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        from dask import bag

        return list(bag.from_sequence(items).map(fn).compute())


class Ray(System):
    """Tasks. Objects that do not fit into memory are refused, rather than spilled until the disk is full."""

    name, module = "ray", "ray"

    def start(self) -> None:
        import ray

        self.ray = ray
        ray.init(
            num_cpus=self.workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _system_config={"automatic_object_spilling_enabled": False},
        )
        self._remote: tuple[Fn | None, Any] = None, None

    def remote(self, fn: Fn) -> Any:
        """The function as Ray's, which is made once."""
        if self._remote[0] is not fn:
            self._remote = fn, self.ray.remote(_plain(fn))
        return self._remote[1]

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        remote = self.remote(fn)
        return self.ray.get([remote.remote(item) for item in items])

    def call(self, fn: Fn, item: Any) -> Any:
        return self.ray.get(self.remote(fn).remote(item))

    def map_each(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        remote = self.remote(fn)
        return [_outcome(ref.future()) for ref in [remote.remote(item) for item in items]]

    def close(self) -> None:
        self.ray.shutdown()


class RayPool(Ray):
    """Ray's imitation of multiprocessing.Pool, on actors and with its chunks."""

    name = "ray-pool"

    def start(self) -> None:
        super().start()
        from ray.util.multiprocessing import Pool

        self.pool = Pool(self.workers)

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        return self.pool.map(fn, items)

    def call(self, fn: Fn, item: Any) -> Any:
        return self.pool.apply(fn, (item,))


class Lithops(System):
    """Its localhost backend, version 1: version 2 starts an interpreter a call and at times never ends."""

    name, module = "lithops", "lithops"

    def start(self) -> None:
        import lithops

        places = {"backend": "localhost", "storage": "localhost"}
        config = {"lithops": places, "localhost": {"version": 1, "runtime": sys.executable}}
        self.executor = lithops.FunctionExecutor(config=config, log_level=None)

    def map(self, fn: Fn, items: Sequence[Any]) -> list[Any]:
        futures = self.executor.map(_plain(fn), [(item,) for item in items])
        return self.executor.get_result(futures, show_progressbar=False)

    def call(self, fn: Fn, item: Any) -> Any:
        return self.map(fn, [item])[0]

    def close(self) -> None:
        self.executor.clean()


SYSTEMS: dict[str, type[System]] = {
    system.name: system
    for system in (
        Fnmap,
        FnmapCost,
        FnmapShare,
        FnmapDurable,
        Pool,
        PoolByOne,
        Executor,
        ExecutorChunks,
        Loky,
        Joblib,
        Mpire,
        Dask,
        DaskBag,
        Ray,
        RayPool,
        Lithops,
    )
}


def missing(systems: Iterable[type[System]]) -> dict[str, str]:
    """The systems that cannot run here, and the module that each lacks."""
    from importlib.util import find_spec

    return {s.name: s.module for s in systems if find_spec(s.module) is None}


def _plain(fn: Fn) -> Fn:
    """The same as a function of Python's own, for systems that take no builtin or partial."""
    return lambda item: fn(item)  # noqa: PLW0108 - that is what it is for


def _outcome(future: Future[Any]) -> Any:
    try:
        return future.result()
    except Exception as error:  # whatever kept the task from giving a result is its outcome
        return error
