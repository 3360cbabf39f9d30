"""Does a text name the right feature, and how many does a method name? FMR, FCR, DIV (Li et al. 2020, NETE).

A feature is one word ("pizza", "wi-fi"): the data sets that have features mine them so, and these measures
compare whole words, here lower-cased treebank words.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from forwhy.errors import UserError
from forwhy.evaluate.ngrams import Ints, Text
from forwhy.evaluate.words import Splitter

Named = Sequence[Collection[int]]


@dataclass(frozen=True)
class Features:
    """Features of the references, and all there are."""

    of_pairs: Sequence[Collection[str]]
    """The features of each pair's reference; none where it has none."""
    catalogue: Collection[str]
    """Every feature of the data, training included."""


def feature_scores(
    texts: Sequence[Text], features: Features, splitter: Splitter
) -> tuple[Ints, dict[str, float]]:
    """Counts behind FMR, [n, 2] = names a feature of its pair | its pair has one; and FCR and DIV.

    `splitter` is the one that made the numbers of `texts`. Cost: linear in words.

    Raises:
        UserError: not as many sets of features as texts; a bare string for a set, which would be read letter
            by letter; an empty catalogue; a feature that is not one word.
    """
    if len(features.of_pairs) != len(texts):
        raise UserError(f"features: {len(features.of_pairs)} sets for {len(texts)} pairs; give each pair one")
    if not features.catalogue:
        raise UserError(
            "features: the catalogue is empty; list every feature of the data, or give none at all"
        )
    catalogue = _numbers(features.catalogue, splitter)
    named = [catalogue.intersection(text) for text in texts]
    right = [_numbers(pair, splitter) for pair in features.of_pairs]
    hits = [bool(wanted.intersection(text)) for wanted, text in zip(right, texts, strict=True)]
    counts = np.column_stack([hits, [bool(wanted) for wanted in right]]).astype(np.int64)
    return counts, {"fcr": len(set().union(*named)) / len(catalogue), "div": div(named)}


def div(named: Named) -> float:
    """Features that two outputs share, in the mean over all pairs of outputs; 0 for fewer than two.

    Each feature that k of n outputs name is shared by k(k-1)/2 pairs of them: no loop over pairs.
    """
    times = Counter(feature for output in named for feature in output)
    return sum(comb(k, 2) for k in times.values()) / max(1, comb(len(named), 2))


def _numbers(features: Collection[str], splitter: Splitter) -> set[int]:
    if isinstance(features, str):
        raise UserError(f"features {features!r}: a set of words is needed; give [{features!r}]")
    numbers: set[int] = set()
    for feature in features:
        split = splitter.read([feature])[0]
        if len(split) != 1:
            raise UserError(
                f"feature {feature!r} is {len(split)} words; features are single words: split or drop it"
            )
        numbers.add(split[0])
    return numbers
