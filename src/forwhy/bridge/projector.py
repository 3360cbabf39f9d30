"""Codes to vectors that a frozen model reads in place of words (BEAT, "Behavior Tokens Comprehension").

Shapes: B rows, L slots of one side, K behaviour tokens of a pair, C codes of one side's books together, M
    codeword
width, D model width, T task tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forwhy.bridge.config import ProjectorConfig
from forwhy.bridge.pair import PairBridge

_SMALL = 1e-8


@dataclass(frozen=True)
class Codes:
    """The books of one side laid one after the other, and where each slot reads."""

    codewords_CM: NDArray[np.float32]
    offset_L: NDArray[np.int64]
    """First row of each slot's book."""
    book_C: NDArray[np.int64]
    """Number of the book of each row."""
    start_C: NDArray[np.int64]
    """Id of the word that each code starts at; -1 for none."""

    @classmethod
    def build(
        cls,
        books: Mapping[str, NDArray[np.float32]],
        slots: Sequence[str],
        starts: Mapping[str, Sequence[int]],
    ) -> Codes:
        """One side's codes: `books` in any order, `slots` naming the book of each slot."""
        names = list(dict.fromkeys(slots))
        sizes = [len(books[name]) for name in names]
        first = dict(zip(names, np.cumsum([0, *sizes[:-1]]), strict=True))
        return cls(
            codewords_CM=np.concatenate([books[name] for name in names]).astype(np.float32),
            offset_L=np.array([first[name] for name in slots], dtype=np.int64),
            book_C=np.repeat(np.arange(len(names)), sizes),
            start_C=np.concatenate([np.asarray(starts[name], dtype=np.int64) for name in names]),
        )


class SideProjector(nn.Module):
    """One side's two-layer network, on the codeword (plus the slot's vector), added to the code's start word.

    Codewords and start words are not part of the state: they come from the vocabulary and the model.
    """

    codewords_CM: Tensor
    start_CD: Tensor
    offset_L: Tensor
    slots_CL: Tensor

    def __init__(self, codes: Codes, config: ProjectorConfig, start_CD: Tensor, word_norm: float) -> None:
        super().__init__()
        self.config, self.word_norm = config, word_norm
        codewords_CM = torch.from_numpy(_standardised(codes) if config.standardise else codes.codewords_CM)
        self._keep("codewords_CM", codewords_CM.clone(), trained=config.train_codebooks)
        self.register_buffer("start_CD", start_CD.float(), persistent=False)
        self.register_buffer("offset_L", torch.from_numpy(codes.offset_L), persistent=False)
        self.register_buffer("slots_CL", _slots_of(codes), persistent=False)
        (_, wide), width, slots = codewords_CM.shape, start_CD.shape[1], len(codes.offset_L)
        self.network = _network(config, wide, width, bool(start_CD.abs().sum(dim=1).all()))
        self.slot_LM = nn.Parameter(torch.zeros(slots, wide)) if config.slot_embedding else None
        self.shift_CD = nn.Parameter(torch.zeros_like(start_CD)) if config.code_offsets else None

    def _keep(self, name: str, value: Tensor, trained: bool) -> None:
        if trained:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value, persistent=False)

    def forward(self, codes_BL: Tensor) -> Tensor:
        """Vectors [B, L, D] of codes, macro slot first as in the vocabulary."""
        rows_BL = codes_BL + self.offset_L
        inputs_BLM = self.codewords_CM[rows_BL]
        if self.slot_LM is not None:
            inputs_BLM = inputs_BLM + self.slot_LM
        return self._finish(inputs_BLM, rows_BL)

    def every(self) -> Tensor:
        """Vectors [C, D] of all codes; a code read by several slots takes the mean of their vectors."""
        inputs_CM = self.codewords_CM
        if self.slot_LM is not None:
            inputs_CM = inputs_CM + self.slots_CL @ self.slot_LM
        return self._finish(inputs_CM, slice(None))

    def _finish(self, inputs: Tensor, rows: Tensor | slice) -> Tensor:
        """Start word + alpha x network, at the size of a word."""
        config, width = self.config, self.start_CD.shape[1]
        size = 1.0 if config.scale == "raw" else self.word_norm / width**0.5
        out: Tensor = self.start_CD[rows] + config.alpha * size * self.network(inputs)
        if self.shift_CD is not None:
            out = out + size * self.shift_CD[rows]
        if config.scale == "word-norm":
            out = out * (self.word_norm / out.norm(dim=-1, keepdim=True).clamp_min(_SMALL))
        return out


class Bridge(PairBridge):
    """Both projectors and the task tokens."""

    user: SideProjector
    item: SideProjector

    def __init__(
        self,
        user: SideProjector,
        item: SideProjector,
        task_TD: Tensor,
        order: str,
        states: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        """As :class:`PairBridge`."""
        super().__init__(user, item, task_TD, order, user.word_norm, states)

    def forward(self, user_BL: Tensor, item_BL: Tensor) -> Tensor:
        """Behaviour tokens [B, K, D] in prompt order."""
        return self.in_order(self.user(user_BL), self.item(item_BL))

    def every(self) -> Tensor:
        """All projected codes of both sides: the set that BEAT eq. 10 searches."""
        return torch.cat([self.user.every(), self.item.every()])


def _network(config: ProjectorConfig, wide: int, width: int, has_start: bool) -> nn.Sequential:
    hidden = config.hidden or (wide + width) // 2
    between = [nn.GELU()] if config.kind == "mlp" else []
    last = nn.Linear(hidden, width)
    if config.zero_last and config.start == "words" and has_start:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(wide, hidden), *between, last)


def _standardised(codes: Codes) -> NDArray[np.float32]:
    """Codewords centred per book, divided by the book's overall deviation: directions keep their meaning."""
    out = codes.codewords_CM.copy()
    for book in np.unique(codes.book_C):
        rows = codes.book_C == book
        out[rows] -= out[rows].mean(axis=0)
        out[rows] /= max(float(out[rows].std()), _SMALL)
    return out


def _slots_of(codes: Codes) -> Tensor:
    """[C, L] weights: the mean over the slots that read a code's book."""
    first_C = np.array([np.flatnonzero(codes.book_C == book)[0] for book in codes.book_C])
    reads_CL = (first_C[:, None] == codes.offset_L[None, :]).astype(np.float32)
    return torch.from_numpy(reads_CL / reads_CL.sum(axis=1, keepdims=True))
