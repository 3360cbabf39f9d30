"""SASRec: causal self-attention over a history (Kang and McAuley 2018).

Shapes: B histories, L places, I items, D width, H heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt, model_validator

from forwhy.lazy import Network, torch
from forwhy.recommend.networks import SoftmaxNetwork, SoftmaxOptions
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


class SasRecConfig(SoftmaxOptions):
    """SASRec (Kang and McAuley 2018) with the softmax over the whole catalogue in place of sampled negatives."""

    network: Literal["sasrec"] = "sasrec"
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
    def _check_heads(self) -> SasRecConfig:
        if self.dims % self.heads:
            raise ValueError(f"dims = {self.dims} is no multiple of {self.heads} heads; change either")
        return self

    def build(self, n_items: int) -> SasRecNetwork:
        """The untrained network."""
        return SasRecNetwork(n_items, self)


class SasRecNetwork(SoftmaxNetwork):
    """States of all places of a history in one pass; the causal mask keeps what pads it from everything that counts."""

    def __init__(self, n_items: int, config: SasRecConfig) -> None:
        super().__init__(n_items, config)
        self.places = torch.nn.Embedding(config.window, config.dims)
        self.blocks = torch.nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = torch.nn.LayerNorm(config.dims)
        self._pre = config.norm == "pre"
        self.apply(_start)

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one, from it and earlier places only.

        O(B·L·D² + B·L²·D) per block. L is at most the window.
        """
        x_BLD = self.items(items_BL) + self.places.weight[: items_BL.shape[1]]
        x_BLD = self.dropout(x_BLD if self._pre else self.norm(x_BLD))
        for block in self.blocks:
            x_BLD = block(x_BLD)
        states_BLD: Tensor = self.norm(x_BLD) if self._pre else x_BLD
        return states_BLD


class _Block(Network):
    """Attention, then feed-forward, each with a residual, dropout and a norm behind or before."""

    def __init__(self, config: SasRecConfig) -> None:
        super().__init__()
        dims = config.dims
        self.heads, self.rate, self._pre = config.heads, config.dropout, config.norm == "pre"
        self.qkv, self.out = torch.nn.Linear(dims, 3 * dims), torch.nn.Linear(dims, dims)
        hidden = config.feedforward * dims
        self.up, self.down = torch.nn.Linear(dims, hidden), torch.nn.Linear(hidden, dims)
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(dims), torch.nn.LayerNorm(dims)])
        self.dropout = torch.nn.Dropout(config.dropout)

    def forward(self, x_BLD: Tensor) -> Tensor:
        for layer, norm in zip((self._attend, self._feed), self.norms, strict=True):
            added_BLD = x_BLD + self.dropout(layer(norm(x_BLD) if self._pre else x_BLD))
            x_BLD = added_BLD if self._pre else norm(added_BLD)
        return x_BLD

    def _attend(self, x_BLD: Tensor) -> Tensor:
        batch, length, dims = x_BLD.shape
        split = self.qkv(x_BLD).view(batch, length, 3, self.heads, dims // self.heads).permute(2, 0, 3, 1, 4)
        (queries, keys, values), rate = split, self.rate if self.training else 0.0
        attention = torch.nn.functional.scaled_dot_product_attention
        mixed = attention(queries, keys, values, dropout_p=rate, is_causal=True)
        joined: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, dims))
        return joined

    def _feed(self, x_BLD: Tensor) -> Tensor:
        fed: Tensor = self.down(torch.nn.functional.gelu(self.up(x_BLD)))
        return fed


def _start(module: Network) -> None:
    """Normal weights of deviation 0.02, zero biases, as in public code of SASRec."""
    if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
        torch.nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, torch.nn.Linear):
        torch.nn.init.zeros_(module.bias)


class SasRec(NetworkSystem):
    """A network of attention over a history predicts the next item."""

    system: Literal["sasrec"] = "sasrec"
    recommender: SasRecConfig = Field(default_factory=SasRecConfig)
