"""Reading long files, plain, gzip or zip, one row at a time, and cleaning what strangers wrote."""

import gzip
import html
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from forwhy.atomic import file_sha256
from forwhy.data.bad_rows import BadRow, BadRows, short
from forwhy.data.values import written
from forwhy.documents import HALF
from forwhy.documents import require_file as require_file  # also of those who import it from here
from forwhy.errors import UserError
from forwhy.progress import Progress

T = TypeVar("T")

LONGEST_LINE = 4 * 1024 * 1024
"""Bytes of one row; a longer one is a file without line breaks, or no review, and is never held in memory."""

BLOCK = 1024 * 1024

BOM = b"\xef\xbb\xbf"
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
PACKING = (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error)
"""What a packed stream raises that is broken or cut short."""
UNFOLDS, SMALL = 100, 16 * 1024 * 1024
"""A packed file may unfold to so many times its size, and to so many bytes in any case; tables pack to a twentieth."""
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of packing that take no more memory than they say."""


def sha256_of(paths: list[Path]) -> dict[str, str]:
    """sha256 by file name, for the record of what was read."""
    return {path.name: file_sha256(path) for path in paths}


def require_folder(folder: Path, holds: str) -> None:
    """Refuse what is no folder; `holds` are the files that it should have."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder with {holds}")


def packed_file(path: Path) -> zipfile.ZipInfo | None:
    """The one file in a zip, told by content; None for any other file."""
    if not zipfile.is_zipfile(path):
        return None
    with _zip_errors(path), zipfile.ZipFile(path) as archive:
        files = (it for it in archive.infolist() if not it.filename.endswith("/"))  # `is_dir` needs a name
        inside = [it for it in files if not it.filename.startswith("__MACOSX")]
    if len(inside) != 1 or inside[0].flag_bits & 1 or inside[0].compress_type not in PACKED:
        held = short(", ".join(it.filename for it in inside[:5]) or "nothing")
        unread = "is encrypted, or packed in a way that is not read"
        reason = unread if len(inside) == 1 else f"holds {held}, not one file"
        raise UserError(f"{path}: {reason}; unpack it and name one file")
    return inside[0]


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{path}: broken zip ({short(str(error))}); copy it again") from error


def unpacked(raw: IO[bytes], path: Path) -> IO[bytes]:
    """An open file, or the stream that is packed in it with gzip or zip, told by content; see `UNFOLDS`."""
    start = raw.read(len(ZIP))
    raw.seek(0)
    stream: Any = raw
    if start.startswith(GZIP):
        stream = gzip.GzipFile(fileobj=raw)
    elif inside := packed_file(path) if start == ZIP else None:
        with _zip_errors(path):
            stream = zipfile.ZipFile(raw).open(inside)  # noqa: SIM115 - closed with what it reads
    return raw if stream is raw else io.BufferedReader(_Measured(stream, path), BLOCK)


class _Measured(io.RawIOBase):
    """What is unpacked, until it is more than a packed table can be."""

    def __init__(self, stream: Any, path: Path) -> None:  # noqa: ANN401 - of gzip or zipfile
        self._stream, self._path = stream, path
        self._left = self._most = max(SMALL, UNFOLDS * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as the base's
        data = self._stream.read1(len(buffer))  # of a broken stream all that comes before the break
        buffer[: len(data)] = data
        self._left -= len(data)
        if self._left < 0:
            wrong = f"unfolds to more than {self._most >> 20:,} MiB, over {UNFOLDS} times its size"
            raise UserError(f"{self._path}: {wrong}; unpack it and see what it holds")
        return len(data)


def lines(text: IO[str], path: Path) -> Iterator[str]:
    """Lines of a text, none of them longer than `LONGEST_LINE`."""
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and line[-1] not in "\r\n":
            wrong = f"a line of more than {LONGEST_LINE:,} letters"
            raise UserError(f"{path}: {wrong}; it is no table, or has other line breaks")
        yield line


@contextmanager
def reading(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], None]]]:
    """The unpacked stream of a file, and what shows how far it is read when it is called now and then."""
    label, size = f"reading {path.name} (MiB)", path.stat().st_size >> 20
    with path.open("rb", buffering=BLOCK) as raw, Progress(label, size or None) as bar:
        yield unpacked(raw, path), lambda: bar.advance((raw.tell() >> 20) - bar.done)


# --- Long files one row at a time, with an account of the rows that could not be read.


@dataclass(frozen=True)
class RowFile(Generic[T]):
    """A file, plain, gzip or zip, whose every line is one row; never more than one row of it is in memory."""

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
        """The rows with these rising numbers; refused where one is no longer there, or no longer good."""
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
        with reading(self.path) as (stream, advance):
            for row, line in enumerate(split(stream), start=1 - self.header):
                if not row & 0x3FFF:
                    advance()
                if isinstance(line, BadRow):
                    bad.add(self.path, row, line)
                    continue
                text = line.removeprefix(BOM) if row == 1 - self.header else line
                if row > 0 and text and not text.isspace():
                    yield row, text


def split(stream: IO[bytes]) -> Iterator[bytes | BadRow]:
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
        yield BadRow("the packed stream is cut short here", remedy="copy the file again")
    except PACKING as error:
        yield BadRow("broken packed stream", remedy="copy the file again", value=error)


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


def text_of(line: bytes) -> str:
    """A line as text; other encodings than UTF-8 are a `BadRow`."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow("not UTF-8 text", remedy="convert the file to UTF-8") from error


def is_cut(text: str) -> bool:
    """Whether half of a letter is in a text: JSON writes some in two parts, and a half alone is no text."""
    return not text.isascii() and HALF.search(text) is not None


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
    """The strings inside a list that was written as text."""
    parts = written(text)
    return " ".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else text
