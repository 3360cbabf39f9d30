"""Vectors added to the queries, keys and values of every layer of an unforked model (XRec eq. 12).

Shapes: B rows, S positions being fed, K injected positions of a row, D model width, W a projection's width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch
from torch import Tensor, nn

from forwhy.bridge.options import InjectionMode
from forwhy.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SEPARATE = ("q_proj", "k_proj", "v_proj")
FUSED = ("qkv_proj", "query_key_value", "c_attn", "Wqkv")

_injecting: WeakSet[nn.Module] = WeakSet()
"""Models inside a block now, whatever the mode."""


class Injection:
    """The query, key and value projections of every layer of a causal language model.

    Nothing of the model is replaced: inside :meth:`at` its projections carry hooks, outside of it they carry none. So
    quantised and adapted linear layers work.

    `projected` is the paper's equation: each projection reads x + a. `identity` is what the released code does: a is
    added to each projection's output, before rotary positions and a model's norms of queries and keys. Where that is
    not as wide as the model, which the code needs, a is brought to its width W by one rule: the mean over a's pieces of
    W coordinates, the last padded with zeros; or, into a wider one, a repeated and cut.

    Cost: `projected` copies the input of a layer's projections once, [B, S, D]; `identity` copies the output of each:
    0.1% to 0.7% of a pass of SmolLM2-135M on one core, and 0.2 ms for each block.
    """

    def __init__(self, model: PreTrainedModel, mode: InjectionMode = "projected") -> None:
        """Find the projections; the model is left as it is.

        Raises:
            UserError: a layer without such projections, or `identity` where queries, keys and values come from one.
        """
        self.mode: InjectionMode = mode
        self._model = model
        self._projections: list[nn.Module] = []
        for number, layer in enumerate(_layers(model)):
            where = f"model {type(model).__name__}: layer {number} ({type(layer).__name__})"
            found = _projections(layer)
            if found is None:
                raise UserError(
                    f"{where} has no single attention with {', '.join(SEPARATE)} or with one of {', '.join(FUSED)}; "
                    "use another model, or leave injection out"
                )
            if mode == "identity" and len(found) == 1:
                raise UserError(
                    f'{where} makes queries, keys and values in one projection, which mode "identity" cannot tell '
                    'apart; use mode "projected"'
                )
            self._projections += found

    @contextmanager
    def at(self, vectors_BKD: Tensor, positions_BK: Tensor) -> Iterator[None]:
        """Inside the block every pass through the model has vectors a injected; gradients reach them.

        Positions are those being fed: a cached beginning does not count. Decoding steps read what was injected from the
        key-value cache, so they belong outside the block; a backward pass that recomputes activations belongs inside.

        Raises:
            RuntimeError: the model is being injected already.
            ValueError: shapes that do not fit each other, or a pass with another number of rows.
        """
        if vectors_BKD.shape[:2] != positions_BK.shape:
            raise ValueError(
                f"vectors {list(vectors_BKD.shape)} at positions {list(positions_BK.shape)}: "
                "the first two sizes must be the same"
            )
        if self._model in _injecting:
            raise RuntimeError("this model is being injected already; blocks cannot be nested")
        addition = _Addition(vectors_BKD, positions_BK)
        with ExitStack() as block:
            _injecting.add(self._model)
            block.callback(_injecting.discard, self._model)
            for projection in self._projections:
                if self.mode == "projected":
                    block.enter_context(projection.register_forward_pre_hook(addition.before))
                else:
                    block.enter_context(projection.register_forward_hook(addition.after))
            yield


class _Addition:
    """The hooks of one block."""

    def __init__(self, vectors_BKD: Tensor, positions_BK: Tensor) -> None:
        self._vectors_BKD, self._positions_BK = vectors_BKD, positions_BK
        self._last: tuple[Tensor, Tensor] | None = None
        self._fitted: dict[int, Tensor] = {vectors_BKD.shape[-1]: vectors_BKD}

    def before(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Input + a; the same tensor for the three projections that are given the same x."""
        x_BSD = inputs[0]
        if self._last is None or self._last[0] is not x_BSD:
            self._last = x_BSD, self._added(x_BSD, self._vectors_BKD)
        return self._last[1], *inputs[1:]

    def after(self, _: nn.Module, __: object, out_BSW: Tensor) -> Tensor:
        """The projection's output + a at its width."""
        width = out_BSW.shape[-1]
        if width not in self._fitted:
            self._fitted[width] = fitted(self._vectors_BKD, width)
        return self._added(out_BSW, self._fitted[width])

    def _added(self, to_BSW: Tensor, vectors_BKW: Tensor) -> Tensor:
        positions_BK = self._positions_BK.to(to_BSW.device)
        if len(to_BSW) != len(positions_BK):
            raise ValueError(f"vectors for {len(positions_BK)} rows, but the model is fed {len(to_BSW)}")
        row_B1 = torch.arange(len(to_BSW), device=to_BSW.device)[:, None]
        return to_BSW.index_put((row_B1, positions_BK), vectors_BKW.to(to_BSW), accumulate=True)


def fitted(vectors_BKD: Tensor, width: int) -> Tensor:
    """Vectors [B, K, W] by the rule of :class:`Injection`; the vectors themselves where W = D."""
    own = vectors_BKD.shape[-1]
    if width >= own:
        return vectors_BKD.repeat(1, 1, -(-width // own))[..., :width]
    pieces = -(-own // width)
    padded = nn.functional.pad(vectors_BKD, (0, pieces * width - own))
    return padded.reshape(*vectors_BKD.shape[:-1], pieces, width).mean(dim=-2)


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    """The list of the decoder's layers, known by its length."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    decoder = model.get_decoder()
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise UserError(
        f"model {type(model).__name__}: {type(decoder).__name__} holds no list of {count} layers to inject "
        "into; use another model, or leave injection out"
    )


def _projections(layer: nn.Module) -> list[nn.Module] | None:
    """Query, key and value of the layer's attention, or the one that makes all three; None where unclear."""
    found: list[list[nn.Module]] = []
    for module in layer.modules():
        children = dict(module.named_children())
        names = [SEPARATE] if children.keys() >= set(SEPARATE) else [(n,) for n in FUSED if n in children]
        found += [[children[name] for name in group] for group in names]
    return found[0] if len(found) == 1 else None
