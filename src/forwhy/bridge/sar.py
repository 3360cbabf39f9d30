"""Semantic alignment regularisation, BEAT eq. 10 and 11.

Each word of the explanation is matched with its nearest behaviour token (eq. 10); the cosine between two
words' matches should be the cosine between the words (eq. 11). Differences to the released code: only words
of the explanation count, each pair i < j once and none with itself, the mean is over pairs that exist, all in
float32.

Shapes: B rows, T words (padded), C candidates, D model width, P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from forwhy.bridge.options import SarConfig


def sar_loss(words_BTD: Tensor, valid_BT: Tensor, candidates: Tensor, config: SarConfig) -> Tensor:
    """Mean squared difference of relations, averaged over pairs of the batch; 0 where no row has two words.

    Args:
        words_BTD: Word embeddings of the explanations (no gradient is taken to them).
        valid_BT: True at words; each row's words come first.
        candidates: Projected tokens, [B, C, D] per row or [C, D] for all.
        config: Metric and sampling; pairs are drawn from torch's global generator.

    Cost: B x T x C x D for matching, B x T x T x D for the relations.
    """
    words_BTD = words_BTD.detach().float()
    matched_BTD = _matched(words_BTD, candidates.float(), config.metric)
    left_BP, right_BP, real_BP = _pairs(valid_BT, config.pairs)
    error_BTT = _relations(matched_BTD) - _relations(words_BTD)
    error_BP = error_BTT.flatten(1).gather(1, left_BP * valid_BT.shape[1] + right_BP)
    return (error_BP.square() * real_BP).sum() / real_BP.sum().clamp_min(1)


def _matched(words_BTD: Tensor, candidates: Tensor, metric: str) -> Tensor:
    """The nearest candidate of each word (eq. 10), gradient to the candidate only."""
    with torch.no_grad():
        if metric == "cosine":
            score = normalize(words_BTD, dim=-1) @ normalize(candidates, dim=-1).transpose(-1, -2)
        else:
            score = -torch.cdist(words_BTD, candidates.expand(len(words_BTD), -1, -1))
        best_BT = score.argmax(dim=-1)
    if candidates.dim() == 2:
        return candidates[best_BT]
    return candidates.gather(1, best_BT[..., None].expand(-1, -1, candidates.shape[-1]))


def _pairs(valid_BT: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Word pairs i < j: all, or `wanted` drawn with replacement per row; and which of them are real."""
    rows, width = valid_BT.shape
    if not wanted:
        left_P, right_P = torch.triu_indices(width, width, offset=1, device=valid_BT.device)
        left_BP, right_BP = left_P.expand(rows, -1), right_P.expand(rows, -1)
        return left_BP, right_BP, valid_BT.gather(1, left_BP) & valid_BT.gather(1, right_BP)
    count_B1 = valid_BT.sum(dim=1, keepdim=True)
    first_BP = (torch.rand(rows, wanted, device=valid_BT.device) * count_B1).long()
    other_BP = (torch.rand(rows, wanted, device=valid_BT.device) * (count_B1 - 1).clamp_min(0)).long()
    other_BP = (other_BP + (other_BP >= first_BP)).clamp_max(width - 1)
    return first_BP.minimum(other_BP), first_BP.maximum(other_BP), (count_B1 > 1).expand(-1, wanted)


def _relations(vectors_BTD: Tensor) -> Tensor:
    """Cosines [B, T, T] between a row's vectors."""
    unit_BTD = normalize(vectors_BTD, dim=-1)
    return unit_BTD @ unit_BTD.transpose(1, 2)
