"""Caser: convolutions over the last items of a history, as over an image (Tang and Wang 2018).

Shapes: B histories, L places, N pairs of a place and a target, I items, D width, V vertical filters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from forwhy.lazy import torch
from forwhy.recommend.networks import SoftmaxNetwork, SoftmaxOptions
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


class CaserConfig(SoftmaxOptions):
    """Caser (Tang and Wang 2018) without the person's own vector, with the softmax over the whole catalogue."""

    network: Literal["caser"] = "caser"
    order: PositiveInt = 5
    """L of the paper: items that a place looks back on, itself the last."""
    targets: PositiveInt = 1
    """T of the paper: next items that each place predicts, so that skips are learned; each costs a softmax. On
    Industrial 2 is worse than 1 (docs/log.md)."""
    horizontal: PositiveInt = 16
    """Filters of each height 1 to `order`: what stands together."""
    vertical: PositiveInt = 4
    """Filters of width 1: weighted sums of the items."""

    def build(self, n_items: int) -> CaserNetwork:
        """The untrained network."""
        return CaserNetwork(n_items, self)


class CaserNetwork(SoftmaxNetwork):
    """Eq. 3 to 9 for all places at once; items are read and predicted by tables of their own.

    The paper scores by [z, P_u]; people who come later have no P_u, so z alone is the state. Places before a history
    are vectors of zeros.
    """

    options: CaserConfig

    def __init__(self, n_items: int, config: CaserConfig) -> None:
        super().__init__(n_items, config)
        dims, order = config.dims, config.order
        self.predicted = torch.nn.Embedding(n_items, dims)
        self.horizontal = torch.nn.ModuleList(
            torch.nn.Conv1d(dims, config.horizontal, height) for height in range(1, order + 1)
        )
        self.vertical = torch.nn.Linear(order, config.vertical, bias=False)
        self.out = torch.nn.Linear(order * config.horizontal + dims * config.vertical, dims)
        for table in (self.items, self.predicted):
            torch.nn.init.normal_(table.weight, std=1 / dims)

    @property
    def table(self) -> Tensor:
        """[I, D] the vectors that are predicted."""
        return self.predicted.weight

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts, from the last `order` items. O(B·L·order²·D) for each filter."""
        order = self.options.order
        x_BDL = torch.nn.functional.pad(self.items(items_BL).transpose(1, 2), (order - 1, 0))
        # A filter of height h stands at order - h + 1 places of each window, and the best of them counts.
        found = [
            torch.nn.functional.max_pool1d(torch.relu(rows(x_BDL)), order - height, stride=1)
            for height, rows in enumerate(self.horizontal)
        ]
        summed_BDLV = self.vertical(x_BDL.unfold(2, order, 1))
        parts = [*found, *summed_BDLV.unbind(3)]
        state: Tensor = torch.relu(self.out(self.dropout(torch.cat(parts, dim=1).transpose(1, 2))))
        return state

    def loss(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Each of the next `targets` items, over the catalogue (eq. 10 has sampled negatives)."""
        length, states, targets = items_BL.shape[1], [], []
        states_BLD, places_L = self(items_BL[:, :-1]), torch.arange(length, device=items_BL.device)
        for ahead in range(1, min(self.options.targets, length - 1) + 1):
            real_BL = places_L[ahead:] < lengths_B[:, None]
            states.append(states_BLD[:, : length - ahead][real_BL])
            targets.append(items_BL[:, ahead:][real_BL])
        return self.told_apart(torch.cat(states), torch.cat(targets))


class Caser(NetworkSystem):
    """Convolutions over the last items of a history predict the next one."""

    system: Literal["caser"] = "caser"
    recommender: CaserConfig = Field(default_factory=CaserConfig)
