"""When the next call may go: evenly spaced, and none while the server has asked for rest."""

from __future__ import annotations

import time
from threading import Event, Lock


class Pace:
    """Gives out moments to call at; safe from several threads.

    Args:
        per_minute: Most calls in a minute; 0 = no limit.
        stopped: Ends all waiting.
    """

    def __init__(self, per_minute: float, stopped: Event) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._stopped, self._lock = stopped, Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this call's turn, or at once after a stop."""
        while not self._stopped.is_set():
            with self._lock:
                now = time.monotonic()
                if self._next <= now:
                    self._next = now + self._gap
                    return
                left = self._next - now
            self._stopped.wait(left)

    def rest(self, seconds: float) -> None:
        """No call for so long: what a server says to one caller holds for all."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
