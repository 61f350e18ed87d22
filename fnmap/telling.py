"""Who hears what becomes of a run: those who wait for it, its listeners, and the store of a named one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fnmap.errors import RunError, RunTakenOver, StoreError
from fnmap.observe.events import Event, Listener, RunEnded, RunProgressed

if TYPE_CHECKING:
    from fnmap.durable import Durable
    from fnmap.ledger import Status
    from fnmap.session import Session
    from fnmap.source import Stream
    from fnmap.stage import Stage

log = logging.getLogger(__name__)


class Telling:
    """The side of a ledger that tells. What happens is noted under the session's lock, and told without it."""

    error: BaseException | None

    def __init__(self, session: Session, run_id: str) -> None:
        self.session, self.run_id = session, run_id
        self.ended = False
        self.attached: str | None = None  # the state that the store tells of a run that is not driven here
        self.durable: Durable | None = None
        self.stream: Stream | None = None
        self.waiters: list[Callable[[], None]] = []
        self.on_end: Callable[[Any], None] | None = None  # called when the run has ended
        self._stage: Stage | None = None
        self._changed = threading.Condition(session.lock)
        self._listeners: tuple[Listener, ...] = ()
        self._telling_end = self._told_end = False
        self._tellers = set[int]()  # threads that tell; a listener among them may read the results

    def status(self) -> Status:
        """Where the run stands now."""
        raise NotImplementedError

    def wait(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until that holds."""
        raise NotImplementedError

    def listen(self, listener: Listener) -> None:
        """Tell it each event of this run."""
        self._listeners = (*self._listeners, listener)

    def show_progress(self, progress: bool | None) -> None:
        """Show a bar: True, False, or None for where somebody looks."""
        from fnmap.observe.progress import Bar, somebody_looks

        if somebody_looks() if progress is None else progress:
            self.listen(Bar())

    def go_on(self) -> None:
        """A run that may have ended has work again."""
        self.ended = self._telling_end = self._told_end = False

    @property
    def over(self) -> bool:
        """Has it ended, and is that told to all who are to hear of it, the store of a named run among them?"""
        return self.heard and (self._is_told or self.durable is None)

    @property
    def heard(self) -> bool:
        """Has it ended, and do those who listen know? The bar is done before the caller prints, and the cache knows the
        results before they are asked of it again."""
        return self.ended and (self._is_told or not (self._listeners or self.on_end))

    @property
    def _is_told(self) -> bool:
        """A listener that reads the results is just being told, and cannot wait for that."""
        told = self._told_end or self.attached is not None or self.session.forked
        return told or threading.get_ident() in self._tellers

    def tell(self) -> None:
        mine = threading.get_ident()
        if mine in self._tellers:  # a listener has changed something
            self._tell()
            return
        self._tellers.add(mine)
        try:
            self._tell()
        finally:
            self._tellers.discard(mine)

    def _tell(self) -> None:
        for waiter in list(self.waiters):
            waiter()
        if self.stream is not None:
            self.stream.poke()
        if self._listeners or self.session.listeners:
            status = self.status()
            self.emit(RunProgressed(self.run_id, status.done, status.failed, status.running, status.total))
        with self.session.lock:
            ends, self._telling_end = self.ended and not self._telling_end, self.ended
        if ends:
            status = self.status()
            heard = self._listeners or self.session.listeners or self.on_end
            # attach() counts the results of a run over a list: that it is done need not be written before this goes on
            complete = self.stream is None and status.state == "done" and status.done == status.total
            put_off = complete and self.durable is not None and not heard
            if not (put_off and self.session.put_off(partial(self._tell_end, status))):
                self._tell_end(status)

    def _tell_end(self, status: Status) -> None:
        """Whoever waits for results has them by now; the store hears of the end before this process may leave."""
        try:
            if self.durable is not None:
                self._end_durably(self.durable, status)
            self.emit(RunEnded(self.run_id, status.state, status.done, status.failed))
            if (on_end := self.on_end) is not None:
                on_end(self)
        finally:
            with self._changed:
                self._told_end = True
                if self.durable is not None:
                    self.durable.rest(self.session)
                self._changed.notify_all()
                if self.ended and self._stage is not None and self._stage.links is None:
                    self._stage.rest()

    def _end_durably(self, durable: Durable, status: Status) -> None:
        try:
            durable.end(status)
        except (RunTakenOver, StoreError) as error:
            self.error = self.error or error

    def emit(self, event: Event) -> None:
        """Tell whoever listens to this run."""
        for listener in (*self._listeners, *self.session.listeners):
            try:
                listener(event)
            except Exception:  # a looker-on must not stop the run, whatever goes wrong with it
                log.exception("the listener %r failed at %r", listener, event)

    def finish_telling(self) -> None:
        """Wait until a run that has ended was told to all, unless it is a mere picture of the store."""
        if threading.get_ident() in self._tellers:  # it would wait for itself
            raise RunError(f"a listener that is told of run {self.run_id} cannot wait for its end, nor retry() it")
        if self.attached is None:
            self.wait(lambda: self._told_end or self.session.forked)
