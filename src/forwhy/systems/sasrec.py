"""SASRec: causal self-attention over a history (Kang and McAuley 2018).

Shapes: B histories, L places, N places that have a next item, I items, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from forwhy.lazy import torch
from forwhy.recommend.attention import AttentionNetwork, AttentionOptions
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


class SasRecConfig(AttentionOptions):
    """SASRec (Kang and McAuley 2018)."""

    network: Literal["sasrec"] = "sasrec"
    loss: Literal["softmax", "bce"] = "softmax"
    """What a target is told apart from: all items (`softmax`), or one item that the history does not hold, drawn anew
    each time, by binary cross-entropy as published (eq. 6 there)."""

    @model_validator(mode="after")
    def _check_loss(self) -> SasRecConfig:
        for name in ("label_smoothing", "negatives") if self.loss == "bce" else ():
            if getattr(self, name):
                raise ValueError(f"loss = 'bce' has no {name}; set it to 0, or loss to 'softmax'")
        return self

    def build(self, n_items: int) -> SasRecNetwork:
        """The untrained network."""
        return SasRecNetwork(n_items, self)


class SasRecNetwork(AttentionNetwork):
    """The causal mask keeps what pads a history from everything that counts."""

    options: SasRecConfig

    def loss(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Mean over targets: cross-entropy over the catalogue, or binary with one negative each (O(N·D), no matrix)."""
        if self.options.loss == "softmax":
            return super().loss(items_BL, lengths_B)
        real_BL = torch.arange(items_BL.shape[1] - 1, device=items_BL.device) < lengths_B[:, None] - 1
        states_ND = self(items_BL[:, :-1])[real_BL]
        negatives_BL = not_held(items_BL, lengths_B, len(self.table))
        own_N, other_N = (
            (states_ND * self.items(of_BL[:, 1:][real_BL])).sum(1) for of_BL in (items_BL, negatives_BL)
        )
        softplus = torch.nn.functional.softplus  # -log sigmoid(x) = softplus(-x)
        return softplus(-own_N).mean() + softplus(other_N).mean()


def not_held(items_BL: Tensor, lengths_B: Tensor, n_items: int) -> Tensor:
    """[B, L] items drawn evenly from those that the row does not hold; the last item where it holds all.

    The r-th of them has below it the held items with (item - its rank) <= r. O(B·L·log L), no draw is thrown away.
    """
    places_L, beyond = torch.arange(items_BL.shape[1], device=items_BL.device), n_items + items_BL.shape[1]
    held_BL = items_BL.masked_fill(places_L >= lengths_B[:, None], beyond).sort(1).values
    again_BL = held_BL.diff(dim=1, prepend=held_BL.new_full((len(held_BL), 1), -1)) == 0
    held_BL = held_BL.masked_fill(again_BL, beyond).sort(1).values
    free_B1 = n_items - (held_BL < n_items).sum(1, keepdim=True)
    draws_BL = torch.rand(items_BL.shape, dtype=torch.float64, device=items_BL.device)
    ranks_BL = (draws_BL * free_B1).long()
    below_BL = torch.searchsorted(held_BL - places_L, ranks_BL, right=True)
    return (ranks_BL + below_BL).clamp(max=n_items - 1)


class SasRec(NetworkSystem):
    """A network of attention over a history predicts the next item."""

    system: Literal["sasrec"] = "sasrec"
    recommender: SasRecConfig = Field(default_factory=SasRecConfig)
