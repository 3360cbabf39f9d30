"""Tables in files, some rows at a time: CSV of any separator and encoding, JSON lines, parquet; plain, gzip or zip.

Every reader gives blocks of rows with their numbers, whatever the length of the file; bad rows are named or counted.
"""

import csv
import io
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import IO, Any, TypeVar

import polars as pl

from forwhy.columns import FILE, ROW
from forwhy.data.bad_rows import BadRow, BadRows, short
from forwhy.data.sources import files
from forwhy.data.sources.files import BLOCK, LONGEST_LINE
from forwhy.documents import require_file
from forwhy.errors import UserError, plain
from forwhy.frames import BROKEN, scan_parquet

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 20_000
"""Rows held as Python objects before they become columns."""

SEPARATORS = ",;\t|"
MOST_COLUMNS = 2_000
"""Columns of a table: a longer header is a text in the wrong place, and costs as much as the square of its length."""
FOREIGN = re.compile("[\udc80-\udcff]")
"""A byte that is no UTF-8, as `surrogateescape` decodes it."""


def read_rows(path: Path) -> pl.DataFrame:
    """The rows of a table file, with their file and numbers; refused as by `blocks`, bad rows too."""
    return with_origin(pl.concat(blocks(path, BadRows()), how="diagonal_relaxed"), path)


def with_origin(frame: pl.DataFrame, path: Path | str) -> pl.DataFrame:
    """The frame with the file and, where it has none yet, the number (from 1) of each row."""
    file = pl.lit(str(path), dtype=pl.Categorical).alias(FILE)
    number = ROW if ROW in frame.columns else pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW)
    return frame.with_columns(file, number)


def table_kind(path: Path) -> str:
    """The extension that names the format: of the file, or of what is packed in it."""
    name = path.name
    if path.suffix.lower() == ".zip" and path.is_file() and (inside := files.packed_file(path)):
        name = inside.filename
    return Path(name.removesuffix(".gz")).suffix.lower()


def blocks(path: Path, bad: BadRows) -> Iterator[pl.DataFrame]:
    """Some rows at a time, with their numbers (`ROW`; the first row of data is 1); there is at least one.

    Every value of a CSV file is text, and an empty one null. Memory: some megabytes, whatever the file's length.
    Refused are a missing or empty file, an unknown extension, and one without rows; bad rows go to `bad`.
    """
    kind = table_kind(path)
    if kind not in READERS:
        known = f"{', '.join(READERS)}, plain, .gz or .zip"
        raise UserError(f"{path}: extension {path.suffix!r} is not one of {known}; convert or rename it")
    require_file(path)
    left = iter(READERS[kind](path, bad))
    try:
        first = next((block for block in left if block.height), None)
        if first is None:
            raise UserError(f"{path}: no rows; give a file with at least one, or leave the option out")
        yield from (block for block in chain([first], left) if block.height)
    except files.PACKING as error:
        raise UserError(f"{path}: broken or cut short ({short(str(error))}); copy it again") from error


def check_columns(place: Path | str, names: Sequence[str], how: str = "in the first line") -> None:
    """Refuse a header of too many columns, of two with one name, or with a name that is ours."""
    if len(names) > MOST_COLUMNS:
        wrong = f"{len(names):,} columns, and a table may have {MOST_COLUMNS:,}"
        raise UserError(f"{place}: {wrong}; leave out those that say nothing")
    for name, often in Counter(names).items():
        if often > 1:
            raise UserError(f"{place}: two columns are called {name!r}; rename one {how}")
        if name in (FILE, ROW):
            raise UserError(
                f"{place}: a column is called {name!r}, as ours that says where a row is; rename it"
            )


def batches(rows: Iterable[T]) -> Iterator[list[T]]:
    """Rows, `AT_ONCE` at a time."""
    left = iter(rows)
    while some := list(islice(left, AT_ONCE)):
        yield some


# --- Text with separators


def _separated(path: Path, bad: BadRows, usual: str) -> Iterator[pl.DataFrame]:
    """Blocks of a CSV file; the first line names the columns and tells the separator."""
    encoding, mixed = _encoding(path)
    csv.field_size_limit(LONGEST_LINE)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    with files.reading(path) as (stream, advance):
        text = io.TextIOWrapper(stream, encoding, errors, newline="")
        first = _first_line(text)
        if first.lower().startswith("sep="):  # Excel's own hint
            first = _first_line(text)
        if not first or "\0" in first:
            raise UserError(f"{path}: no text in its first lines; save the table as CSV and name that file")
        bare = re.sub('"[^"]*"', "", first)
        separator = max([usual, *SEPARATORS], key=bare.count)
        rows = csv.reader(chain([first], files.lines(text, path)), delimiter=separator, strict=True)
        names = _header(path, next(rows))
        fit = partial(_fitted, len(names), separator, mixed)
        for some in batches(_records(path, rows, fit, bad)):
            advance()
            yield _text_block(names, some)


def _text_block(names: list[str], rows: list[tuple[int, list[str]]]) -> pl.DataFrame:
    """Columns of text without empty ones and blank rows; a list of one column keeps its blanks."""
    columns = zip(*(values for _, values in rows), strict=True)
    frame = pl.DataFrame(dict(zip(names, columns, strict=True)), dict.fromkeys(names, pl.String))
    frame = frame.with_columns(pl.all().replace("", None), pl.Series(ROW, [row for row, _ in rows]))
    return frame if len(names) == 1 else frame.filter(~pl.all_horizontal(pl.col(names).is_null()))


def _first_line(text: IO[str]) -> str:
    return next((line for line in iter(partial(text.readline, LONGEST_LINE), "") if line.strip()), "")


def _header(path: Path, values: list[str]) -> list[str]:
    names = [value.strip() or f"column_{place}" for place, value in enumerate(values, start=1)]
    check_columns(path, names)
    return names


def _records(
    path: Path, rows: Iterator[list[str]], fit: Callable[[list[str]], list[str]], bad: BadRows
) -> Iterator[tuple[int, list[str]]]:
    """Every good row with its number; blank lines of several columns are none."""
    for row in count(1):
        try:
            yield row, fit(next(rows))
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error) or "field limit" in str(error):
                reason = "a quote that opens here is not closed"
                raise UserError(f"{path}: row {row}: {reason}; close the quote") from error
            wrong = BadRow("text after a closing quote", remedy='write "" for a quote inside a text')
            bad.add(path, row, wrong)
        except BadRow as wrong:
            bad.add(path, row, wrong)


def _fitted(width: int, separator: str, mixed: bool, values: list[str]) -> list[str]:
    """A row of this width: short ones are filled up, empty cells beyond the header cut; raises `BadRow`."""
    if mixed and FOREIGN.search(separator.join(values)):
        raise BadRow("not UTF-8 text", remedy="convert the file to UTF-8")
    if len(values) == width:
        return values
    if any(values[width:]):
        found = f"{len(values)} values in a file of {width} columns"
        raise BadRow(found, remedy=f"quote the text that holds a {separator!r}")
    return values[:width] + [""] * (width - len(values))


def _encoding(path: Path) -> tuple[str, bool]:
    """UTF-8, UTF-16 or, with more bytes outside UTF-8 than letters in it, Windows-1252; and whether bytes are none."""
    with path.open("rb", buffering=BLOCK) as raw:
        if files.unpacked(raw, path).read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return "utf-16", False
        raw.seek(0)
        text = io.TextIOWrapper(files.unpacked(raw, path), "utf-8", "surrogateescape", newline="")
        good = wrong = 0
        while some := text.read(BLOCK):
            if not some.isascii():
                foreign = len(FOREIGN.findall(some))
                wrong += foreign
                good += len(some) - len(some.encode("ascii", "ignore")) - foreign
    if wrong > good:
        remedy = "if letters look wrong, convert it to UTF-8"
        log.info("%s: read as Windows-1252, as it is not UTF-8; %s", path, remedy)
        return "cp1252", False
    return "utf-8-sig", wrong > 0


# --- JSON lines and parquet


def _json_lines(path: Path, bad: BadRows) -> Iterator[pl.DataFrame]:
    for some in batches(files.RowFile(path, _flat_object).rows(bad)):
        try:
            frame = pl.DataFrame([values for _, values in some], infer_schema_length=None, strict=False)
        except (pl.exceptions.PolarsError, OverflowError, TypeError) as error:
            wrong = f"not readable as JSON lines ({short(str(error), 120)})"
            raise UserError(f"{path}: {wrong}; give every row the same types") from error
        check_columns(path, frame.columns)
        yield frame.with_columns(pl.Series(ROW, [row for row, _ in some]))


def _flat_object(line: bytes) -> dict[str, Any]:
    """A line as an object of numbers and text: lists joined by commas, those that hold some and records as JSON.

    Raises `BadRow`.
    """
    found = files.json_object(line)
    if len(found) > MOST_COLUMNS:
        raise BadRow(f"{len(found):,} columns, and a table may have {MOST_COLUMNS:,}")
    for column, value in found.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRow(f"{value} is no value", column[:50], "fill it or drop the row")
        found[column] = value = _flat(value)
        if files.is_cut(column) or (isinstance(value, str) and files.is_cut(value)):
            raise BadRow("half of a surrogate pair", plain(column)[:50])
    return found


def _flat(value: Any) -> Any:  # noqa: ANN401 - JSON is any of these
    if isinstance(value, list):
        parts = [str(part) for part in value if part is not None]
        if not any("," in part for part in parts):
            return ", ".join(parts)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value) if type(value) is int and value.bit_length() > 63 else value


def _parquet(path: Path, bad: BadRows) -> Iterator[pl.DataFrame]:
    lazy, rows = scan_parquet(path)
    try:
        schema = lazy.collect_schema()
        check_columns(path, schema.names())
        if bytes_ := [
            name for name, kind in schema.items() if "Binary" in str(kind) or "Object" in str(kind)
        ]:
            said = "%s: left out: %s: a column of bytes, as pictures are, says nothing here"
            log.warning(said, path, ", ".join(bytes_))
        lazy = lazy.drop(bytes_).with_row_index(ROW, offset=1).cast({ROW: pl.Int64})
        for start in range(0, rows, 10 * AT_ONCE):
            yield lazy.slice(start, 10 * AT_ONCE).collect()
    except BROKEN as error:
        reason = short(str(error), 120)
        raise UserError(f"{path}: truncated or not parquet ({reason}); copy it again") from error


READERS: Mapping[str, Callable[[Path, BadRows], Iterator[pl.DataFrame]]] = {
    ".csv": partial(_separated, usual=","),
    ".tsv": partial(_separated, usual="\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
