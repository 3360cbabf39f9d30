"""BERTScore against the reference implementation and against the paper's formulas in plain loops."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertModel

from forwhy.errors import UserError
from forwhy.evaluate import bertscore as hidden
from forwhy.evaluate.bertscore import Baseline, BertScore
from forwhy.evaluate.controls import text_table
from forwhy.evaluate.registry import METRICS
from forwhy.evaluate.text import score_texts

ROUNDING = 3e-4
"""What float16 vectors may differ by; 4e-5 was measured."""
PAIRS = [
    ("the user would enjoy the cosy cafe.", "the user would enjoy quiet dogs!"),
    ("cosy", "the cafe, quiet and cosy"),
    ("dogs and dogs and dogs", "dogs"),
    ("😀", "the user"),
    ("nan", "cafe and user would enjoy it all, the dogs too."),
    ("the cafe", "the cafe"),
]
TEXTS = st.text(alphabet="ab cafe😀é.,'\n[SEP]\ud800", max_size=30) | st.sampled_from(["", "NaN", " ", "one"])


def columns(score: BertScore, pairs: list[tuple[str, str]]) -> np.ndarray:
    """[n, 3]"""
    found = score([p for p, _ in pairs], [r for _, r in pairs]).per_pair
    return np.column_stack([found["bertscore_p"], found["bertscore_r"], found["bertscore_f"]])


def by_loops(folder: Path, pairs: list[tuple[str, str]], idf: bool) -> np.ndarray:
    """Equations of section 3 of the paper, token by token, on transformers' own hidden states."""
    model, words = BertModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = [[words(text)["input_ids"] for text in pair] for pair in pairs]

    def weight(token: int) -> float:
        if not idf:
            return float(token not in (words.cls_token_id, words.sep_token_id))
        return math.log((len(pairs) + 1) / (sum(token in reference for _, reference in ids) + 1))

    def vectors(row: list[int]) -> np.ndarray:
        with torch.no_grad():
            hidden_TD = model(torch.tensor([row])).last_hidden_state[0].double().numpy()
        return hidden_TD / np.linalg.norm(hidden_TD, axis=1, keepdims=True)

    def mean_of_best(own: list[int], other: list[int]) -> float:
        cosines = vectors(own) @ vectors(other).T
        weights = [weight(token) for token in own]
        return sum(w * max(row) for w, row in zip(weights, cosines, strict=True)) / sum(weights)

    found = []
    for ours, theirs in ids:
        p, r = mean_of_best(ours, theirs), mean_of_best(theirs, ours)
        found.append((p, r, 2 * p * r / (p + r)))
    return np.array(found)


@pytest.mark.parametrize("idf", [False, True])
def test_equals_the_formulas_of_the_paper(bert: Path, idf: bool) -> None:
    found = columns(BertScore(str(bert), idf=idf), PAIRS)
    assert found == pytest.approx(by_loops(bert, PAIRS, idf), abs=ROUNDING)
    assert found[:, 2].std() > 0.05  # not all the same


@pytest.mark.parametrize("layer", [3, 1])
@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize("baseline", [None, Baseline(0.3, 0.32, 0.31)])
def test_equals_the_reference_implementation(
    bert: Path, layer: int, idf: bool, baseline: Baseline | None, tmp_path: Path
) -> None:
    reference = pytest.importorskip("bert_score")
    table = tmp_path / "baseline.csv"
    table.write_text("LAYER,P,R,F\n" + "".join(f"{row},0.3,0.32,0.31\n" for row in range(4)))
    ours, theirs = [p for p, _ in PAIRS], [r for _, r in PAIRS]
    scorer = reference.BERTScorer(
        model_type=str(bert), num_layers=layer, idf=idf, idf_sents=theirs if idf else None, nthreads=0,
        device="cpu", lang="en", rescale_with_baseline=baseline is not None, baseline_path=str(table),
    )  # fmt: skip
    # One by one: in a batch it raises negative cosines of shorter texts to 0.
    expected = torch.stack(scorer.score(ours, theirs, batch_size=1), dim=1).numpy()
    found = columns(BertScore(str(bert), idf=idf, layer=layer, baseline=baseline), PAIRS)
    assert found == pytest.approx(expected, abs=ROUNDING)


@pytest.fixture(scope="module")
def score(bert: Path) -> BertScore:
    return BertScore(str(bert))


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), st.booleans(), st.randoms())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_scores_within_bounds_in_any_order(
    score: BertScore, pairs: list[tuple[str, str]], idf: bool, random: Random
) -> None:
    score.idf = idf
    found = columns(score, pairs)
    assert np.isfinite(found).all()
    assert (np.abs(found) <= 1.001).all()
    order = random.sample(range(len(pairs)), len(pairs))
    assert columns(score, [pairs[row] for row in order]) == pytest.approx(found[order], abs=ROUNDING)
    mirrored = columns(score, [(r, p) for p, r in pairs])
    if not idf:
        assert mirrored == pytest.approx(found[:, [1, 0, 2]], abs=ROUNDING)


def test_a_text_against_itself_is_perfect(score: BertScore) -> None:
    score.idf = False
    texts = ["one", "the cosy cafe!", "😀", "[SEP]", "naïve café"]
    assert columns(score, [(text, text) for text in texts]) == pytest.approx(1, abs=1e-3)


def test_an_empty_side_scores_zero_before_rescaling(bert: Path) -> None:
    pairs = [("", "the cafe"), ("the cafe", " \n"), ("", ""), ("the cafe", "the cafe")]
    assert columns(BertScore(str(bert)), pairs)[:3].tolist() == [[0, 0, 0]] * 3
    rescaled = columns(BertScore(str(bert), baseline=Baseline(0.5, 0.5, 0.5)), pairs)
    assert rescaled == pytest.approx(np.array([[-1] * 3] * 3 + [[1] * 3]), abs=1e-3)


def test_idf_that_weighs_nothing_scores_zero(bert: Path) -> None:
    """With one reference all its tokens have weight 0."""
    found = columns(BertScore(str(bert), idf=True), [("the cafe", "the cafe")])
    assert found.tolist() == [[0, 0, 0]]


def test_special_tokens_in_a_text_are_plain_characters(score: BertScore) -> None:
    score.idf = False
    assert score.tokens(["a [SEP] b"])["a [SEP] b"].content == len("a[sep]b")


@pytest.mark.parametrize("model", ["bert", "roberta"])
def test_ten_thousand_words_are_cut_and_counted(model: str, request: pytest.FixtureRequest) -> None:
    score = BertScore(str(request.getfixturevalue(model)))
    long = "the quiet user " * 3333 + "."
    exact = "cafe " * (score.limit - 2)
    assert score.limit == {"bert": 64, "roberta": 39}[model]
    found = score([long, "cafe", "dogs", exact], ["cafe", long, "dogs", exact])
    assert found.of_all == {"bertscore_cut": 2}
    assert np.isfinite(np.concatenate(list(found.per_pair.values()))).all()


def test_each_text_is_read_once_for_a_method_and_its_controls(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, read = BertScore(str(bert)), []
    plain = hidden.padded
    monkeypatch.setattr(
        hidden, "padded", lambda rows, *more: read.extend(map(tuple, rows)) or plain(rows, *more)
    )
    ours, theirs = [p for p, _ in PAIRS], [r for _, r in PAIRS]
    table = text_table(ours, theirs, ["the dogs", "the user and dogs"], measures=[score])
    assert len(read) == len(set(read)) > 0
    assert set(table.method.corpus) <= METRICS.keys()
    assert table.method.corpus["bertscore_f"] > table.controls["dealt"].scores.corpus["bertscore_f"]


def test_without_memory_the_values_are_the_same(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = columns(BertScore(str(bert)), PAIRS)
    monkeypatch.setattr(hidden, "MEMORY_BYTES", 0)
    monkeypatch.setattr("forwhy.evaluate.bertscore.CHUNK", 2)
    score = BertScore(str(bert))
    assert columns(score, PAIRS) == pytest.approx(expected, abs=ROUNDING)
    assert score._vectors == {}


def test_a_fitted_baseline_puts_random_pairs_at_zero(bert: Path) -> None:
    texts = [f"the {a} {b} would {c}" for a in WORDS for b in WORDS for c in WORDS]
    score = BertScore(str(bert))
    fitted = score.fit_baseline([*texts, "", texts[0]])
    assert score.baseline == fitted == score.fit_baseline(texts)
    dealt = columns(score, list(zip(texts, texts[17:] + texts[:17], strict=True)))
    assert np.abs(dealt.mean(axis=0)).max() < 0.15
    assert columns(score, [(texts[0], texts[0])]) == pytest.approx(1, abs=2e-3)
    assert f"{fitted.f1:.4f}" in score.signature


WORDS = ["cosy", "quiet", "dogs", "cafe"]


@pytest.mark.parametrize("texts", [[], ["a", "a", ""]])
def test_a_baseline_needs_two_texts(score: BertScore, texts: list[str]) -> None:
    with pytest.raises(UserError, match="at least two"):
        score.fit_baseline(texts)


def test_what_cannot_be_is_refused(bert: Path) -> None:
    with pytest.raises(UserError, match="no layer 4; choose from 0 .* to 3"):
        BertScore(str(bert), layer=4)
    with pytest.raises(UserError, match="not below 1"):
        BertScore(str(bert), baseline=Baseline(0.2, 1.0, 0.3))
    with pytest.raises(UserError, match="no such folder"):
        BertScore("no-such-model")


def test_byte_pieces_are_read_with_a_leading_space(gpt2: Path) -> None:
    """As the reference implementation did with the tokenizers that published numbers come from."""
    score = BertScore(str(gpt2))
    assert score.tokens(["dogs "])["dogs "].ids == score._tokenizer(" dogs")["input_ids"]
    found = columns(score, [("dogs", "  dogs\n"), ("", "dogs"), ("dogs", "a cosy cafe")])
    assert found[:2] == pytest.approx(np.array([[1] * 3, [0] * 3]), abs=1e-3)
    assert found[2].max() < 0.99


def test_the_encoder_of_a_seq2seq_model_serves(seq2seq: Path) -> None:
    score = BertScore(str(seq2seq), layer=1)
    assert columns(score, [("the cafe", "the cafe")]) == pytest.approx(1, abs=1e-3)
    assert "|L1|no-idf|raw" in score.signature


def test_scores_stand_in_a_table_with_intervals(score: BertScore) -> None:
    score.idf = False
    found = score_texts([p for p, _ in PAIRS], [r for _, r in PAIRS], measures=[score])
    assert found.intervals()["bertscore_f"].mean == pytest.approx(found.corpus["bertscore_f"])
    assert found.corpus["bertscore_cut"] == 0
