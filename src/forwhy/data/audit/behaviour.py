"""What the interactions of a data set give away: pairs in two splits, orders that are none, popularity.

Legend: E interactions, U users, I items.
"""

from collections.abc import Iterator
from math import factorial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SIDES
from forwhy.data.audit.finding import PAIR, TEST, TRAIN, Finding, Severity, found, table
from forwhy.data.dataset import Dataset

__all__ = ["cold", "ids", "order", "popularity", "repeats", "times"]

SHORTEST_SEQUENCE = 4
"""Interactions; by chance one in 24 such sequences ascends."""
ASCENDING = 0.2
"""Share of users whose ids ascend with time from which on chance can't explain it; 0.6% to 2.4%
in Amazon's Beauty, Instruments and Industrial, which are in time order."""
FEWEST = 10
"""Ascending users below which nothing is said."""
TIED = 0.5
"""Share of users with one and the same time for everything from which on it is a warning."""
TOP = 20
"""Length of popularity's list, as in `recommend`'s tables."""


def repeats(dataset: Dataset) -> Iterator[Finding]:
    """Pairs that stand in several splits, or more than once; O(E)."""
    rows = table(dataset, "interactions")
    distinct = rows.select(pl.struct(PAIR).n_unique()).item()
    rows = rows.filter(pl.struct(PAIR).is_duplicated())
    pairs = rows.group_by(PAIR, maintain_order=True).agg(
        pl.col("split").unique().sort(descending=True).str.join(", ").alias("splits"),
        pl.col("split").n_unique().alias("n"),
        pl.len().alias("rows"),
    )
    event = [*PAIR, "timestamp"] if "timestamp" in rows.columns else PAIR
    same = rows.group_by(event).agg(pl.col("split").n_unique().alias("n")).filter(pl.col("n") > 1)
    twice = pairs.filter(pl.col("n") > 1)
    yield found(
        "interaction-in-several-splits",
        "leak",
        twice.join(same, on=PAIR, how="semi").select(*PAIR, "splits"),
        distinct,
        "The same interaction in several splits: what is tested was seen, so its rank is remembered, not predicted.",
        "keep each interaction in one split and import again",
    )
    yield found(
        "repeated-across-splits",
        "warning",
        twice.join(same, on=PAIR, how="anti").select(*PAIR, "splits"),
        distinct,
        "Taken again at another time: rankings that mask training items can't hit these, others get them free.",
        "say whether seen items are masked; compare only with numbers that treat them alike",
    )
    yield found(
        "repeated-in-one-split",
        "note",
        pairs.filter(pl.col("n") == 1).select(*PAIR, "splits", "rows"),
        distinct,
        "One pair, several rows: counts of rows are larger than counts of distinct pairs.",
        "none needed: edges are counted once; count pairs, not rows, when comparing",
    )


def cold(dataset: Dataset) -> Iterator[Finding]:
    """Test rows about users or items without training interactions, in the leak-free graph; O(E)."""
    held = table(dataset, "explanations").filter(~TRAIN)
    rows = table(dataset, "interactions")
    train = rows.filter(TRAIN).join(held, on=PAIR, how="anti")
    tested = rows.filter(TEST).select(PAIR)
    explained = held.filter(TEST).select(PAIR)
    test = pl.concat([tested, explained]).unique(maintain_order=True)
    for side in SIDES:
        unseen = test.join(train.select(f"{side}_id"), on=f"{side}_id", how="anti")
        yield found(
            f"cold-test-{side}s",
            "warning",
            unseen.select(PAIR),
            test.height,
            f"Test pairs whose {side} has no training interaction: nothing learnt from interactions can get "
            "them right, so they lower every such method alike.",
            "report them apart; for tokens, give these ids a text",
        )
    known = train.select("item_id").to_series()
    catalogue = pl.DataFrame({"item_id": dataset.items.values})
    yield found(
        "items-without-training",
        "note",
        catalogue.filter(~pl.col("item_id").is_in(known.implode())),
        len(dataset.items),
        "Items of the catalogue that nobody took in training: full rankings hold them, sampled ones may not.",
        "compare rankings over the same catalogue only",
    )


def order(dataset: Dataset) -> Iterator[Finding]:
    """Sequences sorted by item id; O(E log E).

    With timestamps: users of 4 interactions or more whose item ids never descend in time; equal times
    are put in descending order, so that ties can't look sorted. Without: the same on each user's training rows.
    """
    rows = table(dataset, "interactions")
    timed = "timestamp" in rows.columns
    rows = rows if timed else rows.filter(TRAIN)
    ways = _ways(dataset, rows["item_id"])
    ascending = []
    for name, numbers in ways.items():
        placed = rows.with_columns(numbers.alias("number"))
        if timed:
            placed = placed.sort("timestamp", "number", descending=[False, True])
        sequences = placed.group_by("user_id", maintain_order=True).agg(
            (pl.col("number").diff() >= 0).all().alias("ascends"),
            pl.col("number").n_unique().alias("n"),
            pl.col("item_id").cast(pl.String).head(6).str.join(" ").alias("items"),
        )
        sequences = sequences.filter(pl.col("n") >= SHORTEST_SEQUENCE)
        ascending.append((name, sequences, sequences.filter("ascends").select("user_id", "items")))
    name, sequences, cases = max(ascending, key=lambda way: way[2].height)
    if cases.height < max(FEWEST, ASCENDING * sequences.height):
        return
    chance = sum(1 / factorial(min(int(n), 20)) for n in sequences["n"]) / sequences.height
    yield _sorted(timed, name, cases, sequences.height, chance)


def _ways(dataset: Dataset, items: pl.Series) -> dict[str, pl.Series]:
    """Places of the items when ids are sorted by value, and, for whole numbers, as text (10 before 9)."""
    numbers = dataset.items.numbers(items)
    if not dataset.items.whole:
        return {"alphabetical": pl.Series(numbers)}
    places = np.argsort(np.argsort(np.asarray(dataset.items.values).astype(str)))
    return {"numerical": pl.Series(numbers), "alphabetical": pl.Series(places[numbers])}


def _sorted(timed: bool, name: str, cases: pl.DataFrame, of: int, chance: float) -> Finding:
    if timed:
        meaning = (
            f"Users of {SHORTEST_SEQUENCE} items or more whose items stand in {name} order of their ids "
            f"(by chance {chance:.1%}): either ids were given in order of time, or the time order is lost and the "
            "last item, the usual test, is the one with the largest id."
        )
        remedy = "take the order from the source's own timestamps, and import again"
        return found("time-follows-ids", "leak", cases, of, meaning, remedy)
    meaning = (
        f"Rows of a user stand in {name} order of item ids, without timestamps: the order carries no time."
    )
    remedy = "use no sequence model and no last-item split on it, or import a timestamp column"
    return found("rows-follow-ids", "note", cases, of, meaning, remedy)


def times(dataset: Dataset) -> Iterator[Finding]:
    """Timestamps that say nothing, and splits that run against them; O(E)."""
    rows = table(dataset, "interactions")
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
    constant = several.filter(pl.col("times") == 1)
    tied: Severity = "warning" if constant.height >= TIED * several.height else "note"
    yield found(
        "constant-timestamps",
        tied,
        constant.select("user_id", pl.col("n").alias("interactions")),
        several.height,
        "Everything of a user at one time: which interaction is the last, and so the test, is arbitrary.",
        "leave these users out of sequence results, or import finer timestamps",
    )
    if several.height and several["positions"].all():
        yield Finding(
            "timestamps-are-positions",
            "note",
            several.height,
            several.height,
            "Timestamps count 0, 1, 2 within each user: an order, but no time shared by users, so a test of one "
            "user may lie before the training of another.",
            "call the split leave-one-out, not temporal",
        )
        return
    test = rows.filter(TEST).join(users, on="user_id")
    yield found(
        "training-after-test",
        "warning",
        test.filter(moment < pl.col("last_train")).select(*PAIR, "timestamp", "last_train"),
        test.height,
        "The user's training holds interactions later than this test one: the future is known.",
        "split by time, or call the split random",
    )


def popularity(dataset: Dataset) -> Iterator[Finding]:
    """How concentrated training interactions are, and what the most popular items alone reach; O(E log E).

    Gini coefficient of item degrees (0: all alike, 1: one item has all); Recall@20 as in
    `recommend.popularity`, mean over users with test items, training items masked, ties counted against it.
    """
    train, test = dataset.edges("train", "as-published"), dataset.edges("test")
    hits, recall = _popular_hits(train, test, len(dataset.items))
    gini = _gini(np.bincount(train[:, 1], minlength=len(dataset.items)))
    yield Finding(
        "popularity-alone",
        "note",
        int(hits.sum()),
        len(hits),
        f"Test interactions among the {TOP} most popular items (Recall@{TOP} {recall:.4f}); Gini of items' training "
        f"interactions {gini:.2f}. A ranking near this has learnt who is popular, not who likes what.",
        "put this recall beside every ranking",
    )


def _popular_hits(
    train: NDArray[np.int64], test: NDArray[np.int64], items: int
) -> tuple[NDArray[np.bool_], float]:
    """Per test pair that is no training pair: does popularity hit it; and the mean recall of users."""
    degrees = np.bincount(train[:, 1], minlength=items)
    test = test[~np.isin(test[:, 0] * items + test[:, 1], train[:, 0] * items + train[:, 1])]
    wanted = degrees[test[:, 1]]
    as_popular = items - np.searchsorted(np.sort(degrees), wanted)
    width = int(degrees.max(initial=0)) + 1
    keys = np.sort(train[:, 0] * width + degrees[train[:, 1]])
    masked = np.searchsorted(keys, (test[:, 0] + 1) * width) - np.searchsorted(
        keys, test[:, 0] * width + wanted
    )
    hits = as_popular - masked <= TOP
    users = np.bincount(test[:, 0])
    recalls = np.bincount(test[:, 0], weights=hits)[users > 0] / users[users > 0]
    return hits, float(recalls.mean()) if len(recalls) else 0.0


def _gini(degrees: NDArray[np.int64]) -> float:
    n, total = len(degrees), int(degrees.sum())
    if total == 0:
        return 0.0
    ranks = np.arange(1, n + 1)
    return float(2 * (ranks * np.sort(degrees)).sum() / (n * total) - (n + 1) / n)


def ids(dataset: Dataset) -> Iterator[Finding]:
    """Whole-number ids that are positions in somebody's list, with or without holes; O(U + I).

    Numbers that fill less than half of their span say nothing and are left alone.
    """
    for side, known in (("user", dataset.users), ("item", dataset.items)):
        if not known.whole or len(known) < 2:
            continue
        values = np.asarray(known.values)
        first, span = int(values[0]), int(values[-1] - values[0]) + 1
        if span == len(values) and first in (0, 1):
            yield Finding(
                f"{side}-ids-are-positions",
                "note",
                span,
                span,
                f"Ids run from {first} without a hole: positions in a list. A file numbered from {1 - first}, or in "
                "another order, joins without an error and shifts every row.",
                "after joining another file by these ids, compare some titles or histories by eye",
            )
        elif span < 2 * len(values):
            holes = np.setdiff1d(np.arange(first, first + span), values)
            yield found(
                f"{side}-id-gaps",
                "note",
                pl.DataFrame({f"{side}_id": holes}),
                span,
                f"Numbers between the first and the last {side} id that are missing: rows were dropped after "
                "numbering, or a file is not whole.",
                "compare the counts with the source's; never index an array by these ids",
            )
