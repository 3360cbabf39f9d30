"""What beam search needs of a model: it reads prompts, and trees of codes behind them.

`TreeModel` is that for causal language models, `tiger.reader.HistoryReader` for an encoder and a decoder.
Shapes: B users, T new tokens of a tree, n tokens of the tree so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from forwhy.bridge.cache import Prefix
from forwhy.recommend.decoding.head import CodeHead

__all__ = ["Reading", "TreeReader"]


class Reading(Protocol):
    """A batch of prompts that was read, and the tree behind them."""

    lengths_B: Tensor
    last: Tensor
    """States [B, ...] that predict the first code."""

    def prune(self) -> None:
        """Forget the tree, keep the prompts."""


class TreeReader(Protocol):
    """A model that reads prompts once and lets all beams of a user share them."""

    @property
    def model(self) -> nn.Module:
        """Whose dropout is off while it reads."""

    @property
    def head(self) -> CodeHead:
        """From states to log-probabilities of codes."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""

    @property
    def vocabulary(self) -> int:
        """Tokens that it knows."""

    @property
    def longest(self) -> int | None:
        """Positions that it has, prompt and codes together; None: any number."""

    def prefix(self, ids: Sequence[int]) -> Prefix | None:
        """What all prompts begin with, read once; None where prompts can only be read whole."""

    def read(self, prompts: Sequence[Sequence[int]], room: int, prefix: Prefix | None = None) -> Reading:
        """Prompts, without the beginning that `prefix` holds; the tree may come to `room` tokens."""

    def grow(self, prompts: Any, ids_BT: Tensor, depths_T: Tensor, seen_BTn: Tensor) -> Tensor:  # noqa: ANN401
        """States [B, T, ...] of new tokens of the tree of what `read` gave; see `TreeModel.grow`."""
