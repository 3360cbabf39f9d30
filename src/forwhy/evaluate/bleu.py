"""Three BLEUs: one formula (Papineni et al. 2002) on counts that add up over pairs.

They differ in words, in what a precision of zero becomes, and in scale:
`nltk_bleu` (BEAT): treebank words, method 1, 0 to 1. `peter_bleu` (PETER, PEPLER, NRT, Att2Seq as their
authors run them: tensorflow/nmt's): 15 words, no smoothing, 0 to 100. `sacrebleu` (Post 2018): 13a words,
exponential smoothing, 0 to 100; computed here because its counts are needed pair by pair to resample, and
equal to the package's.

Shapes: n pairs; counts [..., 10] = matches of order 1..4 | n-grams of order 1..4 | words | reference's.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.ngrams import Ints, Text, lengths, matches

Floats = NDArray[np.float64]
Counts = NDArray[np.floating] | NDArray[np.integer]

ORDERS = (1, 2, 3, 4)
METHOD1 = 0.1
"""nltk's `SmoothingFunction().method1`: matches of an order that has none."""
SACREBLEU_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
"""Of the package's release whose values ours equal (tests/evaluate/test_bleu.py)."""


def bleu_counts(ours: Sequence[Text], theirs: Sequence[Text], least: int = 0) -> Ints:
    """[n, 10] counts behind BLEU. `least`: n-grams of a text too short for any; nltk counts 1."""
    our_n, their_n = lengths(ours), lengths(theirs)
    totals = np.maximum(least, our_n[:, None] - np.array(ORDERS) + 1)
    return np.column_stack([matches(ours, theirs, len(ORDERS)), totals, our_n, their_n])


def nltk_bleu(counts: Counts, order: int) -> Floats:
    """[...] BLEU with uniform weights up to `order`, smoothing method 1, `least` 1; 0 without a match."""
    found, total, brevity = _parts(counts, order)
    score = brevity * _geometric_mean(np.where(found > 0, found, METHOD1) / total)
    return np.asarray(np.where(found[..., 0] > 0, score, 0.0))


def peter_bleu(counts: Counts, order: int) -> Floats:
    """[...] 100 x BLEU with uniform weights up to `order`; 0 when an order has no match."""
    found, total, brevity = _parts(counts, order)
    return 100 * brevity * _geometric_mean(found / np.maximum(total, 1))


def sacrebleu(counts: Counts) -> Floats:
    """[...] 100 x BLEU-4; the k-th order without a match counts 1 / 2^k matches, one without n-grams 0."""
    found, total, brevity = _parts(counts, len(ORDERS))
    halves = 0.5 ** np.cumsum(found == 0, axis=-1)
    smooth = np.where(found > 0, found, np.where(total > 0, halves, 0.0))
    score = 100 * brevity * _geometric_mean(smooth / np.maximum(total, 1))
    return np.asarray(np.where(found.any(axis=-1), score, 0.0))


def _parts(counts: Counts, order: int) -> tuple[Floats, Floats, Floats]:
    """Matches and n-grams up to `order`, and the brevity penalty."""
    wide = np.asarray(counts, dtype=np.float64)
    brevity = np.exp(np.minimum(0.0, 1 - wide[..., 9] / np.maximum(wide[..., 8], 1)))
    return wide[..., :order], wide[..., 4 : 4 + order], brevity


def _geometric_mean(precision: Floats) -> Floats:
    some = precision > 0
    mean = np.exp(np.log(np.where(some, precision, 1.0)).mean(axis=-1))
    return np.asarray(np.where(some.all(axis=-1), mean, 0.0))
