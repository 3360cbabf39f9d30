"""LC-Rec's trio: X.inter.json (histories in time order), X.item.json (texts), X.index.json (indices)."""

from pathlib import Path
from typing import Any

import polars as pl

from forwhy.columns import FILE, ROW, SPLITS
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sources.files import clean_text, read_json, sha256_of
from forwhy.errors import UserError


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
    tables = {"interactions": _interactions(path)}
    facts: dict[str, dict[str, str]] = {}
    if index.is_file():
        for item, tokens in _objects(index, list).items():
            facts[item] = {"index": " ".join(str(token) for token in tokens)}
    if texts.is_file():
        for item, fields in _objects(texts, dict).items():
            facts.setdefault(item, {}).update({key: _field(value) for key, value in fields.items()})
    if facts:
        columns = sorted({key for fields in facts.values() for key in fields} - {"item_id"})
        rows = {column: [fields.get(column, "") for fields in facts.values()] for column in columns}
        tables["items"] = pl.DataFrame({"item_id": list(facts), **rows})
    source = {
        "importer": "lcrec",
        "files": sha256_of([file for file in (path, texts, index) if file.is_file()]),
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
    rows = (
        (user, str(item), place, _split(place, len(items)), row)
        for row, (user, items) in enumerate(histories.items(), start=1)
        for place, item in enumerate(items)
    )
    columns = {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "split": pl.String,
        ROW: pl.Int64,
    }
    frame = pl.DataFrame(list(rows), columns, orient="row")
    return frame.with_columns(pl.lit(str(path), dtype=pl.Categorical).alias(FILE))


def _split(place: int, length: int) -> str:
    """The last of three items or more is test, the one before valid."""
    return SPLITS[max(0, 3 + place - length)] if length >= 3 else SPLITS[0]


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
