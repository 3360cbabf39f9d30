"""FDSA: self-attention over items beside self-attention over what they are said to be (Zhang et al. 2019).

Shapes: B histories, L places, S distinct items of a block, I items, M attributes of an item at most, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from forwhy.lazy import torch
from forwhy.recommend.attention import AttentionNetwork, AttentionOptions, start
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


class FdsaConfig(AttentionOptions):
    """FDSA (Zhang et al. 2019) over attribute terms, with the softmax over the whole catalogue."""

    network: Literal["fdsa"] = "fdsa"
    reads_attributes: ClassVar[bool] = True

    def build(self, n_items: int) -> FdsaNetwork:
        """The untrained network; `describe` completes it."""
        return FdsaNetwork(n_items, self)


class FdsaNetwork(AttentionNetwork):
    """Two stacks of blocks, one over items and one over their attributes, meet in a linear layer (eq. 1 to 13).

    An item's attributes become one vector by weights of their own (vanilla attention). Items that have none share a
    learned vector that says so.
    """

    attributes_IM: Tensor

    def describe(self, attributes_IM: Tensor) -> None:
        """Make the second stack, whose table holds the terms, `none` first, which is all where nobody has one."""
        self.register_buffer("attributes_IM", attributes_IM)
        config, terms = self.options, 1 + int(attributes_IM.max())
        assert isinstance(config, AttentionOptions)
        self.features = AttentionNetwork(terms, config)
        self.weigh = torch.nn.Linear(config.dims, config.dims)
        self.out = torch.nn.Linear(2 * config.dims, config.dims)
        for layer in (self.weigh, self.out):
            start(layer)

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one, from it and earlier places only. Twice SASRec's cost."""
        distinct_S, places_BL = torch.unique(items_BL, return_inverse=True)
        features_BLD = self.features.attended(self._described(distinct_S)[places_BL])
        both = [self.attended(self.items(items_BL)), features_BLD]
        states_BLD: Tensor = self.out(torch.cat(both, dim=-1))
        return states_BLD

    def _described(self, items_S: Tensor) -> Tensor:
        """[S, D] the sum of an item's attributes, each number by a softmax of weights over them (eq. 1, 2)."""
        terms_SM = self.attributes_IM[items_S]
        absent_SM = terms_SM == 0
        absent_SM[:, 0] = False  # of an item without attributes the vector of none is left
        vectors_SMD = self.features.items(terms_SM)
        weights_SMD = self.weigh(vectors_SMD).masked_fill(absent_SM[..., None], -torch.inf).softmax(dim=1)
        summed_SD: Tensor = (weights_SMD * vectors_SMD).sum(1)
        return summed_SD


class Fdsa(NetworkSystem):
    """Attention over the items of a history and over their attributes predicts the next item."""

    system: Literal["fdsa"] = "fdsa"
    recommender: FdsaConfig = Field(default_factory=FdsaConfig)
