"""LC-Rec's trio: X.inter.json (histories in time order), X.item.json (texts), X.index.json (indices)."""

from pathlib import Path
from typing import Any

import polars as pl

from forwhy.columns import FILE, ROW
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sources.files import clean_text, read_json, sha256_of
from forwhy.errors import UserError

__all__ = ["import_lcrec"]


def import_lcrec(folder: Path | str, name: str | None = None, prefix: str | None = None) -> Dataset:
    """Read a folder with X.inter.json and, when there, X.item.json and X.index.json.

    The last item of a history is test, the one before valid, the rest train (histories of one or two items
    are train). Positions become timestamps; repeated items stay repeated. Item texts lose HTML and the
    brackets of Python lists written as text; the published index is kept in the items' column `index`.

    Args:
        folder: Where the files are.
        name: Label; X by default.
        prefix: X, when the folder holds several.

    Raises:
        UserError: missing, broken or foreign files, an item in a history that X.item.json does not have.
    """
    path = _find(Path(folder), prefix)
    label = path.name.removesuffix(".inter.json")
    texts, index = path.with_name(f"{label}.item.json"), path.with_name(f"{label}.index.json")
    present = [file for file in (path, texts, index) if file.is_file()]
    interactions = _interactions(path)
    tables = {"interactions": interactions}
    items = _items(texts if texts in present else None, index if index in present else None)
    if items is not None:
        tables["items"] = items
    source = {
        "importer": "lcrec",
        "files": sha256_of(present),
        "split": {"interactions": "last item test, the one before valid", "explanations": "none"},
    }
    return make_dataset(name or label, tables, source, duplicates="keep")


def _find(folder: Path, prefix: str | None) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder with X.inter.json")
    if prefix is not None:
        return folder / f"{prefix}.inter.json"
    found = sorted(folder.glob("*.inter.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{folder}: found {names} where one *.inter.json is needed; name its prefix")
    return found[0]


def _interactions(path: Path) -> pl.DataFrame:
    histories = read_json(path)
    if not isinstance(histories, dict) or not histories:
        raise UserError(f"{path}: not an object of histories by user; give LC-Rec's X.inter.json")
    for row, (user, items) in enumerate(histories.items(), start=1):
        if not isinstance(items, list) or not all(type(item) in (int, str) for item in items):
            raise UserError(
                f"{path}: row {row}, user {user[:50]!r}: not a list of item ids; correct or drop it"
            )
    frame = pl.DataFrame(
        {
            "user_id": list(histories),
            "length": [len(items) for items in histories.values()],
            "item_id": [[str(item) for item in items] for items in histories.values()],
            ROW: range(1, len(histories) + 1),
        },
        schema_overrides={"item_id": pl.List(pl.String), ROW: pl.Int64},
    )
    place = pl.int_ranges(0, pl.col("length")).alias("timestamp")
    frame = frame.with_columns(place).filter(pl.col("length") > 0).explode("item_id", "timestamp")
    left = pl.col("length") - pl.col("timestamp")
    long = pl.col("length") >= 3
    split = pl.when(long & (left == 1)).then(pl.lit("test")).when(long & (left == 2)).then(pl.lit("valid"))
    return frame.select(
        "user_id",
        "item_id",
        "timestamp",
        split.otherwise(pl.lit("train")).alias("split"),
        pl.lit(str(path), dtype=pl.Categorical).alias(FILE),
        ROW,
    )


def _items(texts: Path | None, index: Path | None) -> pl.DataFrame | None:
    facts: dict[str, dict[str, str]] = {}
    if index is not None:
        for item, tokens in _objects(index, list).items():
            facts[item] = {"index": " ".join(str(token) for token in tokens)}
    if texts is not None:
        for item, fields in _objects(texts, dict).items():
            facts.setdefault(item, {}).update({key: _field(value) for key, value in fields.items()})
    if not facts:
        return None
    columns = sorted({key for fields in facts.values() for key in fields} - {"item_id"})
    rows: dict[str, list[str]] = {"item_id": list(facts)}
    rows |= {column: [fields.get(column, "") for fields in facts.values()] for column in columns}
    return pl.DataFrame(rows)


def _field(value: object) -> str:
    numbers = isinstance(value, list) and all(isinstance(part, int | float) for part in value)
    return ", ".join(map(str, value)) if isinstance(value, list) and numbers else clean_text(value)


def _objects(path: Path, kind: type) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: not an object by item id; give LC-Rec's {path.name}")
    for row, (item, value) in enumerate(found.items(), start=1):
        if not isinstance(value, kind):
            raise UserError(
                f"{path}: row {row}, item {item[:50]!r}: not a JSON {kind.__name__}; correct or drop it"
            )
    return found
