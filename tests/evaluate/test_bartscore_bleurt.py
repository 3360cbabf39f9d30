"""BLEURT against one forward pass for each pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)

from forwhy.errors import UserError
from forwhy.evaluate.bartscore import Bleurt
from forwhy.evaluate.registry import METRICS

PAIRS = [
    ("the user would enjoy the cosy cafe.", "the user would enjoy quiet dogs!"),
    ("cosy", "the cafe, quiet and cosy"),
    ("dogs and dogs and dogs and user", "dogs"),
    ("😀", "the user"),
    ("", "nan"),
    ("the cafe", ""),
]
TEXTS = st.text(alphabet="ab cafe😀é.,'\n[SEP]\ud800", max_size=30) | st.sampled_from(["", "NaN", " ", "one"])


def plain(folder: Path, prediction: str, reference: str) -> float:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return float(model(**words([reference], [prediction], return_tensors="pt")).logits)


def test_equals_a_forward_pass_of_reference_and_prediction(rater: Path) -> None:
    found = Bleurt(str(rater))([p for p, _ in PAIRS], [r for _, r in PAIRS]).per_pair["bleurt"]
    assert found == pytest.approx([plain(rater, p, r) for p, r in PAIRS], abs=1e-5)
    assert found[0] != pytest.approx(plain(rater, PAIRS[0][1], PAIRS[0][0]), abs=1e-3)  # the order matters


@pytest.fixture(scope="module")
def score(rater: Path) -> Bleurt:
    return Bleurt(str(rater))


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_any_text_has_a_score_whatever_its_company(score: Bleurt, pairs: list[tuple[str, str]]) -> None:
    ours, theirs = [p for p, _ in pairs], [r for _, r in pairs]
    found = score(ours, theirs)
    assert set(found.per_pair) | set(found.of_all) <= METRICS.keys()
    assert np.isfinite(found.per_pair["bleurt"]).all()
    alone = [score([p], [r]).per_pair["bleurt"][0] for p, r in pairs]
    assert found.per_pair["bleurt"] == pytest.approx(alone, abs=1e-5)


def test_ten_thousand_words_are_cut_and_counted(score: Bleurt) -> None:
    long = "the quiet user " * 3333 + "."
    exact = "cafe " * (score.limit - 4)
    found = score([long, "cafe", "dogs", exact], ["cafe", long, "dogs", "dogs"])
    assert found.of_all == {"bleurt_cut": 2}
    assert np.isfinite(found.per_pair["bleurt"]).all()


def test_another_head_is_refused(bert: Path, rater: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its head has 2 outputs; name a regression checkpoint"):
        Bleurt(str(bert))
    model = BertForSequenceClassification.from_pretrained(rater)
    kept = {name: weight for name, weight in model.state_dict().items() if "pooler" not in name}
    AutoTokenizer.from_pretrained(rater).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(UserError, match="2 weights are missing, first bert.pooler"):
        Bleurt(str(tmp_path))


def test_the_signature_names_the_checkpoint(rater: Path) -> None:
    assert BertConfig.from_pretrained(rater).num_labels == 1
    assert Bleurt(str(rater)).signature.startswith(f"{rater}@sha256:")
