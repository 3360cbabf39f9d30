"""T5's encoder and decoder (Raffel et al. 2020) in the small, whose tokens may form a tree.

Own code, because beams that share one encoded history are positions of one row whose order only a mask and distances
tell, which the library's T5 does not take. With its weights it gives its numbers (a test).
Shapes: B histories, S tokens read, T tokens written, n tokens written so far, D width, H heads, E head width, M width
of all heads together, F width of a hidden layer.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwhy.recommend.options import TigerConfig

BUCKETS, FARTHEST = 32, 128
"""Distances told apart, and the one from which on all are alike (T5's)."""

KeyValue = tuple[Tensor, Tensor]
Pairs = Sequence[KeyValue]
Pair = KeyValue | None
Encoded = tuple[list[KeyValue], Tensor | None]
"""Histories that were read, ready to be looked at by any number of beams.

Per decoder block keys and values [B, H, S, E]; and what is added to attention [B, 1, 1, S]: -inf behind the shorter
histories, None where all are equally long.
"""


class Stack(nn.Module):
    """Blocks one after the other, which share what they know of distances."""

    def __init__(self, shape: TigerConfig, *, reads: bool) -> None:
        """`reads`: an encoder, which looks both ways and at nothing else."""
        super().__init__()
        self.reads, self.dropout = reads, nn.Dropout(shape.dropout)
        self.bias = nn.Embedding(BUCKETS, shape.heads)
        self.blocks = [Block(shape, crosses=not reads) for _ in range(shape.layers)]
        self._blocks = nn.ModuleList(self.blocks)
        self.norm = nn.RMSNorm(shape.dims, eps=1e-6)
        _spread(shape, self)

    def distances(self, places_T: Tensor, places_n: Tensor) -> Tensor:
        """[1, H, T, n] what attention adds for how far apart two tokens stand."""
        by_head_TnH: Tensor = self.bias(buckets(places_n - places_T[:, None], self.reads))
        return by_head_TnH.permute(2, 0, 1)[None]

    def forward(
        self, x_BTD: Tensor, bias: Tensor, written: Pairs = (), read: Pairs = (), unread: Tensor | None = None
    ) -> tuple[Tensor, list[KeyValue]]:
        """New states, and each block's keys and values after those of `written`; `read`, `unread`: as of `Encoded`."""
        x_BTD, pairs, none = self.dropout(x_BTD), [], [None] * len(self.blocks)
        for block, before, other in zip(self.blocks, written or none, read or none, strict=True):
            x_BTD, pair = block(x_BTD, bias, before, other, unread)
            pairs.append(pair)
        return self.dropout(self.norm(x_BTD)), pairs


class Block(nn.Module):
    """Attention to oneself, to what was read, and a feed-forward layer, each added to its input."""

    def __init__(self, shape: TigerConfig, *, crosses: bool) -> None:
        super().__init__()
        dims, hidden = shape.dims, shape.feedforward
        self.own_norm, self.own = nn.RMSNorm(dims, eps=1e-6), Attention(shape)
        if crosses:
            self.cross_norm, self.cross = nn.RMSNorm(dims, eps=1e-6), Attention(shape)
        self.hidden_norm = nn.RMSNorm(dims, eps=1e-6)
        self.into, self.out = nn.Linear(dims, hidden, bias=False), nn.Linear(hidden, dims, bias=False)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(
        self, x_BTD: Tensor, bias: Tensor, before: Pair, read: Pair, unread: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """New states, and keys and values of all tokens so far."""
        normed_BTD = self.own_norm(x_BTD)
        keys, values = self.own.pair(normed_BTD)
        if before is not None:
            keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
        x_BTD = x_BTD + self.dropout(self.own(normed_BTD, keys, values, bias))
        if read is not None:
            x_BTD = x_BTD + self.dropout(self.cross(self.cross_norm(x_BTD), *read, unread))
        hidden_BTF = F.relu(self.into(self.hidden_norm(x_BTD)))
        return x_BTD + self.dropout(self.out(hidden_BTF)), (keys, values)


class Attention(nn.Module):
    """Heads of any width; scores are not divided by its root, as T5's are not."""

    def __init__(self, shape: TigerConfig) -> None:
        super().__init__()
        self.heads = shape.heads
        inner = shape.heads * shape.head_dims
        self.query = nn.Linear(shape.dims, inner, bias=False)
        self.key_value = nn.Linear(shape.dims, 2 * inner, bias=False)
        self.out = nn.Linear(inner, shape.dims, bias=False)

    def pair(self, x_BSD: Tensor) -> KeyValue:
        """Keys and values [B, H, S, E]."""
        keys, values = self.key_value(x_BSD).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, x_BTD: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """[B, T, D]; `bias` is added to the scores [B, H, T, S]."""
        queries = self._split(self.query(x_BTD))
        found_BHTE = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)
        mixed: Tensor = self.out(found_BHTE.transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x_BSM: Tensor) -> Tensor:
        return x_BSM.view(*x_BSM.shape[:2], self.heads, -1).transpose(1, 2)


def buckets(distance: Tensor, both: bool) -> Tensor:
    """The bucket of each distance: near ones have their own, far ones share; with `both`, half for each way."""
    count = BUCKETS // 2 if both else BUCKETS
    size = distance.abs() if both else (-distance).clamp_min(0)
    near = count // 2
    share = (size.clamp_min(1) / near).log() / math.log(FARTHEST / near)
    far = (near + (share * (count - near)).long()).clamp_max(count - 1)
    found = torch.where(size < near, size, far)
    return found + count * (distance > 0) if both else found


def _spread(shape: TigerConfig, stack: Stack) -> None:
    """Starting weights whose sums keep their size, queries smaller by the root of the head width that T5 leaves out."""
    nn.init.normal_(stack.bias.weight, std=shape.dims**-0.5)
    for module in stack.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if isinstance(module, Attention):
            nn.init.normal_(module.query.weight, std=(shape.dims * shape.head_dims) ** -0.5)
