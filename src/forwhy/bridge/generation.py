"""Greedy decoding of rows with a shared prefix.

Shapes: B rows still being written, S positions after the prefix, T all positions so far, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from forwhy.bridge.backbone import Backbone, Prefix, roomy
from forwhy.bridge.options import finish

_PLAUSIBLE = math.log(0.1)
"""Guidance chooses among tokens at least a tenth as likely as the likeliest one."""
_FAR = 1e4
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
    guidance: Sequence[float] = ()
    """How far each text is led away from what another prompt would get (contrastive decoding, Li et al. 2023). Where
    it is given, rows come in twos, a row and the one that it is led away from, and both get the first one's tokens."""

    def choose(self, logits_BV: Tensor, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> Tensor:
        """[B] the next token of each of these rows, which has said `texts` so far. Changes the logits."""
        if self.guidance:
            weights = [self.guidance[row // 2] for row in rows]
            logits_BV = _guided(logits_BV, rows, logits_BV.new_tensor(weights)[:, None])
        if self.end_bias:
            logits_BV[:, sorted(self.stop_ids)] += self.end_bias
        for row, ids in enumerate(texts if self.no_repeat else ()):
            logits_BV[row, _repeating(ids, self.no_repeat)] = float("-inf")
        return logits_BV.argmax(dim=-1)


@dataclass(frozen=True)
class PromptBatch:
    """Prompts that are read in one pass."""

    inputs_BSD: Tensor
    """What follows the prefix, padded on the left so that all end together."""
    pad_B: Tensor
    """Padding of each; where there is none, no mask is made at all."""
    reading: AbstractContextManager[object]
    """Entered for the pass, and left before the second token: what is injected into the prompts' positions
    reaches later tokens through their keys and values."""
    hidden_BS: Tensor | None = None
    """True at positions that no later one may look at."""


@dataclass
class Written:
    """One row's tokens; `ended` when a stop token closed it, `over` when it gets no further one."""

    ids: list[int]
    ended: bool = False
    over: bool = False


def most_in_a_pass(slots: int) -> int:
    """Largest number of rows in a pass over prompts, where `slots` rows are written together."""
    return max(1, slots // 4)


@torch.inference_mode()
def steps(
    backbone: Backbone, prefix: Prefix, prompts: Iterable[PromptBatch | None], decoding: Decoding, slots: int
) -> Iterator[list[Written]]:
    """One token further for every open row at each step; yields all rows so far, the same list each time.

    At most `slots` rows are open. A row that ends leaves at once, and when a quarter of the slots is free the next
    prompts are read into them, as on a CPU a step for 4 rows costs nearly as much as one for 16. The open rows then
    move into a new cache that begins where the longest of them does.

    `prompts`: what follows the prefix, best the longest first; no more rows in one pass than :func:`most_in_a_pass`, or
    two, which are never parted where there is guidance. None: nothing now, perhaps at the next step. Rows are numbered
    as they come.
    """
    waiting = iter(prompts)
    state = _State(backbone, prefix, decoding, slots)
    while state.refill(waiting):
        over = state.append()
        yield state.written
        state.leave(over)
        if state.rows:
            state.advance()


class _State:
    """The open rows: their numbers, how many positions each has, and which token comes next."""

    def __init__(self, backbone: Backbone, prefix: Prefix, decoding: Decoding, slots: int) -> None:
        self.backbone, self.prefix, self.decoding, self.slots = backbone, prefix, decoding, slots
        self.rows: list[int] = []
        self.written: list[Written] = []
        self.next_B = self.position_B = torch.zeros(0, dtype=torch.long, device=backbone.device)
        self.cache = roomy(prefix, [], prefix.length)
        self.mask_BT: Tensor | None = None
        self.hidden: dict[int, Tensor] = {}
        """Row -> its own positions, counted from its first one, that may not be looked at."""

    def refill(self, waiting: Iterator[PromptBatch | None]) -> bool:
        """Read prompts into free slots when a quarter is free; whether any row is open then."""
        parts: list[PromptBatch] = []
        open_rows = len(self.rows)
        while open_rows <= self.slots - most_in_a_pass(self.slots):
            part = next(waiting, None)
            if part is None:
                break
            parts.append(part)
            open_rows += len(part.pad_B)
        if parts:
            self._read(parts)
        return bool(self.rows)

    def _read(self, parts: Sequence[PromptBatch]) -> None:
        """Open rows and new ones in one cache, all ending at one column; the new ones' first tokens chosen."""
        widths = [self.prefix.length + part.inputs_BSD.shape[1] for part in parts]
        columns = max([*widths, *self.position_B.tolist()])
        begins = [columns - width for width in widths]
        new = [part.pad_B + begin for part, begin in zip(parts, begins, strict=True)]
        pad_B = torch.cat([columns - self.position_B, *new])
        cache = roomy(self.prefix, pad_B.tolist(), columns + self.decoding.limit)
        for layer, old in zip(cache.layers, self.cache.layers, strict=True):
            layer.carry(old, columns)
        for part, begin in zip(parts, begins, strict=True):
            first = len(self.rows)
            self.hidden |= _hidden(self.prefix, part, len(self.written))
            self.rows += range(len(self.written), len(self.written) + len(part.pad_B))
            self.written += [Written([]) for _ in part.pad_B]
            for layer in cache.layers:
                layer.read(slice(first, len(self.rows)), begin)
            with part.reading:
                logits_BV = self.backbone.step(cache, part.inputs_BSD, *_places(self.prefix, part))
            self.next_B = torch.cat([self.next_B, self._choose(logits_BV, self.rows[first:])])
        for layer in cache.layers:
            layer.write()
        self.cache, self.position_B = cache, columns - pad_B
        self.mask_BT = _mask(pad_B, columns) if self.hidden or pad_B.any() else None
        for slot in (slot for slot, row in enumerate(self.rows) if row in self.hidden):
            assert self.mask_BT is not None
            self.mask_BT[slot, pad_B[slot] + self.hidden[self.rows[slot]]] = False

    def append(self) -> list[int]:
        """Every open row gets its next token; the slots of those that are over with it."""
        over, decoding = [], self.decoding
        for slot, (number, token) in enumerate(zip(self.rows, self.next_B.tolist(), strict=True)):
            row = self.written[number]
            row.ended = token in decoding.stop_ids
            if not row.ended:
                row.ids.append(token)
            row.over = row.ended or len(row.ids) >= decoding.limit
            row.over = row.over or bool(decoding.enough and decoding.enough(number, row.ids))
            if row.over:
                over.append(slot)
        return over

    def leave(self, over: list[int]) -> None:
        """Finished rows leave; the last row takes the slot of each."""
        if not over:
            return
        slots = list(range(len(self.rows)))
        for slot in reversed(over):
            for layer in self.cache.layers:
                layer.drop(slot)
            slots[slot] = slots[-1]
            slots.pop()
        self.rows = [self.rows[slot] for slot in slots]
        self.next_B, self.position_B = self.next_B[slots], self.position_B[slots]
        if self.mask_BT is not None:
            self.mask_BT = self.mask_BT[slots]

    def advance(self) -> None:
        """One position further."""
        positions_B1 = None
        if self.mask_BT is not None:
            self.mask_BT = pad(self.mask_BT, (0, 1), value=True)
            positions_B1 = self.position_B[:, None]
        inputs_B1D = self.backbone.embed(self.next_B[:, None])
        logits_BV = self.backbone.step(self.cache, inputs_B1D, self.mask_BT, positions_B1)
        self.position_B = self.position_B + 1
        self.next_B = self._choose(logits_BV, self.rows)

    def _choose(self, logits_BV: Tensor, rows: Sequence[int]) -> Tensor:
        return self.decoding.choose(logits_BV, rows, [self.written[row].ids for row in rows])


def _guided(logits_BV: Tensor, rows: Sequence[int], weight_B1: Tensor) -> Tensor:
    """Log p + weight (log p - log p of the other one of the two) among plausible tokens; any other is far below."""
    slots = {row: slot for slot, row in enumerate(rows)}
    own, other = ([slots[2 * (row // 2) + part] for row in rows] for part in (0, 1))
    logs_BV = logits_BV.float().log_softmax(dim=-1)
    own_BV = logs_BV[own]
    plausible_BV = own_BV >= own_BV.amax(dim=-1, keepdim=True) + _PLAUSIBLE
    led_BV = own_BV + weight_B1 * (own_BV - logs_BV[other])
    return torch.where(plausible_BV, led_BV, own_BV - _FAR)


def _repeating(ids: Sequence[int], size: int) -> list[int]:
    """Tokens that would complete a run of `size` tokens that has been said already."""
    last = list(ids[len(ids) - size + 1 :])
    runs = range(len(ids) - size + 1)
    return [ids[start + size - 1] for start in runs if list(ids[start : start + size - 1]) == last]


def _mask(pad_B: Tensor, columns: int) -> Tensor:
    """[B, T] False at padding."""
    return torch.arange(columns, device=pad_B.device)[None] >= pad_B[:, None]


def _hidden(prefix: Prefix, part: PromptBatch, first: int) -> dict[int, Tensor]:
    """Row -> its positions, counted from its first one, that may not be looked at; rows are numbered from `first`."""
    if part.hidden_BS is None:
        return {}
    pairs = zip(part.hidden_BS, part.pad_B, strict=True)
    return {
        first + row: out_S.nonzero()[:, 0] + prefix.length - empty for row, (out_S, empty) in enumerate(pairs)
    }


def _places(prefix: Prefix, part: PromptBatch) -> tuple[Tensor | None, Tensor | None]:
    """Mask [B, T] and positions [B, S] of prompts; None where none is padded and nothing hidden."""
    if part.hidden_BS is None and not part.pad_B.any():
        return None, None
    columns = prefix.length + part.inputs_BSD.shape[1]
    at_S = torch.arange(prefix.length, columns, device=part.pad_B.device)
    mask_BT = _mask(part.pad_B, columns)
    if part.hidden_BS is not None:
        mask_BT[:, prefix.length :] &= ~part.hidden_BS
    return mask_BT, (at_S[None] - part.pad_B[:, None]).clamp_min(0)


# --- The word cap, enforced on the text at a sentence end, and the same text word by word.


def pieces(texts: Iterable[tuple[str, bool]], max_words: int) -> Iterator[str]:
    """A growing text in pieces that are never taken back; joined they equal `finish` of the last one.

    `texts`: the text after each token, and whether it has ended (on the last one). Words of the first sentence come one
    by one; later sentences come whole, as the cap may still drop them.
    """
    sent, text, ended = 0, "", False
    for text, ended in texts:  # noqa: B007 - the last one counts
        safe = standing(text, max_words)
        if len(safe) > sent:
            yield safe[sent:]
            sent = len(safe)
    if rest := finish(text, ended, max_words)[sent:]:
        yield rest


def standing(text: str, max_words: int) -> str:
    """What of a growing text is never taken back."""
    ended = text[-1:].isspace()  # between words is any white space
    return finish(text if ended else "".join(text.rsplit(maxsplit=1)[:-1]), False, max_words)
