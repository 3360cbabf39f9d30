"""Who took what, in time order: histories, their leave-one-out split, and the catalogue that fitted things keep.

Shapes: U users, N items of all histories together, B histories of a block, L places of a window, E training pairs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.artifact import Artifact, whole_numbers
from forwhy.columns import SIDES, SPLITS, Graph
from forwhy.data.dataset import Dataset, Ids, Ints
from forwhy.errors import UserError
from forwhy.frames import Shown

Heldout = Literal["valid", "test"]

WINDOW = 20
"""Items of a history that are read, the latest ones (LLM-BS section 4.1.4, S3-Rec's and LC-Rec's choice)."""


@dataclass(frozen=True, eq=False)
class Histories:
    """Rows of items in time order, end to end; repeated items stay repeated."""

    items: Ints
    """[N] internal items."""
    offsets: Ints
    """[B + 1] row b is `items[offsets[b]:offsets[b + 1]]`."""

    @classmethod
    def of(cls, rows: Iterable[Iterable[int]]) -> Histories:
        """From lists of internal items."""
        arrays = [np.fromiter(row, dtype=np.int64) for row in rows]
        return cls(np.concatenate([np.empty(0, np.int64), *arrays]), _offsets([len(row) for row in arrays]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Ints:
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    @cached_property
    def lengths(self) -> Ints:
        """[B] items of each row."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> Ints:
        """[N] the row of each item."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def ages(self) -> Ints:
        """[N] how many items of the row are younger: 0 for its last one."""
        return self.offsets[1:][self.rows] - 1 - np.arange(len(self.items))

    def take(self, rows: Ints) -> Histories:
        """These rows, in this order. Linear in what is taken."""
        return self.spans(self.offsets[:-1][rows], self.lengths[rows])

    def spans(self, starts: Ints, lengths: Ints) -> Histories:
        """Rows of consecutive items, which may overlap: row n is `items[starts[n] : starts[n] + lengths[n]]`."""
        offsets = _offsets(lengths)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Histories(self.items[places], offsets)

    def last(self, window: int = WINDOW) -> Histories:
        """At most the last `window` items of each row."""
        return Histories(self.items[self.ages < window], _offsets(np.minimum(self.lengths, window)))

    def shuffled(self, seed: int) -> Histories:
        """The same items of each row in random order; shuffle after `last`, so that the window holds the same."""
        draws = np.random.default_rng(seed).random(len(self.items))
        return Histories(self.items[np.lexsort((draws, self.rows))], self.offsets)

    def padded(self) -> NDArray[np.int64]:
        """[B, L] items from place 0 on, L the longest row (at least 1); 0 behind the last item."""
        padded_bl = np.zeros((len(self), max(1, int(self.lengths.max(initial=0)))), dtype=np.int64)
        padded_bl[self.rows, np.arange(len(self.items)) - self.offsets[:-1][self.rows]] = self.items
        return padded_bl

    def extended(self, items: Ints) -> Histories:
        """One more item [B] behind each row; none where it is negative."""
        more = items >= 0
        places = self.offsets[1:][more]
        return Histories(np.insert(self.items, places, items[more]), _offsets(self.lengths + more))


@dataclass(frozen=True, eq=False)
class Sequences:
    """A data set as histories with one item left out for validation and one for test."""

    train: Histories
    """[U] training items of every internal user; empty where there are none."""
    valid: Ints
    """[U] validation item of every internal user, -1 without one."""
    test: Ints
    """[U] test item of every internal user, -1 without one."""
    n_items: int

    @classmethod
    def from_dataset(cls, dataset: Dataset, graph: Graph = "leak-free") -> Sequences:
        """Order a data set's interactions by timestamp, equal ones by their row. O(E log E).

        `graph` as in `Dataset.edges`: ``leak-free`` drops training items whose explanation is held out. Refused are
        interactions without timestamps, a user with two validation or two test items, and a held-out item that is not
        later than the training items: that would be no prediction of the next item.
        """
        frame = dataset.tables["interactions"]
        if "timestamp" not in frame.columns:
            wrong = "interactions have no timestamp, so no order; import them with one"
            raise UserError(f"data set '{dataset.name}': {wrong}")
        splits = frame["split"].cast(pl.Enum(SPLITS)).to_physical().to_numpy().astype(np.int64)
        users = dataset.users.numbers(frame["user_id"])
        order = np.lexsort((splits, frame["timestamp"].to_numpy(), users))
        users, splits = users[order], splits[order]
        items = dataset.items.numbers(frame["item_id"])[order]
        _check_leave_one_out(dataset, users, splits)
        trains = splits == 0
        if graph == "leak-free":
            trains &= ~dataset.is_heldout(users, items)
        lengths = np.bincount(users[trains], minlength=len(dataset.users))
        valid, test = np.full((2, len(lengths)), -1, dtype=np.int64)
        for number, target in enumerate((valid, test), start=1):
            target[users[splits == number]] = items[splits == number]
        return cls(Histories(items[trains], _offsets(lengths)), valid, test, len(dataset.items))

    def fingerprint(self) -> str:
        """sha256 (hex) over everything here."""
        digest = hashlib.sha256(str(self.n_items).encode())
        for part in (self.train.items, self.train.offsets, self.valid, self.test):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def targets(self, split: Heldout) -> Ints:
        """[U] the item left out for a split, -1 without one."""
        return self.valid if split == "valid" else self.test

    def evaluated(self, split: Heldout) -> Ints:
        """Internal users with an item left out for the split, ascending."""
        return np.flatnonzero(self.targets(split) >= 0)

    def validation(self, count: int, seed: int, window: int | None = None) -> tuple[Histories, Ints]:
        """The last `window` training items (None: all) and the validation item of `count` users (0: all), drawn."""
        users = self.evaluated("valid")
        users = np.sort(np.random.default_rng(seed).permutation(users)[: count or len(users)])
        before = self.train.take(users)
        return before if window is None else before.last(window), self.valid[users]

    def skipped(self, split: Heldout) -> int:
        """How many users have no item left out: too few interactions. They still train."""
        return int((self.targets(split) < 0).sum())

    def histories(self, split: Heldout) -> Histories:
        """[U] what may be seen when the item of a split is predicted: train; for test, train and valid."""
        return self.train if split == "valid" else self.train.extended(self.valid)


def _offsets(lengths: list[int] | Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)


def _check_leave_one_out(dataset: Dataset, users: Ints, splits: Ints) -> None:
    """Rows by user and time: splits must run train, at most one valid, at most one test."""
    for number, split in enumerate(SPLITS[1:], start=1):
        counts = np.bincount(users[splits == number], minlength=1)
        if counts.max(initial=0) > 1:
            user = dataset.users.values[int(counts.argmax())]
            rule = "next-item recommendation leaves one out; split by leave-one-out"
            said = f"{counts.max()} {split} interactions, and {rule}"
            raise UserError(f"user {user!r} has {said} (as `forwhy data import lcrec` does)")
    wrong = np.flatnonzero((users[1:] == users[:-1]) & (splits[1:] < splits[:-1]))
    if len(wrong):
        user, (split, later) = dataset.users.values[users[wrong[0]]], splits[wrong[0] : wrong[0] + 2]
        said = f"user {user!r} has a {SPLITS[split]} interaction before a {SPLITS[later]} one"
        rule = "next-item recommendation leaves the last ones out"
        raise UserError(f"{said}; {rule} (as `forwhy data import lcrec` does)")


# --- Who and what a fitted thing speaks of


@dataclass(frozen=True)
class Capabilities:
    """Whom a recommender serves; others are refused by a `UserError` that names a remedy."""

    hot: bool = True
    """Users and items of the training data."""
    warm: bool = False
    """People who come later with a history of known items."""
    cold: bool = False
    """People of whom nothing is known: an empty history."""


@dataclass(frozen=True, eq=False, repr=False)
class Catalogue(Shown):
    """Users, items and their history, as every recommender, vocabulary and explainer keeps them; inside 0..n-1."""

    users: Ids
    items: Ids
    titles: Sequence[str]
    """By internal item; "" when unknown."""
    taken: NDArray[np.int64]
    """[E, 2] internal (user, item) pairs of training, ordered by user and, where the data has times, by time."""

    def _shown(self) -> dict[str, int | str]:
        return {"users": len(self.users), "items": len(self.items), "training pairs": len(self.taken)}

    @classmethod
    def of(cls, dataset: Dataset, taken: NDArray[np.int64] | Histories) -> Catalogue:
        """The users, items and titles of a data set, with these training pairs or histories of all users."""
        if isinstance(taken, Histories):
            taken = np.stack([taken.rows, taken.items], axis=1)
        return cls(dataset.users, dataset.items, dataset.titles(), taken)

    @classmethod
    def read(cls, stored: Artifact) -> Catalogue:
        """Back from the artifact that :meth:`tables` and :meth:`tensors` went into."""
        ids = {side: stored.tables[f"{side}s"][f"{side}_id"] for side in SIDES}
        titles, taken = stored.tables["items"]["title"], stored.tensors["taken"]
        if {column.dtype for column in (*ids.values(), titles)} - {pl.String, pl.Int64, pl.Null}:
            raise TypeError("ids and titles are text or whole numbers")
        users, items = (Ids(tuple(column), side) for side, column in ids.items())
        return cls(users, items, list(titles), whole_numbers(taken, (-1, 2), (len(users), len(items))))

    def tables(self) -> dict[str, pl.DataFrame]:
        """Ids and titles as tables of an artifact."""
        items = {"item_id": list(self.items.values), "title": list(self.titles)}
        return {"users": pl.DataFrame({"user_id": list(self.users.values)}), "items": pl.DataFrame(items)}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What was taken, as a tensor of an artifact."""
        return {"taken": self.taken}

    def offering(self, title: str, named: str | None = None) -> Catalogue:
        """With an item more, the last one, which nobody took; its id is `named` (see :meth:`new_id`), or a new one."""
        values: Any = self.items.values
        new: Any = min(0, *values) - 1 if self.items.whole else "(new)"
        while new in values:
            new += "+"
        if named is not None:
            new = self.new_id(named)
        return replace(self, items=Ids((*values, new), "item"), titles=[*self.titles, title])

    def new_id(self, named: str) -> str | int:
        """The id of an item that comes later, as the others are; refused where it is there, or of another kind."""
        if self.items.find(named) >= 0:
            raise UserError(f"item {named!r}: already in the catalogue; give it another id")
        if self.items.whole and not re.fullmatch(r"-?[0-9]{1,18}", named):
            raise UserError(f"item {named!r}: the ids of this catalogue are whole numbers; give it one")
        return int(named) if self.items.whole else named

    def ids(self, side: str) -> Ids:
        """External ids of a side, `user` or `item`."""
        return self.users if side == "user" else self.items

    @cached_property
    def histories(self) -> Histories:
        """[users] what each took, in the order of `taken`."""
        offsets = np.searchsorted(self.taken[:, 0], np.arange(len(self.users) + 1))
        return Histories(np.ascontiguousarray(self.taken[:, 1]), offsets)

    def histories_in(self, pairs: pl.DataFrame) -> Histories:
        """[users] what each took of a table with user_id and item_id, by users and items that are known here."""
        taken = np.stack([self.users.numbers(pairs["user_id"]), self.items.numbers(pairs["item_id"])], axis=1)
        taken = taken[(taken >= 0).all(axis=1)]
        return replace(self, taken=taken[np.argsort(taken[:, 0], kind="stable")]).histories

    @cached_property
    def has_history(self) -> dict[str, NDArray[np.bool_]]:
        """Side -> [n] whether each user or item has training interactions."""
        taken = zip(SIDES, self.taken.T, strict=True)
        return {side: np.bincount(held, minlength=len(self.ids(side))) > 0 for side, held in taken}
