"""A port of this machine that nobody uses."""

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """One below those that the system gives to connections: nobody gets it before the caller, or while a server of
    the caller's is down and comes back."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port from 20000 to 32000 is free")
