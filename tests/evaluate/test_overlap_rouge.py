"""ROUGE against rouge-score, PETER's against its definition."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.evaluate.overlap import peter_rouge, rouge_l, rouge_n, rouge_words
from forwhy.evaluate.text import score_texts

WORDS = ["the", "user", "would", "cosy", "cafe,", "it's", "Quiet!", "and", "3", "naïve", "😀", "_"]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6)
KINDS = ("rouge1", "rouge2", "rougeL")


@given(PAIRS)
@settings(max_examples=60, deadline=None)
def test_rouge_equals_rouge_score(pairs: list[tuple[str, str]]) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(KINDS)
    found = score_texts([p for p, _ in pairs], [r for _, r in pairs])
    for row, (prediction, reference) in enumerate(pairs):
        wanted = scorer.score(reference, prediction)
        for kind in KINDS:
            assert found.per_pair[kind][row] == pytest.approx(wanted[kind].fmeasure)


def test_rouge_by_hand() -> None:
    ours, theirs = (0, 1, 2, 3), (0, 1, 2, 4, 5)
    assert rouge_l(ours, theirs) == pytest.approx(2 * 3 / 9)
    assert rouge_n([ours, ()], [theirs, theirs])[0] == pytest.approx([2 * 3 / 9, 2 * 2 / 7])
    assert rouge_n([ours, ()], [theirs, theirs])[1].tolist() == [0, 0]
    assert rouge_n([(0, 0)], [(0,)])[0].tolist() == pytest.approx([2 / 3, 0]), "matches are clipped"


@given(SENTENCES, SENTENCES, st.sampled_from([1, 2]))
@settings(max_examples=60, deadline=None)
def test_peter_rouge_equals_its_definition(ours: str, theirs: str, order: int) -> None:
    found = score_texts([ours], [theirs]).per_pair[f"peter_rouge{order}_f"][0]
    sets = []
    for text in (ours, theirs):
        split = text.split(" ") if text else []
        sets.append({tuple(split[k : k + order]) for k in range(len(split) - order + 1)})
    both = sum(gram in sets[1] for gram in sets[0])
    p, r = (both / len(grams) if grams else 0.0 for grams in sets)
    assert found == pytest.approx(100 * 2.0 * (p * r) / (p + r + 1e-8))


def test_peter_counts_an_n_gram_once() -> None:
    # Sets {a, b} and {a}: precision 1/2, recall 1; clipped counts would give 2/5 and 1.
    assert peter_rouge("aabab", "a", 1) == pytest.approx(100 * 2 / 3, rel=1e-6)
    assert peter_rouge("", "a", 1) == 0.0


@given(SENTENCES, SENTENCES)
def test_rouge_is_symmetric(ours: str, theirs: str) -> None:
    found, turned = score_texts([ours], [theirs]), score_texts([theirs], [ours])
    for kind in (*KINDS, "peter_rouge1_f", "peter_rouge2_f"):
        assert found.corpus[kind] == pytest.approx(turned.corpus[kind])


@given(SENTENCES)
def test_a_text_against_itself_is_perfect(text: str) -> None:
    found, words = score_texts([text], [text]).corpus, rouge_words(text)
    assert found["rouge1"] == found["rougeL"] == (1 if words else 0)
    assert found["rouge2"] == (1 if len(words) > 1 else 0)
