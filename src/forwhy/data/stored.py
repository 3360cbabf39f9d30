"""What a data set's folder may hold, digests or not (anybody can compute a digest), and the digest of its tables."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from forwhy.atomic import Signed
from forwhy.columns import KEYS, SIDES, SPLITS, TABLES, Kind, Side
from forwhy.data.checks import about, lacking
from forwhy.data.leaks import known_entities
from forwhy.errors import UserError
from forwhy.frames import BROKEN, StoredTables, Tables, height, scanned, slices, unreadable

TEXTS_AT_ONCE = 10_000
"""Texts of a column that are hashed together: millions of reviews are not copied to be hashed."""
REMEDY = "import the data set anew with `forwhy data import`"


class Source(BaseModel, extra="allow", strict=True):
    """What is read again of where a data set comes from."""

    protocol: dict[str, Any] | None = None
    mined: dict[str, dict[str, Any]] = {}
    split: dict[str, Any] | str | None = None


class Document(Signed):
    """What `dataset.json` says beside the files."""

    name: str
    fingerprint: str
    source: Source


STORED: Mapping[Kind, tuple[pl.DataType, ...]] = {
    **dict.fromkeys(("user", "item"), (pl.Int64(), pl.String())),
    **dict.fromkeys(("entity", "side", "split", "text"), (pl.String(),)),
    "integer": (pl.Int64(),),
    "number": (pl.Float64(),),
}
"""Types of a saved column by its kind; those that are not ours have one of all these, or are true and false."""
OWN = (pl.Int64(), pl.Float64(), pl.String(), pl.Boolean())


WORDS: Mapping[Kind, Sequence[str]] = {"side": SIDES, "split": SPLITS}


def read_stored(folder: Path, files: Collection[str]) -> StoredTables:
    """The tables of a data set's folder; refused is what no import writes: later steps would fall over it."""
    present = [name for name in TABLES if f"{name}.parquet" in files]
    if "interactions" not in present:
        raise UserError(f"{folder}: has no interactions; {REMEDY}")
    tables = StoredTables(folder, present, REMEDY)
    try:
        _check(folder, tables)
    except BROKEN as error:  # in a table that was not read at once
        raise unreadable(folder, error, REMEDY) from error
    return tables


def _check(folder: Path, tables: Tables) -> None:
    if not height(tables, "interactions"):
        raise UserError(f"{folder}: has no interactions; {REMEDY}")
    schemas = {name: scanned(tables, name).collect_schema() for name in tables}
    kinds = {f"{side}_id": schemas["interactions"].get(f"{side}_id") for side in SIDES}
    for name, schema in schemas.items():
        for wrong in _unlike_stored(name, schema, kinds):
            raise UserError(f"{folder / name}.parquet: {wrong}; {REMEDY}")
    known = {side: known_entities(tables, side) for side in SIDES}
    for name in tables:
        for rows in slices(tables, name):
            for wrong in _unfit(name, rows, known):
                raise UserError(f"{folder / name}.parquet: {wrong}; {REMEDY}")
        if name in ("items", "users") and tables[name][KEYS[name][0]].is_duplicated().any():
            raise UserError(f"{folder / name}.parquet: column {KEYS[name][0]!r} repeats an id; {REMEDY}")


def _unlike_stored(name: str, schema: pl.Schema, ids: Mapping[str, pl.DataType | None]) -> Iterator[str]:
    """What is wrong with the columns of a saved table."""
    yield from (f"no column {column!r}" for column in lacking(name, schema.names()))
    ours = {column.name: column for column in TABLES[name]}
    for column, kind in schema.items():
        fits = STORED[ours[column].kind] if column in ours else OWN
        if kind not in fits or kind != ids.get(column, kind):
            yield f"column {column!r} holds {kind}"


def _unfit(name: str, rows: pl.DataFrame, known: Mapping[Side, pl.Series]) -> Iterator[str]:
    """What is wrong with rows of a saved table."""
    ours = {column.name: column for column in TABLES[name]}
    for column, kind in rows.schema.items():
        if rows[column].null_count() and (kind == pl.String or (column in ours and ours[column].filled)):
            yield f"column {column!r} has gaps"
        elif column in ours and not (
            (words := WORDS.get(ours[column].kind)) is None or rows[column].is_in(words).all()
        ):
            yield f"column {column!r} holds other words than it may"
    for side in SIDES:
        if about(rows, side, known[side], others=True).any():
            yield f"holds a {side} that the data set lacks"


def content_hash(tables: Tables, names: Iterable[str] | None = None) -> str:
    """sha256 (hex) over names, types, counts and values of tables, or of those named; no matter parquet's version."""
    digest = hashlib.sha256()
    for name in sorted(tables if names is None else names):
        lazy = scanned(tables, name)
        digest.update(f"{name}:{height(tables, name)}\n".encode())
        for column, kind in lazy.collect_schema().items():
            digest.update(f"{column}:{kind}\n".encode())
            for part in _column_bytes(lazy.select(column).collect().to_series()):
                digest.update(part)
    return digest.hexdigest()


def _column_bytes(values: pl.Series) -> Iterator[bytes]:
    """Values in order, with null places; text with lengths, so that no two columns share their bytes."""
    if values.null_count():
        yield np.packbits(values.is_null().to_numpy()).tobytes()
    if values.dtype == pl.String:
        text = values.fill_null("")
        yield text.str.len_bytes().to_numpy().astype("<u4").tobytes()
        for start in range(0, len(text), TEXTS_AT_ONCE):
            yield "".join(text[start : start + TEXTS_AT_ONCE]).encode()
        return
    filled = values.fill_null(0) if values.dtype.is_numeric() else values.fill_null(False)
    yield filled.to_numpy().tobytes()
