"""Who and what an artifact learnt from a graph speaks of: ids, titles, training interactions."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.data.ids import Ids

__all__ = ["Known", "id_tables", "read_ids"]


class Known:
    """What every such artifact answers from its `users`, `items` and `seen`."""

    users: Ids
    items: Ids
    titles: Sequence[str]
    """By internal item; "" when unknown."""
    seen: NDArray[np.int64]
    """[E, 2] edges of the graph it was learnt on, internal."""

    @property
    def has_history(self) -> dict[str, NDArray[np.bool_]]:
        """Side -> [N] whether there are training interactions."""
        found = {"user": np.zeros(len(self.users), bool), "item": np.zeros(len(self.items), bool)}
        found["user"][self.seen[:, 0]] = True
        found["item"][self.seen[:, 1]] = True
        return found

    def ids(self, side: str) -> Ids:
        """External ids of a side."""
        return self.users if side == "user" else self.items


def id_tables(users: Ids, items: Ids, titles: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Ids and titles as the tables `users` and `items` of an artifact."""
    return {
        "users": pl.DataFrame({"user_id": list(users.values)}),
        "items": pl.DataFrame({"item_id": list(items.values), "title": list(titles)}),
    }


def read_ids(tables: Mapping[str, pl.DataFrame]) -> tuple[Ids, Ids, list[str]]:
    """Users, items and titles back from those tables."""
    items = tables["items"]
    return (
        Ids(tuple(tables["users"]["user_id"]), "user"),
        Ids(tuple(items["item_id"]), "item"),
        list(items["title"]),
    )
