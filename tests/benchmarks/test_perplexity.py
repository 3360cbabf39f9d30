"""Perplexity of plain text against one token at a time."""

import math
from pathlib import Path

import pytest
import torch
from benchmarks.perplexity import Surprise, surprise

from benchmarks import perplexity
from forwhy.errors import UserError
from forwhy.models import LoadedModel, load_causal_lm
from forwhy.text.hostile import PlainText

TEXTS = ["a red comb and green soap", "soap", "", "quiet places with good coffee, cheap and near"]
CONTEXT = 5


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    """Weights far enough from zero that tokens differ in probability."""
    found = load_causal_lm(str(tiny_model))
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter *= 4
    return found


def by_token(loaded: LoadedModel, text: str) -> list[float]:
    """-ln p of each token given those of its window before it, every prefix in a pass of its own."""
    ids = PlainText(loaded.tokenizer).exact(text)
    begin = loaded.tokenizer.bos_token_id
    begin = loaded.tokenizer.eos_token_id if begin is None else begin
    costs = []
    for place, token in enumerate(ids):
        start = place - place % CONTEXT
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([[begin, *ids[start:place]]])).logits[0, -1]
        costs.append(-float(logits.log_softmax(0)[token]))
    return costs


@pytest.mark.parametrize("most", [1, 12, 512])
def test_equals_one_token_at_a_time(loaded: LoadedModel, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "PASS_TOKENS", most)
    costs = [cost for text in TEXTS for cost in by_token(loaded, text)]
    found = surprise(loaded.model, loaded.tokenizer, TEXTS, CONTEXT)
    assert found.tokens == len(costs)
    assert max(costs) - min(costs) > 0.1
    assert found.nats == pytest.approx(sum(costs), rel=1e-5)


def test_perplexity_counts_equal_choices() -> None:
    assert Surprise(nats=6 * math.log(50), tokens=6).perplexity == pytest.approx(50)


def test_nothing_to_read_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(UserError, match="every text is empty"):
        surprise(loaded.model, loaded.tokenizer, ["", ""])
