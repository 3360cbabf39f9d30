"""Reading one file of rows into a frame that remembers where each row came from."""

import ast
import csv
import html
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import polars as pl

from forwhy.artifact import file_sha256
from forwhy.columns import FILE, ROW
from forwhy.errors import UserError

LONGEST_FIELD = 64 * 1024 * 1024
"""Characters in one CSV field while looking for a broken row; Python's own limit is 131,072."""


def read_rows(path: Path) -> pl.DataFrame:
    """A CSV, TSV, JSONL or parquet file by its extension, every CSV value as text, origin columns added.

    Raises:
        UserError: no such file, unknown extension, empty, no rows, or a row that cannot be read, named.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path}: extension {path.suffix!r} is not one of {', '.join(READERS)}; convert or rename it"
        )
    require_file(path)
    frame = reader(path)
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


def _read_csv(path: Path, separator: str = ",") -> pl.DataFrame:
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema=False, encoding="utf8")
    except pl.exceptions.NoDataError as error:
        raise UserError(f"{path}: empty file; copy it again or leave the option out") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken_csv(path, separator, error) from error
    return frame.rename({name: name.strip().lstrip("\ufeff") for name in frame.columns})


def _read_tsv(path: Path) -> pl.DataFrame:
    return _read_csv(path, "\t")


def _broken_csv(path: Path, separator: str, error: Exception) -> UserError:
    """Name the row that polars could not read: undecodable, or with too many values."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as bad:
        row = data[: bad.start].count(b"\n")
        return UserError(f"{path}: row {row}: not UTF-8 text; convert the file to UTF-8")
    csv.field_size_limit(LONGEST_FIELD)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        width = len(next(rows))
        for number, row_values in enumerate(rows, start=1):
            if len(row_values) > width:
                found = f"{len(row_values)} values in a file of {width} columns"
                return UserError(f"{path}: row {number}: {found}; quote the text that holds a {separator!r}")
    except csv.Error as bad_csv:
        return UserError(
            f"{path}: {bad_csv} at the end of the file or in row {rows.line_num}; close the quote"
        )
    return UserError(f"{path}: not a readable table ({_short(error)}); check the separator and the quotes")


def _read_jsonl(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken_jsonl(path, error) from error
    if not frame.columns:
        raise _broken_jsonl(path, ValueError("no columns"))
    return frame


def _broken_jsonl(path: Path, error: Exception) -> UserError:
    """Name the first row that is not an object of plain values."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        wrong = _wrong_object(line)
        if wrong:
            return UserError(f"{path}: row {number}{wrong}")
    return UserError(f"{path}: not readable as JSON lines ({_short(error)}); give every row the same types")


def _wrong_object(line: bytes) -> str:
    try:
        value = json.loads(line) if line.strip() else {}
    except (ValueError, RecursionError) as bad:
        return f": truncated or not JSON ({_short(bad)}); give one object a line"
    if not isinstance(value, dict):
        return f": not a JSON object but {type(value).__name__}; give one object a line"
    for column, cell in value.items():
        if isinstance(cell, float) and not math.isfinite(cell):
            return f", column {column[:50]!r}: {cell} is no value; fill it or drop the row"
    return ""


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: truncated or not parquet ({_short(error)}); copy it again") from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:117] + "..."


READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = MappingProxyType(
    {
        ".csv": _read_csv,
        ".tsv": _read_tsv,
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".parquet": _read_parquet,
    }
)
"""Readers by extension."""


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
