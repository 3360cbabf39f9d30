"""What a written item gains for standing in the history already. Shapes: B people.

A model that writes codes knows little of it. One number, added to the log-probability of every item of the history,
makes taking again as frequent in the lists as it is among validation items: none where nobody does it.
"""

import numpy as np

from forwhy.data.histories import Histories
from forwhy.recommend.base import Ints
from forwhy.recommend.rules import Listed

FARTHEST = 20.0
"""Gains lie between -20 and 20."""


def likeliest_gain(lists: list[Listed], histories: Histories, targets_B: Ints) -> float:
    """The gain under which these targets are likeliest, given each person's list and scores before any gain.

    Probabilities p of the history's items become p·e^gain, all divided by their new sum. Half a repeated target is
    added to those seen, so that none among B does not say never. 0 where no list holds an item of its history.
    """
    mass_B = np.zeros(len(lists))
    again_B = np.zeros(len(lists), dtype=bool)
    for row, (items, scores) in enumerate(lists):
        mass_B[row] = min(1.0, float(np.exp(scores[np.isin(items, histories[row])].astype(np.float64)).sum()))
        again_B[row] = targets_B[row] in histories[row]
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


def with_gain(listed: Listed, history: Ints, gain: float) -> Listed:
    """A list in its new order; equal scores stay as they stood."""
    items, scores = listed
    moved = scores + np.float32(gain) * np.isin(items, history)
    order = np.argsort(-moved, kind="stable")
    return items[order], moved[order].astype(np.float32)
