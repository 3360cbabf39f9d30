"""Reading files: whole tables, and long files one row at a time. Whatever cannot be read is named by file and row."""

import ast
import csv
import gzip
import html
import io
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.atomic import file_sha256
from forwhy.columns import FILE, ROW
from forwhy.errors import UserError
from forwhy.progress import Progress

T = TypeVar("T")

READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": partial(pl.read_csv, infer_schema=False, encoding="utf8"),
    ".tsv": partial(pl.read_csv, infer_schema=False, encoding="utf8", separator="\t"),
    ".jsonl": partial(pl.read_ndjson, infer_schema_length=None),
    ".ndjson": partial(pl.read_ndjson, infer_schema_length=None),
    ".parquet": pl.read_parquet,
}
"""Readers of tables by extension; every CSV value is text."""

LONGEST_FIELD = 64 * 1024 * 1024
"""Characters in one CSV field while looking for a broken row; Python's own limit is 131,072."""

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes of one row; a longer one is a file without line breaks, or no review, and is never held in memory."""

SHOWN = 5
"""Bad rows that are named; all are counted."""

BLOCK = 1024 * 1024
"""Bytes that are read at once."""

BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"


def read_rows(path: Path) -> pl.DataFrame:
    """A CSV, TSV, JSONL or parquet file by its extension, with the file and number of each row.

    Raises:
        UserError: no such file, unknown extension, empty, no rows, or a row that cannot be read, named.
    """
    kind = path.suffix.lower()
    if kind not in READERS:
        raise UserError(
            f"{path}: extension {path.suffix!r} is not one of {', '.join(READERS)}; convert or rename it"
        )
    require_file(path)
    try:
        frame = READERS[kind](path)
        if not frame.columns:
            raise pl.exceptions.NoDataError("no columns")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken(path, kind, _short(str(error), 120)) from error
    if kind in (".csv", ".tsv"):
        frame = frame.rename(lambda name: name.strip().lstrip("\ufeff"))
    if frame.height == 0:
        raise UserError(f"{path}: no rows; give a file with at least one, or leave the option out")
    numbered = with_origin(frame, path)
    if len(frame.columns) == 1:
        return numbered
    return numbered.filter(~pl.all_horizontal(pl.col(frame.columns).is_null()))  # blank lines


def with_origin(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The frame with the file and the number (from 1) of each row."""
    file = pl.lit(str(path), dtype=pl.Categorical).alias(FILE)
    return frame.with_columns(file, pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW))


def read_json(path: Path) -> object:
    """A whole JSON file; broken ones are refused with line and column."""
    require_file(path)
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        where = f"row {error.lineno}, column {error.colno}"
        raise UserError(f"{path}: {where}: truncated or not JSON ({error.msg}); copy it again") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON text in UTF-8 ({error}); convert it") from error


def sha256_of(paths: list[Path]) -> dict[str, str]:
    """sha256 by file name, for the record of what was read."""
    return {path.name: file_sha256(path) for path in paths}


def require_file(path: Path) -> None:
    """Refuse what is missing, a folder, or empty."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a file; name the file")
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: empty file; copy it again or leave the option out")


def require_folder(folder: Path, holds: str) -> None:
    """Refuse what is no folder; `holds` are the files that it should have."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder with {holds}")


def _broken(path: Path, kind: str, reason: str) -> UserError:
    """Why polars could not read a table, with the row where it can be found."""
    if kind == ".parquet":
        return UserError(f"{path}: truncated or not parquet ({reason}); copy it again")
    if kind in (".csv", ".tsv"):
        return _broken_csv(path, "," if kind == ".csv" else "\t", reason)
    try:
        for _ in RowFile(path, _finite_object).rows(BadRows()):
            pass
    except UserError as found:
        return found
    return UserError(f"{path}: not readable as JSON lines ({reason}); give every row the same types")


def _broken_csv(path: Path, separator: str, reason: str) -> UserError:
    """Name the row that is undecodable or has too many values."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as bad:
        row = data[: bad.start].count(b"\n")
        return UserError(f"{path}: row {row}: not UTF-8 text; convert the file to UTF-8")
    if not text.strip():
        return UserError(f"{path}: empty file; copy it again or leave the option out")
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        width = len(next(rows))
        for number, values in enumerate(rows, start=1):
            if len(values) > width:
                found = f"{len(values)} values in a file of {width} columns"
                return UserError(f"{path}: row {number}: {found}; quote the text that holds a {separator!r}")
    except csv.Error as bad_csv:
        return UserError(
            f"{path}: {bad_csv} at the end of the file or in row {rows.line_num}; close the quote"
        )
    return UserError(f"{path}: not a readable table ({reason}); check the separator and the quotes")


# --- Long files, plain or gzip, one row at a time, with an account of the rows that could not be read.


class BadRow(Exception):
    """What is wrong with one row: why, its column (``""`` for the whole row), what to do, and the value."""

    def __init__(
        self, reason: str, column: str = "", remedy: str = "correct the row", value: object = None
    ) -> None:
        self.column, self.reason, self.remedy = column, reason, remedy
        self.value = "" if value is None else f" ({_short(repr(value) if column else str(value))})"


@dataclass
class BadRows:
    """Bad rows of one import: the first one ends it, or, with `skip`, all are counted and left out."""

    skip: bool | None = None
    """None: the caller has no option to skip them, so the error does not speak of it."""
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
            option = "" if self.skip is None else ", or leave bad rows out with --skip-bad"
            raise UserError(f"{said}; {bad.remedy}{option}")
        self.count += 1
        self.reasons[f"{path.name}{column}: {bad.reason}"] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(said)

    def document(self) -> dict[str, Any]:
        """Plain JSON values: count, count by reason, the first few."""
        return {"count": self.count, "reasons": dict(self.reasons), "first": list(self.shown)}


@dataclass(frozen=True)
class RowFile(Generic[T]):
    """A file, plain or gzip, whose every line is one row; never more than one row of it is in memory."""

    path: Path
    parse: Callable[[bytes], T]
    """Reads one line; raises `BadRow`."""
    header: int = 0
    """Lines before the first row."""

    def rows(self, bad: BadRows) -> Iterator[tuple[int, T]]:
        """Every good row with its number (the first line of data is 1); blank lines are no rows."""
        for row, line in self._lines(bad):
            try:
                yield row, self.parse(line)
            except BadRow as wrong:
                bad.add(self.path, row, wrong)

    def pick(self, wanted: NDArray[np.int64]) -> Iterator[T]:
        """The rows with these rising numbers, which were good before; reads no further than the last.

        Raises:
            UserError: one of them is no longer there, or no longer good.
        """
        left = wanted.tolist()[::-1]
        for row, line in self._lines(BadRows(skip=True)) if left else ():
            if row == left[-1]:
                try:
                    yield self.parse(line)
                except BadRow:
                    break
                left.pop()
                if not left:
                    return
        if left:
            raise UserError(f"{self.path}: changed while it was being read; run the import again")

    def _lines(self, bad: BadRows) -> Iterator[tuple[int, bytes]]:
        """Lines with their row numbers, without the header, blank lines and the byte order mark."""
        if self.path.is_file() and self.path.stat().st_size == 0:
            bad.add(self.path, 0, BadRow("empty file", remedy="copy the file again"))
            return
        require_file(self.path)
        label, size = f"reading {self.path.name} (MiB)", self.path.stat().st_size >> 20
        with self.path.open("rb", buffering=BLOCK) as raw, Progress(label, size or None) as progress:
            packed = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            lines = _split(gzip.GzipFile(fileobj=raw) if packed else raw)
            for row, line in enumerate(lines, start=1 - self.header):
                if not row & 0x3FFF:
                    progress.advance((raw.tell() >> 20) - progress.done)
                if isinstance(line, BadRow):
                    bad.add(self.path, row, line)
                    continue
                text = line.removeprefix(BOM) if row == 1 - self.header else line
                if row > 0 and text and not text.isspace():
                    yield row, text


def _split(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes | BadRow]:
    """Lines, or what is wrong instead of one. A broken gzip stream gives all lines before the break."""
    try:
        while line := stream.readline(LONGEST_LINE):
            if len(line) < LONGEST_LINE or line.endswith(b"\n"):
                yield line
                continue
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_LINE)
            yield BadRow(f"longer than {LONGEST_LINE:,} bytes")
    except EOFError:
        yield BadRow("the gzip stream is cut short here", remedy="copy the file again")
    except (gzip.BadGzipFile, zlib.error) as error:
        yield BadRow("broken gzip stream", remedy="copy the file again", value=error)


def json_object(line: bytes) -> dict[str, Any]:
    """A line as a JSON object; anything else is a `BadRow`."""
    try:
        value = json.loads(text_of(line))
    except (ValueError, RecursionError) as error:
        remedy = "correct the row or copy the file again"
        raise BadRow("truncated or not JSON", remedy=remedy, value=error) from error
    if not isinstance(value, dict):
        raise BadRow(f"not a JSON object but {type(value).__name__}", remedy="give one object a line")
    return value


def _finite_object(line: bytes) -> None:
    for column, value in json_object(line).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRow(f"{value} is no value", column[:50], "fill it or drop the row")


def text_of(line: bytes) -> str:
    """A line as text; other encodings than UTF-8 are a `BadRow`."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow("not UTF-8 text", remedy="convert the file to UTF-8") from error


def _short(text: str, longest: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


# --- Strangers' titles, descriptions and reviews as one line of plain text.


LONGEST_TEXT = 20_000
"""Characters of a text that are kept: more than any encoder or prompt reads."""

HIDDEN = re.compile(r"<(script|style)\b[^>]{0,200}>.{0,20000}?</\1>", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"</?[A-Za-z!][^<>]{0,500}>")


def clean_text(value: object) -> str:
    """One line of plain text from a title or description: no HTML, no list brackets, 20,000 characters."""
    if isinstance(value, list):
        value = " ".join(str(part) for part in value)
    return plain_text(_unlisted(str(value if value is not None else "")[: 2 * LONGEST_TEXT]))


def plain_text(text: str) -> str:
    """One line without HTML, 20,000 characters; halves of surrogate pairs, which are no text, become `?`."""
    text = text[: 2 * LONGEST_TEXT]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    if "<" in text:
        text = TAG.sub(" ", HIDDEN.sub(" ", text))
    text = TAG.sub(" ", html.unescape(text)) if "&" in text else text
    return " ".join(text.split())[:LONGEST_TEXT]


def _unlisted(text: str) -> str:
    """The strings inside a Python list that was written as text."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return text
    try:
        parts = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return " ".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else text
