"""What having taken an item says about taking it again, learned beside the items' vectors.

A table that is both read and predicted cannot say it: an item's vector is nearest to itself, so the last item of a
history comes out first where nobody takes anything twice (docs/log.md). The term is what RepeatNet (Ren et al. 2019)
calls repeat consumption, here as one number per place of the history.

Shapes: B histories, L places, W window, I items.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwhy.data.sequences import Histories
from forwhy.recommend.sequential.config import DinConfig, Gru4RecConfig, SasRecConfig

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


# --- SASRec: causal self-attention over a history (Kang and McAuley 2018).
#
# Shapes: B histories, L places, I items, D width, H heads.


class SasRec(nn.Module):
    """States of all places of a history in one pass; the table of items is read and predicted (tied).

    Histories start at place 0, so whatever pads them lies behind their last item, where the causal mask keeps
    it from everything that counts: no other mask is needed.
    """

    def __init__(self, n_items: int, config: SasRecConfig) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, config.dims)
        self.places = nn.Embedding(config.window, config.dims)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dims)
        self.dropout = nn.Dropout(config.dropout)
        self.repeats = RepeatBias(config.window) if config.repeat_bias else None
        self._pre = config.norm == "pre"
        self.apply(_start)

    @property
    def table(self) -> Tensor:
        """[I, D] the items' vectors, by which a state is turned into scores."""
        return self.items.weight

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one, from it and earlier places only.

        O(B·L·D² + B·L²·D) per block. L is at most the window.
        """
        x_BLD = self.items(items_BL) + self.places.weight[: items_BL.shape[1]]
        x_BLD = self.dropout(x_BLD if self._pre else self.norm(x_BLD))
        for block in self.blocks:
            x_BLD = block(x_BLD)
        states_BLD: Tensor = self.norm(x_BLD) if self._pre else x_BLD
        return states_BLD


class _Block(nn.Module):
    """Attention, then feed-forward, each with a residual, dropout and a norm behind or before."""

    def __init__(self, config: SasRecConfig) -> None:
        super().__init__()
        dims = config.dims
        self.heads, self.rate, self._pre = config.heads, config.dropout, config.norm == "pre"
        self.qkv, self.out = nn.Linear(dims, 3 * dims), nn.Linear(dims, dims)
        self.up, self.down = (
            nn.Linear(dims, config.feedforward * dims),
            nn.Linear(config.feedforward * dims, dims),
        )
        self.norms = nn.ModuleList([nn.LayerNorm(dims), nn.LayerNorm(dims)])
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BLD: Tensor) -> Tensor:
        for layer, norm in zip((self._attend, self._feed), self.norms, strict=True):
            added_BLD = x_BLD + self.dropout(layer(norm(x_BLD) if self._pre else x_BLD))
            x_BLD = added_BLD if self._pre else norm(added_BLD)
        return x_BLD

    def _attend(self, x_BLD: Tensor) -> Tensor:
        batch, length, dims = x_BLD.shape
        parts = self.qkv(x_BLD).view(batch, length, 3, self.heads, dims // self.heads).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], dropout_p=rate, is_causal=True)
        joined: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, dims))
        return joined

    def _feed(self, x_BLD: Tensor) -> Tensor:
        fed: Tensor = self.down(F.gelu(self.up(x_BLD)))
        return fed


def _start(module: nn.Module) -> None:
    """Normal weights of deviation 0.02, zero biases, as in public code of SASRec."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


# --- GRU4Rec: a recurrent state over a history (Hidasi et al. 2016).
#
# Shapes: B histories, L places, I items, D width.


class Gru4Rec(nn.Module):
    """As `SasRec`, with recurrence in place of attention: nothing behind a place reaches it either."""

    def __init__(self, n_items: int, config: Gru4RecConfig) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, config.dims)
        rate = config.dropout if config.layers > 1 else 0.0  # torch drops between layers only
        self.gru = nn.GRU(config.dims, config.hidden, config.layers, batch_first=True, dropout=rate)
        self.out = nn.Linear(config.hidden, config.dims)
        self.dropout = nn.Dropout(config.dropout)
        self.repeats = RepeatBias(config.window) if config.repeat_bias else None
        nn.init.xavier_normal_(self.items.weight)

    @property
    def table(self) -> Tensor:
        """[I, D] the items' vectors, by which a state is turned into scores."""
        return self.items.weight

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one, from it and earlier places only."""
        states_BLH, _ = self.gru(self.dropout(self.items(items_BL)))
        predicted: Tensor = self.out(states_BLH)
        return predicted


# --- DIN: a history pooled anew for every item that is scored (Zhou et al. 2018, sections 4.2 and 4.3).
#
# Shapes: B histories, L places, S distinct items of a block, C candidates, I items, D width, A width of the attention
# unit, H width of what is pooled, G groups of ages.


BLOCK_NUMBERS = 1 << 22
"""Intermediate numbers held at once where no gradient is needed (4 bytes each): 16 MiB."""

START = 0.1
"""Deviation of the items' vectors before training."""


@dataclass(frozen=True)
class Reading:
    """A block of histories as every candidate finds it."""

    items_BL: Tensor
    distinct_S: Tensor
    """Items of the block, each once: the attention unit looks at pairs, wherever and however often they stand."""
    places_BL: Tensor
    """Where an item stands in `distinct_S`."""
    values_BLH: Tensor
    """What each place gives to the pool, zeros where nothing is read."""


class AttentionUnit(nn.Module):
    """Weight of an item of the history for a candidate: MLP [e_i, e_c, e_i - e_c, e_i * e_c], not normalised.

    PReLU and not Dice, which would normalise by the batch: targets and negatives come apart by that alone.
    """

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.first, self.slope = nn.Linear(4 * dims, hidden), nn.PReLU(hidden)
        self.last = nn.Linear(hidden, 1)
        nn.init.ones_(self.last.bias)  # begins near a plain sum of the history

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """[...] weights of items [..., D] for candidates [..., D]."""
        product = left * right
        parts = [left.expand_as(product), right.expand_as(product), left - right, product]
        hidden = _over_last(self.slope, self.first(torch.cat(parts, dim=-1)))
        weights: Tensor = self.last(hidden)[..., 0]
        return weights

    def grid(self, left_SD: Tensor, right_CD: Tensor) -> Tensor:
        """[S, C] the same of every pair, by one matrix product: O(S·C·A·D) time, O(S·C·A) memory."""
        own_AD, other_AD, apart_AD, product_AD = self.first.weight.chunk(4, dim=1)
        # What depends on one of the two alone goes into the weights and the bias of the product.
        weight_CAD = right_CD[:, None] * product_AD + (own_AD + apart_AD)
        bias_CA = F.linear(right_CD, other_AD - apart_AD, self.first.bias)
        hidden_SCA = F.linear(left_SD, weight_CAD.flatten(0, 1), bias_CA.flatten())
        hidden_SCA = hidden_SCA.view(len(left_SD), *bias_CA.shape)
        weights: Tensor = self.last(_over_last(self.slope, hidden_SCA))[..., 0]
        return weights


class Din(nn.Module):
    """Scores candidates after histories; the table of items is read and predicted (tied).

    A history's places are pooled by the unit's weights, those of like age in a group of their own, and a candidate is
    scored by an MLP of the pools and its vector, or by the inner product of both.
    """

    groups_L: Tensor

    def __init__(self, n_items: int, config: DinConfig) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, config.dims)
        self.unit = AttentionUnit(config.dims, config.attention)
        self.inner = config.head == "inner"
        self._width = config.dims if self.inner else config.hidden
        self.pool = nn.Linear(config.dims, len(config.groups) * self._width, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        if not self.inner:
            self.candidate = nn.Linear(config.dims, config.hidden)
            self.slope, self.out = nn.PReLU(config.hidden), nn.Linear(config.hidden, 1)
        groups = [group for group, size in enumerate(config.groups) for _ in range(size)]
        groups += [len(config.groups) - 1] * config.window
        self.register_buffer("groups_L", torch.tensor(groups[: config.window]), persistent=False)
        # Products of vectors near zero have no gradient to leave it by: long vectors, pooled as they are at first.
        nn.init.normal_(self.items.weight, std=START)
        if self.inner:
            with torch.no_grad():
                self.pool.weight.copy_(torch.eye(config.dims).repeat(len(config.groups), 1))

    @property
    def table(self) -> Tensor:
        """[I, D] the items' vectors."""
        return self.items.weight

    def read(self, items_BL: Tensor, ages_BL: Tensor) -> Reading:
        """`ages_BL`: 0 for a history's last item, negative where a place is not read."""
        distinct_S, places_BL = torch.unique(items_BL, return_inverse=True)
        values_SGH = self.pool(self.items(distinct_S)).view(len(distinct_S), -1, self._width)
        values_BLH = values_SGH[places_BL, self.groups_L[ages_BL.clamp(min=0)]]
        values_BLH = self.dropout(values_BLH * (ages_BL >= 0)[..., None])
        return Reading(items_BL, distinct_S, places_BL, values_BLH)

    def forward(self, reading: Reading, candidates_C: Tensor) -> Tensor:
        """[B, C] scores of the same candidates after each history. O(S·C·A·D + B·C·L·H)."""
        vectors_CD = self.items(candidates_C)
        weights_SC = self.unit.grid(self.items(reading.distinct_S), vectors_CD)
        weights_BLC = weights_SC[reading.places_BL]
        return self._head(weights_BLC.transpose(1, 2) @ reading.values_BLH, vectors_CD)

    def own(self, reading: Reading, candidates_B: Tensor) -> Tensor:
        """[B] the score of one candidate after each history. O(B·L·(A·D + H))."""
        vectors_BD = self.items(candidates_B)
        weights_BL = self.unit(self.items(reading.items_BL), vectors_BD[:, None])
        return self._head((weights_BL[:, None] @ reading.values_BLH)[:, 0], vectors_BD)

    def catalogue(self, reading: Reading) -> Iterator[Tensor]:
        """[B, C] scores of all items, some at a time, in catalogue order."""
        pools = len(reading.places_BL) * self._width
        hidden = len(reading.distinct_S) * self.unit.first.out_features
        size = max(1, BLOCK_NUMBERS // (pools + hidden))
        items_I = torch.arange(len(self.table), device=self.table.device)
        for start in range(0, len(items_I), size):
            yield self(reading, items_I[start : start + size])

    def _head(self, pooled: Tensor, vectors: Tensor) -> Tensor:
        """[...] of pools [..., H] and candidates [..., D]."""
        if self.inner:
            return (pooled * vectors).sum(-1)
        hidden = pooled + self.candidate(vectors)
        scores: Tensor = self.out(_over_last(self.slope, hidden))[..., 0]
        return scores


def _over_last(slope: nn.PReLU, x: Tensor) -> Tensor:
    """PReLU with a slope for each number of the last axis; torch's reads the second."""
    found: Tensor = slope(x.flatten(0, -2))
    return found.view(x.shape)
