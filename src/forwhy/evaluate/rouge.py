"""ROUGE of each pair: rouge-score's F-measures (Lin 2004), and PETER's, which counts an n-gram once.

Shapes: n pairs; words are numbers (`words.Splitter`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.ngrams import Text, grams, lengths, matches

Floats = NDArray[np.float64]


def rouge_n(ours: Sequence[Text], theirs: Sequence[Text], orders: int = 2) -> Floats:
    """[n, orders] ROUGE-1, ROUGE-2, ...: F of clipped n-gram matches, 0 to 1."""
    order = np.arange(orders)
    totals = sum(np.maximum(0, lengths(side)[:, None] - order) for side in (ours, theirs))
    return np.asarray(2 * matches(ours, theirs, orders) / np.maximum(1, totals))


def rouge_l(ours: Text, theirs: Text) -> float:
    """ROUGE-L F of one pair: longest common subsequence of words. Cost: product of lengths over 64."""
    if not ours or not theirs:
        return 0.0
    return 2 * _common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def peter_rouge(ours: Text, theirs: Text, order: int) -> float:
    """100 x F of the sets of n-grams of one pair, with PETER's 1e-8 against division by zero."""
    our, their = set(grams(ours, order)), set(grams(theirs, order))
    if not our or not their:
        return 0.0
    both = len(our & their)
    precision, recall = both / len(our), both / len(their)
    return 100 * 2 * precision * recall / (precision + recall + 1e-8)


def _common_subsequence(ours: Text, theirs: Text) -> int:
    """Length of it, a row of the table at a time as the bits of one integer (Hyyro 2004)."""
    places: dict[int, int] = {}
    for position, word in enumerate(ours):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(ours)) - 1
    row = full
    for word in theirs:
        if word in places:  # any other leaves the row as it is
            match = row & places[word]
            row = ((row + match) | (row - match)) & full
    return len(ours) - row.bit_count()
