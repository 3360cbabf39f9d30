"""Under a call: one deadline for all of it, one bound on what comes back, and no key in what is shown of it."""

from __future__ import annotations

import base64
import html
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from ssl import SSLContext
from typing import Any
from urllib.parse import unquote

from httpcore2 import NetworkBackend, NetworkStream, ReadError, ReadTimeout
from httpx2 import Client, Response

_PIECE = 1 << 14
"""Bytes that are sent between two looks at the clock."""
_SHOWN = 8
"""Letters of a key in a row that are no longer shown."""
_SIGNS = re.compile(r"[\W_]")
_CODE = re.compile(r"\\[uUx]\{?(?:0000)?([0-9a-fA-F]{2,4})\}?")
_MARK = re.compile(r"\\[xu]|&#x?|0x", re.IGNORECASE)
"""What stands before the number of a letter."""


class Bounds(threading.local):
    """Of the call that this thread makes."""

    end, left = math.inf, 0

    def seconds(self) -> float:
        """What is left of its time."""
        if (left := self.end - time.monotonic()) <= 0:
            raise ReadTimeout("the answer comes too slowly")
        return left

    def received(self, data: bytes) -> bytes:
        """What came, headers and all."""
        self.left -= len(data)
        if self.left < 0:
            raise ReadError("the answer is too long")
        return data


class _Stream(NetworkStream):
    """A connection of which every read and write has what is left of the call's time, not a time of its own.

    So neither single bytes, nor answers before the answer, nor headers behind it can hold a thread.
    """

    def __init__(self, stream: NetworkStream, bounds: Bounds) -> None:
        self._stream, self._bounds = stream, bounds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._bounds.received(self._stream.read(max_bytes, self._bounds.seconds()))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[start : start + _PIECE], self._bounds.seconds())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._bounds.seconds())
        return _Stream(stream, self._bounds)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as the base's
        return self._stream.get_extra_info(info)


class _Backend(NetworkBackend):
    def __init__(self, backend: NetworkBackend, bounds: Bounds) -> None:
        self._backend, self._bounds = backend, bounds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,  # noqa: ANN401 - as the base's
    ) -> NetworkStream:
        stream = self._backend.connect_tcp(host, port, self._bounds.seconds(), local_address, socket_options)
        return _Stream(stream, self._bounds)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(min(seconds, self._bounds.seconds()))


class Wire:
    """Bounds the calls of a client, each in its own thread."""

    def __init__(self, client: Client) -> None:
        self._bounds = Bounds()
        # The library takes a backend only together with a whole pool, without the proxies of the environment.
        for transport in (client._transport, *client._mounts.values()):
            if (pool := getattr(transport, "_pool", None)) is not None:
                pool._network_backend = _Backend(pool._network_backend, self._bounds)
        client.event_hooks["response"].append(_plain)

    @contextmanager
    def call(self, seconds: float, most: int) -> Iterator[None]:
        """While this lasts, the thread's call: it ends after so many seconds, or with more bytes of answer."""
        self._bounds.end, self._bounds.left = time.monotonic() + seconds, most
        yield


def _plain(response: Response) -> None:
    """Take an answer as the bytes that came: nothing is unpacked, no other encoding looked up."""
    for name in ("content-encoding", "content-type"):
        response.headers.pop(name, None)


# --- A key that a server repeats


def repeats(key: str, text: str, whole: bool = False) -> bool:
    """Whether a key, or (if not the `whole`) eight letters of it, can be read in a text.

    In any case, cut by signs, backwards, escaped, in base 64, as numbers, also one in another.
    """
    ways = (text, unquote(text), html.unescape(text), _CODE.sub(lambda it: chr(int(it[1], 16)), text))
    seen = "\n".join(_letters(_MARK.sub("", way)) for way in {*ways})
    seen += "\n" + seen[::-1]
    return any(part in seen for part in _parts(key, whole))


@lru_cache
def _parts(key: str, whole: bool) -> frozenset[str]:
    """What gives a key away: letters of each way to write it."""
    ways = _written(key.encode()) | {inner for it in _written(key.encode()) for inner in _written(it)}
    found = {_letters(key): _SHOWN} | {_letters(it.decode()): 2 * _SHOWN for it in ways}
    runs = {way: len(way) if whole else min(run, len(way)) for way, run in found.items() if way}
    return frozenset(
        way[start : start + run] for way, run in runs.items() for start in range(len(way) - run + 1)
    )


def _written(data: bytes) -> set[bytes]:
    """In base 64, wherever in a longer text, and as numbers."""
    cores = {base64.b64encode(bytes(before) + data)[before + bool(before) : -4] for before in range(3)}
    numbers = {
        "".join(f"{byte:{form}}" for byte in data).encode() for form in ("02x", "04x", "d", "o", "03o")
    }
    return cores | numbers


def _letters(text: str) -> str:
    return _SIGNS.sub("", text).lower()
