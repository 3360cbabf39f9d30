"""What the tables of a data set give away: held-out pairs in training, and texts that may tell of them."""

from collections.abc import Mapping
from typing import Any, Literal

import polars as pl

from forwhy.columns import SIDES, TABLES, Side, Split

PAIR = ["user_id", "item_id"]
Tables = Mapping[str, pl.DataFrame]


def table(tables: Tables, name: str) -> pl.DataFrame:
    """A table by its name, without rows where the data set has none."""
    if name in tables:
        return tables[name]
    kinds: Mapping[str, Any] = {**tables["interactions"].schema, "rank": pl.Int64, "shipped": pl.Int64}
    required = (column.name for column in TABLES[name] if column.required)
    return pl.DataFrame(schema={column: kinds.get(column, pl.String) for column in required})


def distinct_pairs(tables: Tables, name: str, *splits: Split) -> pl.DataFrame:
    """Distinct pairs of a table's rows in these splits (all when none is given)."""
    wanted = pl.col("split").is_in(splits) if splits else True
    return table(tables, name).filter(wanted).select(PAIR).unique(maintain_order=True)


def heldout_pairs(tables: Tables) -> pl.DataFrame:
    """Distinct pairs whose explanation is in valid or test, or withheld by a protocol: nobody's to read."""
    held = distinct_pairs(tables, "explanations", "valid", "test")
    return pl.concat([held, distinct_pairs(tables, "withheld")]).unique(maintain_order=True)


def unreadable_pairs(tables: Tables) -> pl.DataFrame:
    """Distinct pairs that are held out anywhere, as explanation or as interaction."""
    ranked = distinct_pairs(tables, "interactions", "valid", "test")
    return pl.concat([heldout_pairs(tables), ranked]).unique(maintain_order=True)


def disliked_pairs(tables: Tables) -> pl.DataFrame:
    """Distinct pairs that were rated low, as an interaction or in a review.

    Low: below halfway between the user's own mean and the middle of the scale; never without a rating. O(interactions).
    """
    rating, lows = pl.col("rating").cast(pl.Float64), [tables["interactions"].select(PAIR).clear()]
    middle = (rating.min() + rating.max()) / 2
    low = rating.mean().over(PAIR) < (rating.mean().over("user_id") + middle) / 2
    for table in (tables[name] for name in ("interactions", "reviews") if name in tables):
        if "rating" in table.columns:
            lows.append(table.filter(rating.is_finite()).filter(low).select(PAIR))
    return pl.concat(lows).unique(maintain_order=True)


def known_entities(tables: Tables, side: Side) -> pl.Series:
    """Distinct ids of those who exist: of the table `users` (`items`), else of the interactions."""
    return tables.get(f"{side}s", tables["interactions"])[f"{side}_id"].unique()


def leaks(tables: Tables) -> dict[str, int | float | bool]:
    """Counts of what could leak, as plain JSON values; O(rows).

    ``heldout_pairs_in_train_graph``: held-out explained pairs that the as-published graph holds as train
    edges; the leak-free graph has none. ``train_explanations_in_heldout_interactions``: training texts about
    pairs that the ranking is tested on. ``heldout_interactions_seen_in_train``: valid or test interactions that are
    training interactions too. ``profiles_possibly_leaking``: of some profile nobody knows what it was written from
    (`vouched`). ``*_without_training_edges``: cold after the leak-free cut.
    """
    held, profiles = heldout_pairs(tables), table(tables, "profiles")
    published = distinct_pairs(tables, "interactions", "train")
    tested = distinct_pairs(tables, "interactions", "valid", "test")
    explained = distinct_pairs(tables, "explanations", "train")
    inside = _both(held, published)
    told = {side: set(profiles.filter(side=side)["entity_id"]) for side in SIDES}
    leaking = any(told[side] - set(vouched(tables, "profiles", side)) for side in SIDES)
    train = published.join(held, on=PAIR, how="anti")
    cold = {side: set(known_entities(tables, side)) - set(train[f"{side}_id"]) for side in SIDES}
    return {
        "heldout_pairs": held.height,
        "heldout_pairs_in_train_graph": inside,
        "heldout_pairs_in_train_graph_share": round(inside / held.height, 4) if held.height else 0.0,
        "heldout_pairs_in_heldout_interactions": _both(held, tested),
        "train_explanations_in_heldout_interactions": _both(explained, tested),
        "explanations_in_train_and_heldout": _both(explained, held),
        "heldout_interactions_seen_in_train": _both(tested, published),
        "profiles_possibly_leaking": leaking,
        **{f"{side}s_without_training_edges": len(cold[side]) for side in SIDES},
        **{
            f"heldout_{side}s_without_training_edges": len(cold[side] & set(held[f"{side}_id"]))
            for side in SIDES
        },
    }


def _both(pairs: pl.DataFrame, others: pl.DataFrame) -> int:
    return pairs.join(others, on=PAIR, how="semi").height


def vouched(tables: Tables, kind: Literal["intents", "profiles"], side: Side) -> pl.Series:
    """Ids, as text, of those whose `kind` of rows is known to have been written from training text only.

    The table `mined` says which rows each was written from. They are compared with what training may read *now*, so
    that a later split or protocol is noticed. Known is a row of which each source is a text of a pair held out nowhere,
    and that read no profile but known ones. Shipped texts never are. O(rows of `mined` and sources).
    """
    rows = table(tables, "mined").filter(table=kind, side=side, shipped=0)
    wrong = _listed(rows, "sources").join(_readable(tables, side), ["read", "entity_id", "other"], "anti")
    rows = rows.join(wrong, on="entity_id", how="anti", maintain_order="left")
    if side == "user":
        known = vouched(tables, "profiles", "item").alias("other").to_frame()
        wrong = _listed(rows, "profiles").join(known, on="other", how="anti")
        rows = rows.join(wrong, on="entity_id", how="anti", maintain_order="left")
    return rows["entity_id"]


def _listed(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """One row for each id of the JSON lists in a column of `mined`, as `other`."""
    decoded = pl.col(column).str.json_decode(pl.List(pl.String)).alias("other")
    return rows.select("entity_id", "read", decoded).explode("other").drop_nulls("other")


def _readable(tables: Tables, side: Side) -> pl.DataFrame:
    """Pairs whose text training may read: columns `read` (the table), `entity_id` and `other`, of this side."""
    ours, theirs = PAIR if side == "user" else PAIR[::-1]
    hidden = unreadable_pairs(tables)
    ends = {"entity_id": pl.col(ours).cast(pl.String), "other": pl.col(theirs).cast(pl.String)}
    return pl.concat(
        distinct_pairs(tables, name).join(hidden, PAIR, "anti").select(read=pl.lit(name), **ends)
        for name in ("reviews", "explanations")
    )
