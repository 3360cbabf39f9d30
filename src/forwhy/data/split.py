"""Seeded splits, and which rows of a log stay: the same rows and seed give the same choice on every machine.

Every split is a column of names, `split`, with a row for each row it was asked about.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SIDES, SPLITS
from forwhy.errors import UserError

FRACTIONS = (0.8, 0.1, 0.1)
"""Train, valid, test: what the papers use."""

Ints = NDArray[np.int64]


def split_pairs(
    n: int, seed: int = 0, fractions: Sequence[float] = FRACTIONS, keep: Ints | None = None
) -> pl.Series:
    """A split name for each of n rows; sizes are the rounded fractions.

    With `keep`, the owner of each row, every owner's first row in the shuffled order stays in train, so
    nobody is left without a training row; valid and test may then be smaller than asked for.
    """
    valid, test = _sizes(n, fractions)
    order = np.random.default_rng(seed).permutation(n)
    if keep is not None:
        order = np.delete(order, np.unique(keep[order], return_index=True)[1])
    return _named(n, order[test : test + valid], order[:test])


def split_last(users_n: Ints, times_n: Ints) -> pl.Series:
    """Leave one out: each user's latest row is test, the one before valid, the rest train.

    Users with fewer than three rows are train only. Ties in time go by row order. O(n log n).
    """
    order = np.lexsort((times_n, users_n))
    users = users_n[order]
    ends = np.flatnonzero(np.append(users[1:] != users[:-1], True))[: len(users)]
    last = ends[np.diff(ends, prepend=-1) >= 3]
    return _named(len(users), order[last - 1], order[last])


def split_by_time(times_n: Ints, fractions: Sequence[float] = FRACTIONS) -> pl.Series:
    """One cut through time for everybody: the latest rows are test, those before them valid.

    Nothing in train is later than anything held out; users and items that appear late are cold. Sizes are
    the rounded fractions, valid what test leaves of it; ties in time go by row order. O(n log n).
    """
    n = len(times_n)
    valid, test = _sizes(n, fractions)
    order = np.argsort(times_n, kind="stable")
    return _named(n, order[max(n - test - valid, 0) : n - test], order[n - test :])


def carve_valid(splits: pl.Series, share: float, seed: int = 0, keep: Ints | None = None) -> pl.Series:
    """Turn a share of the train rows into valid rows; every owner in `keep` keeps one row in train."""
    if not 0 <= share < 1:
        raise UserError(f"validation share {share}: give a number from 0 up to, not including, 1")
    train = (splits == SPLITS[0]).arg_true()
    owners = None if keep is None else keep[train]
    chosen = split_pairs(len(train), seed, (1 - share, share, 0.0), owners) == SPLITS[1]
    return splits.clone().scatter(train.filter(chosen), SPLITS[1])


def _sizes(n: int, fractions: Sequence[float]) -> tuple[int, int]:
    """How many of n rows are valid, and test."""
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UserError(f"split fractions {tuple(fractions)}: give three shares, 0 or more, that sum to 1")
    return round(n * fractions[1]), round(n * fractions[2])


def _named(n: int, valid: Ints, test: Ints) -> pl.Series:
    """Split names of n rows, of which these are valid and test."""
    names = np.full(n, SPLITS[0], dtype="<U5")
    names[valid], names[test] = SPLITS[1], SPLITS[2]
    return pl.Series("split", names)


def k_core(rows: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest set of rows in which every `user` and every `item` has at least `k` rows.

    It is unique, so it does not depend on the order of rows; it may be empty. Rows are counted, repeated
    pairs too. O(n) per round; a round takes away everybody who has too few rows.
    """
    left, count = rows.select(SIDES).with_row_index(), -1
    while count != left.height:
        count = left.height
        left = left.filter(*(pl.len().over(side) >= k for side in SIDES))
    return rows[left["index"]]


def one_per(rows: pl.DataFrame, keys: Sequence[str], which: Literal["first", "last"]) -> pl.Series:
    """Whether a row is the earliest (latest) by `time` of its combination of `keys`; ties go by row order."""
    # numpy sorts in a third of the memory that polars takes
    order = np.lexsort([rows[name].to_numpy() for name in ("time", *reversed(keys))])
    edge = np.zeros(len(order) + 1, dtype=bool)
    edge[[0, -1]] = True
    for key in keys:
        ordered = rows[key].to_numpy()[order]
        edge[1:-1] |= ordered[1:] != ordered[:-1]
    stays = np.zeros(len(order), dtype=bool)
    stays[order[edge[:-1] if which == "first" else edge[1:]]] = True
    return pl.Series(stays)


def sample_users(users_U: pl.Series, count: int, seed: int) -> pl.Series:
    """`count` users (all, when there are fewer) by their ids' digests alone.

    The same seed draws the same people whatever the order of rows, and a larger sample holds a smaller one: users
    are sorted by SplitMix64's finaliser (Steele, Lea and Flood, 2014) over digest plus a seeded odd step.
    """
    step = np.random.default_rng(seed).integers(2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = users_U.to_numpy() + step
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return users_U[np.argsort(mixed ^ (mixed >> np.uint64(31)))[:count]]
