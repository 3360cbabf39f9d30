"""Plain tables (CSV, TSV, JSONL, parquet) under anybody's column names."""

import difflib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.atomic import file_sha256
from forwhy.columns import FILE, ROW, SIDES, SPLIT_ALIASES, TABLES
from forwhy.data.checks import Duplicates, RawTable, as_text, id_text, strangers
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.leaks import PAIR
from forwhy.data.sources.files import read_rows
from forwhy.data.split import FRACTIONS, carve_valid, split_pairs
from forwhy.errors import UserError

log = logging.getLogger(__name__)

IDS = ("user_id", "item_id", "entity_id")


def import_tables(
    interactions: Path | str,
    items: Path | str | None = None,
    users: Path | str | None = None,
    reviews: Path | str | None = None,
    explanations: Path | str | None = None,
    intents: Path | str | None = None,
    profiles: Path | str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    validation: float = FRACTIONS[1],
    seed: int = 0,
    name: str | None = None,
    duplicates: Duplicates = "error",
    unknown_ids: Literal["error", "allow"] = "error",
) -> Dataset:
    """Read one file per table (`columns.TABLES` says what each holds); the extension names the format.

    Interactions without a `split` are split 80/10/10 (every user keeps one in train); with train and test
    only, valid is carved out of train. An explanation without a split has that of its interaction; if one of them
    has no interaction, all explanations are split 80/10/10. Intents without `rank` are ranked in file order.

    Args:
        interactions: Who took what; the one table that must be there.
        items: Titles and facts. When given, it says which items exist.
        users: When given, it says which users exist.
        reviews: Texts about pairs.
        explanations: Texts to learn from and to be tested on.
        intents: Short phrases by `side`, `entity_id`, `rank`.
        profiles: One text by `side`, `entity_id`.
        columns: Their column name by ours, e.g. ``{"interactions.user_id": "user"}``.
        validation: Share of the train rows that become valid when the file has none.
        seed: Of every split made here.
        name: Label; the interactions' folder by default.
        duplicates: See `make_dataset`.
        unknown_ids: ``error`` refuses ids that do not match across tables; ``allow`` keeps entities of the
            interactions that `items` or `users` lack and drops other tables' rows about anyone else.

    Raises:
        UserError: names file, row (the first row of data is 1), column and remedy.
    """
    given = locals()  # the parameters that are called as tables are
    paths = {table: Path(given[table]) for table in TABLES if given.get(table) is not None}
    names = _names(columns or {}, paths)
    frames = {table: _read(table, path, names[table]) for table, path in paths.items()}
    notes = _allow_unknown(frames) if unknown_ids == "allow" else {}
    recipe = _split(frames, validation, seed)
    source = {
        "importer": "tables",
        "files": {table: {"name": path.name, "sha256": file_sha256(path)} for table, path in paths.items()},
        "columns": dict(columns or {}),
        "split": recipe | {"seed": seed},
        "unknown_ids": notes,
    }
    label = name or paths["interactions"].resolve().parent.name
    return make_dataset(label, frames, source, names=names, duplicates=duplicates)


def _names(columns: Mapping[str, str], tables: Iterable[str]) -> dict[str, dict[str, str]]:
    """Their names by table and ours; a key that names no column is refused with the nearest."""
    known = [f"{table}.{column.name}" for table, listed in TABLES.items() for column in listed]
    names: dict[str, dict[str, str]] = {table: {} for table in tables}
    for key, theirs in columns.items():
        table, _, ours = key.partition(".")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"write TABLE.COLUMN=THEIRS, e.g. {known[0]}=user"
            )
            raise UserError(f"column mapping {key!r}: no such column; {hint}")
        if table not in names:
            raise UserError(
                f"column mapping {key!r}: no file given for {table}; give one or drop the mapping"
            )
        names[table][ours] = theirs
    return names


def _read(name: str, path: Path, names: Mapping[str, str]) -> pl.DataFrame:
    """A file's rows under our names, every id as text, so that files of different types can be compared."""
    frame = read_rows(path)
    for ours, theirs in names.items():
        if theirs not in frame.columns:
            has = ", ".join(column for column in frame.columns if column not in (FILE, ROW))
            raise UserError(
                f"{path}: no column {theirs!r} to read as {ours} (it has: {has}); correct the mapping"
            )
    kept = [column for column in frame.columns if column not in names.values() and column not in names]
    frame = frame.select(*(pl.col(theirs).alias(ours) for ours, theirs in names.items()), *kept)
    table = RawTable(name, frame, names)
    table.require("split", "rank")
    for column in IDS:
        if column in frame.columns:
            table = table.with_column(id_text(table, column), column)
    return table.frame


def _allow_unknown(frames: dict[str, pl.DataFrame]) -> dict[str, int]:
    """Complete `items` and `users`, drop rows about strangers; counts by table. Changes `frames`."""
    notes: dict[str, int] = {}
    for side in SIDES:
        key, home = f"{side}_id", f"{side}s"
        seen = frames["interactions"].select(key, FILE, ROW).unique(key, keep="first", maintain_order=True)
        if home in frames:
            missing = seen.join(frames[home].select(key), on=key, how="anti", maintain_order="left")
            if missing.height not in (0, seen.height):
                frames[home] = pl.concat([frames[home], missing], how="diagonal_relaxed")
                notes[f"{home} in interactions only, kept without facts"] = missing.height
        known = frames.get(home, seen)[key].unique()
        for table in sorted(frames.keys() - {home, "interactions"}):
            strange = strangers(frames[table], side, known)
            if strange.any() and not strange.all():
                frames[table] = frames[table].filter(~strange)
                notes[f"{table}: rows about unknown {side}s, dropped"] = int(strange.sum())
    for note, count in notes.items():
        log.warning("%s: %d", note, count)
    return notes


def _split(frames: dict[str, pl.DataFrame], validation: float, seed: int) -> dict[str, str]:
    """Give every table that needs it a split (and intents a rank); says how. Changes `frames`."""
    recipe: dict[str, str] = {}
    owners = frames["interactions"]["user_id"].rank("dense").to_numpy().astype(np.int64)
    edges, recipe["interactions"] = _with_split(frames["interactions"], validation, seed, owners)
    frames["interactions"] = edges
    if "explanations" in frames:
        told = frames["explanations"]
        splits = edges.select(*PAIR, "split").unique(PAIR, keep="first")
        followed = told.join(splits, on=PAIR, how="left", maintain_order="left")
        if "split" in told.columns or followed["split"].null_count():
            followed, recipe["explanations"] = _with_split(told, validation, seed, None)
        else:
            recipe["explanations"] = "that of their interaction"
        frames["explanations"] = followed
    if "intents" in frames and "rank" not in frames["intents"].columns:
        rank = pl.int_range(1, pl.len() + 1).over("side", "entity_id").alias("rank")
        frames["intents"] = frames["intents"].with_columns(rank)
    return recipe


def _with_split(
    frame: pl.DataFrame, validation: float, seed: int, owners: NDArray[np.int64] | None
) -> tuple[pl.DataFrame, str]:
    """The frame with a split for every row, and how it got it; each owner keeps a row in train."""
    if "split" not in frame.columns:
        names, how = split_pairs(frame.height, seed, FRACTIONS, owners), "80/10/10, seeded"
    else:
        known = as_text(frame["split"]).str.strip_chars().str.to_lowercase().replace(dict(SPLIT_ALIASES))
        if "valid" in set(known) or validation == 0:
            return frame, "as given"
        names = carve_valid(known, validation, seed, owners)
        how = f"as given, {validation:.0%} of train carved out as valid"
    return frame.with_columns(names), how
