"""An encoder and a decoder as beam search reads them: a history once, its beams as positions of one row.

Shapes: B users, S tokens read, T new tokens of the tree, n tokens of the tree so far, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forwhy.recommend.tiger.network import BEGIN, CodesHead, Encoded, KeyValue, TigerNetwork

__all__ = ["HistoryReader"]


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
