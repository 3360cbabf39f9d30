"""N-grams that the two texts of a pair share, counted for all pairs at once.

Shapes: n pairs; w words of all texts of both sides; words are numbers (`words.Splitter`).
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Text = Sequence[int]
Word = TypeVar("Word")


def matches(ours: Sequence[Text], theirs: Sequence[Text], orders: int) -> Ints:
    """[n, orders] n-grams of `ours[k]` found in `theirs[k]`, each as often as it is in both (clipped).

    Cost: one sort of w numbers for order 1; higher orders sort only what can still match.
    """
    n, texts = len(ours), [*ours, *theirs]
    length_t = lengths(texts)
    word_w = np.fromiter(chain.from_iterable(texts), np.int64, int(length_t.sum()))
    text_w = np.repeat(np.arange(2 * n), length_t)
    left_w = np.repeat(np.cumsum(length_t), length_t) - np.arange(len(word_w))
    base, at = int(word_w.max(initial=0)) + 1, np.arange(len(word_w))
    gram = text_w % n  # the empty n-gram of a pair: longer ones are numbered within their pair
    found = np.zeros((n, orders), dtype=np.int64)
    for order in range(orders):
        fits = left_w[at] > order
        at, gram = at[fits], gram[fits]
        gram, both_g = _clip(gram * base + word_w[at + order], text_w[at] < n)
        pair_g = np.empty(len(both_g), dtype=np.int64)
        pair_g[gram] = text_w[at] % n
        found[:, order] = np.bincount(pair_g, both_g, minlength=n)
        shared = both_g[gram] > 0  # only these can start a longer match
        at, gram = at[shared], gram[shared]
    return found


def lengths(texts: Sequence[Text]) -> Ints:
    """Words of each text."""
    return np.fromiter(map(len, texts), np.int64, len(texts))


def grams(text: Sequence[Word], order: int) -> Iterable[tuple[Word, ...]]:
    """N-grams of one text, in order."""
    return zip(*(text[start:] for start in range(order)), strict=False)


def _clip(keys: Ints, is_ours: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.float64]]:
    """Keys as numbers from 0, and how often each is on both sides."""
    kinds, gram = np.unique(keys, return_inverse=True)
    counts = [np.bincount(gram[side], minlength=len(kinds)) for side in (is_ours, ~is_ours)]
    return gram, np.minimum(*counts).astype(np.float64)
