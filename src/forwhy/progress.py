"""Progress of long steps, a bar or else a line on stderr every 15 s. It never touches results."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeVar

from forwhy.errors import plain

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

T = TypeVar("T")

LINE_SECONDS = 15.0
"""Seconds between two plain lines when stderr is not a terminal."""

_DRAW_SECONDS = 0.1  # steps may be far faster than a terminal is worth redrawing
# Rich draws one live display at a time: an inner progress is a row of the open one.
_open_bars: "Bars | None" = None


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from ``iterable`` while showing how far it is; ``total`` defaults to its length if it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(description, total) as progress:
        for element in iterable:
            yield element
            progress.advance()


class Progress:
    """Progress of a loop that counts its own steps; may be nested (an inner one shows below the outer).

    ``total`` None means unknown: steps and speed are shown instead of a share and a time left; it may be set later.
    ``done`` are steps already done by an earlier run; they count for the share, not for the speed.
    """

    def __init__(self, description: str, total: int | None = None, done: int = 0) -> None:
        self.description, self.total, self.done = plain(description), total, done
        self._first, self._note = done, ""
        self._bars: Bars | None = None
        self._cell: Any = None  # what a notebook shows in place of a bar
        self._told = False

    def __enter__(self) -> Self:
        global _open_bars
        self._started = self._drawn = time.monotonic()
        if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            self._owns = _open_bars is None
            self._bars = _open_bars = _open_bars or _start_bars()
            self._row: TaskID = self._bars.add_task(self.description, total=None, left="", note="")
        elif in_notebook():
            self._cell = import_module("IPython.display").display(self._html(), display_id=True)
        return self

    def __exit__(self, *_: object) -> None:
        global _open_bars
        if self._cell is not None:
            self._cell.update(self._html())
            return
        if self._bars is None:
            if self._told:
                self._tell(f"took {clock(self.seconds)}")
            return
        self._draw(self._bars)
        if self._owns:
            self._bars.stop()
            _open_bars = None
        else:
            self._bars.remove_task(self._row)
        self._bars = None

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count ``steps`` more; ``note`` (a loss, a metric) stays until the next one. Costs under 1 us."""
        self.done += steps
        if note is not None:
            self._note = note
        now = time.monotonic()
        drawn = self._bars is not None or self._cell is not None
        if now - self._drawn < (_DRAW_SECONDS if drawn else LINE_SECONDS):
            return
        self._drawn = now
        if self._cell is not None:
            self._cell.update(self._html())
        elif self._bars is None:
            self._tell(f"{clock(self.seconds_left)} left" if self.total else "")
        else:
            self._draw(self._bars)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """Seconds left at the mean speed so far; None while it can't be known."""
        if not self.total or self.done <= self._first:
            return None
        return self.seconds * max(self.total - self.done, 0) / (self.done - self._first)

    @property
    def _left(self) -> str:
        return f"{clock(self.seconds_left)} left" if self.total else clock(self.seconds)

    def _draw(self, bars: "Bars") -> None:
        bars.update(self._row, completed=self.done, total=self.total, left=self._left, note=self._note)

    def _html(self) -> Any:  # noqa: ANN401 - IPython has no types of ours
        share, filled = f"{self.done:,}", ""
        if self.total:
            share, filled = f"{share}/{self.total:,}", f' value="{self.done}" max="{self.total}"'
        words = escape(" · ".join(field for field in (share, self._left, self._note) if field))
        bar = f"<div>{escape(self.description)} <progress{filled}></progress> {words}</div>"
        return import_module("IPython.display").HTML(bar)

    def _tell(self, tail: str) -> None:
        """A plain line for logs and pipes; what takes less than one interval has none."""
        self._told = True
        share = f"{self.done}/{self.total}" if self.total else str(self.done)
        fields = " · ".join(field for field in (share, tail, self._note) if field)
        sys.stderr.write(f"{self.description}: {fields}\n")
        sys.stderr.flush()


def in_notebook() -> bool:
    """Whether a notebook runs this: it has no terminal, but shows HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _start_bars() -> "Bars":
    """Open the live display; descriptions and notes are plain text, never markup."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    fields = ("{task.description}", "{task.fields[left]}", "{task.fields[note]}")
    description, left, note = (TextColumn(field, markup=False) for field in fields)
    bar = BarColumn(bar_width=24), MofNCompleteColumn()
    bars = Bars(description, *bar, left, note, console=Console(stderr=True))
    bars.start()
    return bars


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence the progress bars that transformers draws for itself while it loads or saves."""
    from transformers.utils import logging as theirs

    shown = theirs.is_progress_bar_enabled()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            theirs.enable_progress_bar()


def clock(seconds: float | None) -> str:
    """Seconds as people say them: ``8s``, ``3m05s``, ``2h10m``; ``?`` for None."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
