"""Greedy decoding of a batch with a shared prefix.

Shapes: B rows still being written, S positions after the prefix, T all positions so far, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.cache import DecodingCache, Prefix

Enough = Callable[[int, list[int]], bool]
"""Whether a row needs no further token, given its number in the batch and its tokens so far."""


@dataclass(frozen=True)
class Decoding:
    """When a row is over."""

    stop_ids: Collection[int]
    """Tokens that end a row; they are not part of it."""
    limit: int
    """Largest number of tokens of a row."""
    enough: Enough | None = None
    """Ends a row early."""
    no_repeat: int = 0
    """A row of this many tokens never occurs twice in an answer; 0 = no such rule."""
    end_bias: float = 0.0
    """Added to the logits of the stop tokens, in nats."""

    def choose(self, logits_BV: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """[B] the next token of each row, which has said `texts` so far. Changes the logits."""
        if self.end_bias:
            logits_BV[:, sorted(self.stop_ids)] += self.end_bias
        for row, ids in enumerate(texts if self.no_repeat else ()):
            logits_BV[row, _repeating(ids, self.no_repeat)] = float("-inf")
        return logits_BV.argmax(dim=-1)


@dataclass(frozen=True)
class Prompts:
    """Prompts that are read in one pass."""

    inputs_BSD: Tensor
    """What follows the prefix, padded on the left so that all end together."""
    pad_B: Tensor
    """Padding of each; where there is none, no mask is made at all."""
    reading: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Entered for the pass, and left before the second token: what is injected into the prompts' positions
    reaches later tokens through their keys and values."""


@dataclass
class Written:
    """One row's tokens; `ended` when a stop token closed it."""

    ids: list[int]
    ended: bool = False


def greedy(
    backbone: Backbone, prefix: Prefix, prompts: Sequence[Prompts], decoding: Decoding
) -> list[Written]:
    """The most probable token, again and again, for every row; as :func:`steps`, taken to the end."""
    written = [Written([]) for part in prompts for _ in part.pad_B]
    with backbone.packed.used(len(written)):
        for _ in steps(backbone, prefix, prompts, decoding, written):
            pass
    return written


@torch.inference_mode()
def steps(
    backbone: Backbone,
    prefix: Prefix,
    prompts: Sequence[Prompts],
    decoding: Decoding,
    written: list[Written],
) -> Iterator[None]:
    """One token further for every open row at each step, appended to `written`.

    The prefix is copied once into room for the whole answer; a row that ends leaves the batch, so later steps
    cost what the remaining rows cost; the head is applied to the last position only.

    Args:
        backbone: The model.
        prefix: What all rows begin with.
        prompts: The rest of each prompt. Read part by part, written to together.
        decoding: When a row is over.
        written: One empty entry per row, in the order of `prompts`.
    """
    state = _begin(backbone, prefix, prompts, decoding)
    while True:
        tokens = state.next_B.tolist()
        over = [
            slot for slot, token in enumerate(tokens) if _append(written, state.rows[slot], token, decoding)
        ]
        yield
        if len(over) == len(tokens):
            return
        state.leave(over)
        state.advance(decoding, [written[number].ids for number in state.rows])


def _append(written: list[Written], number: int, token: int, decoding: Decoding) -> bool:
    """Whether the row is over with this token."""
    row = written[number]
    if token in decoding.stop_ids:
        row.ended = True
        return True
    row.ids.append(token)
    return len(row.ids) >= decoding.limit or bool(decoding.enough and decoding.enough(number, row.ids))


@dataclass
class _State:
    """The open rows: which rows of the batch they are, and what the next step needs of them."""

    backbone: Backbone
    cache: DecodingCache
    rows: list[int]
    next_B: Tensor
    mask_BT: Tensor | None
    position_B: Tensor | None

    def leave(self, over: list[int]) -> None:
        """Finished rows leave; the last row takes the slot of each."""
        if not over:
            return
        slots = list(range(len(self.rows)))
        for slot in reversed(over):
            self.cache.drop(slot)
            slots[slot] = slots[-1]
            slots.pop()
        self.rows = [self.rows[slot] for slot in slots]
        self.next_B = self.next_B[slots]
        if self.mask_BT is not None and self.position_B is not None:
            self.mask_BT, self.position_B = self.mask_BT[slots], self.position_B[slots]

    def advance(self, decoding: Decoding, texts: Sequence[Sequence[int]]) -> None:
        """One position further, given what the open rows say so far."""
        positions_B1 = None
        if self.mask_BT is not None and self.position_B is not None:
            self.mask_BT = pad(self.mask_BT, (0, 1), value=True)
            positions_B1 = self.position_B[:, None]
            self.position_B = self.position_B + 1
        inputs_B1D = self.backbone.embed(self.next_B[:, None])
        logits_BV = self.backbone.step(self.cache, inputs_B1D, self.mask_BT, positions_B1)
        self.next_B = decoding.choose(logits_BV, texts)


def _repeating(ids: Sequence[int], size: int) -> list[int]:
    """Tokens that would complete a run of `size` tokens that has been said already."""
    last = list(ids[len(ids) - size + 1 :])
    runs = range(len(ids) - size + 1)
    return [ids[start + size - 1] for start in runs if list(ids[start : start + size - 1]) == last]


def _begin(backbone: Backbone, prefix: Prefix, prompts: Sequence[Prompts], decoding: Decoding) -> _State:
    """All prompts read, the first token of each row chosen."""
    width = max(part.inputs_BSD.shape[1] for part in prompts)
    begins = [width - part.inputs_BSD.shape[1] for part in prompts]
    pad_B = torch.cat([part.pad_B + begin for part, begin in zip(prompts, begins, strict=True)])
    cache = DecodingCache(prefix, pad_B.tolist(), prefix.length + width + decoding.limit)
    chosen: list[Tensor] = []
    first = 0
    for part, begin in zip(prompts, begins, strict=True):
        rows = slice(first, first + len(part.pad_B))
        cache.read(rows, begin)
        with part.reading:
            logits_BV = backbone.step(cache, part.inputs_BSD, *_places(prefix, part))
        chosen.append(decoding.choose(logits_BV, ()))
        first = rows.stop
    cache.write()
    mask_BT = position_B = None
    if pad_B.any():
        mask_BT = torch.arange(prefix.length + width, device=pad_B.device)[None] >= pad_B[:, None]
        position_B = prefix.length + width - pad_B
    return _State(backbone, cache, list(range(first)), torch.cat(chosen), mask_BT, position_B)


def _places(prefix: Prefix, part: Prompts) -> tuple[Tensor | None, Tensor | None]:
    """Mask [B, T] and positions [B, S] of prompts; None where none is padded."""
    if not part.pad_B.any():
        return None, None
    at_T = torch.arange(prefix.length + part.inputs_BSD.shape[1], device=part.pad_B.device)
    mask_BT = at_T[None] >= part.pad_B[:, None]
    return mask_BT, (at_T[prefix.length :][None] - part.pad_B[:, None]).clamp_min(0)
