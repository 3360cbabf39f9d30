"""A file of JSON lines that grows by one line per answer, so that a killed process goes on where it was.

A line is a pydantic record whose first field is `key`, 64 hex digits. It is on the disk before the next is
asked for; one process holds the file, others wait; nothing that is not such a line is touched.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from pydantic import BaseModel, ValidationError

from forwhy.atomic import full_disk
from forwhy.errors import UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

Record = TypeVar("Record", bound=BaseModel)

_START = b'{"key":"'
_CUT = re.compile(rb'\{"key":"[0-9a-f]{0,64}')
_NAMED = 5
"""Foreign lines that an error names."""


@dataclass(frozen=True)
class Wording:
    """How messages speak of a file's lines."""

    line: str
    """One of them: "a judge's vote"."""
    lines: str
    """Many of them: "votes"."""
    subject: str
    """What a line is about: "pair"."""
    use: str
    """What a process does with the file: "judges"."""


class LineFile(Generic[Record]):
    """A file of records, read once on entry; a subclass keeps of them what it needs.

    On entry a last line that a kill cut short is removed. None for a path keeps nothing.
    """

    def __init__(self, path: Path | None, record: type[Record], wording: Wording) -> None:
        self.path = path
        self._record, self._wording, self._using = record, wording, Lock()
        self._stream: FileIO | None = None
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> Self:
        """Lock, read and repair the file.

        Raises:
            UserError: a line that is no record, with its number; a folder that can't be written to.
        """
        if self.path is not None:
            with self._unwritable(self.path):
                self._lock = self._locked(self.path)
                try:
                    self._open(self.path)
                except BaseException:
                    self.__exit__()
                    raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._lock is not None:
            self._lock.release()

    def append(self, record: Record) -> tuple[int, int] | None:
        """Write a record and sync it; its place (offset, bytes), None without a file. Safe from threads.

        Raises:
            UserError: the disk is full.
        """
        if self._stream is None or self.path is None:
            return None
        line = record.model_dump_json(exclude_none=True).encode() + b"\n"
        with self._using, full_disk(self.path):
            return _append(self._stream, line), len(line)

    def read(self, place: tuple[int, int]) -> Record:
        """The record at a place (offset, bytes) of the open file."""
        if self._stream is None:
            raise ValueError("the file is not open")
        offset, size = place
        with self._using:
            self._stream.seek(offset)
            line = self._stream.read(size)
        return self._record.model_validate_json(line)

    def found(self, record: Record, place: tuple[int, int]) -> None:
        """Called on entry for every record, in order; a subclass overrides it."""

    def _open(self, path: Path) -> None:
        wrong, end, last = self._scan(path)
        self._refuse_foreign(path, wrong, last)
        self._stream = FileIO(path, "ab+")
        record = self._parsed(last)
        if record is not None:
            self.found(record, (end, len(last)))
            _append(self._stream, b"\n")
        elif last:
            log.info("%s: the last line was cut short by a kill; removed", path)
            self._stream.truncate(end)

    def _scan(self, path: Path) -> tuple[list[int], int, bytes]:
        """Numbers of foreign lines, where the whole lines end, and what comes after them."""
        wrong: list[int] = []
        end = 0
        if not path.exists():
            return wrong, end, b""
        with path.open("rb") as stream:
            for row, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    return wrong, end, line
                record = self._parsed(line)
                if record is None:
                    wrong.append(row)
                else:
                    self.found(record, (end, len(line)))
                end += len(line)
        return wrong, end, b""

    def _parsed(self, line: bytes) -> Record | None:
        try:
            return self._record.model_validate_json(line)
        except ValidationError:
            return None

    def _refuse_foreign(self, path: Path, wrong: list[int], last: bytes) -> None:
        if not (_START.startswith(last) or _CUT.fullmatch(last[: len(_START) + 64])):
            wrong = [*wrong, -1]
        if wrong:
            named = ", ".join("last" if row < 0 else str(row) for row in wrong[:_NAMED])
            more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
            words = self._wording
            raise UserError(
                f"{path}, line {named}{more}: not {words.line}; delete it, so that its {words.subject} is "
                "asked again, or give another file"
            )

    def _locked(self, path: Path) -> BaseFileLock:
        try:
            from filelock import FileLock, Timeout
        except ModuleNotFoundError as error:
            raise UserError("filelock is not installed; `pip install 'forwhy[chat]'` brings it") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("%s: another process %s with it; waiting for it", path, self._wording.use)
            lock.acquire()
        return lock

    @contextmanager
    def _unwritable(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = f"choose another place for {self._wording.lines}"
            raise UserError(f"{path}: cannot write ({error.strerror}); {place}") from error


def _append(stream: FileIO, line: bytes) -> int:
    """Write the whole line in one go and sync it, or leave the file as it was; where it begins."""
    size = os.fstat(stream.fileno()).st_size
    try:
        if stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(stream.fileno())
    except OSError:
        stream.truncate(size)
        raise
    return size
