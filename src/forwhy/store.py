"""Rows found by their key in one SQLite file, shared by threads and processes; durable once written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Self
from weakref import finalize

from forwhy.errors import UserError

Row = tuple[Any, ...]

MARK = 0x464F5257
"""`application_id` of our files: SQLite files of other programs are refused."""
PATIENCE = 60.0
"""Seconds that a write waits for those of other processes."""
_BEGINNING = b"SQLite format 3\x00"


class Store:
    """One table of an SQLite file, whose first column is the key; of two rows with one key the first stays.

    What `write` returned from survives a kill and a power cut: it is in the write-ahead log and synced. Without a path
    rows stay in memory. `columns` are names and SQL types; `what` names the content in errors. Refused are a file of
    something else, a damaged one, and a place that can't be written to.
    """

    def __init__(self, path: Path | None, table: str, columns: Sequence[str], what: str) -> None:
        self.path, self._what, self._using = path, what, Lock()
        with self._told():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._refuse_foreign(path)
            self._connection = sqlite3.connect(path or ":memory:", PATIENCE, check_same_thread=False)
            self._close = finalize(self, self._connection.close)
            try:
                self._prepare(table, columns)
            except BaseException:
                self._close()
                raise
        self._insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(columns))})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, query: str, *values: object) -> list[Row]:
        """The rows that a query finds."""
        with self._using, self._told():
            return self._connection.execute(query, values).fetchall()

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows, all or none of them; on the disk when this returns."""
        with self._using, self._told(), self._connection:
            self._connection.executemany(self._insert, rows)

    def _refuse_foreign(self, path: Path) -> None:
        """SQLite would take a file of a few bytes for an empty one, and write over it."""
        if path.is_file():
            with path.open("rb") as stream:
                head = stream.read(len(_BEGINNING))
            if head not in (b"", _BEGINNING):
                raise sqlite3.DatabaseError(f"it begins with {head!r}")

    def _prepare(self, table: str, columns: Sequence[str]) -> None:
        run = self._connection.execute
        # Large pages, read where they lie: vectors are found twice as fast. Each commit waits for the disk.
        for name, value in {"page_size": 16384, "mmap_size": 1 << 40, "synchronous": "FULL"}.items():
            run(f"PRAGMA {name} = {value}")
        with self._connection:  # one process at a time looks, and makes what is missing
            run("BEGIN EXCLUSIVE")
            (mark,) = run("PRAGMA application_id").fetchone()
            if mark != MARK and run("SELECT 1 FROM sqlite_master").fetchone():
                raise sqlite3.DatabaseError("a database of another program")
            run(f"PRAGMA application_id = {MARK}")
            run(f"CREATE TABLE IF NOT EXISTS {table} ({columns[0]} PRIMARY KEY, {', '.join(columns[1:])})")
        run("PRAGMA journal_mode = WAL")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """An error of the database or the disk as the caller's: one line with the file and the remedy."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"{self.path}: {self._remedy(error)}") from error

    def _remedy(self, error: sqlite3.Error | OSError) -> str:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            return "the disk is full; free space or choose another place"
        if code == sqlite3.SQLITE_BUSY:
            return f"another process has been writing to it for {PATIENCE:g} s; wait for it and run again"
        broken = (None, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if isinstance(error, sqlite3.Error) and code in broken:
            return f"no file of {self._what}, or a damaged one ({error}); give another file"
        return f"cannot write ({error}); choose another place for {self._what}"
