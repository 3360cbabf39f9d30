"""Data as the authors of XRec, PETER (NLG4RS) and LC-Rec publish it.

XRec: total_{trn,val,tst}.csv, {trn,val,tst}.pkl, para_dict.pickle (Amazon). NLG4RS: reviews.pickle, 1/train.index and
more. LC-Rec: X.inter.json (histories in time order), X.item.json (texts), X.index.json (indices).
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.atomic import atomic_folder, file_sha256, refuse_foreign
from forwhy.columns import ATTRIBUTES, FILE, ROW, SIDES, SPLITS, Graph, Side, Split
from forwhy.data.checks import own_columns
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.histories import Sequences
from forwhy.data.sources import safe_pickle
from forwhy.data.sources.files import clean_text, require_folder, sha256_of
from forwhy.data.sources.rows import read_rows, with_origin
from forwhy.data.split import FRACTIONS, carve_valid, split_last, split_pairs
from forwhy.data.values import terms_in
from forwhy.documents import read_json, require_file
from forwhy.errors import UserError

log = logging.getLogger(__name__)

PARTS = dict(zip(("trn", "val", "tst"), SPLITS, strict=True))
NAMES = {
    "interactions": {"user_id": "user", "item_id": "item"},
    "explanations": {"user_id": "uid", "item_id": "iid", "text": "explanation"},
}
PAIR_COLUMNS = ("uid", "iid", "title", "user_summary", "item_summary", "explanation")
NEIGHBOURS = "para_dict.pickle"
LCREC_MARKER = "forwhy.json"
"""Tells an export of ours from a folder of somebody else."""


def import_xrec(folder: Path | str, name: str | None = None, seed: int = 0) -> Dataset:
    """Read a folder of XRec's data (Amazon, Yelp, Google).

    Interactions keep their published split; edges of a missing total_*.csv come from para_dict.pickle. Explained pairs
    come from whichever of trn.pkl, val.pkl, tst.pkl exist: published splits are kept, a single file is split 80/10/10
    with `seed`, a missing val.pkl is carved out of train (10 %). The profiles are XRec's own, written from reviews that
    may be the held-out ones. Refused: missing or broken files, a pickle that is more than a table. Cost: 1 to 2 s for
    400,000 edges.
    """
    folder = Path(folder)
    require_folder(folder, "total_trn.csv and tst.pkl")
    lists = folder / NEIGHBOURS
    logs = {part: folder / f"total_{part}.csv" for part in PARTS}
    logs = {part: path if path.is_file() or not lists.is_file() else lists for part, path in logs.items()}
    parts = [_interactions_of_part(path, part) for part, path in logs.items()]
    shared = [column for column in parts[0].columns if all(column in part.columns for part in parts)]
    interactions = pl.concat([part.select(shared) for part in parts])
    told = {split: folder / f"{part}.pkl" for part, split in PARTS.items()}
    told = {split: path for split, path in told.items() if path.is_file()}
    tables, recipe = {"interactions": interactions}, "none"
    if told:
        pairs, recipe = _explained(told, seed)
        tables |= _pair_tables(pairs)
        numbers = pl.col("item_id").cast(pl.Int64, strict=False)
        known = pairs.rename({"iid": "item_id"}).select(numbers, "title").unique("item_id", keep="first")
        every = interactions.select(numbers).unique().drop_nulls().sort("item_id")
        tables["items"] = every.join(known, on="item_id", how="left", maintain_order="left")
    else:
        log.warning("%s: none of trn.pkl, val.pkl, tst.pkl: no explanations", folder)
    source = {
        "importer": "xrec",
        "files": sha256_of([*dict.fromkeys(logs.values()), *told.values()]),
        "split": {"interactions": "published", "explanations": recipe, "seed": seed},
        "profiles": "shipped with the data; possibly written from held-out reviews",
    }
    return make_dataset(name or folder.resolve().name, tables, source, names=NAMES, duplicates="first")


def _interactions_of_part(path: Path, part: str) -> pl.DataFrame:
    frame = _from_neighbours(path, part) if path.name == NEIGHBOURS else read_rows(path)
    _require(path, frame, ("user", "item"))
    frame = frame.select("user", "item", "^Time$", FILE, ROW)
    frame = frame.rename({"user": "user_id", "item": "item_id"}).with_columns(split=pl.lit(PARTS[part]))
    if "Time" in frame.columns:
        day = pl.col("Time").str.to_datetime("%m %d, %Y", strict=False)
        frame = frame.with_columns(timestamp=day.dt.epoch("s"))
    kept = ("user_id", "item_id", "timestamp", "split", FILE, ROW)
    return frame.select(column for column in frame.columns if column in kept)


def _from_neighbours(path: Path, part: str) -> pl.DataFrame:
    """Edges from the lists of each user's items."""
    found = safe_pickle.load(path)
    lists = found.get(f"{part}_user_nb") if isinstance(found, dict) else None
    if not _is_list(lists) or not all(_is_list(items, int) for items in lists):
        wrong = f"no '{part}_user_nb' list of lists of whole numbers in it"
        raise UserError(f"{path}: {wrong}; add total_{part}.csv to the folder")
    columns = {"user": range(len(lists)), "item": pl.Series(lists, dtype=pl.List(pl.Int64))}
    frame = pl.DataFrame(columns).explode("item").drop_nulls("item")
    return with_origin(frame.cast(pl.String), path)  # text, as in the CSV files, so that the parts stack


def _is_list(value: object, *kinds: type) -> TypeGuard[list[Any]]:
    """Whether this is a list, of values of these types alone where some are given."""
    return isinstance(value, list) and (not kinds or all(type(item) in kinds for item in value))


def _explained(told: Mapping[Split, Path], seed: int) -> tuple[pl.DataFrame, str]:
    frames = [_pairs(path).with_columns(split=pl.lit(split)) for split, path in told.items()]
    pairs = pl.concat(frames, how="vertical_relaxed")
    pairs = pairs.unique(("uid", "iid"), keep="first", maintain_order=True)
    if len(frames) == 1:
        names = split_pairs(pairs.height, seed)
        recipe = f"one file split {'/'.join(f'{share:.0%}' for share in FRACTIONS)} with seed {seed}"
    elif "valid" not in told:
        names = carve_valid(pairs["split"], FRACTIONS[1], seed)
        recipe = f"published, valid carved from train with seed {seed}"
    else:
        return pairs, "published"
    return pairs.with_columns(names), recipe


def _pairs(path: Path) -> pl.DataFrame:
    frame: Any = safe_pickle.load(path)
    if not isinstance(frame, pl.DataFrame):
        raise UserError(f"{path}: holds {type(frame).__name__}, not a table; copy XRec's {path.name} again")
    _require(path, frame, PAIR_COLUMNS)
    return with_origin(frame.select(PAIR_COLUMNS), path)


def _require(path: Path, frame: pl.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in frame.columns:
            has = ", ".join(own_columns(frame))
            raise UserError(f"{path}: no column {column!r} (it has: {has}); copy XRec's {path.name} again")


def _pair_tables(pairs: pl.DataFrame) -> dict[str, pl.DataFrame]:
    ids = {"user": pl.col("uid").cast(pl.String), "item": pl.col("iid").cast(pl.String)}
    sides = [
        pairs.select(FILE, ROW, side=pl.lit(it), entity_id=ids[it], text=f"{it}_summary") for it in SIDES
    ]
    profiles = pl.concat(sides).filter(pl.col("text").str.strip_chars() != "")
    return {
        "explanations": pairs.rename({"uid": "user_id", "iid": "item_id", "explanation": "text"}),
        "profiles": profiles.unique(("side", "entity_id"), keep="first", maintain_order=True),
    }


# --- NLG4RS: the reviews that NETE, PETER and PEPLER are measured on

TEMPLATE = ("feature", "adjective", "sentence", "score")
INDICES = dict(zip(("train", "validation", "test"), SPLITS, strict=True))


def import_nlg4rs(folder: Path | str, name: str | None = None, fold: int = 1) -> Dataset:
    """Read a folder with reviews.pickle and, for the split, FOLD/{train,validation,test}.index.

    A review is a user, an item, a rating and a template of feature, adjective, sentence and score. The sentence is the
    pair's explanation, the feature is what it should name (FMR, FCR, DIV). An index file has positions in
    reviews.pickle, from 0, with spaces between. Of several reviews of a pair the first of its earliest split stays.
    Refused: missing or broken files, what is no such review, a review in two splits or in none. Some seconds for
    300,000 reviews.
    """
    path = Path(folder) / "reviews.pickle"
    require_folder(path.parent, "reviews.pickle and folders 1 to 5")
    reviews = safe_pickle.load(path)
    if not _is_list(reviews, dict) or not reviews:
        raise UserError(f"{path}: not a list of reviews; copy NLG4RS' reviews.pickle again")
    rows = [_review(f"{path}: row {row}", review) for row, review in enumerate(reviews, start=1)]
    indices = {split: path.parent / str(fold) / f"{part}.index" for part, split in INDICES.items()}
    columns = dict.fromkeys(("user_id", "item_id", "text", "features"), pl.String)
    frame = with_origin(pl.DataFrame(rows, schema={**columns, "rating": pl.Float64}, orient="row"), path)
    numbers = _splits(indices, len(rows))
    frame = frame.with_columns(split=np.array(SPLITS)[numbers])[np.argsort(numbers, kind="stable")]
    kept = frame.filter(pl.col("text").str.strip_chars() != "")
    tables = {"interactions": frame.drop("text", "features"), "explanations": kept.drop("rating")}
    files = sha256_of([path]) | {f"{fold}/{it.name}": file_sha256(it) for it in indices.values()}
    split = {"interactions": f"published, fold {fold}", "explanations": f"published, fold {fold}"}
    source = {"importer": "nlg4rs", "files": files, "split": split}
    return make_dataset(name or path.parent.resolve().name, tables, source, duplicates="first")


def _review(place: str, review: Mapping[str, object]) -> tuple[str, str, str, str, float]:
    user, item, rating, template = (review.get(key) for key in ("user", "item", "rating", "template"))
    told = template if isinstance(template, tuple | list) and len(template) == len(TEMPLATE) else ()
    fits = isinstance(rating, int | float) and all(isinstance(it, str | int) for it in (user, item))
    if not (fits and told and all(isinstance(it, str) for it in told[:3])):
        wanted = f"user, item, rating and a template of {', '.join(TEMPLATE)}"
        raise UserError(f"{place}: not a review with {wanted}; correct or drop it")
    return str(user), str(item), clean_text(told[2]), clean_text(told[0]), float(cast("float", rating))


def _splits(indices: Mapping[Split, Path], count: int) -> NDArray[np.int64]:
    splits = np.full(count, -1)
    for number, path in enumerate(indices.values()):
        require_file(path)
        text = path.read_text(encoding="utf-8", errors="replace").split()
        rows = np.array([int(row) if row.isdecimal() and len(row) < 10 else count for row in text], np.int64)
        inside = len(rows) > 0 and rows.max() < count
        if not inside or (splits[rows] >= 0).any() or len(np.unique(rows)) < len(rows):
            wanted = f"positions from 0 to {count - 1}, each once and in one file"
            raise UserError(f"{path}: not {wanted}; copy the fold's three files again")
        splits[rows] = number
    if (splits < 0).any():
        row, folder = int((splits < 0).argmax()), next(iter(indices.values())).parent
        raise UserError(f"{folder}: row {row + 1} of reviews.pickle is in no index file; copy the fold again")
    return splits


# --- LC-Rec


def import_lcrec(folder: Path | str, name: str | None = None, prefix: str | None = None) -> Dataset:
    """Read a folder with X.inter.json and, when there, X.item.json and X.index.json.

    The last item of a history is test, the one before valid, the rest train (histories of one or two items are train).
    Positions become timestamps; repeated items stay repeated. Item texts lose HTML and the brackets of Python lists
    written as text; the published index is kept in the items' column `index`. `name` is a label, X by default; `prefix`
    is X, for a folder of several data sets. Refused: broken or foreign files, an item that X.item.json does not have.
    """
    path = _find(Path(folder), prefix)
    label = path.name.removesuffix(".inter.json")
    texts, index = path.with_name(f"{label}.item.json"), path.with_name(f"{label}.index.json")
    tables = {"interactions": _interactions_of_histories(path)}
    facts: dict[str, dict[str, str]] = {}
    if index.is_file():
        for item, tokens in _objects(index, "item", "JSON list", _is_list).items():
            facts[item] = {"index": " ".join(str(token) for token in tokens)}
    if texts.is_file():
        for item, fields in _objects(texts, "item", "JSON dict", lambda it: isinstance(it, dict)).items():
            facts.setdefault(item, {}).update({key: _field(key, value) for key, value in fields.items()})
    if facts:
        rows = [{**fields, "item_id": item} for item, fields in facts.items()]
        items = pl.DataFrame(rows, infer_schema_length=None).fill_null("")
        tables["items"] = items.select(sorted(items.columns))
    files = sha256_of([file for file in (path, texts, index) if file.is_file()])
    split = {"interactions": "last item test, the one before valid", "explanations": "none"}
    source = {"importer": "lcrec", "files": files, "split": split}
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


def _interactions_of_histories(path: Path) -> pl.DataFrame:
    histories = _objects(path, "user", "list of item ids", lambda value: _is_list(value, int, str))
    items = [[str(item) for item in history] for history in histories.values()]
    columns = {"user_id": list(histories), "item_id": pl.Series(items, dtype=pl.List(pl.String))}
    frame = with_origin(pl.DataFrame(columns), path).explode("item_id").drop_nulls("item_id")
    frame = frame.with_columns(timestamp=pl.int_range(pl.len()).over(ROW))
    return frame.with_columns(split_last(frame[ROW].to_numpy(), frame["timestamp"].to_numpy()))


def _field(key: str, value: object) -> str:
    """Plain text; terms, and numbers anywhere, with commas between them."""
    listed = isinstance(value, list) and (key in ATTRIBUTES or _is_list(value, int, float, bool))
    return clean_text(", ".join(terms_in(value)) if listed or isinstance(value, dict) else value)


def _objects(path: Path, side: Side, what: str, fits: Callable[[object], bool]) -> dict[str, Any]:
    """A file of one value for each user or item; a value that does not fit is refused by its row."""
    found = read_json(path)
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: not an object by {side} id; give LC-Rec's {path.name}")
    for row, (id_, value) in enumerate(found.items(), start=1):
        if not fits(value):
            raise UserError(f"{path}: row {row}, {side} {id_[:50]!r}: not a {what}; correct or drop it")
    return found


def export_lcrec(dataset: Dataset, folder: Path | str, graph: Graph = "leak-free") -> None:
    """Write X.inter.json, X.item.json and, of items with a column `index`, X.index.json; X is the folder's own name.

    The format holds histories in order of time, texts about items, and indices: no ratings, no times, no other tables.
    `import_lcrec` reads it back equal in these where each user's last two items are left out, one for each split; users
    of others are counted in a warning. An earlier export is replaced, another folder refused; so are interactions
    without an order, or of another split. `graph` as in `Dataset.edges`.
    """
    path = Path(folder).absolute()
    refuse_foreign(path, LCREC_MARKER)
    sequences = Sequences.from_dataset(dataset, graph)
    whole = sequences.train.extended(sequences.valid).extended(sequences.test)
    otherwise = int((((sequences.valid < 0) | (sequences.test < 0)) != (whole.lengths < 3)).sum())
    if otherwise:
        said = "%s: %d users have other items left out than their last two, which LC-Rec takes"
        log.warning(said, dataset.name, otherwise)
    users, items = dataset.users.values, dataset.items.values
    histories = {str(user): [items[item] for item in whole[row].tolist()] for row, user in enumerate(users)}
    facts = dataset.table("items").sort("item_id")
    texts = facts.select(pl.exclude("item_id", "index").cast(pl.String).fill_null(""))
    ids = [str(item) for item in facts["item_id"]]
    files: dict[str, object] = {f"{path.name}.inter.json": histories}
    files[LCREC_MARKER] = {"forwhy": "LC-Rec export"}
    if texts.width:
        files[f"{path.name}.item.json"] = dict(zip(ids, texts.to_dicts(), strict=True))
    if "index" in facts.columns:
        tokens = (index.split() for index in facts["index"].fill_null(""))
        files[f"{path.name}.index.json"] = dict(zip(ids, tokens, strict=True))
    with atomic_folder(path) as temporary:
        for name, document in files.items():
            text = json.dumps(document, ensure_ascii=False, indent=1)
            (temporary / name).write_text(f"{text}\n", encoding="utf-8")
