"""What every bridge has: two sides in prompt order, and task tokens.

Shapes: T task tokens, D model width, H key-value heads, P prefix positions, E head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PairBridge(nn.Module):
    """All that is trained: a module per side and the task tokens. The language model is not part of it."""

    def __init__(
        self,
        user: nn.Module,
        item: nn.Module,
        task_TD: Tensor,
        order: str,
        word_norm: float,
        states: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        """Task tokens start at `task_TD`.

        Args:
            user: Ids or vectors of users to vectors of the model's width.
            item: The same for items.
            task_TD: Word embeddings.
            order: `user-item` or `item-user`.
            word_norm: Mean norm of the model's word embeddings.
            states: Keys and values [1, H, P, E] of each layer, where task tokens are trained in all of them.
        """
        super().__init__()
        self.user, self.item = user, item
        self._size = word_norm / task_TD.shape[1] ** 0.5
        self.task_TD = nn.Parameter(task_TD.detach().float() / self._size)
        self._order = order.split("-")
        self.deep = nn.ParameterList(
            torch.zeros(2, keys.shape[1], len(task_TD), keys.shape[3]) for keys, _ in states
        )
        self._spreads = [[float(part.float().std()) for part in layer] for layer in states]

    def shifts(self) -> list[Tensor]:
        """What is added to the task tokens' keys and values, [2, H, T, E] per layer."""
        return [
            deep * deep.new_tensor(spread)[:, None, None, None]
            for deep, spread in zip(self.deep, self._spreads, strict=True)
        ]

    def task(self) -> Tensor:
        """Task tokens [T, D]. The parameter is in units of a word's coordinate, alike for every model."""
        task_TD: Tensor = self.task_TD * self._size
        return task_TD

    def in_order(self, user: Tensor, item: Tensor) -> Tensor:
        """Vectors [B, K, D] of a pair in prompt order, from those of its sides [B, L, D]."""
        tokens = {"user": user, "item": item}
        return torch.cat([tokens[side] for side in self._order], dim=1)
