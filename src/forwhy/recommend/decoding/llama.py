"""Llama's layers without what the general model does around them: the same states in less time.

What is saved: the queries and the feed-forward of the last layer at positions that nobody asks for, positions that
are turned once per row, checks and masks built again in each pass, and on CPUs a slower matrix product.
Shapes: B users, T tokens of a pass, n tokens so far and in this pass, D model width, H heads, E head width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.models.llama import modeling_llama as llama

from forwhy.recommend.decoding.head import PlainHead

_SHAPES_CHANGE = {"dynamic", "longrope"}
"""Rotary embeddings that depend on the longest position of a pass."""


class LlamaHead(PlainHead):
    """A plain head over a Llama, whose layers are passed through here; equal to rounding.

    Linear layers that are more than their weights (adapters, parametrizations) are called as they are. While a hook
    or another forward sits on a whole layer, and where gradients are wanted, the model itself is called.

    Raises:
        TypeError: the model is no Llama.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        if type(self.base) is not llama.LlamaModel or self.base.rotary_emb.rope_type in _SHAPES_CHANGE:
            raise TypeError(f"{type(self.base).__name__} is no Llama with fixed rotary embeddings")
        self.llama: Any = self.base

    def states(self, keep: int, **inputs: Any) -> Tensor:  # noqa: ANN401
        """Last hidden states [B, keep, D]; all where 0."""
        if torch.is_grad_enabled() or not all(map(_untouched, self._frame())):
            return super().states(keep, **inputs)
        return self._passed(keep, **inputs)

    def _frame(self) -> Iterable[nn.Module]:
        """The modules whose work is done here."""
        yield from (self.llama, self.llama.rotary_emb)
        for layer in self.llama.layers:
            yield from (layer, layer.self_attn, layer.mlp)

    def _passed(
        self,
        keep: int,
        input_ids: Tensor,
        past_key_values: Cache,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        past, count = past_key_values.get_seq_length(), input_ids.shape[1]
        keep = keep or count
        states = self.llama.embed_tokens(input_ids)
        every_1n = torch.arange(past + count, device=states.device)[None]  # no token stands farther than it comes
        turns = [table[0, past:] if position_ids is None else table[0][position_ids] for table in
                 self.llama.rotary_emb(states, every_1n)]  # fmt: skip
        for number, layer in enumerate(self.llama.layers):
            last = keep if number == len(self.llama.layers) - 1 else count
            states = _layer(layer, states, turns, attention_mask, past_key_values, last)
        return self.llama.norm(states)


def _layer(
    layer: Any,  # noqa: ANN401 (a Llama layer has no types)
    states_BTD: Tensor,
    turns: list[Tensor],
    mask: Tensor | None,
    past: Cache,
    keep: int,
) -> Tensor:
    """The layer's states at the last `keep` tokens; keys and values of all tokens join `past`."""
    attention = layer.self_attn
    normed_BTD = layer.input_layernorm(states_BTD)
    keys = _turned(_heads(attention.k_proj, normed_BTD, attention.head_dim), turns)
    values = _heads(attention.v_proj, normed_BTD, attention.head_dim)
    keys, values = past.update(keys, values, attention.layer_idx)
    asked = [table[..., -keep:, :] for table in turns]
    queries = _turned(_heads(attention.q_proj, normed_BTD[:, -keep:], attention.head_dim), asked)
    mixed_BHTE = _attended(queries, keys, values, mask, attention.scaling)
    states_BTD = states_BTD[:, -keep:] + _linear(attention.o_proj, mixed_BHTE.transpose(1, 2).flatten(2))
    normed_BTD = layer.post_attention_layernorm(states_BTD)
    gated = layer.mlp.act_fn(_linear(layer.mlp.gate_proj, normed_BTD)) * _linear(layer.mlp.up_proj, normed_BTD)
    return states_BTD + _linear(layer.mlp.down_proj, gated)


def _heads(module: nn.Module, states_BTD: Tensor, width: int) -> Tensor:
    """[B, H, T, E]."""
    return _linear(module, states_BTD).unflatten(-1, (-1, width)).transpose(1, 2)


def _turned(states_BHTE: Tensor, turns: list[Tensor]) -> Tensor:
    """Rotary embedding: cosines and sines [T, E] or [B, T, E]."""
    cos, sin = (table if table.dim() == 2 else table[:, None] for table in turns)
    half = states_BHTE.shape[-1] // 2
    low, high = states_BHTE[..., :half], states_BHTE[..., half:]
    turned = states_BHTE * cos
    turned[..., :half] -= high * sin[..., :half]
    turned[..., half:] += low * sin[..., half:]
    return turned


def _attended(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention, causal where no mask is given: the queries are the last of the keys' tokens."""
    asked, every = queries.shape[2], keys.shape[2]
    causal = mask is None and asked == every
    if mask is None and 1 < asked < every:
        ones = torch.ones(asked, every, dtype=torch.bool, device=queries.device)
        mask = ones.tril(every - asked)
    return F.scaled_dot_product_attention(
        queries, keys, values, mask, is_causal=causal, scale=scale, enable_gqa=keys.shape[1] != queries.shape[1]
    )


def _linear(module: nn.Module, states: Tensor) -> Tensor:
    """The module's output, its hooks included; by oneDNN's product where a CPU has it, which is the faster one."""
    direct = type(module) is nn.Linear and not module._forward_pre_hooks and "forward" not in vars(module)
    if not direct or not _one_dnn(states) or module._forward_hooks_with_kwargs:
        return module(states)  # type: ignore[no-any-return]
    product: Tensor = torch.ops.mkldnn._linear_pointwise(states, module.weight, module.bias, "none", [], "")
    for hook in module._forward_hooks.values():
        changed = hook(module, (states,), product)
        product = product if changed is None else changed
    return product


def _one_dnn(states: Tensor) -> bool:
    """Whether torch has the product its compiler takes for CPUs, for numbers like these."""
    fits = states.device.type == "cpu" and states.dtype == torch.float32
    return fits and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _untouched(module: nn.Module) -> bool:
    """Whether the module's forward is its class's, and nothing listens to it."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
