"""What a method wrote, pair by pair: outputs of a run or from elsewhere, matched with a data set's held-out pairs.

Outputs from elsewhere are a table of pairs, or two lists of texts, each row beside the reference it answers.
Nothing is dropped in silence. A row without a prediction or a reference (null, NaN) is left out and counted;
a prediction without a word stays and scores 0; equal rows about one pair count once; two different rows
about one pair are refused, since only their author knows which one is meant.

Shapes: n rows that are kept.
"""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from forwhy.atomic import atomic_file
from forwhy.columns import ROW, SPLITS
from forwhy.data.checks import WHOLE_NUMBER, RawTable, as_text, id_text
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.data.sources import safe_pickle
from forwhy.data.sources.files import READERS, read_json, read_rows, require_file, with_origin
from forwhy.errors import UserError
from forwhy.evaluate.compare import Key
from forwhy.evaluate.words import words

Pair = tuple[str | int, str | int]
"""External ids of a user and an item."""

COLUMNS = ("user_id", "item_id", "prediction", "reference")
IDS = COLUMNS[:2]
NAN = "nan"
"""What a missing number becomes when it is written as text."""
BETWEEN_FEATURES = re.compile(r"[,;\s]+")


@dataclass(frozen=True)
class Outputs:
    """One text per pair beside the right one."""

    pairs: Sequence[Pair]
    """[n]"""
    predictions: Sequence[str]
    """[n]"""
    references: Sequence[str]
    """[n]"""

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, rows: Sequence[int]) -> "Outputs":
        """Some of the rows, in this order."""
        return Outputs(
            [self.pairs[row] for row in rows],
            [self.predictions[row] for row in rows],
            [self.references[row] for row in rows],
        )

    def order(self) -> list[int]:
        """Rows by reference, then prediction, then pair: what is drawn does not depend on how they came."""
        pairs = [tuple(map(str, pair)) for pair in self.pairs]
        rows = list(zip(self.references, self.predictions, pairs, strict=True))
        return sorted(range(len(rows)), key=rows.__getitem__)

    def save(self, path: Path) -> None:
        """Write a parquet file with the columns `COLUMNS`, whole or not at all."""
        users, items = [user for user, _ in self.pairs], [item for _, item in self.pairs]
        columns = (users, items, list(self.predictions), list(self.references))
        frame = pl.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
        with atomic_file(path) as temporary:
            frame.write_parquet(temporary)

    @classmethod
    def load(cls, path: Path) -> "Outputs":
        """Read what `save` wrote.

        Raises:
            UserError: No such file, or not one that `save` wrote.
        """
        try:
            frame = pl.read_parquet(path, columns=list(COLUMNS))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(
                f"{path}: not readable as outputs of a run ({error}); evaluate the run again"
            ) from None
        users, items, predictions, references = (frame[name].to_list() for name in COLUMNS)
        return cls(list(zip(users, items, strict=True)), predictions, references)


@dataclass(frozen=True)
class KeyedOutputs:
    """Outputs with what identifies each row, what was left out, and which held-out pair each row is."""

    outputs: Outputs
    """[n]; the pair of a row without ids is ("row", its number from 1)."""
    keys: Sequence[Key]
    """[n] what rows of two readings are the same by: (user, item) as text; without ids the reference and how
    often it stood in the file before."""
    has_ids: bool
    has_references: bool
    """Whether these were in the file itself."""
    exclusions: dict[str, int]
    """Reason -> rows left out."""
    features: Sequence[Sequence[str]] | None = None
    """[n] features of each reference, where the file has that column."""
    matched: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Row -> internal user and item, of rows that are a held-out pair of a data set (`match`)."""
    found: Mapping[str, int] = field(default_factory=dict)
    """Without ids, rows by what their reference is in the data set: text of one `valid`, `test` or `train`
    pair, of several pairs or rows (`ambiguous`), or of none (`unknown`). Empty with ids."""

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, outputs: Outputs) -> "KeyedOutputs":
        """A run's own outputs."""
        keys = [(str(user), str(item)) for user, item in outputs.pairs]
        return cls(outputs, keys, True, True, {}).take(outputs.order())

    def take(self, rows: Sequence[int]) -> "KeyedOutputs":
        """Some of the rows with all that is known of them, in this order."""
        return replace(
            self,
            outputs=self.outputs.take(rows),
            keys=[self.keys[row] for row in rows],
            features=None if self.features is None else [self.features[row] for row in rows],
            matched={new: self.matched[row] for new, row in enumerate(rows) if row in self.matched},
        )

    def pairs(self) -> tuple[list[int], Pairs]:
        """The rows that are held-out pairs, and these pairs with their references."""
        rows = sorted(self.matched)
        numbers = np.array([self.matched[row] for row in rows], dtype=np.int64).reshape(-1, 2)
        texts = tuple(self.outputs.references[row] for row in rows)
        return rows, Pairs(numbers[:, 0], numbers[:, 1], texts)


def read_outputs(path: Path, references: Path | None = None) -> KeyedOutputs:
    """Read a table or a list of predictions; rows come in an order that does not depend on the file's.

    A table has `prediction`, `reference`, both or none of `user_id` and `item_id`, optionally `features`.
    Tables are CSV, TSV, JSONL and parquet; an empty cell of CSV or TSV is an empty prediction. Lists are
    .pkl (read without running anything in it), .json and .txt (a text per line). `features` holds single
    words: a list, or text with commas or spaces between them.

    Args:
        path: The outputs.
        references: A list, or a table with a `reference` column, row by row; used where `path` has none.

    Raises:
        UserError: names file, row and column: unreadable or empty files, missing columns, lists of
            different length, values that are no text, contradicting rows, fewer than two rows left.
    """
    frame = _frame(path, "prediction")
    has_references = "reference" in frame.columns
    frame = _with_reference(path, frame, references)
    frame, exclusions = _without_missing(path, frame)
    has_ids = any(name in frame.columns for name in IDS)
    if has_ids:
        frame, exclusions["duplicates"] = _one_row_each(path, _with_ids(path, frame))
    if frame.height < 2:
        left_out = ", ".join(f"{count} {reason}" for reason, count in exclusions.items() if count)
        raise UserError(
            f"{path}: {frame.height} row left{f' ({left_out})' * bool(left_out)}; give two or more"
        )
    users = frame["user_id"].to_list() if has_ids else ["row"] * frame.height
    items = frame["item_id" if has_ids else ROW].to_list()
    texts = frame["prediction"].to_list(), frame["reference"].to_list()
    outputs, keys = Outputs(list(zip(users, items, strict=True)), *texts), _keys(frame, has_ids)
    keyed = KeyedOutputs(outputs, keys, has_ids, has_references, exclusions, _features(frame))
    return keyed.take(outputs.order())


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
    return with_origin(
        found if isinstance(found, pl.DataFrame) else pl.DataFrame({column: _checked(path, found)}), path
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason}); convert it") from None


LISTS: Mapping[str, Callable[[Path], object]] = {
    ".pkl": safe_pickle.load,
    ".pickle": safe_pickle.load,
    ".txt": _lines,
    ".json": read_json,
}
"""Readers of lists of texts by extension; tables are `files.READERS`."""


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
            raise UserError(
                f"{path}: row {number}: {type(value).__name__}, not a text; give one text per row"
            )
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
        raise UserError(
            f"{path}: {frame.height:,} rows, but {references} has {len(right):,} references; "
            "give the list that belongs to these outputs"
        )
    return frame.with_columns(right.alias("reference"))


def _column(path: Path, frame: pl.DataFrame, name: str, remedy: str = "") -> pl.Series:
    """The texts of a column; what only says "nan" is null."""
    if name not in frame.columns:
        theirs = [column for column in frame.columns if not column.startswith("__")]
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
        ids = id_text(RawTable("outputs", frame, {}), name)
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
    raise UserError(
        f"{path}: row {row[ROW]}: user {user!r}, item {item!r} was in row {first} with another prediction or "
        f"reference; keep one of them ({len(again):,} such rows)"
    )


def _keys(frame: pl.DataFrame, has_ids: bool) -> list[Key]:
    if has_ids:
        return [(str(user), str(item)) for user, item in frame.select(IDS).iter_rows()]
    times = frame.select(pl.int_range(pl.len()).over("reference")).to_series()
    # Three parts: no key of ids.
    return [("", text, str(time)) for text, time in zip(frame["reference"], times, strict=True)]


def _features(frame: pl.DataFrame) -> list[list[str]] | None:
    if "features" not in frame.columns:
        return None
    found = [BETWEEN_FEATURES.split(text) for text in as_text(frame["features"]).fill_null("")]
    features = [[word for word in row if word] for row in found]
    wrong = pl.Series([any(len(words(word)) != 1 for word in row) for row in features])
    message = "{} has a feature that is no single word; split or drop it"
    RawTable("outputs", frame, {}).refuse(wrong, "features", message)
    return features


# --- Which held-out pair is a row? By ids, else by the reference text. Held out: the explanation is in valid or test.


def match(name: str, texts: KeyedOutputs, dataset: Dataset) -> KeyedOutputs:
    """Give rows their pair, and its ids as their own.

    Rows with ids that are no held-out pair are left out and counted. Rows without ids all stay; those whose
    reference is the text of exactly one held-out pair get its ids.

    Raises:
        UserError: rows with ids, of which fewer than two are held-out pairs.
    """
    matched = _by_ids(name, texts, dataset) if texts.has_ids else _by_reference(texts, dataset)
    pairs, keys = list(matched.outputs.pairs), list(matched.keys)
    rows, found = matched.pairs()
    for row, (user, item) in zip(rows, dataset.external(found), strict=True):
        pairs[row], keys[row] = (user, item), (str(user), str(item))
    return replace(matched, outputs=replace(matched.outputs, pairs=pairs), keys=keys)


def held_out_keys(dataset: Dataset) -> set[Key]:
    """The keys of a data set's held-out pairs."""
    users, items = dataset.users.values, dataset.items.values
    return {(str(users[user]), str(items[item])) for user, item in dataset.heldout_pairs().tolist()}


def _by_ids(name: str, texts: KeyedOutputs, dataset: Dataset) -> KeyedOutputs:
    users = dataset.users.numbers([user for user, _ in texts.outputs.pairs])
    items = dataset.items.numbers([item for _, item in texts.outputs.pairs])
    known = (users >= 0) & (items >= 0)
    held = known & dataset.is_heldout(users, items)
    counts = {
        "unknown_user": int((users < 0).sum()),
        "unknown_item": int(((users >= 0) & (items < 0)).sum()),
        "not_held_out": int((known & ~held).sum()),
    }
    kept = np.flatnonzero(held).tolist()
    if len(kept) < 2:
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        raise UserError(
            f"{name}: {len(kept)} of {len(texts)} rows are held-out pairs of data set {dataset.name!r} ({why}); "
            "give the data set that they were made from"
        )
    matched = dict(enumerate(zip(users.tolist(), items.tolist(), strict=True)))
    return replace(texts, exclusions=texts.exclusions | counts, matched=matched).take(kept)


def _by_reference(texts: KeyedOutputs, dataset: Dataset) -> KeyedOutputs:
    owners: dict[str, list[tuple[str, int, int]]] = {}
    for split in SPLITS:
        pairs = dataset.pairs(split)
        for user, item, text in zip(pairs.users.tolist(), pairs.items.tolist(), pairs.texts, strict=True):
            owners.setdefault(text, []).append((split, user, item))
    times = Counter(texts.outputs.references)
    matched = {}
    found = dict.fromkeys((*SPLITS, "ambiguous", "unknown"), 0)
    for row, text in enumerate(texts.outputs.references):
        known = owners.get(text, [])
        if len(known) != 1 or times[text] > 1:
            found["ambiguous" if known else "unknown"] += 1
            continue
        owner, user, item = known[0]
        found[owner] += 1
        if owner != "train":
            matched[row] = user, item
    return replace(texts, matched=matched, found=found)
