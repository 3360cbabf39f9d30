"""The network against the library's T5, and its beams against `generate` and against reading every item plainly."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

from forwhy.data.dataset import Ids
from forwhy.recommend.beams import BeamDecoder
from forwhy.recommend.head import Normalise
from forwhy.recommend.t5 import buckets
from forwhy.recommend.tiger import BEGIN, TigerNetwork
from forwhy.recommend.trie import CodeTrie
from forwhy.vocabulary.index import ItemIndex

from .conftest import tiny_tiger


def network_of(index: ItemIndex, seed: int = 0, **changes: Any) -> TigerNetwork:  # noqa: ANN401
    """Random weights, far enough apart that scores differ."""
    torch.manual_seed(seed)
    network = TigerNetwork(index, tiny_tiger(layers=2, **changes)).eval()
    with torch.no_grad():
        for stack in (network.encoder, network.decoder):
            stack.bias.weight.mul_(5.0)
            for module in stack.modules():
                if isinstance(module, nn.RMSNorm):
                    module.weight.uniform_(0.5, 1.5)
        network.table.weight.mul_(2.0)
    return network


def library_t5(network: TigerNetwork) -> T5ForConditionalGeneration:
    """Hugging Face's T5 with the same weights."""
    config = network.config
    shape = T5Config(
        vocab_size=network.table.num_embeddings, d_model=config.dims, d_kv=config.head_dims,
        d_ff=config.feedforward, num_layers=config.layers, num_decoder_layers=config.layers,
        num_heads=config.heads, dropout_rate=0.0, feed_forward_proj="relu", tie_word_embeddings=True,
        pad_token_id=BEGIN, decoder_start_token_id=BEGIN, eos_token_id=None,
    )  # fmt: skip
    model = T5ForConditionalGeneration(shape).eval()
    state = {"shared.weight": network.table.weight, "lm_head.weight": network.table.weight}
    for side in ("encoder", "decoder"):
        stack = getattr(network, side)
        state[f"{side}.embed_tokens.weight"] = network.table.weight
        state[f"{side}.final_layer_norm.weight"] = stack.norm.weight
        state[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = stack.bias.weight
        for number, block in enumerate(stack.blocks):
            state |= _block(f"{side}.block.{number}.layer.", block)
    model.load_state_dict(state)
    return model


def _block(name: str, block: Any) -> dict[str, Tensor]:  # noqa: ANN401
    state = _attention(f"{name}0.SelfAttention.", block.own)
    state[f"{name}0.layer_norm.weight"] = block.own_norm.weight
    last = 1
    if hasattr(block, "cross"):
        last = 2
        state |= _attention(f"{name}1.EncDecAttention.", block.cross)
        state[f"{name}1.layer_norm.weight"] = block.cross_norm.weight
    state[f"{name}{last}.layer_norm.weight"] = block.hidden_norm.weight
    state[f"{name}{last}.DenseReluDense.wi.weight"] = block.into.weight
    state[f"{name}{last}.DenseReluDense.wo.weight"] = block.out.weight
    return state


def _attention(name: str, attention: Any) -> dict[str, Tensor]:  # noqa: ANN401
    keys, values = attention.key_value.weight.chunk(2)
    parts = {"q": attention.query.weight, "k": keys, "v": values, "o": attention.out.weight}
    return {f"{name}{part}.weight": weight for part, weight in parts.items()}


SIZES = (5, 6, 7)
CODES = np.unique(np.random.default_rng(3).integers(0, SIZES, (70, 3)), axis=0).astype(np.int32)
np.random.default_rng(4).shuffle(CODES)
ITEMS = Ids(tuple(f"i{number:02}" for number in range(len(CODES))))
INDEX = ItemIndex(CODES, SIZES, ("file",) * 3, ITEMS)
NETWORK = network_of(INDEX)
LIBRARY = library_t5(NETWORK)
HISTORIES = [[4, 9, 1], [], [33], list(range(20)), [2, 2, 2, 2], [7, 8, 9, 10, 11]]
PROMPTS = [NETWORK.tokens.history(items) for items in HISTORIES]


def decoder(network: TigerNetwork = NETWORK, **options: Any) -> BeamDecoder:  # noqa: ANN401
    trie = CodeTrie.from_codes(INDEX.codes, INDEX.sizes)
    return BeamDecoder(network, trie, network.tokens.levels, **options)


@torch.no_grad()
def plain_scores(prompt: list[int], normalise: str, model: T5ForConditionalGeneration = LIBRARY) -> Tensor:
    """[N] scores of all items, each written by itself by the library's model."""
    tokens = NETWORK.tokens
    inputs = torch.tensor([prompt]).expand(len(CODES), -1)
    written = F.pad(tokens.items_NL[:, :-1], (1, 0), value=BEGIN)
    logits = model(inputs, attention_mask=torch.ones_like(inputs), decoder_input_ids=written).logits
    total = torch.zeros(len(CODES))
    for item, row in enumerate(CODES):
        for level, code in enumerate(row):
            siblings = (CODES[:, :level] == row[:level]).all(axis=1)
            rivals = {
                "vocab": torch.arange(logits.shape[-1]),
                "level": tokens.levels[level],
                "legal": tokens.levels[level][np.unique(CODES[siblings, level])],
            }[normalise]
            here = logits[item, level]
            total[item] += here[tokens.levels[level][code]] - here[rivals].logsumexp(0)
    return total


def test_distances_fall_into_the_buckets_of_t5() -> None:
    distances = torch.arange(-300, 300)
    for both in (True, False):
        wanted = T5Attention._relative_position_bucket(distances, both, 32, 128)
        assert torch.equal(buckets(distances, both), wanted)


@pytest.mark.parametrize("softmax", ["level", "vocab"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_the_library_history_by_history(
    softmax: Literal["level", "vocab"], smoothing: float
) -> None:
    network = network_of(INDEX, softmax=softmax, label_smoothing=smoothing)
    tokens, targets = network.tokens, torch.tensor([3, 1, 4, 1, 5, 9])
    lengths = torch.tensor([len(items) for items in HISTORIES])
    padded = torch.zeros(len(HISTORIES), 20, dtype=torch.long)
    for row, items in enumerate(HISTORIES):
        padded[row, : len(items)] = torch.tensor(items)
    losses = []
    for prompt, target in zip(PROMPTS, targets, strict=True):
        codes = tokens.items_NL[target]
        inputs = torch.tensor([prompt])
        logits = LIBRARY(
            inputs, attention_mask=torch.ones_like(inputs), decoder_input_ids=F.pad(codes[:-1], (1, 0))[None]
        ).logits[0]
        for level, code in enumerate(codes):
            rivals = tokens.levels[level] if softmax == "level" else torch.arange(logits.shape[-1])
            own = code - rivals[0]
            losses.append(F.cross_entropy(logits[level, rivals], own, label_smoothing=smoothing))
    found = network(padded, lengths, targets)["loss"]
    torch.testing.assert_close(found, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


def test_items_and_scores_are_those_of_hugging_face() -> None:
    root: dict[int, Any] = {}
    item_of = {}
    for item, path in enumerate(NETWORK.tokens.items_NL.tolist()):
        node = root
        for token in path:
            node = node.setdefault(token, {})
        item_of[tuple(path)] = item

    def allowed(_: int, sequence: Tensor) -> list[int]:
        node = root
        for token in sequence[1:].tolist():
            node = node[token]
        return list(node)

    found = decoder(beam=6).search(PROMPTS)
    for user, prompt in enumerate(PROMPTS):
        inputs = torch.tensor([prompt])
        out = LIBRARY.generate(
            inputs, attention_mask=torch.ones_like(inputs), num_beams=6, num_return_sequences=6,
            max_new_tokens=3, prefix_allowed_tokens_fn=allowed, length_penalty=0.0, do_sample=False,
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        items = [item_of[tuple(path)] for path in out.sequences[:, 1:].tolist()]
        assert found.items[user].tolist() == items
        torch.testing.assert_close(found.scores[user], out.sequences_scores, atol=1e-4, rtol=0)


@pytest.mark.parametrize("normalise", ["vocab", "level", "legal"])
def test_a_wide_beam_and_the_exact_scores_are_brute_force(normalise: Normalise) -> None:
    made = decoder(beam=100, normalise=normalise)
    found, exact = made.search(PROMPTS), made.exact(PROMPTS)
    for user, prompt in enumerate(PROMPTS):
        plain = plain_scores(prompt, normalise)
        torch.testing.assert_close(exact[user], plain, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.scores[user], plain.sort(descending=True).values, atol=1e-4, rtol=0)
        torch.testing.assert_close(plain[found.items[user]], found.scores[user], atol=1e-4, rtol=0)
        assert sorted(found.items[user].tolist()) == list(range(len(CODES)))


@pytest.mark.parametrize("batch", [1, 2, 6])
def test_neither_company_nor_padding_change_the_result(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # All begin alike, but an encoder can't read that apart from the rest.
    monkeypatch.setattr("forwhy.recommend.beams.SHARED_TOKENS", 1)
    together = decoder(beam=7, batch=batch).search(PROMPTS)
    for user, prompt in enumerate(PROMPTS):
        alone = decoder(beam=7).search([prompt])
        assert together.items[user].tolist() == alone.items[0].tolist()
        torch.testing.assert_close(together.scores[user], alone.scores[0], atol=1e-4, rtol=0)


def test_what_was_read_is_held_once_however_many_beams_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made, held = decoder(beam=20), []
    grow = made.lm.grow

    def watched(read: Any, *given: Any) -> Tensor:  # noqa: ANN401
        held.extend(keys.shape[0] for pair in read.encoded[0] for keys in pair)
        return grow(read, *given)

    monkeypatch.setattr(made.lm, "grow", watched)
    made.search(PROMPTS)
    assert set(held) == {len(PROMPTS)}


def test_a_gradient_reaches_every_weight() -> None:
    network = network_of(INDEX).train()
    network(torch.arange(12).view(4, 3), torch.tensor([3, 2, 1, 0]), torch.arange(4))["loss"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
