"""The data set: tables with the user's own ids outside, contiguous integers inside.

Legend: U users, I items, E edges, P explained pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SPLITS, Graph, Side, Split
from forwhy.data.checks import Duplicates, check_tables
from forwhy.data.folder import content_hash, read_folder, write_folder
from forwhy.data.ids import Ids, Pairs
from forwhy.data.leaks import leaks

__all__ = ["Dataset", "Ids", "Pairs", "make_dataset"]

EMPTY_PAIRS = np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """An immutable, checked data set; make one with an importer, `make_dataset` or `load`."""

    name: str
    """A label; it decides nothing."""
    users: Ids
    items: Ids
    tables: Mapping[str, pl.DataFrame]
    """Frames by table name (`columns.TABLES`), external ids; an absent table is absent here too."""
    fingerprint: str
    """sha256 (hex) over counts, column types and content of every table."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Importer, its options, sha256 of the files read, how and with which seed it was split."""

    def edges(self, split: Split, graph: Graph = "leak-free") -> NDArray[np.int64]:
        """Distinct interactions of a split as internal numbers, [E, 2], sorted by user, then item.

        ``leak-free`` removes from *train* every pair whose explanation is held out or withheld;
        ``as-published`` keeps them, as the papers do. Other splits are the same under both. O(E log E).
        """
        keys = self._keys("interactions", (split,))
        if split == "train" and graph == "leak-free":
            keys = np.setdiff1d(keys, self._heldout_keys(), assume_unique=True)
        return self._unkeyed(keys)

    def pairs(self, split: Split, clear_of_interactions: bool = False) -> Pairs:
        """Explained pairs of a split, in table order.

        `clear_of_interactions` leaves out pairs that are valid or test *interactions*: supervising the
        vocabulary with their text would show it which items the user will visit.
        """
        pairs = self._texts("explanations", pl.col("split") == split)
        if not clear_of_interactions:
            return pairs
        held = self._keys("interactions", ("valid", "test"))
        return pairs.select(np.flatnonzero(~np.isin(self._key(pairs.users, pairs.items), held)))

    def warm_pairs(self) -> Pairs:
        """Test pairs that a protocol set aside because nobody in them lost text (see `data.protocols`)."""
        return self._texts("withheld", pl.col("text") != "")

    def heldout_pairs(self) -> NDArray[np.int64]:
        """Distinct pairs, [P, 2], with an explanation in valid or test, or withheld: nobody's to read."""
        return self._unkeyed(self._heldout_keys())

    def is_heldout(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[n] whether each pair of internal numbers is one of `heldout_pairs`."""
        return np.isin(self._key(users, items), self._heldout_keys())

    def heldout_entities(self, side: Side) -> NDArray[np.int64]:
        """Internal numbers of users (items) that occur in a held-out explained pair, sorted."""
        return np.unique(self.heldout_pairs()[:, 0 if side == "user" else 1])

    def training_reviews(self) -> Pairs:
        """Reviews of pairs that are held out nowhere: neither as explanation nor as interaction."""
        return self.training_texts("reviews")

    def training_texts(self, table: Literal["reviews", "explanations"]) -> Pairs:
        """Texts of pairs that are held out nowhere, in table order: neither as explanation nor interaction."""
        pairs = self._texts(table, pl.lit(True))
        held = np.union1d(self._heldout_keys(), self._keys("interactions", ("valid", "test")))
        return pairs.select(np.flatnonzero(~np.isin(self._key(pairs.users, pairs.items), held)))

    def external(self, pairs: Pairs) -> list[tuple[str | int, str | int]]:
        """The users' and items' own ids of pairs."""
        users, items = self.users.values, self.items.values
        numbers = zip(pairs.users.tolist(), pairs.items.tolist(), strict=True)
        return [(users[user], items[item]) for user, item in numbers]

    def titles(self) -> list[str]:
        """Titles by internal item number; ``""`` when unknown."""
        return self._item_column("title")

    def item_texts(self) -> list[str]:
        """Title, categories and description of each item in one string; ``""`` when nothing is known."""
        columns = (self._item_column(name) for name in ("title", "categories", "description"))
        return [". ".join(part for part in parts if part) for parts in zip(*columns, strict=True)]

    def phrases(self, side: Side) -> dict[int, list[str]]:
        """The intents table by internal number: what is liked first, then by rank; raw text."""
        frame = self.tables.get("intents")
        if frame is None:
            return {}
        frame = frame.filter(pl.col("side") == side)
        disliked = pl.col("attitude") == "dislike" if "attitude" in frame.columns else pl.lit(False)
        frame = frame.with_columns(disliked.alias("disliked")).sort("disliked", "rank", maintain_order=True)
        return self._by_entity(side, frame, "phrase")

    def profiles(self, side: Side) -> dict[int, str]:
        """Profiles by internal number; shipped ones may have been written from held-out reviews.

        `forwhy.data.mined.vouched` says which were not.
        """
        frame = self.tables.get("profiles")
        if frame is None:
            return {}
        chosen = frame.filter(pl.col("side") == side)
        return {number: texts[0] for number, texts in self._by_entity(side, chosen, "text").items()}

    def summary(self) -> dict[str, Any]:
        """Name, counts, leaks and fingerprint as plain JSON values (``forwhy data show --json``)."""
        return {
            "name": self.name,
            "users": len(self.users),
            "items": len(self.items),
            "interactions": self._counts("interactions"),
            "explanations": self._counts("explanations"),
            "leaks": leaks(self),
            "fingerprint": self.fingerprint,
        }

    def derive(self, tables: Mapping[str, pl.DataFrame], source: Mapping[str, Any]) -> "Dataset":
        """A data set of rows taken from this one's, so that nothing has to be checked again."""
        return _assemble(self.name, tables, content_hash(tables), source)

    def save(self, folder: Path | str) -> None:
        """Write the folder (dataset.json and one parquet file per table) whole or not at all.

        Raises:
            UserError: the path holds something that is not a data set, or the disk is full; what was
                there is untouched.
        """
        write_folder(Path(folder), self.name, self.tables, self.fingerprint, self.source)

    @classmethod
    def load(cls, folder: Path | str) -> "Dataset":
        """Read a folder that `save` wrote.

        Raises:
            UserError: a file is missing, truncated, altered or of a newer format, named with the reason.
        """
        name, tables, fingerprint, source = read_folder(Path(folder))
        return _assemble(name, tables, fingerprint, source)

    def _counts(self, table: str) -> dict[str, int]:
        frame = self.tables.get(table)
        if frame is None:
            return dict.fromkeys(SPLITS, 0)
        counts = dict(frame.group_by("split").len().iter_rows())
        return {split: int(counts.get(split, 0)) for split in SPLITS}

    def _key(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
        return users * max(len(self.items), 1) + items

    def _texts(self, table: str, chosen: pl.Expr) -> Pairs:
        frame = self.tables.get(table)
        if frame is None:
            return Pairs(EMPTY_PAIRS[:, 0], EMPTY_PAIRS[:, 1], ())
        rows = frame.filter(chosen)
        users, items = self.users.numbers(rows["user_id"]), self.items.numbers(rows["item_id"])
        return Pairs(users, items, tuple(rows["text"]))

    def _heldout_keys(self) -> NDArray[np.int64]:
        return np.union1d(self._keys("explanations", ("valid", "test")), self._keys("withheld"))

    def _keys(self, table: str, splits: tuple[Split, ...] = ()) -> NDArray[np.int64]:
        """Distinct pairs of a table's rows in these splits (all rows when none is given), sorted."""
        frame = self.tables.get(table)
        if frame is None:
            return EMPTY_PAIRS[:, 0]
        rows = frame.filter(pl.col("split").is_in(splits)) if splits else frame
        return np.unique(self._key(self.users.numbers(rows["user_id"]), self.items.numbers(rows["item_id"])))

    def _unkeyed(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.stack(np.divmod(keys, max(len(self.items), 1)), axis=1)

    def _item_column(self, name: str) -> list[str]:
        frame = self.tables.get("items")
        values = [""] * len(self.items)
        if frame is None or name not in frame.columns:
            return values
        for number, value in zip(self.items.numbers(frame["item_id"]), frame[name], strict=True):
            values[number] = value
        return values

    def _by_entity(self, side: Side, frame: pl.DataFrame, column: str) -> dict[int, list[str]]:
        ids = self.users if side == "user" else self.items
        found: dict[int, list[str]] = {}
        for number, text in zip(ids.numbers(frame["entity_id"]), frame[column], strict=True):
            found.setdefault(int(number), []).append(text)
        return dict(sorted(found.items()))


def make_dataset(
    name: str,
    tables: Mapping[str, pl.DataFrame],
    source: Mapping[str, Any] | None = None,
    *,
    names: Mapping[str, Mapping[str, str]] | None = None,
    duplicates: Duplicates | Literal["error"] = "error",
) -> Dataset:
    """Check tables and number their ids.

    Users are those of the `users` table, or of the interactions when there is none; items likewise.
    Every other table must speak of these only. Whole-number ids stay numbers (``"007"`` stays text).

    Args:
        name: A label.
        tables: Frames by name; see `columns.TABLES`. `interactions` is required.
        source: Where they come from, JSON values only; stored as it is.
        names: The caller's own column names by table and our name, for messages.
        duplicates: Two rows about the same thing: ``error`` refuses them, ``first`` keeps the first,
            ``keep`` keeps repeated *interactions* (purchase sequences) and refuses others.

    Raises:
        UserError: names file (or table), row (the first row of data is 1), column and remedy.
    """
    checked = check_tables(tables, names or {}, duplicates)
    return _assemble(name, checked, content_hash(checked), dict(source or {}))


def _assemble(
    name: str, tables: Mapping[str, pl.DataFrame], fingerprint: str, source: Mapping[str, Any]
) -> Dataset:
    users = Ids(_universe(tables, "user"), "user")
    items = Ids(_universe(tables, "item"), "item")
    return Dataset(
        name, users, items, MappingProxyType(dict(tables)), fingerprint, MappingProxyType(dict(source))
    )


def _universe(tables: Mapping[str, pl.DataFrame], side: Side) -> tuple[str, ...] | tuple[int, ...]:
    frame = tables.get(f"{side}s")
    chosen = tables["interactions"] if frame is None else frame
    return tuple(chosen[f"{side}_id"].unique().sort())
