"""Files of any length, plain or gzip, one row at a time, with an account of the rows that could not be read."""

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from forwhy.data.sources.files import require_file
from forwhy.errors import UserError
from forwhy.progress import Progress

__all__ = ["BadRow", "BadRows", "RowFile", "json_object", "text_of"]

T = TypeVar("T")

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes of one row; a longer one is a file without line breaks, or no review, and is never held in memory."""

SHOWN = 5
"""Bad rows that are named; all are counted."""

BLOCK = 1024 * 1024
"""Bytes that are read at once."""

BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"


class BadRow(Exception):
    """What is wrong with one row: its column (``""`` for the whole row), why, what to do, and the value."""

    def __init__(self, column: str, reason: str, remedy: str, value: object = None) -> None:
        self.column, self.reason, self.remedy = column, reason, remedy
        self.value = "" if value is None else f" ({_short(repr(value) if self.column else str(value))})"


@dataclass
class BadRows:
    """Bad rows of one import: the first one ends it, or, with `skip`, all are counted and left out."""

    skip: bool = False
    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """How many by file, column and reason."""
    shown: list[str] = field(default_factory=list)
    """The first few, with file, row and column."""

    def add(self, path: Path, row: int, bad: BadRow) -> None:
        """Count a row (the first line of data is 1).

        Raises:
            UserError: it is not to be skipped; names file, row, column and remedy.
        """
        column = f", column {bad.column!r}" if bad.column else ""
        said = f"{path}: row {row}{column}: {bad.reason}{bad.value}"
        if not self.skip:
            raise UserError(f"{said}; {bad.remedy}, or leave bad rows out with --skip-bad")
        self.count += 1
        self.reasons[f"{path.name}{column}: {bad.reason}"] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(said)

    def document(self) -> dict[str, Any]:
        """Plain JSON values: count, count by reason, the first few."""
        return {"count": self.count, "reasons": dict(self.reasons), "first": list(self.shown)}


@dataclass(frozen=True)
class RowFile(Generic[T]):
    """A file whose every line is one row."""

    path: Path
    parse: Callable[[bytes], T]
    """Reads one line; raises `BadRow`."""
    header: int = 0
    """Lines before the first row."""

    def rows(self, bad: BadRows) -> Iterator[tuple[int, T]]:
        """Every good row with its number (the first line of data is 1); blank lines are no rows."""
        for row, line in _lines(self.path, self.header, bad):
            try:
                yield row, self.parse(line)
            except BadRow as wrong:
                bad.add(self.path, row, wrong)

    def pick(self, wanted: NDArray[np.int64]) -> Iterator[T]:
        """The rows with these rising numbers, which were good before; reads no further than the last.

        Raises:
            UserError: one of them is no longer there, or no longer good.
        """
        left = iter(wanted.tolist())
        next_one = next(left, None)
        if next_one is None:
            return
        for row, line in _lines(self.path, self.header, BadRows(skip=True)):
            if row != next_one:
                continue
            try:
                yield self.parse(line)
            except BadRow:
                break
            next_one = next(left, None)
            if next_one is None:
                return
        raise UserError(f"{self.path}: changed while it was being read; run the import again")


def json_object(line: bytes) -> dict[str, Any]:
    """A line as a JSON object; anything else is a `BadRow`."""
    try:
        value = json.loads(text_of(line))
    except (ValueError, RecursionError) as error:
        raise BadRow("", "truncated or not JSON", "correct the row or copy the file again", error) from error
    if not isinstance(value, dict):
        raise BadRow("", f"not a JSON object but {type(value).__name__}", "give one object a line")
    return value


def text_of(line: bytes) -> str:
    """A line as text; other encodings than UTF-8 are a `BadRow`."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow("", "not UTF-8 text", "convert the file to UTF-8") from error


class _Line(NamedTuple):
    """What one attempt to read gave: a line, or what was wrong instead of it; `more` is false at the end."""

    text: bytes
    wrong: BadRow | None
    more: bool


def _lines(path: Path, header: int, bad: BadRows) -> Iterator[tuple[int, bytes]]:
    """Lines with their row numbers, without the header, blank lines and the byte order mark."""
    if path.is_file() and path.stat().st_size == 0:
        bad.add(path, 0, BadRow("", "empty file", "copy the file again"))
        return
    with _opened(path) as (stream, raw), _reading(path) as progress:
        row = -header
        while True:
            row += 1
            line = _next_line(stream)
            if line.wrong is not None:
                bad.add(path, row, line.wrong)
            if not line.more:
                return
            if not row & 0x3FFF:
                progress.advance((raw.tell() >> 20) - progress.done)
            text = line.text.removeprefix(BOM) if row == 1 - header else line.text
            if row > 0 and line.wrong is None and not text.isspace() and text:
                yield row, text


def _next_line(stream: BinaryIO) -> _Line:
    try:
        line = stream.readline(LONGEST_LINE)
        if len(line) < LONGEST_LINE or line.endswith(b"\n"):
            return _Line(line, None, bool(line))
        while line and not line.endswith(b"\n"):
            line = stream.readline(LONGEST_LINE)
        return _Line(b"", BadRow("", f"longer than {LONGEST_LINE:,} bytes", "correct the row"), True)
    except EOFError:
        return _Line(b"", BadRow("", "the gzip stream is cut short here", "copy the file again"), False)
    except (gzip.BadGzipFile, zlib.error) as error:
        return _Line(b"", BadRow("", "broken gzip stream", "copy the file again", error), False)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A stream of the content, unpacked when the file begins as gzip does, and the file itself."""
    require_file(path)
    with path.open("rb", buffering=BLOCK) as raw:
        if raw.read(len(GZIP)) != GZIP:
            raw.seek(0)
            yield raw, raw
            return
        raw.seek(0)
        with gzip.GzipFile(fileobj=raw) as packed, io.BufferedReader(_Unpacked(packed), BLOCK) as stream:
            yield stream, raw


class _Unpacked(io.RawIOBase):
    """A gzip stream that hands out what it has before it fails, so that rows before a cut are read."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self.packed = packed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        data = self.packed.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _reading(path: Path) -> Progress:
    return Progress(f"reading {path.name} (MiB)", (path.stat().st_size >> 20) or None)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
