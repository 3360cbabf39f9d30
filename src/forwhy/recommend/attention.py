"""Blocks of self-attention over a history, as SASRec, BERT4Rec, S3-Rec and FDSA stack them (Vaswani et al. 2017).

Shapes: B histories, L places, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt, model_validator

from forwhy.lazy import Network, torch
from forwhy.recommend.networks import SoftmaxNetwork, SoftmaxOptions

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Embedding


class AttentionOptions(SoftmaxOptions):
    """A stack of blocks."""

    layers: PositiveInt = 2
    """Blocks of attention and feed-forward."""
    heads: PositiveInt = 2
    """Attention heads; `dims` is a multiple of it."""
    feedforward: PositiveInt = 4
    """Width of a block's hidden layer, in `dims`."""
    norm: Literal["post", "pre"] = "post"
    """Normalise the sum behind each layer, as most public code does, or the input of each layer and, once more, the
    last block's output."""

    @model_validator(mode="after")
    def _check_heads(self) -> AttentionOptions:
        if self.dims % self.heads:
            raise ValueError(f"dims = {self.dims} is no multiple of {self.heads} heads; change either")
        return self


class AttentionNetwork(SoftmaxNetwork):
    """States of all places of a history in one pass: vectors of items and of places, then the blocks."""

    def __init__(self, n_items: int, config: AttentionOptions, more_places: int = 0) -> None:
        super().__init__(n_items, config)
        self.places = torch.nn.Embedding(config.window + more_places, config.dims)
        self.blocks = torch.nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = torch.nn.LayerNorm(config.dims)
        self._pre = config.norm == "pre"
        self.apply(start)

    def described_by(self, attributes_IM: Tensor) -> Embedding:
        """Keep the items' terms; a vector for each."""
        self.register_buffer("attributes_IM", attributes_IM)
        table = torch.nn.Embedding(1 + int(attributes_IM.max()), self.options.dims)
        start(table)
        return table

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one, from it and earlier places only."""
        return self.attended(self.items(items_BL))

    def attended(self, x_BLD: Tensor, real_BL: Tensor | None = None) -> Tensor:
        """[B, L, D] states. Each place looks at itself and those before it; given `real_BL`, at all places there.

        O(B·L·D² + B·L²·D) per block. L is at most the number of places.
        """
        x_BLD = x_BLD + self.places.weight[: x_BLD.shape[1]]
        x_BLD = self.dropout(x_BLD if self._pre else self.norm(x_BLD))
        for block in self.blocks:
            x_BLD = block(x_BLD, real_BL)
        states_BLD: Tensor = self.norm(x_BLD) if self._pre else x_BLD
        return states_BLD


class _Block(Network):
    """Attention, then feed-forward, each with a residual, dropout and a norm behind or before."""

    def __init__(self, config: AttentionOptions) -> None:
        super().__init__()
        dims = config.dims
        self.heads, self.rate, self._pre = config.heads, config.dropout, config.norm == "pre"
        self.qkv, self.out = torch.nn.Linear(dims, 3 * dims), torch.nn.Linear(dims, dims)
        hidden = config.feedforward * dims
        self.up, self.down = torch.nn.Linear(dims, hidden), torch.nn.Linear(hidden, dims)
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(dims), torch.nn.LayerNorm(dims)])
        self.dropout = torch.nn.Dropout(config.dropout)

    def forward(self, x_BLD: Tensor, real_BL: Tensor | None = None) -> Tensor:
        x_BLD = self._added(x_BLD, lambda x: self._attend(x, real_BL), self.norms[0])
        return self._added(x_BLD, self._feed, self.norms[1])

    def _added(self, x_BLD: Tensor, layer: Callable[[Tensor], Tensor], norm: Network) -> Tensor:
        added_BLD = x_BLD + self.dropout(layer(norm(x_BLD) if self._pre else x_BLD))
        summed: Tensor = added_BLD if self._pre else norm(added_BLD)
        return summed

    def _attend(self, x_BLD: Tensor, real_BL: Tensor | None = None) -> Tensor:
        batch, length, dims = x_BLD.shape
        split = self.qkv(x_BLD).view(batch, length, 3, self.heads, dims // self.heads).permute(2, 0, 3, 1, 4)
        (queries, keys, values), rate = split, self.rate if self.training else 0.0
        attention = torch.nn.functional.scaled_dot_product_attention
        seen = None if real_BL is None else real_BL[:, None, None]
        mixed = attention(queries, keys, values, seen, rate, is_causal=real_BL is None)
        joined: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, dims))
        return joined

    def _feed(self, x_BLD: Tensor) -> Tensor:
        fed: Tensor = self.down(torch.nn.functional.gelu(self.up(x_BLD)))
        return fed


def hidden_places(items_BL: Tensor, lengths_B: Tensor, share: float) -> Tensor:
    """[B, L] True where an item is hidden, drawn anew each time; each row's last one where none would be."""
    left_BL = lengths_B[:, None] - torch.arange(items_BL.shape[1], device=items_BL.device)
    hidden_BL = (torch.rand(items_BL.shape, device=items_BL.device) < share) & (left_BL > 0)
    return torch.where(hidden_BL.any(1, keepdim=True), hidden_BL, left_BL == 1)


def start(module: Network) -> None:
    """Normal weights of deviation 0.02, zero biases, as in public code of SASRec."""
    if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
        torch.nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, torch.nn.Linear):
        torch.nn.init.zeros_(module.bias)
