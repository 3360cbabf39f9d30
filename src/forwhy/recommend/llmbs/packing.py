"""All prefixes of a history in one pass, with the loss that they have one by one.

A history is one row: the prompt, then the codes of its items. Under causal attention the states that predict item
i's codes have read what a row of their own would hold, the prompt and the items before i, at the same positions. So
one pass gives the loss of every prefix. Beyond the window that fails: item i's row would begin later. Those targets
get rows of the last window + 1 items, `stride` targets each; with stride 1 every target has its full window.

CON tokens stand behind the longest row of a batch, one per target: each sees the prompt and all codes up to its
target's, and is seen by nobody, at the position behind these codes.

Shapes: B rows, I items of a row, L levels, P prompt tokens, T tokens, C items with a CON token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwhy.data.sequences import Histories
from forwhy.recommend.llmbs.tokens import Tokens

__all__ = ["Packed", "Pieces", "cut", "layout"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Histories cut so that every training item is a target once."""

    histories: Histories
    """What each piece reads; its last item is only a target."""
    context: Ints
    """[pieces] items at a piece's beginning that are no targets of its own."""

    def __len__(self) -> int:
        return len(self.context)

    @property
    def targets(self) -> Ints:
        """[pieces] targets of each."""
        return self.histories.lengths - self.context

    def take(self, rows: Ints) -> Packed:
        """Some pieces as one batch."""
        chosen = self.histories.take(rows)
        return Packed(
            torch.from_numpy(chosen.padded()),
            torch.from_numpy(chosen.lengths),
            torch.from_numpy(self.context[rows]),
        )


@dataclass(frozen=True)
class Packed:
    """One batch of pieces."""

    items_BI: Tensor
    """[B, I] internal items, padded behind."""
    lengths_B: Tensor
    context_B: Tensor

    def __len__(self) -> int:
        return len(self.lengths_B)

    @property
    def targets_BI(self) -> Tensor:
        """[B, I] True where an item is a target."""
        places_I = torch.arange(self.items_BI.shape[1], device=self.items_BI.device)
        return (places_I < self.lengths_B[:, None]) & (places_I >= self.context_B[:, None])

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        parts = self.items_BI.to(device), self.lengths_B.to(device), self.context_B.to(device)
        return Packed(*parts)

    def rows(self, start: int, stop: int) -> Packed:
        """Some of its rows."""
        part = slice(start, stop)
        return replace(
            self,
            items_BI=self.items_BI[part],
            lengths_B=self.lengths_B[part],
            context_B=self.context_B[part],
        )


@dataclass(frozen=True)
class Layout:
    """Where everything of a batch stands."""

    ids_BT: Tensor
    positions_T: Tensor
    seen_TT: Tensor | None
    """True where a token sees another; None: all before it."""
    con: int
    """Where the CON tokens begin; T without any."""


def cut(train: Histories, window: int, stride: int) -> Pieces:
    """Pieces of at most window + 1 items; the first of a history has all its items as targets.

    Histories without items give none.
    """
    beyond = np.maximum(train.lengths - window - 1, 0)
    counts = (train.lengths > 0) + -(-beyond // stride)
    rows = np.repeat(np.arange(len(train)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    stops = np.minimum(window + 1 + number * stride, train.lengths[rows])
    starts = np.maximum(stops - window - 1, 0)
    done = np.where(number > 0, window + 1 + (number - 1) * stride, 0)
    lengths = stops - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(offsets[-1]) + np.repeat(train.offsets[:-1][rows] + starts - offsets[:-1], lengths)
    return Pieces(Histories(train.items[places], offsets), done - starts)


def layout(packed: Packed, tokens: Tokens, contrast: bool) -> Layout:
    """The batch as token ids; without `contrast` nothing follows what the last code is predicted from."""
    prompt_P = torch.tensor(tokens.prompt, device=packed.items_BI.device)
    rows, items = packed.items_BI.shape
    codes = tokens.items_NL.to(packed.items_BI.device)[packed.items_BI].flatten(1)
    ids_BT = torch.cat([prompt_P.expand(rows, -1), codes], dim=1)
    levels = tokens.items_NL.shape[1]
    if not contrast:
        length = ids_BT.shape[1] - 1
        return Layout(ids_BT[:, :-1], torch.arange(length, device=ids_BT.device), None, length)
    length = ids_BT.shape[1]
    ends_I = len(prompt_P) + levels * torch.arange(1, items + 1, device=ids_BT.device)
    ids_BT = torch.cat([ids_BT, ids_BT.new_full((rows, items), tokens.con)], dim=1)
    positions_T = torch.cat([torch.arange(length, device=ids_BT.device), ends_I])
    return Layout(ids_BT, positions_T, _seen(positions_T, length), length)


def _seen(positions_T: Tensor, con: int) -> Tensor:
    """Codes see the codes up to themselves, CON tokens those before them and themselves."""
    places_T = torch.arange(len(positions_T), device=positions_T.device)
    codes_TT = (places_T[None] < con) & (positions_T[None] <= positions_T[:, None])
    at_con_TT = (places_T[:, None] >= con) & (positions_T[None] == positions_T[:, None])
    own_TT = places_T[None] == places_T[:, None]
    return (codes_TT & ~at_con_TT) | own_TT
