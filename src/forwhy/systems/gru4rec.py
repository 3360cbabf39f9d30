"""GRU4Rec: a recurrent state over a history (Hidasi et al. 2016).

Shapes: B histories, L places, D width, H width of the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from forwhy.lazy import torch
from forwhy.recommend.networks import SoftmaxNetwork, SoftmaxOptions
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


class Gru4RecConfig(SoftmaxOptions):
    """GRU4Rec (Hidasi et al. 2016) with the softmax over the whole catalogue."""

    network: Literal["gru4rec"] = "gru4rec"
    layers: PositiveInt = 1
    """Recurrent layers."""
    hidden: PositiveInt = 128
    """Width of the recurrent state, projected back to `dims`."""

    def build(self, n_items: int) -> Gru4RecNetwork:
        """The untrained network."""
        return Gru4RecNetwork(n_items, self)


class Gru4RecNetwork(SoftmaxNetwork):
    """States of all places of a history by recurrence, from the first on: nothing behind a place reaches it."""

    def __init__(self, n_items: int, config: Gru4RecConfig) -> None:
        super().__init__(n_items, config)
        rate = config.dropout if config.layers > 1 else 0.0  # torch drops between layers only
        self.gru = torch.nn.GRU(config.dims, config.hidden, config.layers, batch_first=True, dropout=rate)
        self.out = torch.nn.Linear(config.hidden, config.dims)
        torch.nn.init.xavier_normal_(self.items.weight)

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one, from it and earlier places only."""
        states_BLH, _ = self.gru(self.dropout(self.items(items_BL)))
        predicted: Tensor = self.out(states_BLH)
        return predicted


class Gru4Rec(NetworkSystem):
    """A recurrent network over a history predicts the next item."""

    system: Literal["gru4rec"] = "gru4rec"
    recommender: Gru4RecConfig = Field(default_factory=Gru4RecConfig)
