"""Text metrics of each pair and of the whole set; `registry.METRICS` says what they are.

Computed here, equal to the packages that define them (tests), because resampling needs the counts of each pair.

Shapes: n pairs; counts [n, c] add up over pairs; a statistic maps sums [..., c] to values [...].
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from math import comb
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.evaluate import overlap
from forwhy.evaluate.overlap import ORDERS, Splitter, Text, bleu_counts, lengths, nltk_bleu, rouge_l, words
from forwhy.evaluate.significance import Floats, Interval, Ints, bootstrap


def _share(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))


Counts = NDArray[Any]
"""Whole numbers, or in `PARTIAL` also values."""
OF_COUNTS: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
    "bleu1": ("bleu", partial(nltk_bleu, order=1)),
    "bleu2": ("bleu", partial(nltk_bleu, order=2)),
    "bleu3": ("bleu", partial(nltk_bleu, order=3)),
    "bleu4": ("bleu", partial(nltk_bleu, order=4)),
    "peter_bleu1": ("peter_bleu", partial(overlap.peter_bleu, order=1)),
    "peter_bleu4": ("peter_bleu", partial(overlap.peter_bleu, order=4)),
    "sacrebleu": ("sacrebleu", overlap.sacrebleu),
    "fmr": ("features", _share),
    "gptscore": ("gptscore", _share),
    "own_mrr": ("own_mrr", _share),
    "own_hit@10": ("own_hit@10", _share),
    "own_tfidf": ("own_tfidf", _share),
}
"""Metrics that are no mean over pairs -> the counts they read, and their value of summed counts."""

OWN = ("own_mrr", "own_hit@10", "own_tfidf")
"""Metrics of `specificity`, which leave out rows that are no pair of the data set."""
PARTIAL = frozenset({"features", "gptscore", *OWN})
"""Counts [n, 2] = value | 1, or 0 | 0 for a pair that does not count: the metric is the mean of the others."""


@dataclass(frozen=True)
class TextScores:
    """Metrics of n predictions against their references, or some of these metrics."""

    per_pair: Mapping[str, Floats]
    """Metric -> [n], finite: sentence `bleu1`..`bleu4`; and those whose mean is the value of the whole set."""
    counts: Mapping[str, Counts] = field(default_factory=dict)
    """[n, c] each, what `OF_COUNTS` reads: three BLEUs, and those of `PARTIAL` that were measured."""
    of_all: Mapping[str, float] = field(default_factory=dict)
    """What has no value per pair: `variety`, of features `fcr`, `div`, `without_features`; what measures count."""

    def __len__(self) -> int:
        return len(next(iter((*self.counts.values(), *self.per_pair.values()))))

    @cached_property
    def corpus(self) -> dict[str, float]:
        """Every metric of the whole set."""
        values = self.values(self.rows().sum(axis=0)).tolist()
        return {**dict(zip(self.names(), values, strict=True)), **self.of_all}

    def intervals(self) -> dict[str, Interval]:
        """Every metric that has pairs behind it, with its bootstrap 95% interval over pairs."""
        return dict(zip(self.names(), bootstrap(self.rows(), self.values), strict=True))

    def stds(self) -> dict[str, float]:
        """Standard deviation (divided by n) over the pairs that count: XRec's "stability"; of sentence BLEU."""
        counting = {metric: values[np.isfinite(values)] for metric, values in self.of_pairs().items()}
        return {metric: float(values.std()) for metric, values in counting.items() if len(values)}

    def of_pairs(self) -> dict[str, Floats]:
        """Metric -> [n]: those of `per_pair`, and of `PARTIAL` counts with NaN where a pair does not count."""
        values = dict(self.per_pair)
        for metric, (kind, _) in OF_COUNTS.items():
            if kind in PARTIAL & self.counts.keys():
                value_n, counted_n = self.counts[kind].T
                values[metric] = np.where(counted_n > 0, value_n, np.nan)
        return values

    def margins(self, other: "TextScores", seed: int = 0) -> dict[str, Interval]:
        """Our metrics minus the other's, with paired bootstrap intervals, on the pairs that count for both, if any.

        A ValueError for not as many pairs, or other metrics (an encoder or features on one side only).
        """
        if len(self) != len(other) or self.names() != other.names():
            raise ValueError("margins need the same pairs and metrics on both sides")
        ours, theirs = self.counted_on_both(other)
        width = ours.rows().shape[1]

        def difference(sums: Floats) -> Floats:
            return ours.values(sums[..., :width]) - ours.values(sums[..., width:])

        found = bootstrap(np.concatenate([ours.rows(), theirs.rows()], axis=1), difference, seed)
        empty = {kind for kind in PARTIAL & ours.counts.keys() if not ours.counts[kind][:, 1].any()}
        named = zip(self.names(), found, strict=True)
        return {metric: margin for metric, margin in named if OF_COUNTS.get(metric, ("",))[0] not in empty}

    def counted_on_both(self, other: "TextScores") -> tuple["TextScores", "TextScores"]:
        """Both, with 0 in `PARTIAL` counts for pairs that do not count on both sides."""
        ours, theirs = dict(self.counts), dict(other.counts)
        for kind in PARTIAL & ours.keys():
            kept = ours[kind][:, 1:] * theirs[kind][:, 1:]
            ours[kind], theirs[kind] = ours[kind] * kept, theirs[kind] * kept
        return replace(self, counts=ours), replace(other, counts=theirs)

    def take(self, rows: Sequence[int] | Ints, metrics: Collection[str] | None = None) -> "TextScores":
        """Some pairs in this order, and of the metrics those named; without `of_all`."""
        wanted = self.per_pair if metrics is None else [name for name in metrics if not self.counted(name)]
        kinds = [kind for metric, (kind, _) in OF_COUNTS.items() if metrics is None or metric in metrics]
        counts = {kind: self.counts[kind][rows] for kind in kinds if kind in self.counts}
        return TextScores({metric: self.per_pair[metric][rows] for metric in wanted}, counts)

    def counted(self, metric: str) -> bool:
        """Whether the metric is computed from summed counts."""
        return metric in OF_COUNTS and OF_COUNTS[metric][0] in self.counts

    def names(self) -> list[str]:
        """Metrics that have values or counts by pair: those of summed counts, then the means."""
        counted = [metric for metric in OF_COUNTS if self.counted(metric)]
        return [*counted, *(metric for metric in self.per_pair if metric not in counted)]

    def rows(self) -> Floats:
        """[n, columns] whose sums hold all metrics: counts, values whose mean it is, and 1 for each pair."""
        means = [values for metric, values in self.per_pair.items() if not self.counted(metric)]
        return np.column_stack([*self.counts.values(), *means, np.ones(len(self))])

    def values(self, sums: Floats) -> Floats:
        """Sums [..., columns] of `rows` to the values [..., metrics] of `names`."""
        ends = np.cumsum([counts.shape[1] for counts in self.counts.values()], dtype=np.int64)
        *parts, means = np.split(sums, ends, axis=-1)
        of_kind = dict(zip(self.counts, parts, strict=True))
        counted = [value(of_kind[kind])[..., None] for kind, value in OF_COUNTS.values() if kind in of_kind]
        return np.concatenate([*counted, means[..., :-1] / means[..., -1:]], axis=-1)

    def pseudo_values(self, metric: str) -> Floats:
        """[n] what each pair adds to the mean; to a corpus metric: the jackknife's pseudo-values (Tukey 1958)."""
        if not self.counted(metric):
            return self.per_pair[metric]
        kind, of_sums = OF_COUNTS[metric]
        counts, n = self.counts[kind], len(self)
        sums = counts.sum(axis=0)
        return np.asarray(n * of_sums(sums) - (n - 1) * of_sums(sums - counts))


class Encoder(Protocol):
    """Strings to unit vectors [n, dim] float32; "" to the zero vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text."""


class Measure(Protocol):
    """Metrics that need more than words: a neural model or a judge. Called again for each control."""

    @property
    def signature(self) -> str:
        """What was run and how, in one line."""

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
        """Of `predictions[k]` against `references[k]`."""


@dataclass(frozen=True)
class Features:
    """Features of the references: single words such as "pizza" or "wi-fi", compared as lower-cased treebank words.

    `of_pairs`: those of each pair's reference, if any; `catalogue`: all of the data, training included.
    """

    of_pairs: Sequence[Collection[str]]
    catalogue: Collection[str]


def score_texts(
    predictions: Sequence[str],
    references: Sequence[str],
    encoder: Encoder | None = None,
    features: Features | None = None,
    splitter: Splitter | None = None,
    measures: Sequence[Measure] = (),
) -> TextScores:
    """Every text metric of `predictions[k]` against `references[k]`; `measures` add theirs.

    Cost: linear in words (ROUGE-L: the product of two lengths over 64), which `splitter` keeps for further calls; two
    encodings per pair with an encoder. Raises what `feature_scores` does, and ValueError for no pairs or unlike sides.
    """
    if not predictions or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    splitter = splitter or Splitter()
    treebank, mteval, rouge, peter = (
        (splitter.read(split, predictions), splitter.read(split, references))
        for split in (words, overlap.mteval_words, overlap.rouge_words, overlap.peter_words)
    )
    counts = {"bleu": bleu_counts(*treebank, least=1), "peter_bleu": bleu_counts(*peter)}
    counts["sacrebleu"] = bleu_counts(*mteval)
    rouge1, rouge2 = overlap.rouge_n(*rouge).T
    per_pair = {
        **{f"bleu{order}": nltk_bleu(counts["bleu"], order) for order in ORDERS},
        "rouge1": rouge1,
        "rouge2": rouge2,
        "rougeL": np.array([*map(rouge_l, *rouge)]),
        "peter_rouge1_f": np.array([*map(partial(overlap.peter_rouge, order=1), *peter)]),
        "peter_rouge2_f": np.array([*map(partial(overlap.peter_rouge, order=2), *peter)]),
        "length": lengths(treebank[0]).astype(np.float64),
    }
    if encoder is not None:
        per_pair["similarity"] = similarity(encoder.encode(predictions), encoder.encode(references))
    of_all = variety(predictions, treebank[0])
    if features is not None:
        counts["features"], named = feature_scores(treebank[0], features, splitter)
        of_all |= named
    for measure in measures:
        found = measure(predictions, references)
        per_pair |= found.per_pair
        counts |= found.counts
        of_all |= found.of_all
    return TextScores(per_pair, counts, of_all)


def similarity(ours_nd: NDArray[np.floating], theirs_nd: NDArray[np.floating]) -> Floats:
    """[n] cosine of unit (or zero) vectors, row by row."""
    return np.asarray((ours_nd.astype(np.float64) * theirs_nd).sum(axis=1))


def variety(texts: Sequence[str], split: Sequence[Sequence[object]]) -> dict[str, float]:
    """What texts have as a set and not one by one; `split`: the words of each."""
    kinds = {f"distinct{order}": distinct(split, order) for order in (1, 2)}
    return {**kinds, "usr": usr(texts), "empty": float(sum(not text for text in split))}


def distinct(texts: Sequence[Sequence[object]], order: int) -> float:
    """Different n-grams of all texts over their number (Li et al. 2016, distinct-n); 0 without any."""
    kinds = {gram for text in texts for gram in overlap.grams(text, order)}
    return len(kinds) / max(1, sum(max(0, len(text) - order + 1) for text in texts))


def usr(texts: Sequence[str]) -> float:
    """Unique sentence ratio: different sequences of words between spaces, over texts."""
    return len({tuple(text.split()) for text in texts}) / len(texts)


# --- Does a text name the right feature, and how many does a method name? FMR, FCR, DIV (Li et al. 2020, NETE).


def feature_scores(
    texts: Sequence[Text], features: Features, splitter: Splitter
) -> tuple[Ints, dict[str, float]]:
    """Counts behind FMR, [n, 2] = names a feature of its pair | its pair has one; FCR, DIV and pairs without any.

    `splitter` made the numbers of `texts`, from treebank words. A UserError says what does not fit of the features:
    their number, a string for a set, an empty catalogue, or one that is not one word.
    """
    if len(features.of_pairs) != len(texts):
        raise UserError(f"features: {len(features.of_pairs)} sets for {len(texts)} pairs; give each pair one")
    if not features.catalogue:
        remedy = "list every feature of the data, or give none at all"
        raise UserError(f"features: the catalogue is empty; {remedy}")
    catalogue = _numbers(features.catalogue, splitter)
    named = [catalogue.intersection(text) for text in texts]
    right = [_numbers(pair, splitter) for pair in features.of_pairs]
    hits = [bool(wanted.intersection(text)) for wanted, text in zip(right, texts, strict=True)]
    counts = np.column_stack([hits, [bool(wanted) for wanted in right]]).astype(np.int64)
    coverage = len(set().union(*named)) / len(catalogue)
    return counts, {"fcr": coverage, "div": div(named), "without_features": float(right.count(set()))}


def div(named: Sequence[Collection[int]]) -> float:
    """Features that two outputs share, in the mean over all pairs of outputs; 0 for fewer than two."""
    # A feature that k outputs name is shared by k(k-1)/2 pairs of them: no loop over pairs.
    times = Counter(feature for output in named for feature in output)
    return sum(comb(k, 2) for k in times.values()) / max(1, comb(len(named), 2))


def _numbers(features: Collection[str], splitter: Splitter) -> set[int]:
    if isinstance(features, str):
        raise UserError(f"features {features!r}: a set of words is needed; give [{features!r}]")
    found = dict(zip(features, splitter.read(words, [*features]), strict=True))
    for feature, split in found.items():
        if len(split) != 1:
            n = len(split)
            raise UserError(f"feature {feature!r} is {n} words; features are single words: split or drop it")
    return set(chain(*found.values()))
