"""Llama's layers in few operations on packed weights of 8 or 16 bits: nearly the same texts in a fraction of the time.

Of the model itself stay its embeddings, and all that needs more than the next token: scores, attention, gradients.

`int8` multiplies whole numbers of 8 bits by whole numbers of 8 bits: each output channel of a weight has a scale, and
so has each position of its input, which makes a row's text the same alone and in a batch. Large input channels would
cost the others their digits, so they are made smaller, and the weights that meet them larger by the same factor
(SmoothQuant, Xiao et al. 2023, eq. 4, alpha .5), measured on a fixed text. `bf16` rounds weights and inputs to 16 bits.

Shapes: B rows, S positions of a pass, T positions so far and in this pass, D model width, H heads, E head width, I
inputs and O outputs of a product, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.models.llama import modeling_llama as llama

Bits = Literal["bf16", "int8"]
Turns = tuple[Tensor, Tensor]
TYPICAL = (
    "You explain recommendations. The user likes quiet places with good food, honest prices and friendly people, and "
    "writes long reviews about service, atmosphere and value. The item is a family business that offers fresh seafood, "
    "cocktails and live music at weekends; visitors praise the portions and complain about parking and noise. In 2021, "
    "37 of 120 customers bought it twice: its colour, size and material were called durable, soft and easy to clean."
)
"""What inputs of layers are measured on."""
_SHAPES_CHANGE = {"dynamic", "longrope"}
_FAR = -1e9
"""Added where a position must not be looked at; finite, so that a row of padding gives numbers."""
_STEPS = 127.0
_ZERO = 128
_LEAST = 1e-5


def is_llama(model: PreTrainedModel) -> bool:
    """A Llama whose rotary embeddings do not depend on the longest position of a pass."""
    base: Any = model.base_model
    return type(base) is llama.LlamaModel and base.rotary_emb.rope_type not in _SHAPES_CHANGE


def turns(rotary: Any, like: Tensor, count: int) -> Turns:  # noqa: ANN401 - of transformers
    """Cosines and signed sines [count, E] of positions 0, 1, …; what :func:`turned` takes, of the positions at hand."""
    cos_nE, sin_nE = (table[0] for table in rotary(like, torch.arange(count, device=like.device)[None]))
    low_nE, high_nE = sin_nE.chunk(2, dim=-1)
    return cos_nE, torch.cat([-low_nE, high_nE], dim=-1)


def turned(heads: Tensor, cos: Tensor, signed: Tensor) -> Tensor:
    """Heads [..., E] turned by their positions."""
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), signed)


def untouched(module: nn.Module) -> bool:
    """Whether the module's forward is its class's, and nothing listens to it."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


# --- Products with packed weights


def _bf16(weight_OI: Tensor) -> Callable[[Tensor], Tensor]:
    """[..., I] -> [..., O], both float32."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.bfloat16().contiguous(), 16)
    multiply = torch.ops.mkldnn._linear_pointwise.default

    def product(inputs: Tensor) -> Tensor:
        out: Tensor = multiply(inputs.bfloat16(), packed, None, "none", [], "")
        return out.float()

    return product


def _int8(weight_OI: Tensor) -> Callable[[Tensor], Tensor]:
    """As :func:`_bf16`; each row of the inputs is divided by its largest number."""
    scale_O = weight_OI.abs().amax(dim=1).clamp_min(_LEAST / _STEPS) / _STEPS
    zero_O = torch.zeros(len(scale_O), dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # such tensors will leave torch; `engines.has` looks for them
        whole = torch.quantize_per_channel(weight_OI.contiguous(), scale_O.double(), zero_O, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(whole, None)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default

    def product(inputs: Tensor) -> Tensor:
        largest = inputs.abs().amax(dim=-1, keepdim=True).clamp_min_(_LEAST)
        out: Tensor = multiply(inputs / largest, 1 / _STEPS, _ZERO, packed)
        return out.mul_(largest)

    return product


PRODUCTS: dict[Bits, Callable[[Tensor], Callable[[Tensor], Tensor]]] = {"bf16": _bf16, "int8": _int8}


class _Linear:
    """Linear layers that read the same inputs, behind a normalisation where one is given, as one product."""

    def __init__(
        self, bits: Bits, weight_OI: Tensor, bias_O: Tensor | None, norm: tuple[Tensor, float] | None
    ) -> None:
        self.product, self.bias_O, self.norm = PRODUCTS[bits](weight_OI), bias_O, norm

    def __call__(self, inputs: Tensor) -> Tensor:
        """[..., O] float32."""
        if self.norm is None:
            out = self.product(inputs)
        else:  # divided by the root mean square at the end: it is one number a row
            gain_I, epsilon = self.norm
            norm = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)
            spread = norm.square_().div_(inputs.shape[-1]).add_(epsilon).rsqrt_()
            out = self.product(inputs * gain_I).mul_(spread)
        return out if self.bias_O is None else out.add_(self.bias_O)


class _Making:
    """Turns a model's linear layers into packed ones."""

    def __init__(self, bits: Bits, largest: dict[nn.Module, Tensor]) -> None:
        """`largest`: [I] of a layer, how large its inputs get; empty where inputs stay as they are."""
        self.bits, self.largest = bits, largest

    def linear(self, layers: Sequence[Any], norm: Any = None, down: Any = None) -> _Linear:  # noqa: ANN401
        """`norm` stands before the layers; the last one's outputs come to `down`, whose inputs are made smaller."""
        weight_OI = torch.cat([layer.weight.detach().float() for layer in layers])
        factor_I = self._factor(layers[0], weight_OI)
        biases = [
            torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach().float()
            for layer in layers
        ]
        bias_O = torch.cat(biases) if any(layer.bias is not None for layer in layers) else None
        weight_OI = weight_OI * factor_I
        if down is not None:
            narrow_O = torch.ones(len(weight_OI))
            narrow_O[-len(layers[-1].weight) :] /= self._factor(down, down.weight.detach().float())
            weight_OI, bias_O = weight_OI * narrow_O[:, None], None if bias_O is None else bias_O * narrow_O
        gain = None if norm is None else (norm.weight.detach().float() / factor_I, norm.variance_epsilon)
        return _Linear(self.bits, weight_OI, bias_O, gain)

    def _factor(self, layer: nn.Module, weight_OI: Tensor) -> Tensor:
        """[I] by how much inputs come smaller; all 1 where not known, or where nothing before it can do that."""
        if layer not in self.largest:
            return torch.ones(weight_OI.shape[1])
        inputs_I, weights_I = self.largest[layer].clamp_min(_LEAST), weight_OI.abs().amax(dim=0)
        return (inputs_I / weights_I.clamp_min(_LEAST)).sqrt()


class _Layer:
    """One layer, its seven products as four."""

    def __init__(self, layer: Any, make: _Making) -> None:  # noqa: ANN401 - of transformers
        attention, mlp = layer.self_attn, layer.mlp
        self.reads = make.linear(
            [attention.q_proj, attention.k_proj, attention.v_proj], layer.input_layernorm
        )
        self.out = make.linear([attention.o_proj])
        self.feeds = make.linear([mlp.gate_proj, mlp.up_proj], layer.post_attention_layernorm, mlp.down_proj)
        self.down, self.act = make.linear([mlp.down_proj]), mlp.act_fn
        self.scale, self.width = attention.scaling, attention.head_dim
        self.queries = attention.q_proj.out_features // self.width
        self.turned = self.queries + attention.k_proj.out_features // self.width

    def states(self, states_BSD: Tensor, at: Turns, mask: Tensor | None, past: Any, last: bool) -> Tensor:  # noqa: ANN401
        """The layer's states, of the last position alone where asked for; keys and values of all join the past."""
        heads_BSHE = self.reads(states_BSD).view(*states_BSD.shape[:2], -1, self.width)
        both_BSHE = turned(heads_BSHE[:, :, : self.turned], *at)
        new = both_BSHE[:, :, self.queries :], heads_BSHE[:, :, self.turned :]
        keys, values = past.update(*(part.transpose(1, 2) for part in new))
        first = states_BSD.shape[1] - 1 if last else 0
        queries = both_BSHE[:, first:, : self.queries].transpose(1, 2)
        shape = queries.shape
        if alone := shape[2] == 1:  # heads that share keys are queries of one head: nothing is repeated
            queries = queries.reshape(shape[0], keys.shape[1], -1, self.width)
            mask = None if mask is None else mask[:, :, -1:]
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, mask, scale=self.scale, enable_gqa=not alone
        )
        states_BSD = states_BSD[:, first:] + self.out(mixed.reshape(shape).transpose(1, 2).flatten(2))
        gate, up = self.feeds(states_BSD).chunk(2, dim=-1)
        return states_BSD + self.down(self.act(gate) * up)


class PackedLlama:
    """The next token's logits of a Llama, on a second copy of its weights in 8 or 16 bits, a quarter or half as large.

    Made in a second per 10^8 weights; for float32 weights on a CPU. `fits` says for which models.
    """

    def __init__(self, model: PreTrainedModel, bits: Bits, typical: Sequence[int]) -> None:
        """`typical`: ids of some text, on which inputs of layers are measured."""
        self.base = cast(Any, model.base_model)
        head = model.get_output_embeddings()
        make = _Making(bits, _largest(model, typical) if bits == "int8" else {})
        self.layers = [_Layer(layer, make) for layer in self.base.layers]
        self.head = make.linear([head], self.base.norm)
        self._modules = [*self.base.modules(), head]
        self._turns: Turns = turns(self.base.rotary_emb, self.base.norm.weight, 0)

    def usable(self) -> bool:
        """Whether nothing listens to the model or changes it now."""
        return all(map(untouched, self._modules))

    def step(
        self, cache: Cache, inputs_BSD: Tensor, mask_BT: Tensor | None, positions_BS: Tensor | None
    ) -> Tensor:
        """Logits [B, V] after the last position; keys and values of all join the cache. No gradients."""
        past, asked = cache.get_seq_length(), inputs_BSD.shape[1]
        at = self._at(positions_BS, past, asked)
        mask, last = _mask(mask_BT, past, asked), len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            inputs_BSD = layer.states(inputs_BSD, at, mask, cache.layers[number], number == last)
        return self.head(inputs_BSD[:, -1])

    def _at(self, positions_BS: Tensor | None, past: int, asked: int) -> Turns:
        """[B, S, 1, E] of the positions."""
        if len(self._turns[0]) < past + asked:
            self._turns = turns(self.base.rotary_emb, self.base.norm.weight, 2 * (past + asked))
        cos_nE, signed_nE = self._turns
        at = slice(past, past + asked) if positions_BS is None else positions_BS
        return cos_nE[at][..., :, None, :], signed_nE[at][..., :, None, :]


def _mask(mask_BT: Tensor | None, past: int, asked: int) -> Tensor | None:
    """[B or 1, 1, S, T] added to what positions say to each other; None where all see everything."""
    if asked == 1:
        seen = None if mask_BT is None else mask_BT[:, None, None]
    else:
        seen = torch.ones(asked, past + asked, dtype=torch.bool).tril(past)[None, None]
        seen = seen if mask_BT is None else seen & mask_BT[:, None, None]
    return None if seen is None else torch.zeros(seen.shape).masked_fill_(~seen, _FAR)


@torch.inference_mode()
def _largest(model: PreTrainedModel, typical: Sequence[int]) -> dict[nn.Module, Tensor]:
    """[I] the largest absolute inputs of each linear layer that has something before it to make them smaller."""
    found: dict[nn.Module, Tensor] = {}
    watched = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and "o_proj" not in name]
    hooks = [
        layer.register_forward_hook(
            lambda module, given, _: found.update({module: given[0].flatten(0, -2).abs().amax(dim=0)})
        )
        for layer in watched
    ]
    try:
        model(input_ids=torch.tensor([list(typical)], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def fits(model: PreTrainedModel) -> bool:
    """Whether :class:`PackedLlama` can read this model: a Llama of plain linear layers, in float32 on a CPU."""
    if not is_llama(model):
        return False
    base: Any = model.base_model
    linear = [m for m in (*base.modules(), model.get_output_embeddings()) if isinstance(m, nn.Linear)]
    plain = all(type(layer) is nn.Linear and layer.weight.dtype == torch.float32 for layer in linear)
    return plain and base.norm.weight.device.type == "cpu"
