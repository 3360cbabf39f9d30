"""BEAT's BLEU against nltk, and the laws of text metrics."""

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.evaluate.overlap import Splitter, words
from forwhy.evaluate.text import TextScores, distinct, score_texts, similarity, usr

bleu = pytest.importorskip("nltk.translate.bleu_score")
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


def test_values_by_hand() -> None:
    # 3 of 4 words match; the reference has 5: exp(1 - 5/4).
    found = scores([("a b c d", "a b c e f")])
    assert found.corpus["bleu1"] == pytest.approx(0.75 * np.exp(-0.25))
    assert found.corpus["bleu2"] == pytest.approx(np.sqrt(0.75 * 2 / 3) * np.exp(-0.25))
    assert usr(["a  b", "a b", "A b", "a b."]) == 3 / 4
    assert distinct([["a", "b", "a"], ["a"]], 1) == pytest.approx(2 / 4)
    assert distinct([["a", "b", "a"], ["a"]], 2) == pytest.approx(1.0)
    assert distinct([], 2) == 0.0
    assert found.corpus["length"] == 4


@pytest.mark.parametrize("text", ["one", "Great tea. Cosy place!", "😀 😀 ok", "naïve café"])
def test_a_text_against_itself_is_perfect(text: str) -> None:
    found = scores([(text, text)]).corpus
    assert found["bleu1"] == found["rougeL"] == 1.0
    assert found["peter_bleu1"] == pytest.approx(100)


def test_empty_predictions_score_zero_and_are_counted() -> None:
    found = scores([("", "a b"), ("a b", "a b")])
    assert found.per_pair["bleu1"].tolist() == [0.0, 1.0]
    assert found.per_pair["rougeL"].tolist() == [0.0, 1.0]
    assert found.corpus["empty"] == 1
    nothing = scores([("", "")]).corpus
    assert {name: value for name, value in nothing.items() if value} == {"usr": 1, "empty": 1}


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
    assert set(intervals) == {
        "bleu1", "bleu2", "bleu3", "bleu4", "peter_bleu1", "peter_bleu4", "sacrebleu", "rouge1", "rouge2",
        "rougeL", "peter_rouge1_f", "peter_rouge2_f", "length", "similarity",
    }  # fmt: skip
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
    with pytest.raises(ValueError, match="metrics"):
        better.margins(score_texts(references, references, BagEncoder()))


def test_std_is_over_pairs() -> None:
    found = scores([("a b", "a b"), ("", "a"), ("c", "c"), ("d", "e")])
    assert found.stds()["bleu1"] == found.stds()["rougeL"] == pytest.approx(0.5)
    assert found.stds()["length"] == pytest.approx(np.std([2, 0, 1, 1]))
    assert set(found.stds()) == set(found.per_pair)


def test_sharing_a_splitter_changes_nothing() -> None:
    splitter = Splitter()
    for pairs in ([("a b c", "b c"), ("", "x.")], [("b c", "a b c"), ("b c", "y")]):
        ours, theirs = [p for p, _ in pairs], [r for _, r in pairs]
        shared = score_texts(ours, theirs, splitter=splitter)
        assert shared.corpus == score_texts(ours, theirs).corpus


@pytest.mark.parametrize(("ours", "theirs"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_unequal_sides_are_refused(ours: list[str], theirs: list[str]) -> None:
    with pytest.raises(ValueError, match="predictions for"):
        score_texts(ours, theirs)
