"""Text metrics against nltk's BLEU and rouge-score, and their laws."""

import time
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.evaluate.text import TextScores, corpus_bleu, distinct, rouge_l, score_texts, similarity
from forwhy.evaluate.words import words

bleu = pytest.importorskip("nltk.translate.bleu_score")
rouge = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
METHOD1 = bleu.SmoothingFunction().method1

WORDS = ["the", "user", "would", "enjoy", "cosy", "cafe,", "it's", "quiet!", "and", "3", "dogs", "don't", "."]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6)


class BagEncoder:
    """Unit vectors of word counts; "" is zero."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        bags = np.array([[float(words(text).count(word)) for word in "ab"] for text in texts])
        return (bags / np.maximum(np.linalg.norm(bags, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def scores(pairs: Sequence[tuple[str, str]]) -> TextScores:
    return score_texts([ours for ours, _ in pairs], [theirs for _, theirs in pairs])


@given(PAIRS)
@settings(max_examples=60, deadline=None)
def test_bleu_equals_nltk(pairs: list[tuple[str, str]]) -> None:
    ours, theirs = [words(p) for p, _ in pairs], [words(r) for _, r in pairs]
    found = scores(pairs)
    for order in (1, 2, 3, 4):
        weights = (1 / order,) * order
        corpus = bleu.corpus_bleu([[r] for r in theirs], ours, weights, METHOD1)
        assert found.corpus[f"bleu{order}"] == pytest.approx(corpus)
        for row, (p, r) in enumerate(zip(ours, theirs, strict=True)):
            sentence = bleu.sentence_bleu([r], p, weights, METHOD1)
            assert found.per_pair[f"bleu{order}"][row] == pytest.approx(sentence)


@given(PAIRS)
@settings(max_examples=60, deadline=None)
def test_rouge_l_equals_rouge_score(pairs: list[tuple[str, str]]) -> None:
    theirs = [rouge.score(reference, prediction)["rougeL"].fmeasure for prediction, reference in pairs]
    found = scores(pairs)
    assert found.per_pair["rougeL"] == pytest.approx(theirs)
    assert found.corpus["rougeL"] == pytest.approx(np.mean(theirs))


def test_values_by_hand() -> None:
    # 3 of 4 words match; the reference has 5: exp(1 - 5/4).
    found = scores([("a b c d", "a b c e f")])
    assert found.corpus["bleu1"] == pytest.approx(0.75 * np.exp(-0.25))
    assert found.corpus["bleu2"] == pytest.approx(np.sqrt(0.75 * 2 / 3) * np.exp(-0.25))
    assert rouge_l("a b c d", "a b c e f") == pytest.approx(2 * 3 / 9)
    assert distinct([["a", "b", "a"], ["a"]], 1) == pytest.approx(2 / 4)
    assert distinct([["a", "b", "a"], ["a"]], 2) == pytest.approx(1.0)
    assert distinct([], 2) == 0.0
    assert found.corpus["length"] == 4


@given(PAIRS, st.randoms())
@settings(max_examples=40, deadline=None)
def test_order_of_pairs_does_not_matter_and_values_are_bounded(
    pairs: list[tuple[str, str]], random: Random
) -> None:
    found, mixed = scores(pairs), list(pairs)
    random.shuffle(mixed)
    assert scores(mixed).corpus == pytest.approx(found.corpus)
    bounded = [found.corpus[metric] for metric in found.corpus if metric not in ("length", "empty")]
    assert all(0 <= value <= 1 for value in bounded)


@pytest.mark.parametrize("text", ["one", "Great tea. Cosy place!", "😀 😀 ok", "naïve café"])
def test_a_text_against_itself_is_perfect(text: str) -> None:
    assert scores([(text, text)]).corpus["bleu1"] == 1.0
    assert rouge_l(text, text) == 1.0


def test_empty_predictions_score_zero_and_are_counted() -> None:
    found = scores([("", "a b"), ("a b", "a b")])
    assert found.per_pair["bleu1"].tolist() == [0.0, 1.0]
    assert found.per_pair["rougeL"].tolist() == [0.0, 1.0]
    assert found.corpus["empty"] == 1
    assert scores([("", "")]).corpus["bleu4"] == 0.0


def test_ten_thousand_words_are_quick() -> None:
    generator = np.random.default_rng(0)
    long = [" ".join(generator.choice(list("abcdefgh"), 10_000)) for _ in range(2)]
    start = time.perf_counter()
    found = scores([(long[0], long[1])])
    assert 0.5 < found.corpus["rougeL"] < 1
    assert time.perf_counter() - start < 5


def test_similarity_is_the_cosine_of_each_pair() -> None:
    found = score_texts(["a", "a b", "", "b"], ["a", "a", "a", "a"], BagEncoder())
    assert found.per_pair["similarity"] == pytest.approx([1.0, np.sqrt(0.5), 0.0, 0.0])
    assert similarity(np.eye(2), np.eye(2)).tolist() == [1.0, 1.0]


def test_intervals_hold_the_corpus_values() -> None:
    found = score_texts(["a b c", "a c", "b b"] * 10, ["a b", "a c", "c b a"] * 10, BagEncoder())
    intervals = found.intervals()
    assert set(intervals) == {"bleu1", "bleu2", "bleu3", "bleu4", "rougeL", "length", "similarity"}
    for metric, interval in intervals.items():
        assert interval.mean == pytest.approx(found.corpus[metric])
        assert interval.low <= interval.mean <= interval.high


def test_margins_are_paired() -> None:
    references = [f"a b {'c ' * (row % 4)}" for row in range(40)]
    better, worse = score_texts(references, references), score_texts(["a b"] * 40, references)
    margin = better.margins(worse)["bleu1"]
    assert margin.mean == pytest.approx(1 - worse.corpus["bleu1"])
    assert margin.low > 0
    assert better.margins(better)["rougeL"] == (0, 0, 0)
    with pytest.raises(ValueError, match="same pairs"):
        better.margins(score_texts(["a"], ["a"]))


def test_counts_of_other_shapes_sum_to_the_same_bleu() -> None:
    counts = scores([("a b", "a c"), ("a", "a b c")]).counts
    stacked = np.stack([counts.sum(axis=0), counts[0]])
    assert corpus_bleu(stacked, 1) == pytest.approx([float(corpus_bleu(row, 1)) for row in stacked])


@pytest.mark.parametrize(("ours", "theirs"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_unequal_sides_are_refused(ours: list[str], theirs: list[str]) -> None:
    with pytest.raises(ValueError, match="predictions for"):
        score_texts(ours, theirs)
