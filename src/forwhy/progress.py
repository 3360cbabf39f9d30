"""Progress of long steps, on stderr: a bar with the time left, or on a non-terminal a line every 15 s.

Progress never touches results: it draws nothing random and is safe to leave out.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

T = TypeVar("T")

LINE_SECONDS = 15.0
"""Seconds between two plain lines when stderr is not a terminal."""

_DRAW_SECONDS = 0.1  # steps may be far faster than a terminal is worth redrawing


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

    ``total`` None means unknown: steps and speed are shown instead of a share and a time left. ``done`` are
    steps already done by an earlier run; they count for the share, not for the speed.
    """

    def __init__(self, description: str, total: int | None = None, done: int = 0) -> None:
        self.description, self.total, self.done = description, total, done
        self._first, self._note = done, ""
        self._view: _View = _Silent()

    def __enter__(self) -> Self:
        self._started = self._drawn = time.monotonic()
        self._view = _Bar(self) if _is_terminal() else _Lines()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.close(self)
        self._view = _Silent()

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count ``steps`` more; ``note`` (a loss, a metric) stays until the next one. Costs under 1 us."""
        self.done += steps
        if note is not None:
            self._note = note
        now = time.monotonic()
        if now - self._drawn >= _DRAW_SECONDS:
            self._drawn = now
            self._view.draw(self)

    def resize(self, total: int) -> None:
        """Correct the total, once it is known or when it shrinks (early stop)."""
        self.total = total

    @property
    def note(self) -> str:
        """The latest note."""
        return self._note

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


def clock(seconds: float | None) -> str:
    """Seconds as people say them: ``8s``, ``3m05s``, ``2h10m``; ``?`` for None."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


@cache
def stderr_console() -> "Console":
    """The one console on stderr that bars and log handlers share, so that neither tears the other."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def spinner(description: str) -> Iterator[None]:
    """Show that something of unknown length is under way."""
    with Progress(description):
        yield


class _View(Protocol):
    """How a progress shows itself."""

    def draw(self, progress: Progress) -> None: ...
    def close(self, progress: Progress) -> None: ...


class _Silent:
    """Before the start and after the end."""

    def draw(self, progress: Progress) -> None:
        pass

    def close(self, progress: Progress) -> None:
        pass


class _Lines:
    """Plain lines for logs and pipes: nothing for what takes less than one interval."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._wrote = False

    def draw(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            self._write(progress, f"{clock(progress.seconds_left)} left" if progress.total else "")

    def close(self, progress: Progress) -> None:
        if self._wrote:
            self._write(progress, f"took {clock(progress.seconds)}")

    def _write(self, progress: Progress, tail: str) -> None:
        self._wrote = True
        share = f"{progress.done}/{progress.total}" if progress.total else str(progress.done)
        fields = [share, tail, progress.note]
        sys.stderr.write(f"{progress.description}: {' · '.join(field for field in fields if field)}\n")
        sys.stderr.flush()


# Rich draws one live display at a time: nested progresses add a row to the open one.
_open_bars: ContextVar["Bars | None"] = ContextVar("open_bars", default=None)


class _Bar:
    """A row of a rich progress bar."""

    def __init__(self, progress: Progress) -> None:
        shared = _open_bars.get()
        self._owned = shared is None
        self._bars = shared if shared is not None else _start_bars()
        self._row = self._bars.add_task(
            progress.description, total=progress.total, completed=progress.done, left="", note=""
        )

    def draw(self, progress: Progress) -> None:
        left = f"{clock(progress.seconds_left)} left" if progress.total else clock(progress.seconds)
        self._bars.update(
            self._row, completed=progress.done, total=progress.total, left=left, note=progress.note
        )

    def close(self, progress: Progress) -> None:
        self.draw(progress)
        if self._owned:
            self._bars.stop()
            _open_bars.set(None)
        else:
            self._bars.remove_task(self._row)


def _start_bars() -> "Bars":
    """Open the live display; descriptions and notes are plain text, never markup."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    def text(field: str) -> TextColumn:
        return TextColumn(field, markup=False)

    columns = (text("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    bars = Bars(*columns, text("{task.fields[left]}"), text("{task.fields[note]}"), console=stderr_console())
    bars.start()
    _open_bars.set(bars)
    return bars


def _is_terminal() -> bool:
    """Whether stderr can redraw a line (a dumb terminal or a notebook's pipe can't)."""
    if not sys.stderr.isatty():
        return False
    console = stderr_console()
    return console.is_terminal and not console.is_dumb_terminal
