"""Tiny random language models of several families for LLM-BS."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3, "max_position_embeddings": 128,
    "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SMALL | {"tie_word_embeddings": True},
    "untied": SMALL | {"tie_word_embeddings": False},
    "sliding": SMALL | {"sliding_window": 6},
    "gemma3_text": SMALL
    | {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"], "sliding_window_pattern": 2},
}  # fmt: skip


def language_model(family: str, vocabulary: int, seed: int = 0) -> PreTrainedModel:
    """A random model; weights far enough apart that losses differ."""
    torch.manual_seed(seed)
    name = {"untied": "llama", "sliding": "mistral"}.get(family, family)
    shape = CONFIG_MAPPING[name](vocab_size=vocabulary, **FAMILIES[family])
    return AutoModelForCausalLM.from_config(shape).eval()
