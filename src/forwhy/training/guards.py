"""What surrounds a training: signals that wait for the end of a step, and determinism while it lasts."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

import torch
from torch.utils import deterministic as fills

log = logging.getLogger(__name__)


class Signals:
    """Notes Ctrl-C and SIGTERM until the step is done; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGTERM)
            self._old = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number
        # Not through logging: a handler may interrupt it in the middle of a line.
        os.write(2, b"\nstopping after this step; press Ctrl-C again to stop at once\n")

    def stop(self, message: str) -> None:
        """End the run as the signal asked; without one, do nothing."""
        if not self.received:
            return
        log.warning(message)
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Timing-independent operations while this lasts; the caller's setting comes back after."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = fills.fill_uninitialized_memory  # type: ignore[attr-defined]
    if wanted:
        torch.use_deterministic_algorithms(True, warn_only=True)
        fills.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it slows every allocation
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        fills.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
