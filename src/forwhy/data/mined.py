"""Which texts about users and items are known to have been written from training text only.

The table `mined` says of each row that `forwhy mine` wrote which rows it was written from. They are compared
with what training may read *now*, so that a later split or protocol is noticed.
"""

from typing import TYPE_CHECKING, Literal

import polars as pl

from forwhy.columns import Side

if TYPE_CHECKING:
    from forwhy.data.dataset import Dataset

__all__ = ["vouched", "vouched_ids"]

Table = Literal["intents", "profiles"]


def vouched(dataset: "Dataset", table: Table, side: Side) -> set[int]:
    """Internal numbers of those whose rows of `table` are known not to leak; O(rows of `mined` and sources).

    Known is a row that names its sources, of which each is a text of a pair held out nowhere, and that read no
    profile but known ones. Shipped texts never are.
    """
    ids = dataset.users if side == "user" else dataset.items
    return set(ids.numbers(vouched_ids(dataset, table, side)).tolist()) - {-1}


def vouched_ids(dataset: "Dataset", table: Table, side: Side) -> pl.Series:
    """The same as text ids, as columns `entity_id` hold them."""
    mined = dataset.tables.get("mined")
    if mined is None:
        return pl.Series("entity_id", [], dtype=pl.String)
    rows = mined.filter((pl.col("table") == table) & (pl.col("side") == side) & (pl.col("shipped") == 0))
    about = pl.col("side"), pl.col("entity_id")
    sources = _listed(rows.select(*about, "read", pl.col("sources").alias("other")))
    unread = sources.join(_readable(dataset, side), on=["read", "entity_id", "other"], how="anti")
    wrong = unread["entity_id"].to_list()
    if side == "user":
        profiles = _listed(rows.select(*about, pl.col("profiles").alias("other")))
        known = vouched_ids(dataset, "profiles", "item")
        wrong += profiles.filter(~pl.col("other").is_in(known.implode()))["entity_id"].to_list()
    return rows.filter(~pl.col("entity_id").is_in(wrong))["entity_id"]


def _listed(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each id of the JSON lists in column `other`."""
    decoded = rows.with_columns(pl.col("other").str.json_decode(pl.List(pl.String)))
    return decoded.explode("other").drop_nulls("other")


def _readable(dataset: "Dataset", side: Side) -> pl.DataFrame:
    """Pairs whose text training may read: columns `read` (the table), `entity_id` and `other`, of this side."""
    frames = []
    tables: tuple[Literal["reviews", "explanations"], ...] = ("reviews", "explanations")
    for name in tables:
        pairs = dataset.external(dataset.training_texts(name))
        ours, theirs = (0, 1) if side == "user" else (1, 0)
        frames.append(
            pl.DataFrame(
                {
                    "read": pl.Series([name] * len(pairs), dtype=pl.String),
                    "entity_id": pl.Series([str(pair[ours]) for pair in pairs], dtype=pl.String),
                    "other": pl.Series([str(pair[theirs]) for pair in pairs], dtype=pl.String),
                }
            )
        )
    return pl.concat(frames).unique()
