"""Controls: what is dealt goes elsewhere, what is constant was picked on training texts."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.errors import UserError
from forwhy.evaluate import controls
from forwhy.evaluate.controls import (
    RememberingEncoder,
    best_constant,
    bleu1_score,
    crossed_constants,
    deal,
    similarity_score,
    text_table,
)
from forwhy.evaluate.text import TextScores, score_texts

TRAIN = [
    "the user likes quiet cafes with good tea",
    "the user likes loud bars",
    "a quiet place",
    "good tea and cake, the user likes it",
    "  ",
]


class CountingEncoder:
    """Unit vectors by first letter; counts what it encodes."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        return np.array([np.eye(26)[ord(text[0]) - 97] for text in texts], dtype=np.float32)


@given(st.integers(2, 60), st.integers(0, 99))
def test_a_deal_leaves_nothing_in_place(n: int, seed: int) -> None:
    dealt = deal(n, seed)
    assert sorted(dealt) == list(range(n))
    assert (dealt != np.arange(n)).all()
    assert (dealt == deal(n, seed)).all()


@given(st.lists(st.integers(-3, 5), min_size=2, max_size=40), st.integers(0, 99))
def test_a_deal_by_label_gives_another_label(labels: list[int], seed: int) -> None:
    given_labels = np.array(labels)
    dealt = deal(len(labels), seed, given_labels)
    assert sorted(dealt) == list(range(len(labels)))
    assert (dealt != np.arange(len(labels))).all()
    largest = np.unique(given_labels, return_counts=True)[1].max()
    kept = (given_labels[dealt] == given_labels).sum()
    assert kept == max(0, 2 * largest - len(labels))


def test_one_pair_cannot_be_dealt() -> None:
    with pytest.raises(UserError, match="at least two"):
        deal(1, 0)


def test_deals_differ_by_seed_and_visit_everything() -> None:
    seen = {tuple(deal(4, seed)) for seed in range(200)}
    assert len(seen) == 6  # all single cycles of four


def test_fast_bleu_of_constants_equals_the_metric() -> None:
    candidates, references = [*TRAIN, "unknown words only", "tea"], TRAIN[:4]
    slow = [score_texts([text] * 4, references).corpus["bleu1"] for text in candidates]
    assert bleu1_score(candidates, references) == pytest.approx(slow)


def test_best_constant_is_the_best_of_the_training_texts() -> None:
    values = bleu1_score(TRAIN[:4], TRAIN[:4])
    assert best_constant(TRAIN) == TRAIN[int(np.argmax(values))]
    assert (
        best_constant(TRAIN, score=lambda tried, _: np.array([float(len(text)) for text in tried]))
        == TRAIN[0]
    )
    encoder = CountingEncoder()
    assert best_constant(TRAIN, score=partial(similarity_score, encoder)).startswith("the")


def test_best_constant_tries_no_more_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(controls, "CANDIDATES", 2)
    monkeypatch.setattr(controls, "REFERENCES", 3)

    def score(tried: Sequence[str], judges: Sequence[str]) -> np.ndarray:
        asked.append((len(tried), len(judges)))
        return np.zeros(len(tried))

    assert best_constant(TRAIN, score=score) in TRAIN
    assert asked == [(2, 3)]
    with pytest.raises(UserError, match="no explanations"):
        best_constant(["", " "])


def test_table_holds_the_method_beside_its_controls() -> None:
    references = ["quiet tea", "loud bar", "good cake", "a quiet place"]
    encoder = CountingEncoder()
    table = text_table(references, references, TRAIN[:4], encoder)
    assert set(table.controls) == {"constant", "constant_similar", "dealt"}
    assert table.method.corpus["bleu1"] == table.method.corpus["similarity"] == 1.0
    assert table.controls["constant"].sentence in TRAIN
    assert table.controls["dealt"].sentence is None
    for control in table.controls.values():
        assert control.scores.corpus["bleu1"] < 1
        assert "similarity" in control.scores.corpus
    assert len(encoder.encoded) == len(set(encoder.encoded)), "each text is encoded once"
    assert set(text_table(references, references, TRAIN).controls) == {"constant", "dealt"}


def test_a_method_that_ignores_pairs_equals_its_dealt_control() -> None:
    table = text_table(["the user likes it"] * 4, TRAIN[:4], TRAIN[:4])
    assert table.controls["dealt"].scores.corpus == table.method.corpus


def test_references_of_the_evaluation_do_not_reach_the_constant() -> None:
    ours, other = ["a"] * 3, ["zz zz zz"] * 3
    assert text_table(ours, other, TRAIN).controls["constant"].sentence in TRAIN


def test_remembering_changes_nothing() -> None:
    encoder = RememberingEncoder(CountingEncoder())
    texts = ["b", "a", "b"]
    for _ in range(2):
        assert (encoder.encode(texts) == CountingEncoder().encode(texts)).all()


@given(st.lists(st.sampled_from(TRAIN[:4]), min_size=2, max_size=9), st.integers(0, 99))
def test_a_crossed_constant_never_sees_its_own_half(references: list[str], seed: int) -> None:
    texts = crossed_constants(references, seed)
    for sentence in set(texts):
        own = [reference for reference, text in zip(references, texts, strict=True) if text == sentence]
        others = [reference for reference, text in zip(references, texts, strict=True) if text != sentence]
        assert sentence in (others or own)
    assert len(set(texts)) <= 2


def test_without_training_texts_halves_stand_for_the_constant() -> None:
    references = ["the user likes tea", "the user likes cake", "the user likes loud bars", "a quiet place"]
    controls = text_table(references, references, ()).controls
    assert set(controls) == {"constant_halves", "dealt"}
    assert controls["constant_halves"].texts == crossed_constants(references)
    with pytest.raises(UserError, match="1 pair cannot be halved"):
        crossed_constants(["tea"])


def test_further_controls_and_measures_stand_in_every_row() -> None:
    class Same:
        signature = "equal texts"

        def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
            same = [ours == theirs for ours, theirs in zip(predictions, references, strict=True)]
            return TextScores({"same": np.array(same, dtype=np.float64)})

    swapped = [TRAIN[1], TRAIN[0], *TRAIN[2:4]]
    table = text_table(TRAIN[:4], TRAIN[:4], TRAIN, measures=[Same()], others={"swapped": swapped})
    assert table.method.corpus["same"] == 1
    assert table.controls["swapped"].scores.corpus["same"] == 0.5
    assert table.controls["dealt"].scores.corpus["same"] == 0
    assert table.method.margins(table.controls["swapped"].scores)["same"].mean == 0.5
