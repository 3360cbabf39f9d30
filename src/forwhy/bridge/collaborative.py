"""Graph vectors of a pair to two vectors that a frozen model reads (XRec, "Collaborative Information Adaptor").

Shapes: B rows, d width of a graph vector, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from forwhy.bridge.experts import ExpertAdapter
from forwhy.bridge.pair import PairBridge


class CollaborativeBridge(PairBridge):
    """Both adapters and the task tokens."""

    def __init__(
        self,
        user: ExpertAdapter,
        item: ExpertAdapter,
        task_TD: Tensor,
        order: str,
        word_norm: float,
        states: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        """As :class:`PairBridge`; `task_TD` may have no rows, as in the paper."""
        super().__init__(user, item, task_TD, order, word_norm, states)

    def forward(self, user_Bd: Tensor, item_Bd: Tensor) -> Tensor:
        """Adapted vectors [B, 2, D] in prompt order: what is read, and what is injected."""
        return self.in_order(self.user(user_Bd)[:, None], self.item(item_Bd)[:, None])
