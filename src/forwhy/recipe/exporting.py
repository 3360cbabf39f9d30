"""Vectors and codes of a run as files that any tool reads: parquet and `.npy`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from forwhy.atomic import atomic_folder
from forwhy.columns import SIDES, Side
from forwhy.errors import UserError
from forwhy.recipe.runner import RunFolder
from forwhy.vocabulary.vocabulary import Vocabulary

OURS = re.compile(r"(users|items|words)\.parquet|(users|items|codebook\..+)\.npy")


def export_run(run: RunFolder, target: Path) -> list[str]:
    """Write what a run has learned of users and items into a new folder, or over an earlier export; the files' names.

    users.parquet, items.parquet: ids (titles) and, where the system has such, the code of each `slot_N`, their
    `tokens` and a `vector`. users.npy, items.npy: the vectors alone, row n of row n. codebook.BOOK.npy: the vectors of
    a book's codes. words.parquet: gloss, usage and neighbours of each word.
    """
    held = target.iterdir() if target.is_dir() else ()
    if target.is_file() or not all(OURS.fullmatch(file.name) for file in held):
        raise UserError(f"{target}: holds something already; give --out a new or empty folder")
    recommender: Any = run.recommender()
    words, arrays = getattr(recommender, "behaviour", None), {}
    if words is not None:
        arrays = {f"{side}s": words.representation(side) for side in SIDES}
    elif hasattr(recommender, "item_vectors"):
        arrays = {"items": recommender.item_vectors()}
    tables = {f"{side}s": _table(recommender, side, arrays.get(f"{side}s")) for side in SIDES}
    if isinstance(words, Vocabulary):
        tables["words"] = words.words
        arrays |= {f"codebook.{book}": vectors for book, vectors in words.codebooks.items()}
    if not arrays and "tokens" not in tables["items"].columns:
        system = run.recipe.system
        raise UserError(f"{run.path}: a run of system '{system}' has neither vectors nor codes to export")
    with atomic_folder(target) as folder:
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}.parquet")
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    return sorted(file.name for file in target.iterdir())


def _table(recommender: Any, side: Side, vectors: Any) -> pl.DataFrame:  # noqa: ANN401
    """Ids, and what is known of each; a recommender has words of both sides, or an index of items."""
    catalogue = recommender.catalogue
    words: Any = getattr(recommender, "behaviour", None)
    index = getattr(recommender, "index", None) if side == "item" else None
    ids = catalogue.users if side == "user" else catalogue.items
    columns: dict[str, Any] = {f"{side}_id": list(ids.values)}
    if side == "item":
        columns["title"] = list(catalogue.titles)
    codes = words.codes[side] if isinstance(words, Vocabulary) else None if index is None else index.codes
    if codes is not None:
        names = index.names if index is not None else lambda row: words.token_names(side, row)
        columns |= {f"slot_{slot}": column for slot, column in enumerate(codes.T, start=1)}
        columns["tokens"] = [names(row) for row in range(len(codes))]
    if vectors is not None:
        columns["vector"] = pl.Series(vectors).arr.to_list()
    return pl.DataFrame(columns)
