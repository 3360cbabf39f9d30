"""Commands that are killed: before a chosen call to the file system, or at a moment; and what is then on the disk.

A process that has imported everything and done nothing forks for each command, so that a kill costs a fraction of a
second. (It must not be the tests' own: a fork of a process whose polars has threads would wait for these for ever.)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

CALLS = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "fsync", "link", "symlink", "ftruncate")
"""Calls of `os` that change the disk, beside opening a file to write."""
MODULES = (
    "forwhy.cli.run",
    "forwhy.cli.evaluate",
    "forwhy.cli.importing",
    "forwhy.cli.mine",
    "forwhy.cli.data",
)
HEAVY = ("torch", "transformers", "polars", "forwhy.report", "forwhy.training.loop", "safetensors.torch")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    """Its exit status, or the negative number of the signal."""
    calls: int
    """Calls to the file system that it made; 0 of one that was killed."""
    told: str
    """What it wrote, both streams."""


class Killer:
    """The process that forks. `environment` is that of every command."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its pipes too
            self._process.kill()

    def run(
        self, words: Sequence[str], folder: Path, at: int | None = None, after: float | None = None
    ) -> Ended:
        """A command in a working folder; killed `at` a call (from 1), or so many seconds `after` its start."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"words": list(words), "folder": str(folder), "at": at, "after": after}
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


# --- what is on the disk

TIMES = re.compile(
    rb'"(seconds|finished|created|ranking_seconds_per_user|peak_memory_mib)": ?("[^"]*"|[-\d.e+]+)'
)
"""Where time may stand, in files that are about how it went: state.json, metrics.jsonl, evaluation.json."""
ABOUT_TIME = ("state.json", "metrics.jsonl", "evaluation.json")


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file under a folder, by its relative path; without times where these belong."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(_bytes(path)).hexdigest() for path in files}


def _bytes(path: Path) -> bytes:
    found = path.read_bytes()
    if found.startswith(b"SQLite format 3\0"):
        return _rows(path)
    return TIMES.sub(b"", found) if path.name in ABOUT_TIME else found


def _rows(path: Path) -> bytes:
    """All rows of all tables, without when they were written."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        columns = {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in tables
        }
        kept = {name: [it for it in held if it not in ("seconds", "asked")] for name, held in columns.items()}
        rows = [
            sorted(map(repr, connection.execute(f"SELECT {', '.join(kept[it])} FROM {it}"))) for it in tables
        ]  # noqa: S608
    return json.dumps(rows).encode()


def left_behind(folder: Path) -> list[str]:
    """Temporary names under a folder that nobody needs any more."""
    marks = (".partial", ".previous", ".lock", "-wal", "-shm", ".tmp")
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in names if name.endswith(marks) or "/work/" in f"/{name}")


# --- the process that forks


def _serve() -> None:
    """Reads commands from its input until it ends."""
    import importlib

    for name in (*HEAVY, *MODULES):
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        sys.stdout.write(f"{json.dumps(_forked(**asked))}\n")
        sys.stdout.flush()


def _forked(words: list[str], folder: str, at: int | None, after: float | None) -> dict[str, Any]:
    told, count = Path(f"{folder}.told"), Path(f"{folder}.count")
    count.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _child(words, folder, at, told, count)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    calls = int(count.read_text()) if count.exists() else 0
    return {"status": os.waitstatus_to_exitcode(status), "calls": calls, "told": told.read_text()}


def _child(words: list[str], folder: str, at: int | None, told: Path, count: Path) -> None:
    status = 1
    try:
        stream = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        os.chdir(folder)
        made = _counted(at)
        from forwhy.cli import main

        try:
            main(words)
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        count.write_text(str(made.number))
    finally:
        os._exit(status)


class _Count:
    """Calls that change the disk; the process dies before one of them."""

    def __init__(self, at: int | None) -> None:
        self.at, self.number = at, 0

    def tick(self) -> None:
        self.number += 1
        if self.number == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def before(*given: Any, **named: Any) -> Any:  # noqa: ANN401
            self.tick()
            return call(*given, **named)

        return before

    def opening(self, call: Callable[..., IO[Any]]) -> Callable[..., IO[Any]]:
        def before(file: Any, mode: str = "r", *given: Any, **named: Any) -> IO[Any]:  # noqa: ANN401
            if set(mode) & set("wax+"):
                self.tick()
            return call(file, mode, *given, **named)

        return before


def _counted(at: int | None) -> _Count:
    """Makes every such call count from now on."""
    import builtins
    import io

    count = _Count(at)
    for name in CALLS:
        setattr(os, name, count.ticking(getattr(os, name)))
    builtins.open = io.open = count.opening(open)  # type: ignore[assignment]
    return count


if __name__ == "__main__":
    _serve()
