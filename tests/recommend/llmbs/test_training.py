"""The annealing adapter: on it changes the model, off it is as if it had never been."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from forwhy.recommend.beams import BeamDecoder
from forwhy.recommend.llmbs.network import bare_tokens
from forwhy.recommend.llmbs.training import Annealing
from forwhy.recommend.options import AnnealingConfig
from forwhy.recommend.trie import CodeTrie

from ..conftest import dataset, index_of
from .conftest import language_model

INDEX = index_of(dataset([list(range(9))]))
TOKENS = bare_tokens(INDEX)
IDS = torch.tensor([[0, 3, 5, 2, 10, 7]])
EXTRA = 4
"""Rows behind the index tokens, so that these are not the table's last."""


def adapted(family: str) -> tuple[PreTrainedModel, Annealing, Tensor]:
    """A model with a new adapter, and its logits before."""
    lm = language_model(family, TOKENS.size + EXTRA)
    before = lm(input_ids=IDS).logits
    torch.manual_seed(1)
    return lm, Annealing(lm, TOKENS, AnnealingConfig(epochs=1, dropout=0.0)), before


def disturb(adapter: Annealing) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("family", ["llama", "untied", "gemma3_text"])
def test_off_is_the_first_stage_bit_for_bit(family: str) -> None:
    lm, adapter, before = adapted(family)
    torch.testing.assert_close(lm(input_ids=IDS).logits, before)
    disturb(adapter)
    on = lm(input_ids=IDS).logits
    assert not torch.allclose(on, before)
    adapter.switch(False)
    assert torch.equal(lm(input_ids=IDS).logits, before)
    with adapter.switched(True):
        assert torch.equal(lm(input_ids=IDS).logits, on)
    assert not adapter.on
    assert torch.equal(lm(input_ids=IDS).logits, before)


@pytest.mark.parametrize("family", ["llama", "untied", "gemma3_text"])
def test_what_is_folded_in_stays_and_leaves_a_plain_model(family: str) -> None:
    lm, _, before = adapted(family)
    lm = language_model(family, TOKENS.size + EXTRA)
    names, tables = set(dict(lm.named_parameters())), lm.get_input_embeddings().weight.detach().clone()
    adapter = Annealing(lm, TOKENS, AnnealingConfig(epochs=1, dropout=0.0), con=True)
    disturb(adapter)
    on = lm(input_ids=IDS).logits
    adapter.fold()
    torch.testing.assert_close(lm(input_ids=IDS).logits, on, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(on, before)
    assert set(dict(lm.named_parameters())) == names
    assert (lm.get_input_embeddings().weight is lm.get_output_embeddings().weight) == (family != "untied")
    assert all(parameter.requires_grad for parameter in lm.parameters())
    changed = (lm.get_input_embeddings().weight != tables).any(dim=1).nonzero()[:, 0]
    assert changed.tolist() == [TOKENS.con, *range(TOKENS.first, TOKENS.first + TOKENS.count)]


@pytest.mark.parametrize("family", ["llama", "untied"])
def test_only_updates_and_index_rows_learn(family: str) -> None:
    lm, adapter, _ = adapted(family)
    frozen = {name: p.detach().clone() for name, p in lm.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.1)
    lm(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    for name, parameter in lm.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), name
    tables = 1 if family == "llama" else 2
    rows = [name for name in adapter.trained if name.endswith("rows_nD")]
    assert len(rows) == tables
    assert all(adapter.trained[name].shape == (TOKENS.count, 32) for name in rows)
    assert len(adapter.trained) == tables + 2 * 7 * lm.config.num_hidden_layers, "q, k, v, o, gate, up, down"
    table = lm.get_input_embeddings().weight
    original = frozen["model.embed_tokens.parametrizations.weight.original"]
    changed = (table != original).any(dim=1)
    assert changed[TOKENS.first : TOKENS.first + TOKENS.count].any()
    assert not changed[: TOKENS.first].any()
    assert not changed[-EXTRA:].any(), "rows behind the index tokens stay"


@pytest.mark.parametrize("normalise", ["level", "vocab"])
def test_decoding_sees_the_adapters_rows(normalise: str) -> None:
    lm, adapter, _ = adapted("untied")
    disturb(adapter)
    trie = CodeTrie.from_codes(INDEX.codes, INDEX.sizes)
    decoder = BeamDecoder(lm, trie, TOKENS.levels, normalise, beam=9)  # type: ignore[arg-type]
    found = decoder.search([[0]])
    item = int(found.items[0, 0])
    codes = TOKENS.items_NL[item]
    logits = lm(input_ids=torch.tensor([[0, int(codes[0])]])).logits[0].detach()
    score = 0.0
    for level, code in enumerate(codes.tolist()):
        ids = TOKENS.levels[level] if normalise == "level" else torch.arange(logits.shape[1])
        score += float(logits[level][ids].log_softmax(0)[ids == code])
    assert float(found.scores[0, 0]) == pytest.approx(score, abs=1e-4)
    with adapter.switched(False):
        assert not torch.allclose(decoder.search([[0]]).scores, found.scores)


def test_adapter_follows_into_training_and_back() -> None:
    lm, adapter, _ = adapted("llama")
    adapter.train()
    assert lm.training
    adapter.eval()
    assert not lm.training
