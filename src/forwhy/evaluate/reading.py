"""What a method wrote, pair by pair: outputs of a run or from elsewhere, matched with a data set's held-out pairs.

A row without a prediction or a reference (null, NaN) is left out and counted; a prediction without a word stays and
scores 0; equal rows about one pair count once; two different ones are refused, as only their author knows which is
meant. Shapes: n rows that are kept.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from forwhy.atomic import atomic_file
from forwhy.columns import ROW, SIDES, SPLITS
from forwhy.data.checks import WHOLE_NUMBER, RawTable, as_text, own_columns, with_ids
from forwhy.data.dataset import Dataset, Pairs
from forwhy.data.sources import safe_pickle
from forwhy.data.sources.rows import READERS, read_rows, with_origin
from forwhy.documents import read_json, require_file
from forwhy.errors import UserError
from forwhy.evaluate.compare import Key
from forwhy.evaluate.overlap import words
from forwhy.frames import read_parquet

Pair = tuple[str | int, str | int]
"""External ids of a user and an item."""

COLUMNS = ("user_id", "item_id", "prediction", "reference")
IDS = COLUMNS[:2]
PAIR_KEY = pl.concat_list(pl.col(IDS).cast(pl.String))
TEXT_KEY = pl.concat_list(pl.lit(""), "reference", pl.int_range(pl.len()).over("reference").cast(pl.String))
"""What is the same row in two readings: its pair; without ids its reference and how often that came before."""
NAN = "nan"
"""What a missing number becomes when it is written as text."""
TOLD = {"reference": pl.String, "user": pl.Int64, "item": pl.Int64}
BETWEEN_FEATURES = re.compile(r"[,;\s]+")


@dataclass(frozen=True, eq=False)
class Outputs:
    """One text for each pair of a user and an item, beside the right one, with what was left out of them."""

    frame: pl.DataFrame
    """[n] rows: `COLUMNS`; `key` (`PAIR_KEY` or `TEXT_KEY`); `user` and `item`, the internal numbers of a held-out pair
    that `match` found, else null; `features` of the reference and `evidence` of the text where there are any."""
    has_ids: bool = True
    has_references: bool = True
    """Whether ids and references were in the file itself."""
    exclusions: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows left out."""
    found: Mapping[str, int] = field(default_factory=dict)
    """Without ids, rows by whose text their reference is: one `valid`, `test` or `train` pair's, that of several pairs
    or rows (`ambiguous`), or nobody's (`unknown`)."""

    def __len__(self) -> int:
        return self.frame.height

    @classmethod
    def of(
        cls,
        pairs: Sequence[Pair],
        predictions: Sequence[str],
        references: Sequence[str],
        evidence: Sequence[Sequence[str]] = (),
    ) -> "Outputs":
        """Texts that were just written, row by row; `evidence`: what is shown beside each, if a system does that."""
        users, items = ([pair[side] for pair in pairs] for side in (0, 1))
        columns = zip(COLUMNS, (users, items, list(predictions), list(references)), strict=True)
        frame = pl.DataFrame(dict(columns))
        if any(evidence):
            frame = frame.with_columns(evidence=pl.Series([*map(list, evidence)], dtype=pl.List(pl.String)))
        return cls(_ordered(frame))

    @property
    def pairs(self) -> list[Pair]:
        """[n] the ids; without any ("row", its number from 1 as text)."""
        return self.frame.select(IDS).rows()

    @property
    def predictions(self) -> list[str]:
        """[n] what was written."""
        return self.frame["prediction"].to_list()

    @property
    def references(self) -> list[str]:
        """[n] what would have been right."""
        return self.frame["reference"].to_list()

    @property
    def features(self) -> list[list[str]] | None:
        """[n] features of each reference."""
        return self.frame["features"].to_list() if "features" in self.frame.columns else None

    @property
    def evidence(self) -> list[list[str]] | None:
        """[n] statements that are shown beside each text; None where the system shows none."""
        shown = self.frame.schema.get("evidence") == pl.List(pl.String)
        return self.frame["evidence"].fill_null([]).to_list() if shown else None

    @property
    def keys(self) -> list[Key]:
        """[n] what rows of two readings are the same by."""
        return [tuple(key) for key in self.frame["key"]]

    def take(self, rows: Sequence[int]) -> "Outputs":
        """Some of the rows, in this order."""
        return replace(self, frame=self.frame[rows])

    def held_out(self) -> tuple[list[int], Pairs]:
        """The rows that are held-out pairs of the data set, and these pairs with their references."""
        rows = self.frame.with_row_index(ROW).drop_nulls("user")
        pairs = Pairs(rows["user"].to_numpy(), rows["item"].to_numpy(), tuple(rows["reference"]))
        return rows[ROW].to_list(), pairs

    def save(self, path: Path) -> None:
        """Write a parquet file with `COLUMNS` and perhaps `evidence`, whole or not at all."""
        with atomic_file(path) as temporary:
            self.frame.select(*COLUMNS, pl.col("^evidence$")).write_parquet(temporary)

    @classmethod
    def load(cls, path: Path) -> "Outputs":
        """Read what `save` wrote; a UserError where it is not that."""
        frame = read_parquet(path, "evaluate the run again")
        texts = all(frame.schema.get(name) in (pl.String, pl.Null) for name in COLUMNS[2:])
        ids = all(frame.schema.get(name) in (pl.String, pl.Int64, pl.Null) for name in IDS)
        if not (texts and ids) or any(frame.select(COLUMNS).null_count().row(0)):
            raise UserError(f"{path}: not the outputs of a run; evaluate the run again")
        return cls(_ordered(frame))


def _ordered(frame: pl.DataFrame, key: pl.Expr = PAIR_KEY) -> pl.DataFrame:
    """Rows by reference, prediction and pair: nothing that is drawn depends on the order of a file."""
    nobody = pl.lit(None, pl.Int64)
    frame = frame.select(*COLUMNS, pl.col("^(features|evidence)$"), key=key, user=nobody, item=nobody)
    return frame.sort("reference", "prediction", pl.col(IDS).cast(pl.String), maintain_order=True)


def read_outputs(path: Path, references: Path | None = None) -> Outputs:
    """Read a table or a list of predictions, as docs/formats.md says.

    A table (CSV, TSV, JSONL, parquet) has `prediction`, `reference`, both or none of `user_id` and `item_id`, and
    perhaps `evidence` (a list of texts shown beside it) and `features` (words). Lists are .pkl (read without running
    anything in it), .json and .txt (a text per line). `references`: a list, or a table with a `reference` column, row
    by row, for a `path` that has none. A UserError for unreadable or empty files, missing columns, lists of different
    length, values that are no text, contradicting rows, and fewer than two rows left.
    """
    frame = _frame(path, "prediction")
    has_references = "reference" in frame.columns
    frame = _with_reference(path, frame, references)
    frame, exclusions = _without_missing(path, frame)
    has_ids = any(name in frame.columns for name in IDS)
    if has_ids:
        frame, exclusions["duplicates"] = _one_row_each(path, _with_ids(path, frame))
    if frame.height < 2:
        why = f" ({left_out})" if (left_out := _listed(exclusions)) else ""
        raise UserError(f"{path}: {frame.height} row left{why}; give two or more")
    if "features" in frame.columns:
        frame = frame.with_columns(_features(frame))
    if not has_ids:
        frame = frame.with_columns(user_id=pl.lit("row"), item_id=pl.col(ROW).cast(pl.String))
    frame = _ordered(frame, PAIR_KEY if has_ids else TEXT_KEY)
    return Outputs(frame, has_ids, has_references, exclusions)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)


def _frame(path: Path, column: str) -> pl.DataFrame:
    """Rows with their origin; a list becomes a table of one column."""
    suffix = path.suffix.lower()
    if suffix in READERS:
        frame = read_rows(path)
        # In these formats nothing tells an empty text from a missing one; a text that says nothing scores 0.
        if suffix in (".csv", ".tsv") and column == "prediction" and column in frame.columns:
            frame = frame.with_columns(pl.col(column).fill_null(""))
        return frame
    if suffix not in LISTS:
        known = ", ".join([*READERS, *LISTS])
        raise UserError(f"{path}: extension {path.suffix!r} is not one of {known}; convert or rename it")
    require_file(path)
    found = LISTS[suffix](path)
    frame = found if isinstance(found, pl.DataFrame) else pl.DataFrame({column: _checked(path, found)})
    return with_origin(frame, path)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason}); convert it") from None


LISTS: Mapping[str, Callable[[Path], object]] = {
    **dict.fromkeys((".pkl", ".pickle"), safe_pickle.load),
    ".txt": _lines,
    ".json": read_json,
}
"""Readers of lists of texts by extension; tables are `rows.READERS`."""


def _checked(path: Path, found: object) -> pl.Series:
    """Texts of a list; None and NaN are null."""
    if isinstance(found, np.ndarray):
        found = found.tolist()
    if not isinstance(found, list | tuple):
        raise UserError(f"{path}: holds {type(found).__name__}, not a list of texts; save a list or a table")
    if not found:
        raise UserError(f"{path}: an empty list; copy it again or leave the option out")
    for number, value in enumerate(found, start=1):
        if not (value is None or isinstance(value, str) or value != value):
            kind = type(value).__name__
            raise UserError(f"{path}: row {number}: {kind}, not a text; give one text per row")
    try:
        return pl.Series([value if isinstance(value, str) else None for value in found], dtype=pl.String)
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: a text with half a character ({error.reason}); save it as UTF-8") from None


def _with_reference(path: Path, frame: pl.DataFrame, references: Path | None) -> pl.DataFrame:
    frame = frame.with_columns(_column(path, frame, "prediction"))
    if "reference" in frame.columns or references is None:
        remedy = "; or give the references with --references FILE"
        return frame.with_columns(_column(path, frame, "reference", remedy))
    right = _column(references, _frame(references, "reference"), "reference")
    if len(right) != frame.height:
        wrong = f"{frame.height:,} rows, but {references} has {len(right):,} references"
        raise UserError(f"{path}: {wrong}; give the list that belongs to these outputs")
    return frame.with_columns(right.alias("reference"))


def _column(path: Path, frame: pl.DataFrame, name: str, remedy: str = "") -> pl.Series:
    """The texts of a column; what only says "nan" is null."""
    if name not in frame.columns:
        theirs = own_columns(frame)
        near = difflib.get_close_matches(name, theirs, n=1)
        hint = f"did you mean {near[0]!r}? rename it" if near else "rename or add one"
        raise UserError(f"{path}: no column {name!r} (it has: {', '.join(theirs)}); {hint}{remedy}")
    text = as_text(frame[name])
    return pl.select(pl.when(text.str.strip_chars().str.to_lowercase() != NAN).then(text).alias(name))[name]


def _without_missing(path: Path, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    unsaid = frame["prediction"].is_null()
    unknown = ~unsaid & (frame["reference"].fill_null("").str.strip_chars() == "")
    kept = frame.filter(~(unsaid | unknown))
    if not kept.height:
        raise UserError(f"{path}: no row has both a prediction and a reference; fill them")
    return kept, {"no_prediction": int(unsaid.sum()), "no_reference": int(unknown.sum()), "duplicates": 0}


def _with_ids(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    for name, other in (IDS, IDS[::-1]):
        if name not in frame.columns:
            raise UserError(f"{path}: a column {other!r} but no {name!r}; give both, or neither")
        ids = with_ids(RawTable("outputs", frame, {}), name).frame[name]
        whole = bool(ids.str.contains(WHOLE_NUMBER).all())
        frame = frame.with_columns((ids.cast(pl.Int64) if whole else ids).alias(name))
    return frame


def _one_row_each(path: Path, frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Equal rows once; two different ones about one pair are refused."""
    once = frame.unique(list(COLUMNS), keep="first", maintain_order=True)
    again = (~once.select(pl.struct(IDS).is_first_distinct()).to_series()).arg_true()
    if not len(again):
        return once, frame.height - once.height
    row = once.row(int(again[0]), named=True)
    user, item = (row[name] for name in IDS)
    first = once.filter(pl.col("user_id") == user, pl.col("item_id") == item)[ROW][0]
    twice = f"was in row {first} with another prediction or reference; keep one of them"
    raise UserError(
        f"{path}: row {row[ROW]}: user {user!r}, item {item!r} {twice} ({len(again):,} such rows)"
    )


def feature_words(text: str) -> list[str]:
    """Features that are told in one text, as `price, room`."""
    return [word for word in BETWEEN_FEATURES.split(text) if word]


def _features(frame: pl.DataFrame) -> pl.Series:
    texts = as_text(frame["features"]).fill_null("")
    features = [*map(feature_words, texts)]
    wrong = pl.Series([any(len(words(word)) != 1 for word in row) for row in features])
    message = "{} has a feature that is no single word; split or drop it"
    RawTable("outputs", frame, {}).refuse(wrong, "features", message)
    return pl.Series("features", features, pl.List(pl.String))


# --- Which held-out pair (its explanation is in valid or test) is a row? By ids, else by the reference text.


def match(name: str, outputs: Outputs, dataset: Dataset) -> Outputs:
    """Give rows the internal numbers of their held-out pair, and its ids as text.

    Rows with ids that are no held-out pair are left out and counted (a UserError with fewer than two others). Rows
    without ids all stay; those whose reference is the text of exactly one held-out pair get its ids.
    """
    matched = _by_ids(name, outputs, dataset) if outputs.has_ids else _by_reference(outputs, dataset)
    texts = {side: pl.Series(dataset.ids(side).values).cast(pl.String) for side in SIDES}
    known = {f"{side}_id": ids.gather(matched.frame[side]) for side, ids in texts.items()}
    frame = matched.frame.with_columns(
        *(pl.coalesce(ids, pl.col(name).cast(pl.String)).alias(name) for name, ids in known.items()),
        key=pl.when(pl.col("user").is_null()).then("key").otherwise(pl.concat_list(*known.values())),
    )
    return replace(matched, frame=frame)


def held_out_keys(dataset: Dataset) -> set[Key]:
    """The keys of a data set's held-out pairs."""
    users, items = dataset.users.values, dataset.items.values
    return {(str(users[user]), str(items[item])) for user, item in dataset.heldout_pairs().tolist()}


def _by_ids(name: str, outputs: Outputs, dataset: Dataset) -> Outputs:
    users = dataset.users.numbers(outputs.frame["user_id"])
    items = dataset.items.numbers(outputs.frame["item_id"])
    known = (users >= 0) & (items >= 0)
    held = known & dataset.is_heldout(users, items)
    unknown = {"unknown_user": users < 0, "unknown_item": (users >= 0) & (items < 0)}
    left_out = {**unknown, "not_held_out": known & ~held}
    counts = {reason: int(rows.sum()) for reason, rows in left_out.items()}
    if held.sum() < 2:
        few = f"{held.sum()} of {len(outputs)} rows are held-out pairs of data set {dataset.name!r}"
        raise UserError(f"{name}: {few} ({_listed(counts)}); give the data set that they were made from")
    frame = outputs.frame.with_columns(user=users, item=items).filter(held)
    return replace(outputs, frame=frame, exclusions={**outputs.exclusions, **counts})


def _by_reference(outputs: Outputs, dataset: Dataset) -> Outputs:
    told = pl.concat(
        pl.DataFrame({"reference": it.texts, "user": it.users, "item": it.items}, TOLD).with_columns(
            part=pl.lit(split)
        )
        for split, it in ((split, dataset.pairs(split)) for split in SPLITS)
    )
    told = told.group_by("reference").agg(pl.all().first(), owners=pl.len())
    frame = outputs.frame.drop("user", "item").join(told, "reference", how="left", maintain_order="left")
    one = (pl.col("owners") == 1) & (pl.len().over("reference") == 1)
    part = pl.when(one).then("part").when(pl.col("owners") > 0).then(pl.lit("ambiguous"))
    frame = frame.with_columns(part=part.otherwise(pl.lit("unknown")))
    found = dict.fromkeys((*SPLITS, "ambiguous", "unknown"), 0) | dict(frame["part"].value_counts().rows())
    numbers = pl.when(pl.col("part").is_in(["valid", "test"])).then(pl.col("user", "item"))
    return replace(outputs, frame=frame.with_columns(numbers).drop("part", "owners"), found=found)
