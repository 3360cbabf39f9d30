"""Keys of a service: shown once, kept as hashes, each with a role and a rate."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from threading import Lock

from forwhy.errors import UserError
from forwhy.serve.database import Database

ROLES = ("read", "write", "admin")
"""Each may do what those before it may."""
PREFIX = "fw_"
"""Lets scanners of source code find keys that were committed."""


def hashed(text: str) -> str:
    """SHA-256 in hex; enough for what is random and long."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def add_key(database: Database, name: str, role: str) -> str:
    """Make a key of 256 random bits and keep its hash; the key itself, which nothing can show again.

    UserError for no such role, or a name that is not plain; Conflict where there is or was a key of this name.
    """
    if role not in ROLES:
        raise UserError(f"--role {role!r}: none; choose {', '.join(ROLES)}")
    if not name.strip() or not name.isprintable():
        raise UserError(f"name {name!r}: none; choose plain letters that say whose key it is")
    text = PREFIX + secrets.token_urlsafe(32)
    database.add_key(name, role, hashed(text))
    return text


class RateLimit:
    """A bucket of tokens per name: a minute's worth at once, then as they come back. Any thread may call it."""

    KEEP = 10_000
    """Names; full buckets are forgotten when there are more."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock, self._using = float(per_minute), clock, Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, name: str) -> float:
        """Take one token: 0.0, or the seconds after which there will be one."""
        with self._using:
            left = self._left(name)
            taken = left >= 1
            self._buckets[name] = (left - taken, self._clock())
            if len(self._buckets) > self.KEEP:
                self._buckets = {it: self._buckets[it] for it in self._buckets if self._left(it) < self._most}
        return 0.0 if taken else (1 - left) * 60 / self._most

    def _left(self, name: str) -> float:
        left, since = self._buckets.get(name, (self._most, self._clock()))
        return min(self._most, left + (self._clock() - since) * self._most / 60)
