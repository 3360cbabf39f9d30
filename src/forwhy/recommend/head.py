"""From tokens to a causal language model's last states, and from these to logits of the codes asked for.

Shapes: B users, T tokens of the tree, D model width, V vocabulary, W codes of a level.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.models.llama import modeling_llama as llama

from forwhy.bridge.backbone import taking
from forwhy.bridge.llama import Turns, is_llama, turned, turns, untouched

Normalise = Literal["vocab", "level", "legal"]
"""What a code's probability is shared with, before the log-probabilities of a path are added up.

`vocab`: every token of the vocabulary, as Hugging Face's constrained beam search scores; costs the whole
head. `level`: the codes of the level, for models trained with a loss over them. `legal`: the children of the
node only; a forced code then says nothing, and paths with few siblings are favoured.
"""
Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class CodeHead(Protocol):
    """How a model's states become logits."""

    def vocabulary(self, states: Tensor) -> Tensor:
        """Logits [..., V] of all tokens, float32."""

    def rows(self, states: Tensor, ids_W: Tensor) -> Tensor:
        """Logits [..., W] of some tokens, float32."""


class PlainHead:
    """A linear head over the base model's last states: only the rows asked for are multiplied.

    Scaled as the model's configuration says (Gemma's soft cap, Cohere's and Granite's factors).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.base: nn.Module = model.base_model
        self.linear: Any = model.get_output_embeddings()
        config = model.config.get_text_config()
        self.cap: float | None = getattr(config, "final_logit_softcapping", None)
        scale, share = (float(getattr(config, name, 1.0)) for name in ("logit_scale", "logits_scaling"))
        self.factor = scale / share

    def states(self, keep: int, **inputs: Any) -> Tensor:  # noqa: ANN401
        """Last hidden states [B, keep, D]."""
        cache = taking(self.base, inputs.pop("past_key_values", None))
        hidden: Tensor = self.base(**inputs, **cache, use_cache=True).last_hidden_state
        return hidden[:, -keep:]

    def vocabulary(self, states: Tensor) -> Tensor:
        """The whole head."""
        return self._finished(self.linear(states))

    def rows(self, states: Tensor, ids_W: Tensor) -> Tensor:
        """The rows `ids_W` of the head, read anew each time, so that training between calls is seen."""
        bias: Tensor | None = getattr(self.linear, "bias", None)
        chosen = None if bias is None else bias[ids_W]
        return self._finished(F.linear(states, self.linear.weight[ids_W], chosen))

    def _finished(self, logits: Tensor) -> Tensor:
        scaled = logits * self.factor if self.factor != 1.0 else logits
        capped = scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap
        return capped.float()


class OwnHead:
    """The model's own forward to the logits, for heads that are not a plain linear layer."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def states(self, keep: int, **inputs: Any) -> Tensor:  # noqa: ANN401
        """Logits [B, keep, V]."""
        cache = taking(self.model, inputs.pop("past_key_values", None))
        logits: Tensor = self.model(**inputs, **cache, use_cache=True, logits_to_keep=keep).logits
        return logits[:, -keep:]

    def vocabulary(self, states: Tensor) -> Tensor:
        """The states are the logits."""
        return states.float()

    def rows(self, states: Tensor, ids_W: Tensor) -> Tensor:
        """The logits of these tokens."""
        return states[..., ids_W].float()


# --- Llama's layers without what the general model does around them: the same states in less time.
#
# What is saved: the queries and the feed-forward of the last layer at positions that nobody asks for, positions that
# are turned once per row, checks and masks built again in each pass, and on CPUs a slower matrix product.
# Shapes: B users, T tokens of a pass, n tokens so far and in this pass, D model width, H heads, E head width.


class LlamaHead(PlainHead):
    """A plain head over a Llama, whose layers are passed through here; equal to rounding. A TypeError for other models.

    Linear layers that are more than their weights (adapters, parametrizations) are called as they are. While a hook or
    another forward sits on a whole layer, and where gradients are wanted, the model itself is called.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.llama = cast(Any, self.base)
        if not is_llama(model):
            raise TypeError(f"{type(model).__name__} is no Llama with fixed rotary embeddings")

    def states(self, keep: int, **inputs: Any) -> Tensor:  # noqa: ANN401
        """Last hidden states [B, keep, D]; all where 0."""
        replaced = [self.llama, self.llama.rotary_emb]
        for layer in self.llama.layers:
            replaced += [layer, layer.self_attn, layer.mlp]
        if torch.is_grad_enabled() or not all(map(untouched, replaced)):
            return super().states(keep, **inputs)
        past: Cache = inputs["past_key_values"]
        states_BTD = self.llama.embed_tokens(inputs["input_ids"])
        at = self._turns(states_BTD, past.get_seq_length(), inputs.get("position_ids"))
        shared = _Pass(at, inputs.get("attention_mask"), past, _product(states_BTD))
        *layers, final = self.llama.layers
        for layer in layers:
            states_BTD = shared.layer(layer, states_BTD, 0)
        return _normed(self.llama.norm, shared.layer(final, states_BTD, keep))

    def _turns(self, states_BTD: Tensor, past: int, positions_BT: Tensor | None) -> Turns:
        """Cosines and signed sines [T, 1, E] or [B, T, 1, E] of each position, computed once per position."""
        # No token stands farther behind the beginning than there are tokens.
        cos_nE, signed_nE = turns(self.llama.rotary_emb, states_BTD, past + states_BTD.shape[1])
        if positions_BT is None:
            return cos_nE[past:, None], signed_nE[past:, None]
        return cos_nE[positions_BT][:, :, None], signed_nE[positions_BT][:, :, None]


@dataclass(frozen=True)
class _Pass:
    turns: Turns
    mask: Tensor | None
    past: Cache
    product: Product

    def layer(self, layer: Any, states_BTD: Tensor, keep: int) -> Tensor:  # noqa: ANN401 (it has no types)
        """The layer's states at the last `keep` tokens (0: all); keys and values of all tokens join the past."""
        attention, mlp = layer.self_attn, layer.mlp
        normed_BTD = _normed(layer.input_layernorm, states_BTD)
        keys = self._turned(attention, attention.k_proj, normed_BTD)
        values = self._heads(attention, attention.v_proj, normed_BTD).transpose(1, 2)
        keys, values = self.past.update(keys, values, attention.layer_idx)
        queries = self._turned(attention, attention.q_proj, normed_BTD[:, -keep:])
        mask = None if self.mask is None else self.mask[:, :, -keep:]
        mixed_BHTE = _attended(queries, keys, values, mask, attention.scaling)
        mixed_BTD = mixed_BHTE.transpose(1, 2).flatten(2)
        states_BTD = states_BTD[:, -keep:] + self._linear(attention.o_proj, mixed_BTD)
        normed_BTD = _normed(layer.post_attention_layernorm, states_BTD)
        gate = mlp.act_fn(self._linear(mlp.gate_proj, normed_BTD))
        return states_BTD + self._linear(mlp.down_proj, gate * self._linear(mlp.up_proj, normed_BTD))

    def _heads(self, attention: Any, module: nn.Module, states_BTD: Tensor) -> Tensor:  # noqa: ANN401
        return self._linear(module, states_BTD).view(*states_BTD.shape[:2], -1, attention.head_dim)

    def _turned(self, attention: Any, module: nn.Module, states_BTD: Tensor) -> Tensor:  # noqa: ANN401
        """Heads [B, H, T, E] turned by the positions of the last tokens."""
        heads_BTHE = self._heads(attention, module, states_BTD)
        cos, signed = (table[..., -heads_BTHE.shape[1] :, :, :] for table in self.turns)
        return turned(heads_BTHE, cos, signed).transpose(1, 2)

    def _linear(self, module: nn.Module, states: Tensor) -> Tensor:
        plain = type(module) is nn.Linear and "forward" not in vars(module)
        if not plain or module._forward_pre_hooks or module._forward_hooks_with_kwargs:
            return module(states)  # type: ignore[no-any-return]
        output = self.product(states, module.weight, module.bias)  # type: ignore[arg-type]
        for hook in module._forward_hooks.values():
            changed = hook(module, (states,), output)
            output = output if changed is None else changed
        return output


def _attended(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention, causal where no mask is given: the queries are the last of the keys' tokens."""
    asked, every = queries.shape[2], keys.shape[2]
    causal, grouped = mask is None and asked == every, keys.shape[1] != queries.shape[1]
    if mask is None and 1 < asked < every:
        mask = torch.ones(asked, every, dtype=torch.bool, device=queries.device).tril(every - asked)
    return F.scaled_dot_product_attention(
        queries, keys, values, mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def _normed(module: Any, states: Tensor) -> Tensor:  # noqa: ANN401
    if type(module) is not llama.LlamaRMSNorm or not untouched(module):
        return module(states)  # type: ignore[no-any-return]
    return F.rms_norm(states, module.weight.shape, module.weight, module.variance_epsilon)


def _product(states: Tensor) -> Product:
    """`linear`; on CPUs oneDNN's, which torch's compiler takes too: 4 to 14% faster than the default, measured."""
    fits = states.device.type == "cpu" and states.dtype == torch.float32
    built = fits and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    one_dnn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if built else None
    if one_dnn is None:
        return F.linear
    return lambda given, weight, bias: one_dnn(given, weight, bias, "none", [], "")
