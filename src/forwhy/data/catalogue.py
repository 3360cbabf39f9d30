"""Who and what a fitted thing speaks of: ids of users and items, titles, and what was taken in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.artifact import Artifact
from forwhy.data.dataset import Dataset, Ids
from forwhy.data.sequences import Histories


@dataclass(frozen=True)
class Capabilities:
    """Whom a recommender serves; others are refused by a `UserError` that names a remedy."""

    hot: bool = True
    """Users and items of the training data."""
    warm: bool = False
    """People who come later with a history of known items."""
    cold: bool = False
    """People of whom nothing is known: an empty history."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Users, items and their history, as every recommender, vocabulary and explainer keeps them.

    Ids outside are the user's own (text or whole numbers); inside they are 0..n-1 in the order of `users` and `items`.
    """

    users: Ids
    items: Ids
    titles: Sequence[str]
    """By internal item; "" when unknown."""
    taken: NDArray[np.int64]
    """[E, 2] internal (user, item) pairs of training, ordered by user and, where the data has times, by time."""

    @classmethod
    def of(cls, dataset: Dataset, taken: NDArray[np.int64] | Histories) -> Catalogue:
        """The users, items and titles of a data set, with these training pairs or histories of all users."""
        if isinstance(taken, Histories):
            taken = np.stack([taken.rows, taken.items], axis=1)
        return cls(dataset.users, dataset.items, dataset.titles(), taken)

    @classmethod
    def read(cls, stored: Artifact) -> Catalogue:
        """Back from the artifact that :meth:`tables` and :meth:`tensors` went into."""
        users, items = stored.tables["users"], stored.tables["items"]
        return cls(
            Ids(tuple(users["user_id"]), "user"),
            Ids(tuple(items["item_id"]), "item"),
            list(items["title"]),
            stored.tensors["taken"],
        )

    def tables(self) -> dict[str, pl.DataFrame]:
        """Ids and titles as tables of an artifact."""
        return {
            "users": pl.DataFrame({"user_id": list(self.users.values)}),
            "items": pl.DataFrame({"item_id": list(self.items.values), "title": list(self.titles)}),
        }

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What was taken, as a tensor of an artifact."""
        return {"taken": self.taken}

    def ids(self, side: str) -> Ids:
        """External ids of a side, `user` or `item`."""
        return self.users if side == "user" else self.items

    @cached_property
    def histories(self) -> Histories:
        """[users] what each took, in the order of `taken`."""
        offsets = np.searchsorted(self.taken[:, 0], np.arange(len(self.users) + 1))
        return Histories(np.ascontiguousarray(self.taken[:, 1]), offsets)

    @cached_property
    def has_history(self) -> dict[str, NDArray[np.bool_]]:
        """Side -> [n] whether each user or item has training interactions."""
        found = {"user": np.zeros(len(self.users), bool), "item": np.zeros(len(self.items), bool)}
        found["user"][self.taken[:, 0]] = True
        found["item"][self.taken[:, 1]] = True
        return found
