"""What an item gains in a list for standing in the history already. Shapes: B people, I items.

A model of the next item knows little of taking again: a table that is both read and predicted puts the last item first,
since a vector is nearest to itself, even where nobody takes anything twice. One number, learned after training and
added to the log-probability of every item of the history, makes taking again as frequent in the lists as it is among
validation items. The order of the other items is not touched by it (decision 9).
"""

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Ints
from forwhy.data.histories import Histories
from forwhy.recommend.rules import Listed

FARTHEST = 20.0
"""Gains lie between -20 and 20."""
LEARNED_FROM = 2000
"""Users whose validation items are read at most."""


def likeliest_gain(mass_B: NDArray[np.floating], again_B: NDArray[np.bool_]) -> float:
    """The gain under which these targets are likeliest: `again_B`, which of them the history holds.

    `mass_B`: the probability of the history's items together before any gain; p becomes p·e^gain, all divided by their
    new sum. Half a repeated target is added to those seen, so that none among B does not say never. 0 without mass.
    """
    mass_B = np.minimum(mass_B, 1.0)
    if not mass_B.any():
        return 0.0
    # By bisection: how many repeats the model expects grows with the gain.
    low, high, wanted = -FARTHEST, FARTHEST, float(again_B.sum()) + 0.5
    while high - low > 1e-3:
        middle = (low + high) / 2
        odds_B = np.exp(middle) * mass_B
        expected = (odds_B / (1 - mass_B + odds_B)).sum()
        low, high = (middle, high) if expected < wanted else (low, middle)
    return round((low + high) / 2, 3)


def mass_of_lists(lists: list[Listed], histories: Histories) -> NDArray[np.float64]:
    """[B] the probability of each history's items in a list whose scores are log-probabilities."""
    taken = (scores[np.isin(items, histories[row])] for row, (items, scores) in enumerate(lists))
    return np.array([np.exp(own.astype(np.float64)).sum() for own in taken], dtype=np.float64)


def taken_again(histories: Histories, targets_B: Ints) -> NDArray[np.bool_]:
    """[B] whether each history holds its target."""
    hits = histories.items == targets_B[histories.rows]
    return np.bincount(histories.rows, hits, len(histories)) > 0


def with_gain(listed: Listed, history: Ints, gain: float) -> Listed:
    """A list in its new order; equal scores stay as they stood."""
    items, scores = listed
    moved = scores + np.float32(gain) * np.isin(items, history)
    order = np.argsort(-moved, kind="stable")
    return items[order], moved[order].astype(np.float32)
