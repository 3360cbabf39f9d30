"""A data set on disk: dataset.json (label, fingerprint, source, hashes) and one parquet file per table."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from forwhy.artifact import check_file, digest_of, stamps, write_document
from forwhy.atomic import atomic_folder, recover, refuse_foreign
from forwhy.columns import TABLES
from forwhy.errors import UserError

MARKER = "dataset.json"
FORMAT = 1
"""Version of the layout; raised when an older library could no longer read the folder."""

TEXTS_AT_ONCE = 10_000
"""Texts of a column that are hashed together: millions of reviews are not copied to be hashed."""

REMEDY = "import the data again with `forwhy data import`, or restore the file"


def content_hash(tables: Mapping[str, pl.DataFrame]) -> str:
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


def write_folder(
    folder: Path, name: str, tables: Mapping[str, pl.DataFrame], fingerprint: str, source: Mapping[str, Any]
) -> None:
    """Write whole or not at all; see `Dataset.save`."""
    refuse_foreign(folder, MARKER)
    with atomic_folder(folder) as temporary:
        for table, frame in tables.items():
            frame.write_parquet(temporary / f"{table}.parquet")
        document: dict[str, Any] = {
            "forwhy": "dataset",
            "format": FORMAT,
            "name": name,
            "fingerprint": fingerprint,
            "rows": {table: frame.height for table, frame in tables.items()},
            "source": dict(source),
            "files": stamps(temporary),
        }
        write_document(temporary, document, MARKER)


def read_folder(folder: Path) -> tuple[str, dict[str, pl.DataFrame], str, dict[str, Any]]:
    """Label, tables, fingerprint and source of a checked folder; see `Dataset.load`."""
    recover(folder)
    document = _document(folder)
    tables = {}
    for table in TABLES:
        stamp = document["files"].get(f"{table}.parquet")
        if stamp is not None:
            check_file(folder / f"{table}.parquet", stamp)
            tables[table] = pl.read_parquet(folder / f"{table}.parquet")
    return document["name"], tables, document["fingerprint"], document["source"]


def _document(folder: Path) -> dict[str, Any]:
    path = folder / MARKER
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; make a data set with `forwhy data import`")
    if not path.is_file():
        raise UserError(
            f"{folder}: no {MARKER} in it, so it is not a data set; make one with `forwhy data import`"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: truncated or not JSON ({error}); {REMEDY}") from error
    if not isinstance(document, dict) or document.get("forwhy") != "dataset":
        raise UserError(f"{path}: not written by forwhy; make a data set with `forwhy data import`")
    if not isinstance(document.get("format"), int) or document["format"] > FORMAT:
        raise UserError(
            f"{path}: format {document.get('format')!r}, this library reads up to {FORMAT}; upgrade forwhy"
        )
    if document.get("digest") != digest_of(document):
        raise UserError(f"{path}: altered since it was written (its digest differs); {REMEDY}")
    return document
