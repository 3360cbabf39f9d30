"""HGN: gates over the numbers and the items of a short past, and products of item and item (Ma et al. 2019).

Shapes: B histories, L places, W the last `order` items, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from forwhy.lazy import torch
from forwhy.recommend.networks import SoftmaxNetwork, SoftmaxOptions
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


class HgnConfig(SoftmaxOptions):
    """HGN (Ma et al. 2019) without the person's own vector, with the softmax over the whole catalogue for BPR."""

    network: Literal["hgn"] = "hgn"
    order: PositiveInt = 5
    """L of the paper: items that a place looks back on, itself the last."""

    def build(self, n_items: int) -> HgnNetwork:
        """The untrained network."""
        return HgnNetwork(n_items, self)


class HgnNetwork(SoftmaxNetwork):
    """Eq. 2 to 7 for all places at once; items are read and predicted by tables of their own.

    The paper's gates and scores also read a vector of the person, which people who come later have not. Here one
    vector stands for everybody: W u and u'W become the biases of the gates, and the score u'q falls away. A history
    shorter than `order` is pooled over the items that it has.
    """

    options: HgnConfig

    def __init__(self, n_items: int, config: HgnConfig) -> None:
        super().__init__(n_items, config)
        self.predicted = torch.nn.Embedding(n_items, config.dims)
        self.feature = torch.nn.Linear(config.dims, config.dims)
        self.instance = torch.nn.Linear(config.dims, 1, bias=False)
        self.ages = torch.nn.Parameter(torch.zeros(config.order))
        for table in (self.items, self.predicted):
            torch.nn.init.normal_(table.weight, std=1 / config.dims)

    @property
    def table(self) -> Tensor:
        """[I, D] the vectors that are predicted."""
        return self.predicted.weight

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts, from the last `order` items. O(B·L·(D² + order·D))."""
        x_BLD = self.dropout(self.items(items_BL))
        gated_BLD = x_BLD * torch.sigmoid(self.feature(x_BLD))
        weights_BLW = torch.sigmoid(self._recent(self.instance(gated_BLD))[..., 0, :] + self.ages)
        pooled_BLD = (self._recent(gated_BLD) @ weights_BLW[..., None])[..., 0]
        counts_L = torch.arange(1, items_BL.shape[1] + 1, device=items_BL.device)
        mean_BLD = pooled_BLD / counts_L.clamp(max=self.options.order)[:, None]
        return mean_BLD + self._recent(x_BLD).sum(-1)

    def _recent(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D, W] each place's last items, zeros before the first."""
        order = self.options.order
        return torch.nn.functional.pad(x_BLD, (0, 0, order - 1, 0)).unfold(1, order, 1)


class Hgn(NetworkSystem):
    """Gates over the last items of a history choose what predicts the next one."""

    system: Literal["hgn"] = "hgn"
    recommender: HgnConfig = Field(default_factory=HgnConfig)
