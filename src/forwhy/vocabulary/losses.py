"""Losses of the tokenizer on quantised representations.

Source: BEAT eq. 5 (reconstruction) and 6 (macro supervision).
Legend: B pairs, Q width of q, V text width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["info_nce", "reconstruction_rmse", "reconstruction_softmax"]


def reconstruction_rmse(positive_B: Tensor, negative_B: Tensor, scaled: bool) -> Tensor:
    """Eq. 5: root mean square of I - q_u·q_i over positive (I = 1) and sampled negative (I = 0) pairs.

    `scaled`: scores are min-max scaled over the batch first (released code), with a guard where all are equal.
    """
    scores = torch.cat([positive_B, negative_B])
    if scaled:
        low = scores.min()
        scores = (scores - low) / (scores.max() - low).clamp_min(1e-6)
    labels = torch.cat([torch.ones_like(positive_B), torch.zeros_like(negative_B)])
    return (labels - scores).square().mean().clamp_min(1e-12).sqrt()


def reconstruction_softmax(
    q_users_BQ: Tensor, q_items_BQ: Tensor, items_B: Tensor, log_frequency_B: Tensor, scale: Tensor
) -> Tensor:
    """Cross-entropy of each pair's item among the batch's items.

    Scores are corrected by the items' log sampling frequency, so that the optimum is that of the full softmax
    (Yi et al. 2019); repeats of the right item in the batch are not negatives. O(B²·Q).
    """
    scores = scale * (q_users_BQ @ q_items_BQ.T) - log_frequency_B
    repeats = items_B[:, None] == items_B[None, :]
    repeats.fill_diagonal_(False)
    scores = scores.masked_fill(repeats, float("-inf"))
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def info_nce(
    text_BV: Tensor, words_BV: Tensor, temperature: float, average: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Eq. 6: each text against the fused macro words of all pairs in the batch, by cosine."""
    cosines = F.normalize(text_BV, dim=1) @ F.normalize(words_BV, dim=1).T
    targets = torch.arange(len(cosines), device=cosines.device)
    return F.cross_entropy(cosines / temperature, targets, reduction=average)
