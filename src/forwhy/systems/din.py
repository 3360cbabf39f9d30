"""DIN: a history pooled anew for every item that is scored (Zhou et al. 2018, sections 4.2 and 4.3).

Shapes: B histories, L places, S distinct items of a block, C candidates, I items, D width, A width of the attention
unit, H width of what is pooled, G groups of ages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from forwhy.lazy import Network, torch
from forwhy.recommend.networks import CandidateNetwork, CandidateOptions
from forwhy.systems.next_item import NetworkSystem

if TYPE_CHECKING:
    from torch import Tensor


BLOCK_NUMBERS = 1 << 22
"""Intermediate numbers held at once where no gradient is needed (4 bytes each): 16 MiB."""

START = 0.1
"""Deviation of the items' vectors before training."""


class DinConfig(CandidateOptions):
    """DIN (Zhou et al. 2018) from item ids alone, with a sampled softmax: what LLM-BS takes behaviour vectors from."""

    network: Literal["din"] = "din"
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share that is dropped in training of what each item of a history gives to the pool."""
    learning_rate: float = Field(default=1e-2, gt=0.0)
    attention: PositiveInt = 36
    """A: width of the attention unit's hidden layer."""
    head: Literal["mlp", "inner"] = "mlp"
    """What scores a candidate by the pooled history and its vector: an MLP of both (the paper's), or their inner
    product, which also says what is near what."""
    hidden: PositiveInt = 64
    """H: width of the MLP's hidden layer; the inner product has `dims`."""
    groups: tuple[PositiveInt, ...] = Field(default=(1, 1, 1, 1, 1, 1, 2, 2, 4, 5), min_length=1)
    """Places of a history that are pooled together, the latest first (LLM-BS's code); older ones belong to the last
    group. (20,) pools the whole window alike, as DIN does, and reads no order."""

    def build(self, n_items: int) -> DinNetwork:
        """The untrained network."""
        return DinNetwork(n_items, self)


@dataclass(frozen=True)
class BlockOfHistories:
    """A block of histories as every candidate finds it."""

    items_BL: Tensor
    distinct_S: Tensor
    """Items of the block, each once: the attention unit looks at pairs, wherever and however often they stand."""
    places_BL: Tensor
    """Where an item stands in `distinct_S`."""
    values_BLH: Tensor
    """What each place gives to the pool, zeros where nothing is read."""


class AttentionUnit(Network):
    """Weight of an item of the history for a candidate: MLP [e_i, e_c, e_i - e_c, e_i * e_c], not normalised.

    PReLU and not Dice, which would normalise by the batch: targets and negatives come apart by that alone.
    """

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.first, self.slope = torch.nn.Linear(4 * dims, hidden), torch.nn.PReLU(hidden)
        self.last = torch.nn.Linear(hidden, 1)
        torch.nn.init.ones_(self.last.bias)  # begins near a plain sum of the history

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[...] weights of items [..., D] for candidates [..., D]."""
        product = left * right
        parts = [left.expand_as(product), right.expand_as(product), left - right, product]
        hidden = _over_last(self.slope, self.first(torch.cat(parts, dim=-1)))
        weights: Tensor = self.last(hidden)[..., 0]
        return weights

    def grid(self, left_SD: Tensor, right_CD: Tensor) -> Tensor:
        """[S, C] weight of each item for each candidate, by one matrix product: O(S·C·A·D) time, O(S·C·A) memory."""
        own_AD, other_AD, apart_AD, product_AD = self.first.weight.chunk(4, dim=1)
        # What depends on one of the two alone goes into the weights and the bias of the product.
        weight_CAD = right_CD[:, None] * product_AD + (own_AD + apart_AD)
        bias_CA = torch.nn.functional.linear(right_CD, other_AD - apart_AD, self.first.bias)
        hidden_SCA = torch.nn.functional.linear(left_SD, weight_CAD.flatten(0, 1), bias_CA.flatten())
        hidden_SCA = hidden_SCA.view(len(left_SD), *bias_CA.shape)
        weights: Tensor = self.last(_over_last(self.slope, hidden_SCA))[..., 0]
        return weights


class DinNetwork(CandidateNetwork):
    """Pools a history anew for every candidate, by the unit's weights, places of like age in a group of their own.

    A candidate is scored by an MLP of the pools and its vector, or by the inner product of both.
    """

    groups_L: Tensor

    def __init__(self, n_items: int, config: DinConfig) -> None:
        super().__init__(n_items, config)
        self.unit = AttentionUnit(config.dims, config.attention)
        self.inner = config.head == "inner"
        self._width = config.dims if self.inner else config.hidden
        self.pool = torch.nn.Linear(config.dims, len(config.groups) * self._width, bias=False)
        if not self.inner:
            self.candidate = torch.nn.Linear(config.dims, config.hidden)
            self.slope, self.out = torch.nn.PReLU(config.hidden), torch.nn.Linear(config.hidden, 1)
        groups = [group for group, size in enumerate(config.groups) for _ in range(size)]
        groups += [len(config.groups) - 1] * config.window
        self.register_buffer("groups_L", torch.tensor(groups[: config.window]), persistent=False)
        # Products of vectors near zero have no gradient to leave it by: long vectors, pooled as they are at first.
        torch.nn.init.normal_(self.items.weight, std=START)
        if self.inner:
            with torch.no_grad():
                self.pool.weight.copy_(torch.eye(config.dims).repeat(len(config.groups), 1))

    def read(self, items_BL: Tensor, ages_BL: Tensor) -> BlockOfHistories:
        """`ages_BL`: 0 for a history's last item, negative where a place is not read."""
        distinct_S, places_BL = torch.unique(items_BL, return_inverse=True)
        values_SGH = self.pool(self.items(distinct_S)).view(len(distinct_S), -1, self._width)
        values_BLH = values_SGH[places_BL, self.groups_L[ages_BL.clamp(min=0)]]
        values_BLH = self.dropout(values_BLH * (ages_BL >= 0)[..., None])
        return BlockOfHistories(items_BL, distinct_S, places_BL, values_BLH)

    def forward(self, reading: BlockOfHistories, candidates_C: Tensor) -> Tensor:
        """[B, C] scores of the same candidates after each history. O(S·C·A·D + B·C·L·H)."""
        vectors_CD = self.items(candidates_C)
        weights_SC = self.unit.grid(self.items(reading.distinct_S), vectors_CD)
        weights_BLC = weights_SC[reading.places_BL]
        return self._head(weights_BLC.transpose(1, 2) @ reading.values_BLH, vectors_CD)

    def own(self, reading: BlockOfHistories, candidates_B: Tensor) -> Tensor:
        """[B] the score of one candidate after each history. O(B·L·(A·D + H))."""
        vectors_BD = self.items(candidates_B)
        weights_BL = self.unit(self.items(reading.items_BL), vectors_BD[:, None])
        return self._head((weights_BL[:, None] @ reading.values_BLH)[:, 0], vectors_BD)

    def catalogue(self, reading: BlockOfHistories) -> Iterator[Tensor]:
        """[B, C] scores of all items, some at a time, in catalogue order."""
        pools = len(reading.places_BL) * self._width
        hidden = len(reading.distinct_S) * self.unit.first.out_features
        size = max(1, BLOCK_NUMBERS // (pools + hidden))
        items_I = torch.arange(len(self.table), device=self.table.device)
        for start in range(0, len(items_I), size):
            yield self(reading, items_I[start : start + size])

    def _head(self, pooled: Tensor, vectors: Tensor) -> Tensor:
        if self.inner:
            return (pooled * vectors).sum(-1)
        hidden = pooled + self.candidate(vectors)
        scores: Tensor = self.out(_over_last(self.slope, hidden))[..., 0]
        return scores


def _over_last(slope: torch.nn.PReLU, x: Tensor) -> Tensor:
    """PReLU with a slope for each number of the last axis; torch's reads the second."""
    found: Tensor = slope(x.flatten(0, -2))
    return found.view(x.shape)


class Din(NetworkSystem):
    """A network that pools a history anew for every item that it scores."""

    system: Literal["din"] = "din"
    recommender: DinConfig = Field(default_factory=DinConfig)
