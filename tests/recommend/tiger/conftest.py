"""Small catalogues, and the library's T5 with a network's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.recommend.tiger import TigerConfig
from forwhy.recommend.tiger.network import BEGIN, TigerNetwork, tiger_tokens
from forwhy.vocabulary.indices import IndexConfig, ItemIndex, build_index


def dataset(histories: Sequence[Sequence[int]]) -> Dataset:
    """Items i00, i01, …; the last item of a history of three or more is test, the one before valid."""
    rows = [
        (f"u{user}", f"i{item:02}", time, _split(time, len(history)))
        for user, history in enumerate(histories)
        for time, item in enumerate(history)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    return make_dataset("small", {"interactions": frame}, duplicates="keep")


def index_of(data: Dataset, width: int = 4, depth: int = 2, seed: int = 0) -> ItemIndex:
    """Random codes."""
    return build_index(data.items, IndexConfig(source="random", width=width, depth=depth, seed=seed))


def ring(users: int, items: int, length: int) -> list[list[int]]:
    """Histories in which item i + 1 follows item i."""
    starts = np.random.default_rng(0).integers(0, items, users)
    return [[(int(start) + step) % items for step in range(length)] for start in starts]


def tiny(**changes: Any) -> TigerConfig:  # noqa: ANN401
    """Options of a network that trains in a moment."""
    given: dict[str, Any] = {
        "layers": 1, "dims": 32, "heads": 2, "head_dims": 12, "feedforward": 48, "dropout": 0.0,
        "targets": 0, "epochs": 1, "patience": 0, "batch_size": 32, "learning_rate": 1e-2, "beam": 5, "device": "cpu",
    }  # fmt: skip
    return TigerConfig.model_validate(given | changes)


def network_of(index: ItemIndex, seed: int = 0, **changes: Any) -> TigerNetwork:  # noqa: ANN401
    """Random weights, far enough apart that scores differ."""
    torch.manual_seed(seed)
    network = TigerNetwork(tiger_tokens(index), tiny(layers=2, **changes)).eval()
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


def _split(time: int, length: int) -> str:
    if length < 3 or time < length - 2:
        return "train"
    return "valid" if time == length - 2 else "test"
