"""Which rows of a log stay: one per pair or text, a sample of users, a k-core.

Legend: n rows, U users, I items. Users and items are numbered from 0. Every function answers with a mask over
rows (or users) and leaves the order alone; O(n log n) or better.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["k_core", "one_per", "sample_users"]

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


def one_per(
    keys: tuple[NDArray[np.generic], ...], times_n: NDArray[np.int64], which: Literal["first", "last"]
) -> Mask:
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
