"""What a run has so far: parts, where each task's result is, and the errors that failures become."""

from __future__ import annotations

import pickle
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fnmap.errors import (
    Damaged,
    MissingKey,
    ResultLost,
    ResultsReleased,
    TaskError,
    TaskPoisoned,
    TaskTimeout,
    UpstreamFailed,
)
from fnmap.format.call import TEXT_ONLY, Failure
from fnmap.stage import Part
from fnmap.storage.base import Store

MOST_LOSSES = 3  # of one result: then the store is no place for it

_KINDS: dict[str, type[TaskError]] = {
    "timeout": TaskTimeout,
    "poisoned": TaskPoisoned,
    "upstream": UpstreamFailed,
    "input": UpstreamFailed,
    "lost": ResultLost,
    "raised": TaskError,
}


class Results:
    """Results by task. A streamed run gives each away once (`release`); others keep them. With a `store` that
    has them, what is given away is read from there when it is asked for again."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.store: Store | None = None  # of a named run: its parts are committed there
        self.failures: dict[int, Failure] = {}
        self.skipped: dict[int, Failure] = {}  # tasks that were not run since others have failed, as was asked
        self.released = 0  # tasks before this one are gone
        self.order: list[Part] = []  # as they arrived
        self.dropped = False
        self.lost: dict[int, str] = {}  # tasks whose results were, at some time: the last key at which they were
        self.losses = Counter[int]()  # how often, since the run was begun or taken up again
        self._parts: dict[int, Part] = {}
        self._next = 0
        self._left = 0  # tasks before this one are left to the store
        self._where = array("i")  # by task - released: the part, or -1

    def grow(self, count: int) -> None:
        """Room for so many more tasks."""
        more = array("i", [-1]) * count
        if self._where:
            self._where.extend(more)
        else:
            self._where = more

    def put(self, part: Part) -> None:
        """Take in the results of a part; positions that failed are left as they were."""
        number = self._next
        self._next += 1
        self._parts[number] = part
        if self.lost:
            part.again = self.lost.keys() & set(part.tasks)
        tasks, base = part.tasks, self.released
        if isinstance(tasks, range) and not part.failures:
            self._where[tasks.start - base : tasks.stop - base] = array("i", [number]) * len(tasks)
            return
        for position, task in enumerate(tasks):
            if position not in part.failures:
                self._where[task - base] = number

    def worn_out(self, tasks: Sequence[int]) -> str:
        """What to say of a store that has lost one of these results too often; else nothing."""
        task = max(tasks, key=self.losses.__getitem__, default=-1)
        if (times := self.losses[task]) <= MOST_LOSSES:
            return ""
        return f"the result of task {task} of {self.function} was lost {times} times, the last at {self.lost[task]!r}"

    def has_lost(self, key: str) -> bool:
        """Is it known that what was at that key is gone?"""
        return any(part.lost for part in self.at(key))

    def at(self, key: str) -> list[Part]:
        """The parts at that key: several, if they are of the cache."""
        return [part for part in self._parts.values() if part.key == key]

    def lose(self, key: str) -> list[int]:
        """What is at that key is gone: the tasks whose results were there, which have none now."""
        tasks = list[int]()
        for number, part in self._parts.items():
            if part.key == key and not part.lost:
                part.lost = True
                tasks += [task for task in part.tasks if self._where[task - self.released] == number]
        for task in tasks:
            self._where[task - self.released] = -1
            self.lost[task] = key
        self.losses.update(tasks)
        return tasks

    def has(self, task: int) -> bool:
        """Is this task's result, or its failure, there?"""
        return self._where[task - self.released] >= 0 or task in self.failures or task in self.skipped

    def part_of(self, task: int) -> tuple[Part, int] | None:
        """The part with this task's result and its position there; None if it failed or is not there."""
        if task < self.released:
            raise self._released(task)
        number = self._where[task - self.released]
        if number < 0:
            return None
        part = self._parts.get(number)
        if part is None:
            raise self._released(task)
        return part, part.position(task)

    def _released(self, task: int) -> ResultsReleased:
        return ResultsReleased(
            f"the result of task {task} was handed out already: a run over an iterator without a length keeps none."
            " Pass a list, or give the run a name= to keep its results"
        )

    def value(self, task: int) -> Any:
        """The result of a task that is there. Raises ResultLost if it cannot be read here."""
        found = self.part_of(task)
        assert found is not None
        part, position = found
        try:
            return part.values[position]
        except Exception as error:  # whatever unpickling a user's class raises
            raise self.unreadable(task, error) from error

    def unreadable(self, task: int, error: Exception) -> ResultLost:
        """The error for a result that was computed but does not load in this process."""
        if isinstance(error, (MissingKey, Damaged)):
            gone = "it is gone from the store" if isinstance(error, MissingKey) else "it was damaged in the store"
            mend = (
                "retry() makes it anew"
                if task in self.lost
                else "That of a run without a name goes with its session: give the run a name=. Of a run of another"
                " process, attach to it anew: retry() makes it anew then"
            )
            why = f"{gone} ({error}). {mend}"
            return ResultLost(f"task {task} of {self.function}: its result cannot be read: {why}", index=task)
        what = f"{type(error).__name__}: {error}"
        return ResultLost(
            f"task {task} of {self.function}: its result cannot be read here: {what}. Is its type defined or"
            " importable in this process?",
            index=task,
        )

    def give(self, part: Part, *, keep: bool) -> bool:
        """The results of this part were handed out. Unless they are to be kept, they are forgotten, or left to
        the store. Is it still in its place?"""
        part.given = True
        if keep or self.store is not None:
            if not keep:
                self._leave(part)
            return True
        self.dropped = True
        self.order.remove(part)
        for number in [n for n, kept in self._parts.items() if kept is part]:
            del self._parts[number]
        return False

    def release(self, upto: int) -> None:
        """Forget results of the tasks before `upto`."""
        if upto <= max(self.released, self._left):
            return
        if self.store is not None:
            for number in set(self._where[self._left : upto]) - {-1}:
                if max(self._parts[number].tasks) < upto:
                    self._leave(self._parts[number])
            self._left = upto
            return
        for number in set(self._where[: upto - self.released]) - {-1}:
            part = self._parts.get(number)
            if part is not None and max(part.tasks) < upto:
                del self._parts[number]
        del self._where[: upto - self.released]
        self.order[:] = [part for part in self.order if max(part.tasks) >= upto]
        for task in range(self.released, upto):
            self.failures.pop(task, None)
        self.released = upto

    def _leave(self, part: Part) -> None:
        """Hold the values of a committed part no longer."""
        from fnmap.format.parts import Stored  # with pyarrow

        part.given = True
        if self.store is not None and part.key is not None and not isinstance(part.values, Stored):
            stored: Any = Stored(self.store, part.key, len(part.tasks))
            part.values = stored

    def error(self, task: int) -> BaseException:
        """What is raised for a task that failed: the exception of its function, as its own type, or ours."""
        failure = self._failure(task)
        exception = _exception(failure)
        if not isinstance(exception, Exception):  # a SystemExit of the task must not end the caller's program
            return self.task_error(task)
        _add_note(exception, self._note(task, failure))
        return exception

    def task_error(self, task: int) -> TaskError:
        """What stands in the place of a failed task's result under errors="return"."""
        failure = self._failure(task)
        exception = _exception(failure)
        lost = failure.kind == "raised" and exception is None and failure.exception != TEXT_ONLY
        kind = _KINDS["lost" if lost else failure.kind]
        message = f"task {task} of {self.function} {_VERBS[failure.kind]} {failure.message}"
        return kind(
            f"{message}\n{self._note(task, failure)}" if exception is None else message,
            index=task,
            item=failure.item,
            attempts=failure.attempts,
            exception=exception,
            traceback=failure.traceback,
            log=failure.log,
        )

    def _failure(self, task: int) -> Failure:
        return self.failures[task] if task in self.failures else self.skipped[task]

    def _note(self, task: int, failure: Failure) -> str:
        times = "once" if failure.attempts == 1 else f"{failure.attempts} times"
        tried = f", tried {times}, with the item {failure.item}" if failure.attempts else ""
        lines = [f"fnmap: task {task} of {self.function}{tried}"]
        if failure.log:
            lines += ["it printed last:", *("  " + line for line in failure.log.splitlines())]
        if failure.traceback:
            lines += ["on the worker:", *("  " + line for line in failure.traceback.splitlines())]
        return "\n".join(lines)


_VERBS = {
    "raised": "raised",
    "lost": "has no result:",
    "timeout": "was killed: it",
    "poisoned": "killed every worker that tried it:",
    "upstream": "was not run:",
    "input": "was not run, since an input is gone from the store:",
}


def _exception(failure: Failure) -> BaseException | None:
    if not isinstance(failure.exception, bytes):
        exception: BaseException | None = failure.exception
        return exception if failure.kind == "raised" else None
    if failure.kind != "raised":
        return None
    try:
        loaded = pickle.loads(failure.exception)
    except Exception:  # a class that is missing here, or a constructor that refuses
        return None
    return loaded if isinstance(loaded, BaseException) else None


def _add_note(exception: BaseException, note: str) -> None:
    if note not in getattr(exception, "__notes__", ()):
        exception.add_note(note)
