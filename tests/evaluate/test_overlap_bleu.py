"""Three BLEUs against nltk, sacrebleu and PETER's definition, and the clipped counts behind them."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forwhy.evaluate.overlap import (
    SACREBLEU_SIGNATURE,
    Splitter,
    bleu_counts,
    matches,
    mteval_words,
    nltk_bleu,
    peter_bleu,
    peter_words,
    sacrebleu,
)
from forwhy.evaluate.text import score_texts

TEXTS = st.lists(
    st.sampled_from(["the", "The", "cafe,", "it's", "3.5", "1,000-2", "-", "&amp;", "ok."]), max_size=9
)
PAIRS = st.lists(st.tuples(TEXTS.map(" ".join), TEXTS.map(" ".join)), min_size=1, max_size=6)
NUMBERS = st.lists(st.integers(0, 3), max_size=8)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_matches_are_clipped_counts(pairs: list[tuple[list[int], list[int]]]) -> None:
    def bag(text: list[int], order: int) -> Counter[tuple[int, ...]]:
        return Counter(tuple(text[k : k + order]) for k in range(len(text) - order + 1))

    wanted = [[(bag(p, n) & bag(r, n)).total() for n in (1, 2, 3, 4)] for p, r in pairs]
    assert matches([p for p, _ in pairs], [r for _, r in pairs], 4).tolist() == wanted


def peter_by_definition(pairs: list[tuple[list[str], list[str]]], most: int) -> float:
    """100 x corpus BLEU without smoothing, one order and one pair at a time."""
    logs, ours, theirs = [], sum(len(p) for p, _ in pairs), sum(len(r) for _, r in pairs)
    for order in range(1, most + 1):
        found = possible = 0
        for p, r in pairs:
            left = [r[k : k + order] for k in range(len(r) - order + 1)]
            for gram in [p[k : k + order] for k in range(len(p) - order + 1)]:
                possible += 1
                if gram in left:
                    left.remove(gram)
                    found += 1
        if not found:
            return 0.0
        logs.append(math.log(found / possible))
    ratio = ours / theirs
    return 100 * math.exp(sum(logs) / most) * (1.0 if ratio > 1 else math.exp(1 - 1 / ratio))


@given(PAIRS)
@example([("a b c d e " * 5, "a b c d e " * 2)])
@settings(max_examples=80, deadline=None)
def test_peter_bleu_equals_its_definition(pairs: list[tuple[str, str]]) -> None:
    found = score_texts([p for p, _ in pairs], [r for _, r in pairs]).corpus
    cut = [(p.split(" ")[:15] if p else [], r.split(" ")[:15] if r else []) for p, r in pairs]
    for order in (1, 4):
        assert found[f"peter_bleu{order}"] == pytest.approx(peter_by_definition(cut, order))


def test_peter_bleu_by_hand() -> None:
    # 3 of 4 words and no run of four; the reference has 5 words: exp(1 - 5/4).
    found = score_texts(["a b c d"], ["a b c e f"]).corpus
    assert found["peter_bleu1"] == pytest.approx(75 * math.exp(-0.25))
    assert found["peter_bleu4"] == 0.0
    assert found["bleu4"] > 0, "BEAT's is smoothed"
    # What follows the fifteenth word is cut on both sides.
    text = " ".join("abcdefghijklmno")
    assert score_texts([text + " x y"], [text + " z"]).corpus["peter_bleu4"] == pytest.approx(100)
    assert score_texts(["A"], ["a"]).corpus["peter_bleu1"] == 0.0


TRICKY = [
    "It's 3.5-star, 1,000 prices: $5!",
    "a &quot;b&quot; &amp;lt; c",
    "well-\nknown\nplace <skipped> .",
    "x - y -- 3-4 [z]{w} `q` ~ ^ \\ | _",
    "no. 5,five ,5 .5 5. 5,",
    "😀 naïve café… “so”",
    " \t ",
]


@pytest.mark.parametrize("text", TRICKY)
def test_words_equal_sacrebleu(text: str) -> None:
    tokenizer = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    assert list(mteval_words(text)) == tokenizer(text.rstrip()).split()


@given(st.text(alphabet="a5.,-&quot;\n<'> é_", max_size=30))
def test_words_equal_sacrebleu_on_anything(text: str) -> None:
    tokenizer = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    assert list(mteval_words(text)) == tokenizer(text.rstrip()).split()


@given(PAIRS)
@example([("", "a"), ("", "")])
@example([("a b c", "a b c")])
@example([("a x c x e x", "a b c d e f")])
@settings(max_examples=80, deadline=None)
def test_sacrebleu_equals_the_package(pairs: list[tuple[str, str]]) -> None:
    package = pytest.importorskip("sacrebleu.metrics.bleu").BLEU()
    ours, theirs = [p for p, _ in pairs], [r for _, r in pairs]
    wanted = package.corpus_score(ours, [theirs])
    assert score_texts(ours, theirs).corpus["sacrebleu"] == pytest.approx(wanted.score, rel=1e-12, abs=1e-12)
    signature, version = SACREBLEU_SIGNATURE.rsplit("|", 1)
    assert package.get_signature().format().rsplit("|", 1)[0] == signature
    assert version.startswith("version:2.")


def test_counts_of_other_shapes_sum_to_the_same_bleu() -> None:
    splitter = Splitter()
    counts = bleu_counts(
        splitter.read(peter_words, ["a b", "a"]), splitter.read(peter_words, ["a c", "a b c"]), least=1
    )
    stacked = np.stack([counts.sum(axis=0), counts[0], counts[1]])
    for value in (sacrebleu, lambda sums: nltk_bleu(sums, 2), lambda sums: peter_bleu(sums, 2)):
        assert value(stacked) == pytest.approx([float(value(row)) for row in stacked])


def test_a_text_too_short_for_an_order_counts_one_as_in_nltk() -> None:
    text = [(0, 1)]
    assert bleu_counts(text, text, least=1)[0].tolist() == [2, 1, 0, 0, 2, 1, 1, 1, 2, 2]
    assert bleu_counts(text, text)[0].tolist() == [2, 1, 0, 0, 2, 1, 0, 0, 2, 2]
