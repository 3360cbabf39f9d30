"""LC-Rec's trio: X.inter.json (histories in time order), X.item.json (texts), X.index.json (indices)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from forwhy.columns import ROW, Side
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sources.files import clean_text, read_json, require_folder, sha256_of, with_origin
from forwhy.data.split import split_last
from forwhy.errors import UserError


def import_lcrec(folder: Path | str, name: str | None = None, prefix: str | None = None) -> Dataset:
    """Read a folder with X.inter.json and, when there, X.item.json and X.index.json.

    The last item of a history is test, the one before valid, the rest train (histories of one or two items
    are train). Positions become timestamps; repeated items stay repeated. Item texts lose HTML and the
    brackets of Python lists written as text; the published index is kept in the items' column `index`.
    `name` is a label, X by default; `prefix` is X, for a folder of several data sets.

    Raises:
        UserError: missing, broken or foreign files, an item in a history that X.item.json does not have.
    """
    path = _find(Path(folder), prefix)
    label = path.name.removesuffix(".inter.json")
    texts, index = path.with_name(f"{label}.item.json"), path.with_name(f"{label}.index.json")
    tables = {"interactions": _interactions(path)}
    facts: dict[str, dict[str, str]] = {}
    if index.is_file():
        for item, tokens in _objects(
            index, "item", lambda value: isinstance(value, list), "JSON list"
        ).items():
            facts[item] = {"index": " ".join(str(token) for token in tokens)}
    if texts.is_file():
        for item, fields in _objects(
            texts, "item", lambda value: isinstance(value, dict), "JSON dict"
        ).items():
            facts.setdefault(item, {}).update({key: _field(value) for key, value in fields.items()})
    if facts:
        rows = [{**fields, "item_id": item} for item, fields in facts.items()]
        items = pl.DataFrame(rows, infer_schema_length=None).fill_null("")
        tables["items"] = items.select(sorted(items.columns))
    source = {
        "importer": "lcrec",
        "files": sha256_of([file for file in (path, texts, index) if file.is_file()]),
        "split": {"interactions": "last item test, the one before valid", "explanations": "none"},
    }
    return make_dataset(name or label, tables, source, duplicates="keep")


def _find(folder: Path, prefix: str | None) -> Path:
    require_folder(folder, "X.inter.json")
    if prefix is not None:
        return folder / f"{prefix}.inter.json"
    found = sorted(folder.glob("*.inter.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{folder}: found {names} where one *.inter.json is needed; name its prefix")
    return found[0]


def _interactions(path: Path) -> pl.DataFrame:
    histories = _objects(path, "user", _is_history, "list of item ids")
    items = [[str(item) for item in history] for history in histories.values()]
    columns = {"user_id": list(histories), "item_id": pl.Series(items, dtype=pl.List(pl.String))}
    frame = with_origin(pl.DataFrame(columns), path).explode("item_id").drop_nulls("item_id")
    frame = frame.with_columns(pl.int_range(pl.len()).over(ROW).alias("timestamp"))
    return frame.with_columns(split_last(frame[ROW].to_numpy(), frame["timestamp"].to_numpy()))


def _is_history(value: object) -> bool:
    return isinstance(value, list) and all(type(item) in (int, str) for item in value)


def _field(value: object) -> str:
    if isinstance(value, list) and all(isinstance(part, int | float) for part in value):
        return ", ".join(map(str, value))
    return clean_text(value)


def _objects(path: Path, side: Side, fits: Callable[[object], bool], what: str) -> dict[str, Any]:
    """A file of one value for each user or item; a value that does not fit is refused by its row."""
    found = read_json(path)
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: not an object by {side} id; give LC-Rec's {path.name}")
    for row, (id_, value) in enumerate(found.items(), start=1):
        if not fits(value):
            raise UserError(f"{path}: row {row}, {side} {id_[:50]!r}: not a {what}; correct or drop it")
    return found
