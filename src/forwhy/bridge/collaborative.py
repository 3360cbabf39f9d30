"""Graph vectors of a pair to two vectors that a frozen model reads (XRec, "Collaborative Information Adaptor").

Shapes: B rows, d width of a graph vector, D model width.
"""

from __future__ import annotations

from torch import Tensor

from forwhy.bridge.experts import ExpertAdapter
from forwhy.bridge.pair import PairBridge


class CollaborativeBridge(PairBridge):
    """Both adapters and the task tokens, of which there may be none, as in the paper."""

    user: ExpertAdapter
    item: ExpertAdapter

    def forward(self, user_Bd: Tensor, item_Bd: Tensor) -> Tensor:
        """Adapted vectors [B, 2, D] in prompt order: what is read, and what is injected."""
        return self.in_order(self.user(user_Bd)[:, None], self.item(item_Bd)[:, None])
