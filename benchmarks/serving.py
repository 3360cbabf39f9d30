"""What the benchmarks of `forwhy serve` share: the service as a process of its own, and a client without a library."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROFILED = """
import collections, json, sys, threading, time
from pathlib import Path
seen = collections.Counter()
def watch():
    while True:
        time.sleep(0.005)
        for number, frame in sys._current_frames().items():
            if number != threading.get_ident():
                stack = []
                while frame is not None:
                    stack.append(f"{'/'.join(frame.f_code.co_filename.split('/')[-2:])}:{frame.f_code.co_name}")
                    frame = frame.f_back
                seen["<".join(stack[:40])] += 1
threading.Thread(target=watch, daemon=True).start()
from forwhy.cli import main
try:
    main(sys.argv[2:])
finally:
    Path(sys.argv[1]).write_text(json.dumps(seen.most_common()))
"""
PATIENT = """
import sys
from forwhy.serve.service import Limits
Limits.__init__.__defaults__ = (600.0, *Limits.__init__.__defaults__[1:])
from forwhy.cli import main
main(sys.argv[1:])
"""
"""A reason is waited for to its end, however slow a shared machine is: plain ones would count for nothing."""
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """The service as a process; `seconds` it has used, what it holds."""

    def __init__(
        self,
        run: Path,
        url: str,
        profile: str | None = None,
        patient: bool = False,
        also: Sequence[Path] = (),
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments = ["serve", "run", run.resolve(), *also, "--port", self.port, "--per-minute", 10**7]
        arguments += ["--database", url]
        how = ["-c", PROFILED, profile] if profile else ["-c", PATIENT] if patient else ["-m", "forwhy"]
        begun = time.monotonic()
        self.process = subprocess.Popen([sys.executable, *map(str, [*how, *arguments])])
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > begun + 120:
                raise RuntimeError("the server does not start")
            time.sleep(0.05)
        self.starting = time.monotonic() - begun

    def _answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def seconds(self) -> float:
        """Of processor time, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def settle(self) -> None:
        """Waits until nothing is loaded any more."""
        used, end = -1.0, time.monotonic() + 120
        while self.seconds > used + 0.1 and time.monotonic() < end:
            used = self.seconds
            time.sleep(2)

    def held(self) -> tuple[float, int]:
        """MiB resident, and open files."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return resident / 1024, len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def close(self) -> None:
        """Stops it as a user does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


class Client:
    """HTTP over kept connections; counts answers by path and status."""

    def __init__(self, port: int) -> None:
        self.port, self.answers = port, Counter[str]()
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def _sent(self, method: str, path: str, body: object) -> tuple[Any, Any]:
        while self._idle and self._idle[-1][0] < time.monotonic() - 2:  # the server closes after 5
            self._idle.pop()[2].close()
        _, reader, writer = (
            self._idle.pop()
            if self._idle
            else (0, *await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24))
        )
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
        return reader, writer

    async def ask(self, method: str, path: str, body: object = None, seconds: float = 60) -> tuple[int, Any]:
        """Status and document; of a stream, that is read for some seconds at most, its bytes."""
        reader, writer = await self._sent(method, path, body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, length = int(head.split()[1]), head.partition("content-length: ")[2].split("\r\n")[0]
        self.answers[f"{method} /{'/'.join(path.partition('?')[0].split('/')[2:3])} {status}"] += 1
        if length or status == 204:
            read = await reader.readexactly(int(length or 0))
            self._idle.append((time.monotonic(), reader, writer))
            return status, json.loads(read) if read and "json" in head else read
        read = bytearray()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not read.endswith(b"0\r\n\r\n") and (piece := await reader.read(1 << 16)):
                    read += piece
        writer.close()
        return status, bytes(read)


@contextlib.contextmanager
def serving(run: Path, profile: str | None = None, patient: bool = False) -> Iterator[Server]:
    """A server over a run and a new database."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(run, f"sqlite:///{folder}/serve.db", profile, patient)
        server.settle()
        try:
            yield server
        finally:
            server.close()
