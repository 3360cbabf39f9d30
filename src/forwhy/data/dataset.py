"""The data set: tables with the user's own ids outside, contiguous integers inside.

On disk it is a folder: dataset.json (label, fingerprint, source, hashes) and one parquet file per table.

Legend: U users, I items, E edges, P explained pairs.
"""

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.atomic import atomic_folder, read_signed, refuse_foreign, stamps, write_signed
from forwhy.columns import ATTRIBUTES, PAIR, SIDES, SPLITS, Graph, Side, Split
from forwhy.data import leaks
from forwhy.data.checks import Duplicates, check_tables
from forwhy.data.stored import Document, content_hash, read_stored
from forwhy.errors import Unknown, shortened
from forwhy.frames import Shown, StoredTables, Tables, height, scanned, slices

Ints = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Ids(Shown):
    """The user's own ids of one side, sorted by size or code point; position in `values` is the internal number."""

    values: tuple[str, ...] | tuple[int, ...]
    side: str = "entity"
    """``user`` or ``item``: only for messages."""

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def _numbers(self) -> dict[str | int, int]:
        return dict(zip(self.values, range(len(self)), strict=True))

    @cached_property
    def whole(self) -> bool:
        """Whether the ids are whole numbers (an empty set counts as text)."""
        return bool(self.values) and isinstance(self.values[0], int)

    def index(self, external: str | int) -> int:
        """Internal number of an external id (``"12"`` and ``12`` are one); of an unknown one the nearest are named."""
        number = self.find(external)
        if number < 0:
            raise Unknown(f"unknown {self.side} id {shortened(repr(external), 80)}; {self._remedy(external)}")
        return number

    def find(self, external: str | int) -> int:
        """Internal number of an external id; -1 where it is unknown."""
        return self._numbers.get(self._typed(external), -1)

    def numbers(self, external: pl.Series | Iterable[str | int]) -> Ints:
        """Internal numbers of a whole column, one hash join; -1 where an id is unknown."""
        dtype = pl.Int64 if self.whole else pl.String
        wanted = external if isinstance(external, pl.Series) else pl.Series(list(external))
        frame = wanted.cast(dtype, strict=False).alias("id").to_frame()
        joined = frame.join(self._frame, on="id", how="left", maintain_order="left")
        return joined["number"].fill_null(-1).to_numpy().astype(np.int64)

    @cached_property
    def _frame(self) -> pl.DataFrame:
        ids = pl.Series("id", self.values, dtype=pl.Int64 if self.whole else pl.String)
        return pl.DataFrame({"id": ids, "number": np.arange(len(self), dtype=np.int64)})

    def _typed(self, external: str | int) -> str | int:
        if not self.whole:
            return str(external)
        text = str(external).strip()
        return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20 else text

    def _remedy(self, external: str | int) -> str:
        if not self.values:
            return "the data set has none"
        span = f"{len(self):,} known, {self.values[0]!r} to {self.values[-1]!r}"
        names = [] if self.whole else [str(value) for value in self.values]
        told = str(external)[:100]
        near = [name for name in names if name.lstrip("0") == told.lstrip("0")]  # 42 is 0042 in a spreadsheet
        near = list(dict.fromkeys(near + difflib.get_close_matches(told, names, n=3)))[:3]
        said = f"nearest: {', '.join(near)}" if near else "use one of the data set's own ids"
        return f"{said} ({span})"


@dataclass(frozen=True, repr=False)
class Pairs(Shown):
    """Explained pairs in internal numbers: row k is `users[k]`, `items[k]`, `texts[k]`."""

    users: Ints
    items: Ints
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int] | Ints) -> "Pairs":
        """The pairs at these rows, in this order (rows may repeat)."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Pairs(self.users[chosen], self.items[chosen], tuple(self.texts[int(row)] for row in chosen))

    def by(self, side: Side) -> dict[int, list[str]]:
        """Texts by internal user (item), in their order."""
        found = defaultdict[int, list[str]](list)
        numbers = self.users if side == "user" else self.items
        for number, text in zip(numbers.tolist(), self.texts, strict=True):
            found[number].append(text)
        return found


MARKER = "dataset.json"
FORMAT = 1
"""Version of the layout; raised when an older library could no longer read the folder."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Shown):
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

    def _shown(self) -> dict[str, int | str]:
        counts = {name: height(self.tables, name) for name in self.tables}
        return {"name": self.name, "users": len(self.users), "items": len(self.items), **counts}

    @property
    def who_took_what(self) -> str:
        """sha256 (hex) over the interactions alone: what rankings are about, whatever texts there are."""
        return content_hash(self.tables, ["interactions"])

    def table(self, name: str) -> pl.DataFrame:
        """A table by its name (`columns.TABLES`); an absent one has its required columns and no rows."""
        return scanned(self.tables, name).collect()

    def edges(self, split: Split, graph: Graph = "leak-free") -> Ints:
        """Distinct interactions of a split as internal numbers, [E, 2], sorted by user, then item.

        ``leak-free`` removes from *train* every pair whose explanation is held out or withheld;
        ``as-published`` keeps them, as the papers do. The graph changes no other split. O(E log E).
        """
        rows = slices(self.tables, "interactions")
        found = self._numbers(part.filter(split=split) for part in rows)
        if split == "train" and graph == "leak-free" and len(hidden := self.heldout_pairs()):
            return found[~self._among(found[:, 0], found[:, 1], hidden)]
        return found

    def pairs(self, split: Split, clear_of_interactions: bool = False) -> Pairs:
        """Explained pairs of a split, in table order.

        `clear_of_interactions` leaves out valid or test *interactions*: their text shows what the user will visit.
        """
        rows = self.table("explanations").filter(split=split)
        if clear_of_interactions:
            return self._texts(rows, leaks.distinct_pairs(self.tables, "interactions", "valid", "test"))
        return self._texts(rows)

    def warm_pairs(self) -> Pairs:
        """Test pairs that a protocol set aside because nobody in them lost text (see `data.protocols`)."""
        return self._texts(self.table("withheld").filter(pl.col("text") != ""))

    def heldout_pairs(self) -> Ints:
        """Distinct pairs, [P, 2], with an explanation in valid or test, or withheld: nobody's to read."""
        return self._numbers([leaks.heldout_pairs(self.tables)])

    def is_heldout(self, users: Ints, items: Ints) -> NDArray[np.bool_]:
        """[n] whether each pair of internal numbers is one of `heldout_pairs`."""
        return self._among(users, items, self.heldout_pairs())

    def is_disliked(self, users: Ints, items: Ints) -> NDArray[np.bool_]:
        """[n] whether each pair was rated low (`leaks.disliked_pairs`); what is said of it is no praise."""
        return self._among(users, items, self._numbers([leaks.disliked_pairs(self.tables)]))

    def heldout_entities(self, side: Side) -> Ints:
        """Internal numbers of users (items) that occur in a held-out explained pair, sorted."""
        return np.unique(self.heldout_pairs()[:, 0 if side == "user" else 1])

    def training_texts(self, name: Literal["reviews", "explanations"]) -> Pairs:
        """Texts of pairs that are held out nowhere, in table order: neither as explanation nor interaction."""
        return self._texts(self.table(name), leaks.unreadable_pairs(self.tables))

    def training_reviews(self) -> Pairs:
        """Reviews of pairs that are held out nowhere: neither as explanation nor as interaction."""
        return self.training_texts("reviews")

    def external(self, pairs: Pairs) -> list[tuple[str | int, str | int]]:
        """The users' and items' own ids of pairs."""
        users, items = self.users.values, self.items.values
        numbers = zip(pairs.users.tolist(), pairs.items.tolist(), strict=True)
        return [(users[user], items[item]) for user, item in numbers]

    def titles(self) -> list[str]:
        """Titles by internal item number; ``""`` when unknown."""
        return self.item_column("title")

    def item_texts(self) -> list[str]:
        """Title, attributes and description of each item in one string; ``""`` when nothing is known.

        Of attributes those that are words: a number says nothing to a reader of texts.
        """
        words = ([it for it in each if not it.isdigit()] for each in self.item_attributes())
        told = [", ".join(dict.fromkeys(each)) for each in words]
        columns = (self.item_column("title"), told, self.item_column("description"))
        return [". ".join(part for part in parts if part) for parts in zip(*columns, strict=True)]

    def item_attributes(self) -> list[list[str]]:
        """What kind of thing each item is: its terms in the columns `brand`, `categories` and `attributes`.

        Terms stand between commas (a brand is one), or are numbers that the data set does not explain (Beauty's).
        """
        columns = zip(*map(self.item_column, ATTRIBUTES), strict=True)
        terms = ([brand, *kinds.split(","), *more.split(",")] for brand, kinds, more in columns)
        return [[term.strip() for term in each if term.strip()] for each in terms]

    def described(self) -> set[int]:
        """Internal numbers of items with a category or a description; a title often only names a thing."""
        told = zip(self.item_column("categories"), self.item_column("description"), strict=True)
        return {item for item, texts in enumerate(told) if any(texts)}

    def phrases(self, side: Side, attitude: Literal["like", "dislike"] = "like") -> dict[int, list[str]]:
        """The intents table by internal number, in the order of ranks: what is liked, or disliked; raw text."""
        frame = self.table("intents").filter(side=side)
        given = pl.col("attitude") if "attitude" in frame.columns else pl.lit("")
        disliked = given.str.strip_chars().str.to_lowercase().str.contains("^(dis|neg|hat|avoid)")
        frame = frame.filter(disliked.fill_null(False) == (attitude == "dislike"))
        frame = frame.with_columns(pl.Series("number", self.ids(side).numbers(frame["entity_id"])))
        frame = frame.sort("number", "rank", maintain_order=True)
        return dict(frame.group_by("number", maintain_order=True).agg("phrase").iter_rows())

    def profiles(self, side: Side) -> dict[int, str]:
        """Profiles by internal number; those that are not `vouched` may have been written from held-out reviews."""
        chosen = self.table("profiles").filter(side=side)
        numbers = self.ids(side).numbers(chosen["entity_id"]).tolist()
        return dict(sorted(zip(numbers, chosen["text"], strict=True)))

    def vouched(self, kind: Literal["intents", "profiles"], side: Side) -> set[int]:
        """Internal numbers of those whose `kind` of rows is known to be written from training text only."""
        return set(self.ids(side).numbers(leaks.vouched(self.tables, kind, side)).tolist()) - {-1}

    def ids(self, side: Side) -> Ids:
        """The ids of users or items."""
        return self.users if side == "user" else self.items

    def leaks(self) -> dict[str, int | float | bool]:
        """Counts of what could leak, by the names that `data.leaks.leaks` explains.

        And ``profiles_possibly_leaking``: of some profile nobody knows what it was written from (`vouched`).
        """
        published, visits = self.edges("train", "as-published"), slices(self.tables, "interactions")
        tested = self._numbers(part.filter(pl.col("split") != SPLITS[0]) for part in visits)
        explained = self._numbers([leaks.distinct_pairs(self.tables, "explanations", "train")])
        found = published, tested, explained, self.heldout_pairs()
        sizes: dict[Side, int] = {side: len(self.ids(side)) for side in SIDES}
        leaking = any(self.profiles(side).keys() - self.vouched("profiles", side) for side in SIDES)
        return {**leaks.leaks(*found, sizes), "profiles_possibly_leaking": leaking}

    def summary(self) -> dict[str, Any]:
        """Name, counts, leaks and fingerprint as plain JSON values (``forwhy data show --json``)."""
        return {
            "name": self.name,
            "users": len(self.users),
            "items": len(self.items),
            "interactions": self._counts("interactions"),
            "explanations": self._counts("explanations"),
            **{f"{name}s": sum(map(bool, self.item_column(name))) for name in ("title", "description")},
            "reviews": height(self.tables, "reviews"),
            **{name: height(self.tables, name) for name in ("intents", "profiles") if name in self.tables},
            "leaks": self.leaks(),
            "fingerprint": self.fingerprint,
        }

    def derive(self, tables: Mapping[str, pl.DataFrame], source: Mapping[str, Any]) -> "Dataset":
        """A data set of rows taken from this one's, so that nothing has to be checked again."""
        return _assemble(self.name, tables, content_hash(tables), source)

    def save(self, folder: Path | str) -> None:
        """Write the folder (dataset.json, a parquet file per table) whole or not at all; replaces a data set only."""
        refuse_foreign(Path(folder), MARKER)
        with atomic_folder(Path(folder)) as temporary:
            for name, frame in self.tables.items():
                frame.write_parquet(temporary / f"{name}.parquet")
            document = {
                "forwhy": "dataset",
                "format": FORMAT,
                "name": self.name,
                "fingerprint": self.fingerprint,
                "rows": {name: height(self.tables, name) for name in self.tables},
                "source": dict(self.source),
                "files": stamps(temporary, MARKER),
            }
            write_signed(temporary, MARKER, document)

    @classmethod
    def load(cls, folder: Path | str) -> "Dataset":
        """Read a folder that `save` wrote; a missing, truncated, altered or newer file is named with the reason."""
        place = Path(folder)
        document = read_signed(place, MARKER, "a data set", FORMAT, "forwhy data import", Document)
        tables = read_stored(place, document["files"])
        return _assemble(document["name"], tables, document["fingerprint"], document["source"])

    def _among(self, users: Ints, items: Ints, pairs: Ints) -> NDArray[np.bool_]:
        width = len(self.items)
        return leaks.among(users * width + items, pairs @ (width, 1))

    def _counts(self, name: str) -> dict[str, int]:
        rows = scanned(self.tables, name).group_by("split").len().collect(engine="streaming")
        counts = dict(rows.iter_rows())
        return {split: int(counts.get(split, 0)) for split in SPLITS}

    def _texts(self, rows: pl.DataFrame, without: pl.DataFrame | None = None) -> Pairs:
        if without is not None:
            rows = rows.join(without, on=PAIR, how="anti", maintain_order="left")
        users, items = (self.ids(side).numbers(rows[f"{side}_id"]) for side in SIDES)
        return Pairs(users, items, tuple(rows["text"]))

    def _numbers(self, pairs: Iterable[pl.DataFrame]) -> Ints:
        """[E, 2] distinct pairs as internal numbers, sorted by user, then item."""
        keys = np.concatenate([np.zeros(0, np.int64), *map(self._keys, pairs)])
        keys.sort()
        again = keys[1:] == keys[:-1]  # np.unique takes ten times as long
        if again.any():
            keys = keys[np.concatenate([[True], ~again])]
        found = np.empty((len(keys), 2), np.int64)
        np.divmod(keys, len(self.items), out=(found[:, 0], found[:, 1]))
        return found

    def _keys(self, pairs: pl.DataFrame) -> Ints:
        """[n] one number for each pair, which sorts as the pairs do."""
        users, items = (self.ids(side).numbers(pairs[f"{side}_id"]) for side in SIDES)
        return users * len(self.items) + items

    def item_column(self, name: str) -> list[str]:
        """A column of the items, which are numbered in the order of their ids, as text; ``""``: unknown."""
        frame = self.table("items")
        if name not in frame.columns:
            return [""] * len(self.items)
        return frame.sort("item_id")[name].cast(pl.String).fill_null("").to_list()


def make_dataset(
    name: str,
    tables: Mapping[str, pl.DataFrame],
    source: Mapping[str, Any] | None = None,
    *,
    names: Mapping[str, Mapping[str, str]] | None = None,
    duplicates: Duplicates = "error",
) -> Dataset:
    """Check tables and number their ids.

    Users are those of the `users` table, or of the interactions when there is none; items likewise. Every other table
    must speak of these only. Whole-number ids stay numbers (``"007"`` stays text). What is wrong is told by file (or
    table), row (the first row of data is 1), column and remedy.

    Args:
        name: A label.
        tables: Frames by name; see `columns.TABLES`. `interactions` is required.
        source: Where they come from, JSON values only; stored as it is.
        names: The caller's own column names by table and our name, for messages.
        duplicates: Two rows about the same thing: ``error`` refuses them, ``first`` keeps the first,
            ``keep`` keeps repeated *interactions* (purchase sequences) and refuses others.
    """
    checked = check_tables(tables, names or {}, duplicates)
    return _assemble(name, checked, content_hash(checked), dict(source or {}))


def _assemble(name: str, tables: Tables, fingerprint: str, source: Mapping[str, Any]) -> Dataset:
    users, items = (Ids(tuple(leaks.known_entities(tables, side).sort()), side) for side in SIDES)
    own = tables if isinstance(tables, StoredTables) else MappingProxyType(dict(tables))
    held = own, fingerprint, MappingProxyType(dict(source))
    return Dataset(name, users, items, *held)
