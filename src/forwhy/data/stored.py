"""What a data set's folder may hold, digests or not (anybody can compute a digest), and the digest of its tables."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from forwhy.atomic import Signed
from forwhy.columns import KEYS, SIDES, SPLITS, TABLES, Kind
from forwhy.data.checks import about, lacking
from forwhy.data.leaks import Tables
from forwhy.errors import UserError
from forwhy.frames import read_parquet

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


def read_stored(folder: Path, files: Collection[str]) -> dict[str, pl.DataFrame]:
    """The tables of a data set's folder; refused is what no import writes: later steps would fall over it."""
    present = [name for name in TABLES if f"{name}.parquet" in files]
    tables = {name: read_parquet(folder / f"{name}.parquet", REMEDY) for name in present}
    _check(folder, tables)
    return tables


def _check(folder: Path, tables: Tables) -> None:
    if not tables.get("interactions", pl.DataFrame()).height:
        raise UserError(f"{folder}: has no interactions; {REMEDY}")
    kinds = {f"{side}_id": tables["interactions"].schema.get(f"{side}_id") for side in SIDES}
    for name, frame in tables.items():
        for wrong in _unlike_stored(name, frame, kinds):
            raise UserError(f"{folder / name}.parquet: {wrong}; {REMEDY}")
    for side in SIDES:
        known = tables.get(f"{side}s", tables["interactions"])[f"{side}_id"]
        for name, frame in tables.items():
            if about(frame, side, known.unique(), others=True).any():
                raise UserError(f"{folder / name}.parquet: holds a {side} that the data set lacks; {REMEDY}")


def _unlike_stored(name: str, frame: pl.DataFrame, ids: Mapping[str, pl.DataType | None]) -> Iterator[str]:
    """What is wrong with the columns of a saved table."""
    yield from (f"no column {column!r}" for column in lacking(name, frame.columns))
    ours = {column.name: column for column in TABLES[name]}
    for column, kind in frame.schema.items():
        fits = STORED[ours[column].kind] if column in ours else OWN
        if kind not in fits or kind != ids.get(column, kind):
            yield f"column {column!r} holds {kind}"
        elif frame[column].null_count() and (kind == pl.String or (column in ours and ours[column].filled)):
            yield f"column {column!r} has gaps"
        elif column in ours and not (
            (words := WORDS.get(ours[column].kind)) is None or frame[column].is_in(words).all()
        ):
            yield f"column {column!r} holds other words than it may"
    if name in ("items", "users") and frame[KEYS[name][0]].is_duplicated().any():
        yield f"column {KEYS[name][0]!r} repeats an id"


def content_hash(tables: Tables) -> str:
    """sha256 (hex) over names, types, counts and values of every table; independent of parquet's version."""
    digest = hashlib.sha256()
    for name in sorted(tables):
        frame = tables[name]
        digest.update(f"{name}:{frame.height}\n".encode())
        for column in frame.columns:
            digest.update(f"{column}:{frame[column].dtype}\n".encode())
            for part in _column_bytes(frame[column]):
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
