"""T5's encoder and decoder (Raffel et al. 2020) in the small, over the codes of items.

Own code, because beams that share one encoded history are positions of one row whose order only a mask and distances
tell, which the library's T5 does not take. With its weights it gives its numbers (a test).
Shapes: B histories, I items of a history, S tokens read, T tokens written, n tokens written so far, L levels, D
width, H heads, E head width, W codes of a level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwhy.recommend.generative.recommender import IndexTokens, level_tokens
from forwhy.recommend.tiger.config import TigerConfig
from forwhy.vocabulary.indices import ItemIndex

BEGIN = 0
"""The token that every history and every written item begins with."""
BUCKETS, FARTHEST = 32, 128
"""Distances told apart, and the one from which on all are alike (T5's)."""

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Encoded:
    """Histories that were read, ready to be looked at by any number of beams."""

    layers: list[KeyValue]
    """Per decoder block, keys and values [B, H, S, E]."""
    unread: Tensor | None
    """[B, 1, 1, S] added to attention: -inf behind the shorter ones; None where all are alike."""


def tiger_tokens(index: ItemIndex) -> IndexTokens:
    """The begin token, then the index's tokens: the whole vocabulary."""
    return IndexTokens(*level_tokens(index, BEGIN + 1), (BEGIN,))


class TigerNetwork(nn.Module):
    """Reads codes both ways, writes codes from left to right; read and written tokens share a table."""

    def __init__(self, tokens: IndexTokens, config: TigerConfig) -> None:
        """Random weights from torch's generator, spread as T5's."""
        super().__init__()
        self.tokens, self.config = tokens, config
        self.table = nn.Embedding(BEGIN + 1 + tokens.count, config.dims)
        self.encoder, self.decoder = Stack(config, reads=True), Stack(config, reads=False)
        self.head = CodesHead(self.table)

    def forward(self, items_BI: Tensor, lengths_B: Tensor, targets_B: Tensor) -> dict[str, Tensor]:
        """`loss`: the mean cross-entropy of the targets' codes after their histories, padded behind."""
        device = self.table.weight.device
        codes_NL = self.tokens.items_NL.to(device)
        ids_BS = F.pad(codes_NL[items_BI.to(device)].flatten(1), (1, 0), value=BEGIN)
        encoded = self.encode(ids_BS, 1 + lengths_B.to(device) * codes_NL.shape[1])
        codes_BL = codes_NL[targets_B.to(device)]
        places_L = torch.arange(codes_BL.shape[1], device=device)
        before_LL = places_L[:, None] >= places_L
        given_BL = F.pad(codes_BL[:, :-1], (1, 0), value=BEGIN)
        states_BLD, _ = self.write(encoded, given_BL, places_L, before_LL[None])
        return {"loss": self._cross_entropy(states_BLD, codes_BL)}

    def encode(self, ids_BS: Tensor, lengths_B: Tensor) -> Encoded:
        """One pass over histories of tokens, padded behind; the lengths count tokens."""
        places_S = torch.arange(ids_BS.shape[1], device=ids_BS.device)
        unread = None
        if int(lengths_B.min()) < ids_BS.shape[1]:
            behind_BS = places_S >= lengths_B[:, None]
            unread = torch.zeros_like(behind_BS, dtype=torch.float32).masked_fill_(behind_BS, -torch.inf)
            unread = unread[:, None, None]
        bias = self.encoder.distances(places_S, places_S)
        states_BSD, _ = self.encoder(self.table(ids_BS), bias if unread is None else bias + unread)
        return Encoded([block.cross.pair(states_BSD) for block in self.decoder.blocks], unread)

    def write(
        self,
        encoded: Encoded,
        ids_BT: Tensor,
        places_n: Tensor,
        seen_BTn: Tensor,
        written: list[KeyValue] | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """States [B, T, D] that predict what follows each token, and keys and values of all tokens so far.

        Args:
            encoded: What was read.
            ids_BT: New tokens.
            places_n: How far from the beginning each token so far stands, the new ones last.
            seen_BTn: True where a new token sees another. The first dimension may be 1.
            written: Keys and values of the tokens before.
        """
        bias = self.decoder.distances(places_n[-ids_BT.shape[1] :], places_n)
        bias = bias.masked_fill(~seen_BTn[:, None], -torch.inf)
        found: tuple[Tensor, list[KeyValue]] = self.decoder(self.table(ids_BT), bias, encoded, written)
        return found

    def _cross_entropy(self, states_BLD: Tensor, codes_BL: Tensor) -> Tensor:
        smoothing = self.config.label_smoothing
        if self.config.softmax == "vocab":
            logits = self.head.vocabulary(states_BLD).flatten(0, 1)
            return F.cross_entropy(logits, codes_BL.flatten(), label_smoothing=smoothing)
        losses = []
        for level, ids_W in enumerate(self.tokens.levels):
            logits_BW = self.head.rows(states_BLD[:, level], ids_W.to(states_BLD.device))
            codes_B = codes_BL[:, level] - int(ids_W[0])
            losses.append(F.cross_entropy(logits_BW, codes_B, label_smoothing=smoothing))
        return torch.stack(losses).mean()


class CodesHead:
    """The table of tokens as the output layer, its states scaled as T5 does when it shares them."""

    def __init__(self, table: nn.Embedding) -> None:
        self.table = table

    def vocabulary(self, states: Tensor) -> Tensor:
        """Logits [..., V] of all tokens."""
        return F.linear(self._scaled(states), self.table.weight).float()

    def rows(self, states: Tensor, ids_W: Tensor) -> Tensor:
        """Logits [..., W] of some tokens."""
        return F.linear(self._scaled(states), self.table.weight[ids_W]).float()

    def _scaled(self, states: Tensor) -> Tensor:
        scale: float = self.table.embedding_dim**-0.5
        return states * scale


class Stack(nn.Module):
    """Blocks one after the other, which share what they know of distances."""

    def __init__(self, config: TigerConfig, *, reads: bool) -> None:
        """`reads`: an encoder, which looks both ways and at nothing else."""
        super().__init__()
        self.reads, self.dropout = reads, nn.Dropout(config.dropout)
        self.bias = nn.Embedding(BUCKETS, config.heads)
        self._blocks = nn.ModuleList(Block(config, crosses=not reads) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.dims, eps=1e-6)
        _spread(config, self)

    @property
    def blocks(self) -> list[Block]:
        """In the order in which states pass them."""
        return [block for block in self._blocks if isinstance(block, Block)]

    def distances(self, places_T: Tensor, places_n: Tensor) -> Tensor:
        """[1, H, T, n] what attention adds for how far apart two tokens stand."""
        by_head_TnH: Tensor = self.bias(buckets(places_n - places_T[:, None], self.reads))
        return by_head_TnH.permute(2, 0, 1)[None]

    def forward(
        self,
        states_BTD: Tensor,
        bias: Tensor,
        encoded: Encoded | None = None,
        written: list[KeyValue] | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """New states, and each block's keys and values with those of `written` before them."""
        states_BTD, pairs = self.dropout(states_BTD), []
        for number, block in enumerate(self.blocks):
            before = None if written is None else written[number]
            read = None if encoded is None else encoded.layers[number]
            unread = None if encoded is None else encoded.unread
            states_BTD, pair = block(states_BTD, bias, before, read, unread)
            pairs.append(pair)
        return self.dropout(self.norm(states_BTD)), pairs


class Block(nn.Module):
    """Attention to oneself, to what was read, and a feed-forward layer, each added to its input."""

    def __init__(self, config: TigerConfig, *, crosses: bool) -> None:
        super().__init__()
        dims, hidden = config.dims, config.feedforward
        self.own_norm, self.own = nn.RMSNorm(dims, eps=1e-6), Attention(config)
        if crosses:
            self.cross_norm, self.cross = nn.RMSNorm(dims, eps=1e-6), Attention(config)
        self.hidden_norm = nn.RMSNorm(dims, eps=1e-6)
        self.into, self.out = nn.Linear(dims, hidden, bias=False), nn.Linear(hidden, dims, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x_BTD: Tensor,
        bias: Tensor,
        before: KeyValue | None,
        read: KeyValue | None,
        unread: Tensor | None,
    ) -> tuple[Tensor, KeyValue]:
        """See `Stack`."""
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

    def __init__(self, config: TigerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.head_dims
        self.query = nn.Linear(config.dims, inner, bias=False)
        self.key_value = nn.Linear(config.dims, 2 * inner, bias=False)
        self.out = nn.Linear(inner, config.dims, bias=False)

    def pair(self, x_BSD: Tensor) -> KeyValue:
        """Keys and values [B, H, S, E]."""
        keys, values = self.key_value(x_BSD).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, x_BTD: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """[B, T, D]; `bias` is added to the scores [B, H, T, S]."""
        found_BHTE = F.scaled_dot_product_attention(
            self._split(self.query(x_BTD)),
            keys,
            values,
            attn_mask=bias,
            scale=1.0,
        )
        mixed: Tensor = self.out(found_BHTE.transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x_BSM: Tensor) -> Tensor:
        return x_BSM.view(*x_BSM.shape[:2], self.heads, -1).transpose(1, 2)


def buckets(distance: Tensor, both: bool) -> Tensor:
    """The bucket of each distance: near ones have their own, farther ones share, the wider the farther.

    With `both` ways the upper half is for what lies behind, else what lies behind counts as near.
    """
    count = BUCKETS // 2 if both else BUCKETS
    size = distance.abs() if both else (-distance).clamp_min(0)
    near = count // 2
    share = (size.clamp_min(1) / near).log() / math.log(FARTHEST / near)
    far = (near + (share * (count - near)).long()).clamp_max(count - 1)
    found = torch.where(size < near, size, far)
    return found + count * (distance > 0) if both else found


def _spread(config: TigerConfig, stack: Stack) -> None:
    """Starting weights whose sums keep their size, queries smaller by the root of the head width that T5 leaves out."""
    nn.init.normal_(stack.bias.weight, std=config.dims**-0.5)
    for module in stack.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if isinstance(module, Attention):
            nn.init.normal_(module.query.weight, std=(config.dims * config.head_dims) ** -0.5)


# --- An encoder and a decoder as beam search reads them: a history once, its beams as positions of one row.
#
# Shapes: B users, S tokens read, T new tokens of the tree, n tokens of the tree so far, D width.


@dataclass
class ReadHistories:
    """Encoded histories, and the tree of codes that is being written after them."""

    encoded: Encoded
    lengths_B: Tensor
    last: Tensor
    """[B, D] states at the begin token of what is written."""
    written: list[KeyValue]
    """Keys and values [B, H, 1 + n, E] of the begin token and the tree."""
    places_n: Tensor
    """[1 + n] how far from the beginning each of them stands."""

    def prune(self) -> None:
        """Forget the tree, keep the histories."""
        self.places_n = self.places_n[:1]
        self.written = [(keys[:, :, :1], values[:, :, :1]) for keys, values in self.written]


class HistoryReader:
    """What `BeamDecoder` takes in place of a causal language model.

    All beams of a user look at the one encoded history, which is never repeated: they are the queries' axis of the
    cross-attention. A mask keeps them apart where they look at what was written.
    """

    longest = None

    def __init__(self, model: TigerNetwork) -> None:
        self.model = model

    @property
    def head(self) -> CodesHead:
        """See `TreeReader`."""
        return self.model.head

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.table.weight.device

    @property
    def vocabulary(self) -> int:
        """Tokens that it knows."""
        return self.model.table.num_embeddings

    def prefix(self, ids: Sequence[int]) -> None:
        """None: an encoder's states at the beginning depend on what follows."""

    def read(self, prompts: Sequence[Sequence[int]], room: int, prefix: object = None) -> ReadHistories:
        """One pass over a batch of histories, and one over the begin token; room and prefix mean nothing here."""
        lengths_B = torch.tensor([len(row) for row in prompts], device=self.device)
        longest = int(lengths_B.max())
        ids_BS = torch.tensor([[*row, *[BEGIN] * (longest - len(row))] for row in prompts])
        encoded = self.model.encode(ids_BS.to(self.device), lengths_B)
        begin_B1 = torch.full((len(prompts), 1), BEGIN, device=self.device)
        here_1 = torch.zeros(1, dtype=torch.long, device=self.device)
        seen_111 = torch.ones(1, 1, 1, dtype=torch.bool, device=self.device)
        states_B1D, written = self.model.write(encoded, begin_B1, here_1, seen_111)
        return ReadHistories(encoded, lengths_B, states_B1D[:, 0], written, here_1)

    def grow(self, prompts: ReadHistories, ids_BT: Tensor, depths_T: Tensor, seen_BTn: Tensor) -> Tensor:
        """States [B, T, D] of new tokens of the tree; see `TreeModel.grow`."""
        prompts.places_n = torch.cat([prompts.places_n, depths_T + 1])
        begin_BT1 = seen_BTn.new_ones(*seen_BTn.shape[:2], 1)
        states_BTD, prompts.written = self.model.write(
            prompts.encoded,
            ids_BT,
            prompts.places_n,
            torch.cat([begin_BT1, seen_BTn], dim=2),
            prompts.written,
        )
        return states_BTD
