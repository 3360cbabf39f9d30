"""BERT4Rec: hidden items are guessed from both sides, then the one behind a history (Sun et al. 2019).

Shapes: B histories, L places, N hidden places, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from forwhy.data.histories import Histories
from forwhy.lazy import torch
from forwhy.recommend.attention import AttentionNetwork, AttentionOptions, hidden_places, start
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


class Bert4RecConfig(AttentionOptions):
    """BERT4Rec (Sun et al. 2019); the output has no bias of each item."""

    network: Literal["bert4rec"] = "bert4rec"
    hidden: float = Field(default=0.4, gt=0.0, lt=1.0)
    """rho of the paper: share of a training history's items that are hidden and guessed; one at least."""
    last_hidden: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of training histories of which the last item alone is hidden, as when a list is made (section 3.6)."""

    def build(self, n_items: int) -> Bert4RecNetwork:
        """The untrained network."""
        return Bert4RecNetwork(n_items, self)


class Bert4RecNetwork(AttentionNetwork):
    """One vector stands for what is hidden. A list's state is that of a hidden place behind the history."""

    options: Bert4RecConfig

    def __init__(self, n_items: int, config: Bert4RecConfig) -> None:
        super().__init__(n_items, config, more_places=1)
        self.mask = torch.nn.Parameter(0.02 * torch.randn(config.dims))
        self.out, self.out_norm = torch.nn.Linear(config.dims, config.dims), torch.nn.LayerNorm(config.dims)
        start(self.out)

    def guessed(self, items_BL: Tensor, lengths_B: Tensor, hidden_BL: Tensor) -> Tensor:
        """[N, D] what hidden places hold, from all others of their history, before and behind (eq. 7)."""
        real_BL = torch.arange(items_BL.shape[1], device=items_BL.device) < lengths_B[:, None]
        x_BLD = torch.where(hidden_BL[..., None], self.mask, self.items(items_BL))
        states_ND = self.attended(x_BLD, real_BL)[hidden_BL]
        guessed_ND: Tensor = self.out_norm(torch.nn.functional.gelu(self.out(states_ND)))
        return guessed_ND

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one: each beginning is read by itself, O(L) passes."""
        length = items_BL.shape[1]
        ends_L = torch.arange(1, length + 1, device=items_BL.device).repeat(len(items_BL))
        return self.next_of(items_BL.repeat_interleave(length, 0), ends_L).view(*items_BL.shape, -1)

    def next_of(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """[B, D] what a hidden place behind each history holds."""
        items_BL = torch.nn.functional.pad(items_BL, (0, 1))
        hidden_BL = torch.arange(items_BL.shape[1], device=items_BL.device) == lengths_B[:, None]
        return self.guessed(items_BL, lengths_B + 1, hidden_BL)

    def states_after(self, histories: Histories) -> Tensor:
        """[B, D] what is predicted after each history's last `window` items; zeros after an empty one."""
        states_BD = self.table.new_zeros(len(histories), self.table.shape[1])
        with torch.no_grad():
            for block, items_BL, lengths_B in self.in_blocks(histories):
                states_BD[block] = self.next_of(items_BL, lengths_B)
        return states_BD

    def loss(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Mean over hidden places, drawn anew each time, of the cross-entropy over the catalogue (eq. 8)."""
        alone_B1 = torch.rand(len(items_BL), 1, device=items_BL.device) < self.options.last_hidden
        last_BL = hidden_places(items_BL, lengths_B, 0.0)
        hidden_BL = torch.where(alone_B1, last_BL, hidden_places(items_BL, lengths_B, self.options.hidden))
        return self.told_apart(self.guessed(items_BL, lengths_B, hidden_BL), items_BL[hidden_BL])


class Bert4Rec(NetworkSystem):
    """A network that guesses hidden items from both sides predicts the one behind a history."""

    system: Literal["bert4rec"] = "bert4rec"
    recommender: Bert4RecConfig = Field(default_factory=Bert4RecConfig)
