"""A progress bar for whoever looks: a terminal or a notebook. Drawn by tqdm."""

from __future__ import annotations

import sys
import time
from typing import Any

from fnmap.observe.events import Event, RunEnded, RunProgressed, RunStarted

DELAY_S = 0.5  # a run that is over sooner shows nothing


def in_notebook() -> bool:
    """Is this a Jupyter kernel?"""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def somebody_looks() -> bool:
    """Is there a terminal or a notebook to draw on?"""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


class Bar:
    """One line: done, failed, running, rate and what time is left. A listener of one run."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._started = time.monotonic()
        self._function = ""
        self._total: int | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._function, self._total = event.function, event.total
        elif isinstance(event, RunProgressed) and time.monotonic() - self._started > DELAY_S:
            self._show(event)
        elif isinstance(event, RunEnded) and self._bar is not None:
            self._bar.refresh()
            self._bar.close()

    def _show(self, event: RunProgressed) -> None:
        if self._bar is None:
            self._bar = _tqdm()(total=self._total, desc=self._function, unit=" tasks", dynamic_ncols=True)
            self._bar.start_t -= time.monotonic() - self._started
        self._bar.set_postfix(failed=event.failed, running=event.running, refresh=False)
        self._bar.update(event.done + event.failed - self._bar.n)


def _tqdm() -> Any:
    """The notebook's bar where its widgets are installed, else the one of characters."""
    if in_notebook():
        from importlib.util import find_spec

        if find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm as notebook_bar

            return notebook_bar
    from tqdm import tqdm

    return tqdm
