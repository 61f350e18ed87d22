"""Every error that fnmap raises itself.

FnmapError
├── UsageError (ValueError)          a parameter is wrong: names it, its value and what to do
│   ├── NotCallable (TypeError)      the function is not callable
│   ├── NotPicklable (TypeError)     a function or an item cannot travel to a worker
│   ├── NotCacheable                 it cannot be told whether a cached result would still be right
│   └── PlanError                    a plan's stages, names or dependencies do not fit together
├── StoreError                       bytes could not be read or written
│   ├── MissingKey (KeyError)        no object at that key
│   ├── Damaged                      the object's bytes are not those that were written
│   ├── StoreBusy                    not now: the store is throttled or ill, and may be well in a moment
│   │   └── StoreThrottled           it asks for fewer requests a second
│   ├── StoreFull (OSError)          no space, or over quota
│   ├── StoreReadOnly (OSError)      no permission to write
│   ├── NoBucket                     the bucket is not there, or in another region
│   ├── NoCredentials                there are none, or the store does not know them
│   ├── NoAccess                     no permission to read
│   └── NotAuthentic                 an object that nobody wrote who has the store's secret
├── DeployError                      what is or should be deployed is not right: says what, and what mends it
├── ComputeError                     a call could not be carried out; the run decides what follows
│   ├── WorkerLost                   the worker died before it answered
│   ├── CallTimeout                  a task of the call ran over its time limit
│   └── Throttled                    not now: try again after `retry_after_s`
├── TaskError                        what became of one task that did not succeed
│   ├── TaskTimeout (TimeoutError)   it ran over `timeout=`
│   ├── TaskPoisoned                 it killed every worker that tried it
│   ├── UpstreamFailed               a task that it depends on has no result
│   └── ResultLost                   it ran, but its result or exception cannot be pickled or read back
├── CommandFailed                    a program did not do what it was run for
│   └── CommandTimeout (TimeoutError) it ran over the limit that its command has, and was killed
└── RunError                         a run as a whole
    ├── RunNotFound (LookupError)    no run of that name or id
    ├── RunBusy                      another live run holds that name
    ├── RunTakenOver                 another driver has taken up this run
    ├── RunCancelled                 the run was cancelled before this result was there
    └── ResultsReleased              a streamed run has already given this result away

An exception that the mapped function itself raises is not in this tree: it comes back as its own type.
"""

from __future__ import annotations


class FnmapError(Exception):
    """The root of the tree."""


class UsageError(FnmapError, ValueError):
    """A parameter is wrong. The message names the parameter, its value and what would be right."""


class NotCallable(UsageError, TypeError):
    """What should be mapped cannot be called."""


class NotPicklable(UsageError, TypeError):
    """A function or an item cannot be sent to a worker."""


class NotCacheable(UsageError):
    """What the function is made of cannot be told apart from another that differs, so its results are not reused."""


class PlanError(UsageError):
    """The stages of a plan do not fit together: a circle, a dangling reference, a name that is there twice."""


class StoreError(FnmapError):
    """A store could not do what it was asked."""


class MissingKey(StoreError, KeyError):
    """There is no object at that key."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class Damaged(StoreError):
    """An object is there, and its bytes are not those that were written."""


class StoreBusy(StoreError):
    """The store could not do it just now (throttled, an error of its server, a time-out). Whether a write has
    happened is not known."""


class StoreThrottled(StoreBusy):
    """The store could not do it just now, and asks for fewer requests a second, or looks as if it needed that."""


class StoreFull(StoreError, OSError):
    """There is no space left in the store."""


class StoreReadOnly(StoreError, OSError):
    """The store may not be written."""


class NoBucket(StoreError):
    """The bucket of the store does not exist, or lies in another region. The message has the command that mends it."""


class NoCredentials(StoreError):
    """There are no credentials for the store, or it does not take them."""


class NoAccess(StoreError):
    """The credentials are good, and do not allow this."""


class NotAuthentic(StoreError):
    """The object was not written, as it is and at that key, by anybody who has the store's secret."""


def store_error(name: str, message: str) -> StoreError:
    """The error of a store that was met elsewhere, by its name."""
    kind = globals().get(name)
    return kind(message) if isinstance(kind, type) and issubclass(kind, StoreError) else StoreError(message)


class DeployError(FnmapError):
    """Something of a deployment is missing, wrong or forbidden. The message ends with what mends it."""


class ComputeError(FnmapError):
    """A call could not be carried out by the compute."""


class WorkerLost(ComputeError):
    """The worker died before it answered.

    `at` is the range of positions within the call that may have been running, where the compute
    knows it; `log` is what the worker said last; `out_of_memory`: it probably died of that.
    """

    def __init__(self, message: str, *, at: range | None = None, log: str = "", out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.at, self.log, self.out_of_memory = at, log, out_of_memory


class CallTimeout(ComputeError):
    """A task of the call ran over its time limit and was killed.

    `at` is its position within the call; None where the compute cannot tell.
    """

    def __init__(self, message: str, *, at: int | None = None, log: str = "") -> None:
        super().__init__(message)
        self.at, self.log = at, log


class Throttled(ComputeError):
    """The compute takes no more calls for now."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TaskError(FnmapError):
    """What became of one task that did not succeed.

    Attributes: `index` (position of the item in the map), `item` (its short repr), `attempts`,
    `exception` (what the function raised, or None), `traceback` (the remote one, as text), `log`
    (the tail of what the task printed).
    """

    def __init__(
        self,
        message: str,
        *,
        index: int = -1,
        item: str = "",
        attempts: int = 1,
        exception: BaseException | None = None,
        traceback: str = "",
        log: str = "",
    ) -> None:
        super().__init__(message)
        self.index, self.item, self.attempts = index, item, attempts
        self.exception, self.traceback, self.log = exception, traceback, log

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_task_error, (type(self), self.args[0], self.__dict__)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((type(self), str(self)))


def _rebuild_task_error(kind: type[TaskError], message: str, state: dict[str, object]) -> TaskError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class TaskTimeout(TaskError, TimeoutError):
    """The task ran over its `timeout=` and was killed."""


class TaskPoisoned(TaskError):
    """The task killed its worker on every attempt."""


class UpstreamFailed(TaskError):
    """A task that this one depends on has no result, so it was not run."""


class ResultLost(TaskError):
    """The task ran, but its result or its exception cannot be pickled, or cannot be read back here."""


class CommandFailed(FnmapError):
    """A program was not found, ended with another exit code than 0, or did not write what it should.

    `returncode`: negative if a signal ended it, None if it did not start or was not let end; `stdout` and `stderr`: the
    tails of what it printed.
    """

    def __init__(self, message: str, *, returncode: int | None = None, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.returncode, self.stdout, self.stderr = returncode, stdout, stderr


class CommandTimeout(CommandFailed, TimeoutError):
    """The program ran over the limit of its command, and was killed with all that it had started."""


class RunError(FnmapError):
    """A run as a whole cannot do what was asked."""


class RunNotFound(RunError, LookupError):
    """No run has that name or id."""


class RunBusy(RunError):
    """Another live run holds that name."""


class RunTakenOver(RunError):
    """Another driver has taken up this run, since this one was not heard of; `attach` shows what it does."""


class RunCancelled(RunError):
    """The run was cancelled before this result was there."""


class ResultsReleased(RunError):
    """A streamed run has already given this result away."""
