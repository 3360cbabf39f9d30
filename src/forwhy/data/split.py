"""Seeded splits: the same rows, seed and fractions give the same split on every machine."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import SPLITS
from forwhy.errors import UserError

FRACTIONS = (0.8, 0.1, 0.1)
"""Train, valid, test: what the papers use."""

Ints = NDArray[np.int64]
Names = NDArray[np.str_]


def split_pairs(
    n: int,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    keep: Ints | None = None,
) -> Names:
    """A split name for each of n rows; sizes are the rounded fractions.

    With `keep`, the owner of each row, every owner's first row in the shuffled order stays in train, so
    nobody is left without a training row; valid and test may then be smaller than asked for.
    """
    _check_fractions(fractions)
    valid, test = round(n * fractions[1]), round(n * fractions[2])
    order = _shuffled(n, seed, keep)
    return _names(n, order[test : test + valid], order[:test])


def split_last(users_n: Ints, times_n: Ints) -> Names:
    """Leave one out: each user's latest row is test, the one before valid, the rest train.

    Users with fewer than three rows are train only. Ties in time go by row order. O(n log n).
    """
    order = np.lexsort((times_n, users_n))
    users = users_n[order]
    ends = np.flatnonzero(np.append(users[1:] != users[:-1], True))[: len(users)]
    last = ends[np.diff(ends, prepend=-1) >= 3]
    return _names(len(users), order[last - 1], order[last])


def split_by_time(times_n: Ints, fractions: Sequence[float] = FRACTIONS) -> Names:
    """One cut through time for everybody: the latest rows are test, those before them valid.

    Nothing in train is later than anything held out; users and items that appear late are cold. Sizes are
    the rounded fractions, valid what test leaves of it; ties in time go by row order. O(n log n).
    """
    _check_fractions(fractions)
    n = len(times_n)
    valid, test = round(n * fractions[1]), round(n * fractions[2])
    order = np.argsort(times_n, kind="stable")
    return _names(n, order[max(n - test - valid, 0) : n - test], order[n - test :])


def carve_valid(splits: Names, share: float, seed: int = 0, keep: Ints | None = None) -> Names:
    """Turn a share of the train rows into valid rows; every owner in `keep` keeps one row in train."""
    if not 0 <= share < 1:
        raise UserError(f"validation share {share}: give a number from 0 up to, not including, 1")
    train = np.flatnonzero(splits == SPLITS[0])
    owners = None if keep is None else keep[train]
    carved = splits.astype("<U5")
    chosen = split_pairs(len(train), seed, (1 - share, share, 0.0), owners) == SPLITS[1]
    carved[train[chosen]] = SPLITS[1]
    return carved


def _names(n: int, valid: Ints, test: Ints) -> Names:
    """Split names of n rows, of which these are valid and test."""
    names = np.full(n, SPLITS[0], dtype="<U5")
    names[valid], names[test] = SPLITS[1], SPLITS[2]
    return names


def _check_fractions(fractions: Sequence[float]) -> None:
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UserError(f"split fractions {tuple(fractions)}: give three shares, 0 or more, that sum to 1")


def _shuffled(n: int, seed: int, keep: Ints | None) -> Ints:
    """Rows that may leave train, in the seeded order."""
    order = np.random.default_rng(seed).permutation(n)
    if keep is None or n == 0:
        return order
    _, first = np.unique(keep[order], return_index=True)
    free = np.ones(n, dtype=bool)
    free[first] = False
    return order[free]


# --- Which rows of a log stay: one per pair or text, a sample of users, a k-core.
#
# Legend: n rows, U users, I items. Users and items are numbered from 0. Every function answers with a mask over
# rows (or users) and leaves the order alone; O(n log n) or better.


Mask = NDArray[np.bool_]
Numbers = NDArray[np.int32] | NDArray[np.int64]


def k_core(users_n: Numbers, items_n: Numbers, k: int) -> Mask:
    """The largest set of rows in which every user and every item has at least `k` rows.

    It is unique, so it does not depend on the order of rows; it may be empty. Rows are counted, repeated
    pairs too. O(n) per round; a round takes away everybody who has too few rows.
    """
    kept = np.arange(len(users_n))
    while len(kept):
        users, items = users_n[kept], items_n[kept]
        enough = np.bincount(users)[users] >= k
        enough &= np.bincount(items)[items] >= k
        if enough.all():
            break
        kept = kept[enough]
    return _mask(kept, len(users_n))


def one_per(keys: tuple[NDArray[np.generic], ...], times_n: Ints, which: Literal["first", "last"]) -> Mask:
    """The earliest or the latest row of each combination of `keys`; ties in time go by row order."""
    order = np.lexsort((times_n, *reversed(keys)))
    edge = np.zeros(len(order) + 1, dtype=bool)
    edge[[0, -1]] = True
    for key in keys:
        ordered = key[order]
        edge[1:-1] |= ordered[1:] != ordered[:-1]
    return _mask(order[edge[:-1] if which == "first" else edge[1:]], len(order))


def sample_users(digests_U: NDArray[np.uint64], count: int, seed: int) -> Mask:
    """`count` users (all, when there are fewer) by their ids' digests alone.

    The same seed draws the same people whatever the order of rows, and a larger sample holds a smaller one.
    """
    if count >= len(digests_U):
        return np.ones(len(digests_U), dtype=bool)
    drawn = np.argsort(_mixed(digests_U, seed), kind="stable")[:count]
    return _mask(drawn, len(digests_U))


def _mixed(digests_U: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014) over digest plus a seeded odd step."""
    step = np.random.default_rng(seed).integers(2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = digests_U + step
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _mask(chosen: NDArray[np.int64], n: int) -> Mask:
    mask = np.zeros(n, dtype=bool)
    mask[chosen] = True
    return mask
