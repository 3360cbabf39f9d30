"""Micro supervision: masked intents rebuilt from behaviour words by cross-attention (BEAT eq. 8).

Legend: B entities, L phrases, A micro words, V text width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MaskedIntents", "draw_mask"]


def draw_mask(present_BL: Tensor, ratio: float) -> Tensor:
    """[B, L] which phrases to hide: a random share of those present, at least one per entity, drawn per row."""
    noise = torch.rand(present_BL.shape, device=present_BL.device).masked_fill(~present_BL, 2.0)
    ranks = noise.argsort(1).argsort(1)
    hidden = (present_BL.sum(1, keepdim=True) * ratio).floor().clamp_min(1)
    return (ranks < hidden) & present_BL


class MaskedIntents(nn.Module):
    """Visible intents ask the behaviour words for the hidden ones; one module for both sides."""

    def __init__(self, width: int, ratio: float, heads: int = 4) -> None:
        super().__init__()
        self.ratio = ratio
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.context = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross = nn.MultiheadAttention(width, 1, batch_first=True)

    def forward(self, words_BAV: Tensor, intents_BLV: Tensor, present_BL: Tensor) -> Tensor:
        """Mean squared L2 distance between hidden intents and their reconstruction."""
        hidden_BL = draw_mask(present_BL, self.ratio)
        seen_BLV = torch.where(hidden_BL[..., None], self.mask_token, intents_BLV)
        context_BLV = self.context(
            seen_BLV, seen_BLV, seen_BLV, key_padding_mask=~present_BL, need_weights=False
        )[0]
        rebuilt_BLV = self.cross(context_BLV, words_BAV, words_BAV, need_weights=False)[0]
        return F.mse_loss(rebuilt_BLV[hidden_BL], intents_BLV[hidden_BL], reduction="sum") / hidden_BL.sum()
