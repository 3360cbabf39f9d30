"""What the tables of a data set give away: held-out pairs in training, and texts that may tell of them."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import PAIR, SIDES, Side, Split
from forwhy.frames import Tables, scanned

Ints = NDArray[np.int64]


def distinct_pairs(tables: Tables, name: str, *splits: Split) -> pl.DataFrame:
    """Distinct pairs of a table's rows in these splits (all when none is given)."""
    wanted = pl.col("split").is_in(splits) if splits else True
    return scanned(tables, name).filter(wanted).select(PAIR).collect().unique(maintain_order=True)


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
    rating, lows = pl.col("rating").cast(pl.Float64), [distinct_pairs(tables, "withheld").clear()]
    middle = (rating.min() + rating.max()) / 2
    low = rating.mean().over(PAIR) < (rating.mean().over("user_id") + middle) / 2
    for name in ("interactions", "reviews"):
        table = scanned(tables, name)
        if "rating" in table.collect_schema():
            lows.append(table.filter(rating.is_finite()).filter(low).select(PAIR).collect())
    return pl.concat(lows).unique(maintain_order=True)


def known_entities(tables: Tables, side: Side) -> pl.Series:
    """Distinct ids of those who exist: of the table `users` (`items`), else of the interactions."""
    home = f"{side}s" if f"{side}s" in tables else "interactions"
    return scanned(tables, home).select(f"{side}_id").unique().collect(engine="streaming").to_series()


def leaks(
    published: Ints, tested: Ints, explained: Ints, held: Ints, sizes: Mapping[Side, int]
) -> dict[str, int | float]:
    """Counts of what could leak, as plain JSON values; O(E log E) time, 48 bytes a training pair.

    ``heldout_pairs_in_train_graph``: held-out explained pairs that the as-published graph holds as train
    edges; the leak-free graph has none. ``train_explanations_in_heldout_interactions``: training texts about
    pairs that the ranking is tested on. ``heldout_interactions_seen_in_train``: valid or test interactions that are
    training interactions too. ``*_without_training_edges``: cold after the leak-free cut.

    Args:
        published: Training pairs, explained ones that are held out among them. Each of these is [n, 2] distinct pairs
            in internal numbers, sorted by user, then item.
        tested: Those of valid or test interactions.
        explained: Those of training explanations.
        held: `heldout_pairs`.
        sizes: How many users and items there are.
    """
    keys = (pairs[:, 0] * sizes["item"] + pairs[:, 1] for pairs in (published, tested, explained, held))
    in_train, in_tested, in_explained, in_held = keys
    inside = int(among(in_held, in_train).sum())
    train = published[~among(in_train, in_held)]
    cold = {side: np.bincount(train[:, k], minlength=sizes[side]) == 0 for k, side in enumerate(SIDES)}
    return {
        "heldout_pairs": len(held),
        "heldout_pairs_in_train_graph": inside,
        "heldout_pairs_in_train_graph_share": round(inside / len(held), 4) if len(held) else 0.0,
        "heldout_pairs_in_heldout_interactions": int(among(in_held, in_tested).sum()),
        "train_explanations_in_heldout_interactions": int(among(in_explained, in_tested).sum()),
        "explanations_in_train_and_heldout": int(among(in_explained, in_held).sum()),
        "heldout_interactions_seen_in_train": int(among(in_tested, in_train).sum()),
        **{f"{side}s_without_training_edges": int(cold[side].sum()) for side in SIDES},
        **{
            f"heldout_{side}s_without_training_edges": int(cold[side][np.unique(held[:, k])].sum())
            for k, side in enumerate(SIDES)
        },
    }


def among(keys: Ints, others: Ints) -> NDArray[np.bool_]:
    """[n] whether each key is one of the others, which are sorted. O(n log others), where numpy sorts both."""
    if not len(others):
        return np.zeros(len(keys), np.bool_)
    return np.asarray(others[np.minimum(np.searchsorted(others, keys), len(others) - 1)] == keys)


def vouched(tables: Tables, kind: Literal["intents", "profiles"], side: Side) -> pl.Series:
    """Ids, as text, of those whose `kind` of rows is known to have been written from training text only.

    The table `mined` says which rows each was written from. They are compared with what training may read *now*, so
    that a later split or protocol is noticed. Known is a row of which each source is a text of a pair held out nowhere,
    and that read no profile but known ones. Shipped texts never are. O(rows of `mined` and sources).
    """
    rows = scanned(tables, "mined").collect().filter(table=kind, side=side, shipped=0)
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
