"""BARTScore against transformers' own loss, one pair at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from forwhy.errors import UserError
from forwhy.evaluate.bartscore import BartScore
from forwhy.evaluate.registry import METRICS
from forwhy.models import cache_folder
from forwhy.wheels import PACKAGED, state

PAIRS = [
    ("the user would enjoy the cosy cafe.", "the user would enjoy quiet dogs!"),
    ("cosy", "the cafe, quiet and cosy"),
    ("dogs and dogs and dogs and user", "dogs"),
    ("😀", "the user"),
    ("", "nan"),
    ("the cafe", ""),
]
OURS, THEIRS = [p for p, _ in PAIRS], [r for _, r in PAIRS]
TEXTS = st.text(alphabet="ab cafe😀é.,'\n</s>\ud800", max_size=30) | st.sampled_from(["", "NaN", " ", "one"])


def seq2seq_loss(folder: Path, source: str, target: str) -> float:
    model, words = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    inputs, labels = (words(text, return_tensors="pt")["input_ids"] for text in (source, target))
    with torch.no_grad():
        return -float(model(input_ids=inputs, labels=labels).loss)


def causal_loss(folder: Path, source: str, target: str) -> float:
    """The documented joining: source, "In other words:" on a line of its own, target, line break."""
    model, words = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    before, joint, after, end = (
        words(text, add_special_tokens=False)["input_ids"]
        for text in (source, "\nIn other words:\n", target, "\n")
    )
    ids = torch.tensor([before + joint + after + end])
    labels = ids.clone()
    labels[:, : len(before + joint)] = -100
    with torch.no_grad():
        return -float(model(input_ids=ids, labels=labels).loss)


@pytest.mark.parametrize("cells", [200, 1 << 26])  # pairs alone, all together
def test_seq2seq_equals_the_loss_of_each_pair(
    seq2seq: Path, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwhy.evaluate.bartscore.LOGITS", cells)
    found = BartScore(str(seq2seq))(OURS, THEIRS).per_pair
    precision = np.array([seq2seq_loss(seq2seq, r, p) for p, r in PAIRS])
    recall = np.array([seq2seq_loss(seq2seq, p, r) for p, r in PAIRS])
    assert found["bartscore_p"] == pytest.approx(precision, abs=1e-4)
    assert found["bartscore_r"] == pytest.approx(recall, abs=1e-4)
    assert found["bartscore_f"] == pytest.approx((precision + recall) / 2, abs=1e-4)
    assert precision.std() > 0.05


@pytest.mark.parametrize("cells", [200, 1 << 26])
def test_causal_equals_the_loss_of_each_pair(
    tiny_model: Path, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwhy.evaluate.bartscore.LOGITS", cells)
    found = BartScore(str(tiny_model))(OURS, THEIRS).per_pair
    precision = [causal_loss(tiny_model, r, p) for p, r in PAIRS]
    recall = [causal_loss(tiny_model, p, r) for p, r in PAIRS]
    assert found["bartscore_p"] == pytest.approx(precision, abs=1e-4)
    assert found["bartscore_r"] == pytest.approx(recall, abs=1e-4)


def test_a_start_token_stands_first_and_the_end_token_last(started: Path) -> None:
    model, words = (
        AutoModelForCausalLM.from_pretrained(started).eval(),
        AutoTokenizer.from_pretrained(started),
    )
    said = [
        words(text, add_special_tokens=False)["input_ids"] for text in ("the cafe", "In other words:", "dogs")
    ]
    ids = torch.tensor([[words.bos_token_id, *sum(said, []), words.eos_token_id]])
    labels = ids.clone()
    labels[:, :-2] = -100
    with torch.no_grad():
        plain = -float(model(input_ids=ids, labels=labels).loss)
    found = BartScore(str(started))(["the cafe", "dogs"], ["dogs", ""]).per_pair["bartscore_r"]
    assert found[0] == pytest.approx(plain, abs=1e-5)
    assert found[1] < 0  # "" is scored on the end token


@pytest.mark.slow
def test_a_real_model_prefers_the_paraphrase() -> None:
    if state(PACKAGED["smollm2-135m"], cache_folder()) != "ready":
        pytest.skip("smollm2-135m is not cached: `make setup` fetches it")
    score = BartScore("smollm2-135m", directions=["recall"])
    said = "The user would enjoy the quiet terrace and the coffee."
    found = score([said, "A plumber fixed the sink."], ["You will like the coffee and the calm terrace."] * 2)
    right, wrong = found.per_pair["bartscore_r"]
    assert wrong + 0.5 < right < 0
    folder = cache_folder() / "models"
    plain = causal_loss(
        next(folder.glob("smollm2-135m-*")), said, "You will like the coffee and the calm terrace."
    )
    assert right == pytest.approx(plain, abs=1e-3)


@pytest.fixture(scope="module", params=["causal", "seq2seq"])
def score(request: pytest.FixtureRequest, tiny_model: Path) -> BartScore:
    folder = tiny_model if request.param == "causal" else request.getfixturevalue("frameless")
    return BartScore(str(folder))


@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_any_text_has_a_finite_score_below_zero(score: BartScore, pairs: list[tuple[str, str]]) -> None:
    ours, theirs = [p for p, _ in pairs], [r for _, r in pairs]
    found, swapped = score(ours, theirs), score(theirs, ours)
    assert set(found.per_pair) | set(found.of_all) <= METRICS.keys()
    values = np.column_stack(list(found.per_pair.values()))
    assert np.isfinite(values).all()
    assert (values <= 0).all()
    assert swapped.per_pair["bartscore_p"] == pytest.approx(found.per_pair["bartscore_r"], abs=1e-4)
    backwards = score(ours[::-1], theirs[::-1])
    assert backwards.per_pair["bartscore_f"][::-1] == pytest.approx(found.per_pair["bartscore_f"], abs=1e-4)


def test_ten_thousand_words_are_cut_and_counted(score: BartScore) -> None:
    long = "the quiet user " * 3333 + "."
    found = score([long, "cafe", "dogs"], ["cafe", long, "dogs"])
    assert score.limit <= 1024
    assert found.of_all == {"bartscore_cut": 2}
    assert np.isfinite(np.concatenate(list(found.per_pair.values()))).all()


def test_special_tokens_in_a_text_are_plain_characters(tiny_model: Path) -> None:
    score = BartScore(str(tiny_model))
    special = set(score._tokenizer.all_special_ids)
    assert not special & set(score._tokens(["a <|im_end|> b"])[0].ids)


def test_one_direction_gives_its_name_alone(tiny_model: Path) -> None:
    found = BartScore(str(tiny_model), directions=["recall"])(OURS, THEIRS).per_pair
    assert set(found) == {"bartscore_r"}
    assert found["bartscore_r"] == pytest.approx(
        BartScore(str(tiny_model))(OURS, THEIRS).per_pair["bartscore_r"]
    )


@pytest.mark.parametrize("directions", [[], ["faithfulness"]])
def test_unknown_directions_are_refused(tiny_model: Path, directions: list[str]) -> None:
    with pytest.raises(UserError, match="choose from precision, recall"):
        BartScore(str(tiny_model), directions=directions)  # type: ignore[arg-type]


def test_the_signature_says_the_kind(tiny_model: Path, seq2seq: Path) -> None:
    assert "|causal|" in BartScore(str(tiny_model)).signature
    assert "|seq2seq|48 tokens" in BartScore(str(seq2seq)).signature
