"""Seeded splits: the same rows, seed and fractions give the same split on every machine."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import SPLITS
from forwhy.errors import UserError

__all__ = ["FRACTIONS", "carve_valid", "split_pairs"]

FRACTIONS = (0.8, 0.1, 0.1)
"""Train, valid, test: what the papers use."""

Names = NDArray[np.str_]


def split_pairs(
    n: int,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    keep: NDArray[np.int64] | None = None,
) -> Names:
    """A split name for each of n rows; sizes are the rounded fractions.

    With `keep`, the owner of each row, every owner's first row in the shuffled order stays in train, so
    nobody is left without a training row; valid and test may then be smaller than asked for.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise UserError(f"split fractions {tuple(fractions)}: give three shares, 0 or more, that sum to 1")
    names = np.full(n, SPLITS[0], dtype="<U5")
    valid, test = round(n * fractions[1]), round(n * fractions[2])
    order = _shuffled(n, seed, keep)
    names[order[:test]] = SPLITS[2]
    names[order[test : test + valid]] = SPLITS[1]
    return names


def carve_valid(splits: Names, share: float, seed: int = 0, keep: NDArray[np.int64] | None = None) -> Names:
    """Turn a share of the train rows into valid rows; `keep` as in `split_pairs`."""
    if not 0 <= share < 1:
        raise UserError(f"validation share {share}: give a number from 0 up to, not including, 1")
    train = np.flatnonzero(splits == SPLITS[0])
    owners = None if keep is None else keep[train]
    carved = splits.astype("<U5")
    chosen = split_pairs(len(train), seed, (1 - share, share, 0.0), owners) == SPLITS[1]
    carved[train[chosen]] = SPLITS[1]
    return carved


def _shuffled(n: int, seed: int, keep: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Rows that may leave train, in the seeded order."""
    order = np.random.default_rng(seed).permutation(n)
    if keep is None or n == 0:
        return order
    _, first = np.unique(keep[order], return_index=True)
    free = np.ones(n, dtype=bool)
    free[first] = False
    return order[free]
