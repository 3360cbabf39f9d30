"""What having taken an item says about taking it again, learned beside the items' vectors.

A table that is both read and predicted cannot say it: an item's vector is nearest to itself, so the last item of a
history comes out first where nobody takes anything twice (docs/log.md). The term is what RepeatNet (Ren et al. 2019)
calls repeat consumption, here as one number per place of the history.

Shapes: B histories, L places, W window, I items.
"""

import torch
from torch import Tensor, nn

from forwhy.data.sequences import Histories

__all__ = ["RepeatBias"]

SCALE = 10.0
"""Scores a weight of 1 stands for: AdamW moves a weight by about its rate a step, and -10 has to be within reach."""


class RepeatBias(nn.Module):
    """Adds to the score of each item of a history a number that depends on how long ago it was taken.

    An item that stands at several places gets the sum. Begins as no change; W + 1 parameters: one that all places
    share, for those that training seldom sees, and what each place has of its own.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(1))
        self.weight = nn.Parameter(torch.zeros(window))

    @property
    def gains(self) -> Tensor:
        """[W] by age: the last item's first."""
        return SCALE * (self.shared + self.weight)

    def of_places(self, items_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Items [B, L, L] and what each place's scores of them gain: the history as far as that place, 0 behind it."""
        places_L = torch.arange(items_BL.shape[1], device=items_BL.device)
        ages_LL = places_L[:, None] - places_L
        gains_LL = torch.where(ages_LL < 0, 0.0, self.gains[ages_LL.clamp_min(0)])
        rows, length = items_BL.shape
        return items_BL[:, None].expand(-1, length, -1), gains_LL.expand(rows, -1, -1)

    @torch.no_grad()
    def add(self, scores_BI: Tensor, histories: Histories) -> Tensor:
        """The scores after histories no longer than the window, changed in place."""
        ages = torch.from_numpy(histories.ages).to(scores_BI.device)
        places = (torch.from_numpy(histories.rows), torch.from_numpy(histories.items))
        gains = self.gains[ages].to(scores_BI.dtype)
        return scores_BI.index_put_(
            tuple(place.to(scores_BI.device) for place in places), gains, accumulate=True
        )
