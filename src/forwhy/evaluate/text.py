"""Text metrics, in BEAT's conventions: of each pair, and of the whole set.

BLEU: nltk's, on lower-cased treebank words, smoothing method 1, scale 0 to 1; BEAT's "BLEU" is `bleu1`.
ROUGE-L: rouge-score's F, no stemmer. Both equal those packages (tests/evaluate/test_text.py) and are
computed here because resampling needs the counts of each pair, and both libraries are slow and large.

Shapes: n pairs; BLEU counts [n, 10] = matches of order 1..4 | n-grams of order 1..4 | words | reference's.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.significance import Interval, bootstrap
from forwhy.evaluate.words import words

Floats = NDArray[np.float64]

ORDERS = (1, 2, 3, 4)
SMOOTHING = 0.1
"""nltk's `SmoothingFunction().method1`: matches of an order that has none."""
ROUGE_WORD = re.compile(r"[a-z0-9]+")


class Encoder(Protocol):
    """Strings to unit vectors [n, dim] float32; "" to the zero vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text."""


@dataclass(frozen=True)
class TextScores:
    """Metrics of n predictions against their references."""

    per_pair: dict[str, Floats]
    """metric -> [n]: sentence `bleu1`..`bleu4`, `rougeL`, `length` (words), `similarity` (cosine; only
    with an encoder)."""
    counts: NDArray[np.int64]
    """[n, 10] BLEU counts, which add up over pairs."""
    corpus: dict[str, float]
    """Values of the whole set: corpus `bleu1`..`bleu4`, means of the others, `distinct1`, `distinct2`,
    `empty` (predictions without a word; they score 0)."""

    def intervals(self, seed: int = 0, n: int = 2000) -> dict[str, Interval]:
        """Every metric that has pairs behind it, with its bootstrap 95% interval over pairs."""
        found = bootstrap(self._rows(), _metrics_of_sums, seed, n)
        return dict(zip(self._names(), found, strict=True))

    def margins(self, other: "TextScores", seed: int = 0, n: int = 2000) -> dict[str, Interval]:
        """Our metrics minus the other's on the same pairs, with paired bootstrap intervals."""
        if len(self.counts) != len(other.counts):
            raise ValueError("margins need the same pairs on both sides")
        width = self._rows().shape[1]
        both = np.concatenate([self._rows(), other._rows()], axis=1)

        def difference(sums: Floats) -> Floats:
            return _metrics_of_sums(sums[..., :width]) - _metrics_of_sums(sums[..., width:])

        return dict(zip(self._names(), bootstrap(both, difference, seed, n), strict=True))

    def _names(self) -> list[str]:
        return [f"bleu{order}" for order in ORDERS] + [m for m in self.per_pair if not m.startswith("bleu")]

    def _rows(self) -> Floats:
        """[n, 10 + others + 1] whose column sums hold all metrics; the last column counts pairs."""
        others = [self.per_pair[metric] for metric in self._names()[len(ORDERS) :]]
        return np.column_stack([self.counts, *others, np.ones(len(self.counts))])


def score_texts(
    predictions: Sequence[str], references: Sequence[str], encoder: Encoder | None = None
) -> TextScores:
    """Every text metric of `predictions[k]` against `references[k]`.

    Cost: linear in words (ROUGE-L: the product of two lengths over 64); two encodings per
    pair with an encoder.

    Raises:
        ValueError: no pairs, or not as many predictions as references.
    """
    if not predictions or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    ours, theirs = [words(text) for text in predictions], [words(text) for text in references]
    counts = np.array([bleu_counts(p, r) for p, r in zip(ours, theirs, strict=True)], dtype=np.int64)
    per_pair = _sentence_bleu(counts)
    per_pair["rougeL"] = np.array([rouge_l(p, r) for p, r in zip(predictions, references, strict=True)])
    per_pair["length"] = counts[:, 8].astype(np.float64)
    if encoder is not None:
        per_pair["similarity"] = similarity(encoder.encode(predictions), encoder.encode(references))
    corpus = {f"bleu{order}": float(corpus_bleu(counts.sum(axis=0), order)) for order in ORDERS}
    corpus |= {metric: float(per_pair[metric].mean()) for metric in per_pair if metric not in corpus}
    corpus |= {"distinct1": distinct(ours, 1), "distinct2": distinct(ours, 2)}
    return TextScores(per_pair, counts, corpus | {"empty": float((counts[:, 8] == 0).sum())})


def bleu_counts(prediction: Sequence[str], reference: Sequence[str]) -> list[int]:
    """The 10 counts behind BLEU. An order longer than the prediction counts one n-gram, as in nltk."""
    matches, totals = [], []
    for order in ORDERS:
        found, right = _ngrams(prediction, order), _ngrams(reference, order)
        matches.append(sum(min(count, right[gram]) for gram, count in found.items()))
        totals.append(max(1, len(prediction) - order + 1))
    return [*matches, *totals, len(prediction), len(reference)]


def corpus_bleu(sums: NDArray[np.floating] | NDArray[np.integer], order: int) -> Floats:
    """BLEU of summed counts [..., 10], uniform weights up to `order`, smoothing method 1; [...]."""
    wide = np.asarray(sums, dtype=np.float64)
    matches, totals = wide[..., :order], wide[..., 4 : 4 + order]
    precision = np.where(matches > 0, matches, SMOOTHING) / totals
    brevity = np.exp(np.minimum(0.0, 1 - wide[..., 9] / np.maximum(wide[..., 8], 1)))
    score = brevity * np.exp(np.log(precision).mean(axis=-1))
    return np.asarray(np.where(wide[..., 0] > 0, score, 0.0))


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F of one pair: longest common subsequence of lower-case alphanumeric words."""
    ours, theirs = ROUGE_WORD.findall(prediction.lower()), ROUGE_WORD.findall(reference.lower())
    if not ours or not theirs:
        return 0.0
    return 2 * _common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def distinct(texts: Sequence[Sequence[str]], order: int) -> float:
    """Different n-grams of all texts over their number (Li et al. 2016, distinct-n); 0 without any."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        grams.update(_ngrams(text, order))
    return len(grams) / max(1, grams.total())


def similarity(ours_nd: NDArray[np.floating], theirs_nd: NDArray[np.floating]) -> Floats:
    """[n] cosine of unit (or zero) vectors, row by row."""
    return np.asarray((ours_nd.astype(np.float64) * theirs_nd).sum(axis=1))


def _metrics_of_sums(sums: Floats) -> Floats:
    bleu = [corpus_bleu(sums[..., :10], order) for order in ORDERS]
    return np.concatenate([np.stack(bleu, axis=-1), sums[..., 10:-1] / sums[..., -1:]], axis=-1)


def _sentence_bleu(counts_n10: NDArray[np.int64]) -> dict[str, Floats]:
    return {f"bleu{order}": corpus_bleu(counts_n10, order) for order in ORDERS}


def _ngrams(text: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(text[start:] for start in range(order)), strict=False))


def _common_subsequence(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of it, a row of the table at a time as the bits of one integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(ours):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(ours)) - 1
    row = full
    for word in theirs:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & full
    return len(ours) - row.bit_count()
