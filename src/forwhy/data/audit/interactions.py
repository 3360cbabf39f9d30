"""What the interactions of a data set give away: pairs in two splits, orders that are none, popularity.

Legend: E interactions, P explained pairs, U users, I items.
"""

from collections.abc import Iterator
from math import factorial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SIDES
from forwhy.data.audit.finding import TEST, TRAIN, Finding, found
from forwhy.data.dataset import Dataset
from forwhy.data.leaks import PAIR

SHORTEST_SEQUENCE = 4
"""Interactions; by chance one in 24 such sequences ascends."""
ASCENDING = 0.2
"""From this share of users on, chance cannot explain that their item ids ascend with time. Amazon's Beauty,
Instruments and Industrial, which are in time order, have 0.6% to 2.4%."""
FEWEST = 10
"""Ascending users below which nothing is said."""
TIED = 0.5
"""From this share of users on, one time for all that a user did is a warning."""
TOP = 20
"""Length of popularity's list, as in `recommend`'s tables."""


def pairs(dataset: Dataset) -> Iterator[Finding]:
    """Pairs that are held out in one table and trained on in another; O(E + P)."""
    rows, explained = dataset.table("interactions"), dataset.table("explanations")
    held, taught = explained.filter(~TRAIN), explained.filter(TRAIN)
    inside = held.join(rows.filter(TRAIN), on=PAIR, how="semi").select(*PAIR, "split")
    yield found("heldout-pairs-in-training-graph", inside, held.height)
    told = taught.join(rows.filter(~TRAIN), on=PAIR, how="semi").select(PAIR)
    yield found("training-text-of-heldout-interactions", told, taught.height)
    reviews = dataset.table("reviews")
    hidden = pl.concat([held.select(PAIR), rows.filter(~TRAIN).select(PAIR)])
    written = reviews.join(hidden, on=PAIR, how="semi").select(*PAIR, "text")
    yield found("reviews-of-heldout-pairs", written, reviews.height)


def repeats(dataset: Dataset) -> Iterator[Finding]:
    """Pairs that are in several splits, or more than once in one; O(E)."""
    rows = dataset.table("interactions")
    distinct = rows.select(pl.struct(PAIR).n_unique()).item()
    rows = rows.filter(pl.struct(PAIR).is_duplicated())
    split = pl.col("split")
    again = rows.group_by(PAIR, maintain_order=True).agg(
        split.unique().sort(descending=True).str.join(", ").alias("splits"),
        split.n_unique().alias("n"),
        pl.len().alias("rows"),
    )
    event = [*PAIR, "timestamp"] if "timestamp" in rows.columns else PAIR
    same = rows.group_by(event).agg(split.n_unique().alias("n")).filter(pl.col("n") > 1)
    twice = again.filter(pl.col("n") > 1).select(*PAIR, "splits")
    yield found("interaction-in-several-splits", twice.join(same, on=PAIR, how="semi"), distinct)
    yield found("repeated-across-splits", twice.join(same, on=PAIR, how="anti"), distinct)
    once = again.filter(pl.col("n") == 1).select(*PAIR, "splits", "rows")
    yield found("repeated-in-one-split", once, distinct)


def cold(dataset: Dataset) -> Iterator[Finding]:
    """Test rows about users or items without training interactions, in the leak-free graph; O(E)."""
    held = dataset.table("explanations").filter(~TRAIN)
    rows = dataset.table("interactions")
    train = rows.filter(TRAIN).join(held, on=PAIR, how="anti")
    test = pl.concat([rows.filter(TEST).select(PAIR), held.filter(TEST).select(PAIR)])
    test = test.unique(maintain_order=True)
    for side in SIDES:
        unseen = test.join(train, on=f"{side}_id", how="anti").select(PAIR)
        yield found("cold-test-{side}s", unseen, test.height, side=side)
    catalogue = pl.DataFrame({"item_id": dataset.items.values})
    untaken = catalogue.join(train, on="item_id", how="anti")
    yield found("items-without-training", untaken, len(dataset.items))


def order(dataset: Dataset) -> Iterator[Finding]:
    """Sequences sorted by item id; O(E log E).

    With timestamps: users of 4 interactions or more whose item ids never descend in time; equal times
    are put in descending order, so that ties can't look sorted. Without: the same on each user's training rows.
    """
    rows = dataset.table("interactions")
    timed = "timestamp" in rows.columns
    rows = rows if timed else rows.filter(TRAIN)
    ascending = []
    for way, numbers in _ways(dataset, rows["item_id"]).items():
        placed = rows.with_columns(pl.Series("number", numbers))
        if timed:
            placed = placed.sort("timestamp", "number", descending=[False, True])
        sequences = placed.group_by("user_id", maintain_order=True).agg(
            (pl.col("number").diff() >= 0).all().alias("ascends"),
            pl.col("number").n_unique().alias("n"),
            pl.col("item_id").cast(pl.String).head(6).str.join(" ").alias("items"),
        )
        sequences = sequences.filter(pl.col("n") >= SHORTEST_SEQUENCE)
        ascending.append((way, sequences, sequences.filter("ascends").select("user_id", "items")))
    way, sequences, cases = max(ascending, key=lambda found: found[2].height)
    if cases.height >= max(FEWEST, ASCENDING * sequences.height):
        chance = sum(1 / factorial(min(int(n), 20)) for n in sequences["n"]) / sequences.height
        name = "time-follows-ids" if timed else "rows-follow-ids"
        yield found(name, cases, sequences.height, way=way, chance=chance, shortest=SHORTEST_SEQUENCE)


def _ways(dataset: Dataset, items: pl.Series) -> dict[str, NDArray[np.int64]]:
    """Places of the items when ids are sorted by value, and, for whole numbers, as text (10 before 9)."""
    numbers = dataset.items.numbers(items)
    if not dataset.items.whole:
        return {"alphabetical": numbers}
    places = np.argsort(np.argsort(np.asarray(dataset.items.values).astype(str)))
    return {"numerical": numbers, "alphabetical": places[numbers]}


def times(dataset: Dataset) -> Iterator[Finding]:
    """Timestamps that say nothing, and splits that run against them; O(E)."""
    rows = dataset.table("interactions")
    if "timestamp" not in rows.columns:
        return
    rows = rows.select(*PAIR, "timestamp", "split")
    moment = pl.col("timestamp")
    users = rows.group_by("user_id", maintain_order=True).agg(
        pl.len().alias("n"),
        moment.n_unique().alias("times"),
        (moment.sort() == pl.int_range(pl.len())).all().alias("positions"),
        moment.filter(TRAIN).max().alias("last_train"),
    )
    several = users.filter(pl.col("n") > 1)
    constant = several.filter(pl.col("times") == 1).select("user_id", pl.col("n").alias("interactions"))
    tied = constant.height >= TIED * several.height
    yield found("constant-timestamps", constant, several.height, warns=tied)
    if several.height and several["positions"].all():
        yield found("timestamps-are-positions", pl.DataFrame(), several.height, several.height)
        return
    test = rows.filter(TEST).join(users, on="user_id")
    late = test.filter(moment < pl.col("last_train")).select(*PAIR, "timestamp", "last_train")
    yield found("training-after-test", late, test.height)


def popularity(dataset: Dataset) -> Iterator[Finding]:
    """How concentrated training interactions are, and what the most popular items alone reach; O(E log E).

    Gini coefficient of item degrees (0: all alike, 1: one item has all); Recall@20 as in
    `recommend.simple`, mean over users with test items, training items masked, ties counted against it.
    """
    train, test = dataset.edges("train", "as-published"), dataset.edges("test")
    degrees = np.bincount(train[:, 1], minlength=len(dataset.items))
    hits, recall = _popular_hits(train, test, degrees)
    n, ranked = len(degrees), (np.arange(1, len(degrees) + 1) * np.sort(degrees)).sum()
    gini = float(2 * ranked / (n * len(train)) - (n + 1) / n) if len(train) else 0.0
    count = int(hits.sum())
    yield found("popularity-alone", pl.DataFrame(), len(hits), count, top=TOP, recall=recall, gini=gini)


def _popular_hits(
    train: NDArray[np.int64], test: NDArray[np.int64], degrees: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], float]:
    """Per test pair that is no training pair: does popularity hit it; and the mean recall of users."""
    items = len(degrees)
    test = test[~np.isin(test @ (items, 1), train @ (items, 1))]
    wanted = degrees[test[:, 1]]
    as_popular = items - np.searchsorted(np.sort(degrees), wanted)
    width = int(degrees.max(initial=0)) + 1
    keys = np.sort(train[:, 0] * width + degrees[train[:, 1]])
    last, first = (test[:, 0] + 1) * width, test[:, 0] * width + wanted
    masked = np.searchsorted(keys, last) - np.searchsorted(keys, first)
    hits = as_popular - masked <= TOP
    users = np.bincount(test[:, 0])
    recalls = np.bincount(test[:, 0], weights=hits)[users > 0] / users[users > 0]
    return hits, float(recalls.mean()) if len(recalls) else 0.0


def ids(dataset: Dataset) -> Iterator[Finding]:
    """Whole-number ids that are positions in somebody's list, with or without holes; O(U + I).

    Numbers that fill less than half of their span say nothing and are left alone.
    """
    for side in SIDES:
        known = dataset.ids(side)
        if not known.whole or len(known) < 2:
            continue
        values = np.asarray(known.values)
        first, span = int(values[0]), int(values[-1] - values[0]) + 1
        if span == len(values) and first in (0, 1):
            name, other = "{side}-ids-are-positions", 1 - first
            yield found(name, pl.DataFrame(), span, span, side=side, first=first, other=other)
        elif span < 2 * len(values):
            holes = pl.DataFrame({f"{side}_id": np.setdiff1d(np.arange(first, first + span), values)})
            yield found("{side}-id-gaps", holes, span, side=side)
