"""S3-Rec: four guesses about items, attributes and segments come first, then SASRec's training (Zhou et al. 2020).

Shapes: B histories, L places, N queries, I items, A terms of attributes and `none`, M attributes of an item at most,
D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat

from forwhy.lazy import torch
from forwhy.recommend.attention import AttentionNetwork, AttentionOptions, hidden_places
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


class S3RecConfig(AttentionOptions):
    """S3-Rec (Zhou et al. 2020), fine-tuned with the softmax over the whole catalogue."""

    network: Literal["s3-rec"] = "s3-rec"
    reads_attributes: ClassVar[bool] = True
    pretraining: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of `epochs` that pretrain, the first ones, in whole epochs; nothing is validated before they are over."""
    hidden: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of a history's items that are hidden in pretraining; one at least."""
    associated: NonNegativeFloat = 0.2
    """Weight of: an item -> its attributes (eq. 5). These four as in section 5.1.4."""
    masked_item: NonNegativeFloat = 1.0
    """Weight of: what surrounds a hidden item -> the item (eq. 7)."""
    masked_attribute: NonNegativeFloat = 1.0
    """Weight of: what surrounds a hidden item -> its attributes (eq. 9)."""
    segment: NonNegativeFloat = 0.5
    """Weight of: what surrounds a hidden segment -> the segment (eq. 11)."""

    def build(self, n_items: int) -> S3RecNetwork:
        """The untrained network; `describe` completes it."""
        return S3RecNetwork(n_items, self)


class S3RecNetwork(AttentionNetwork):
    """SASRec that is trained otherwise at first: there places look both ways, and hidden ones have one vector.

    Each loss is -log of exp f of what is right among it and what is wrong, f a bilinear form, which starts as the inner
    product. The paper has a sigmoid in f, which would keep exp f between 1 and e; it is left out. Negatives are all
    there are (items, attributes that the item has not, segments of the step), not a draw. Items without attributes
    take no part where attributes are guessed; if none has any, items and segments alone are.
    """

    options: S3RecConfig
    attributes_IM: Tensor

    def __init__(self, n_items: int, config: S3RecConfig) -> None:
        super().__init__(n_items, config, more_places=1)  # pretraining also reads a piece's last target
        self.pretraining = int(config.pretraining * config.epochs)
        self.mask = torch.nn.Parameter(0.02 * torch.randn(config.dims))
        self.forms = torch.nn.Parameter(torch.eye(config.dims).repeat(4, 1, 1))

    def describe(self, attributes_IM: Tensor) -> None:
        """Give each term a vector."""
        self.terms = self.described_by(attributes_IM)

    def loss(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """That of the stage: in the first epochs the weighted sum of the four, then SASRec's."""
        if not self.training or self.epoch >= self.pretraining:
            return super().loss(items_BL, lengths_B)
        options = self.options
        weights = (options.associated, options.masked_item, options.masked_attribute, options.segment)
        losses = self.guesses(items_BL, lengths_B)
        return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()

    def guesses(self, items_BL: Tensor, lengths_B: Tensor) -> Iterator[Tensor]:
        """The four losses. Time O(N·I·D + N·A·D) and three passes over the histories; memory O(N·A)."""
        of_item, of_context, of_hidden, of_segment = self.forms
        real_BL = torch.arange(items_BL.shape[1], device=items_BL.device) < lengths_B[:, None]
        distinct_S = torch.unique(items_BL[real_BL])
        yield self.attribute_loss(self.items(distinct_S) @ of_item, distinct_S)
        hidden_BL = hidden_places(items_BL, lengths_B, self.options.hidden)
        states_ND, targets_N = self.read(items_BL, lengths_B, hidden_BL)[hidden_BL], items_BL[hidden_BL]
        yield self.told_apart(states_ND @ of_context, targets_N)
        yield self.attribute_loss(states_ND @ of_hidden, targets_N)
        yield self._segment_loss(items_BL, lengths_B, of_segment)

    def read(self, items_BL: Tensor, lengths_B: Tensor, hidden_BL: Tensor) -> Tensor:
        """[B, L, D] states of all places, each from all of its history."""
        real_BL = torch.arange(items_BL.shape[1], device=items_BL.device) < lengths_B[:, None]
        return self.attended(torch.where(hidden_BL[..., None], self.mask, self.items(items_BL)), real_BL)

    def attribute_loss(self, queries_ND: Tensor, items_N: Tensor) -> Tensor:
        """Mean over each attribute of each item: it alone against all that the item has not; 0 without any."""
        logits_NA = queries_ND @ self.terms.weight.T
        own_NA = torch.zeros_like(logits_NA, dtype=torch.bool).scatter_(1, self.attributes_IM[items_N], True)
        own_NA[:, 0] = False
        others_N = logits_NA[:, 1:].masked_fill(own_NA[:, 1:], -torch.inf).logsumexp(1)
        right, wrong = logits_NA[own_NA], others_N[own_NA.nonzero()[:, 0]]
        losses: Tensor = torch.nn.functional.softplus(wrong - right)
        return losses.sum() / max(len(losses), 1)

    def _segment_loss(self, items_BL: Tensor, lengths_B: Tensor, form: Tensor) -> Tensor:
        """Mean over histories: which of the step's segments, each read alone, belongs into the gap?"""
        places_L, rows_B = (
            torch.arange(items_BL.shape[1], device=items_BL.device),
            torch.arange(len(items_BL)),
        )
        draws_2B = torch.rand(2, len(items_BL), dtype=torch.float64, device=items_BL.device)
        sizes_B = 1 + (draws_2B[0] * (lengths_B // 2)).long()
        starts_B = (draws_2B[1] * (lengths_B - sizes_B + 1)).long()
        gaps_BL = (places_L >= starts_B[:, None]) & (places_L < (starts_B + sizes_B)[:, None])
        around_BD = self.read(items_BL, lengths_B, gaps_BL)[rows_B, starts_B + sizes_B - 1]
        segments_BL = items_BL.gather(1, (starts_B[:, None] + places_L).clamp(max=len(places_L) - 1))
        alone_BD = self.read(segments_BL, sizes_B, torch.zeros_like(gaps_BL))[rows_B, sizes_B - 1]
        logits_BB = around_BD @ form @ alone_BD.T
        return torch.nn.functional.cross_entropy(logits_BB, rows_B.to(logits_BB.device))


class S3Rec(NetworkSystem):
    """A network learns how items, attributes and segments belong together, then to predict the next item."""

    system: Literal["s3-rec"] = "s3-rec"
    recommender: S3RecConfig = Field(default_factory=S3RecConfig)
