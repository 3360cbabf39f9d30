"""Ids and titles as tables of an artifact; gone when its last readers keep a `Catalogue`."""

from collections.abc import Mapping, Sequence

import polars as pl

from forwhy.data.ids import Ids


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
