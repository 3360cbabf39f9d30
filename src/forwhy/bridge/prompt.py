"""Which ids stand where, and rows of them collated into batches.

    [chat start + instruction]  [task tokens]  [user] [item]  [title, profiles]  [end of turn + header]
    [text + end]
     constant: cached once       trained        soft tokens    optional texts     tail
         targets

Soft tokens have no spelling: their vectors are written between two runs of ids, so no text can contain one. The prompt
ends where the answer begins, in training as in use, and nothing but the text and its end is a target.

Shapes: B rows, S positions, K soft tokens per pair, N targets of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwhy.bridge.options import PromptConfig
from forwhy.columns import Side
from forwhy.errors import UserError
from forwhy.text.hostile import PlainText, answer_end, framed, own_ids
from forwhy.training.engine import batches_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Numbers = Sequence[float] | NDArray[np.integer] | NDArray[np.floating]
Slots = Mapping[Side, int]

_SOFT, _PAD = -1, -2
_POOLS = 32
"""Batches whose rows are sorted by length together."""
_LABELS = {"user": "\nUser:", "item": "\nItem:"}
_TITLE = "\nTitle:"
_PROFILES: Mapping[Side, str] = {"user": "\nUser profile:", "item": "\nItem profile:"}


@dataclass(frozen=True)
class Row:
    """One pair ready for the model."""

    user: tuple[float, ...]
    """What stands for the user: codes in slot order (BEAT), or a vector (XRec)."""
    item: tuple[float, ...]
    shown: tuple[int, ...] = ()
    """Ids of the texts in the prompt: title and profiles."""
    target: tuple[int, ...] = ()
    """Ids of the explanation."""
    hidden: tuple[int, ...] = field(default=(), repr=False)
    """Soft tokens of the user that the model may not look at; never in training, so no checkpoint's name has them."""

    @property
    def length(self) -> int:
        """What a row's cost depends on."""
        return len(self.shown) + len(self.target)


@dataclass(frozen=True)
class RowBatch:
    """Rows as tensors."""

    ids_BS: Tensor
    """0 at padding and at soft tokens."""
    soft_BK: Tensor
    """Positions of the soft tokens, in prompt order."""
    keep_BS: Tensor
    """True at positions whose next token is a target."""
    target_N: Tensor
    """Targets, row by row, in the order of `keep_BS`."""
    row_N: Tensor
    """The row of each target."""
    pad_B: Tensor
    """Padding on the left (0 unless asked for)."""

    def to(self, device: torch.device) -> RowBatch:
        """These tensors on a device."""
        return RowBatch(*(part.to(device) for part in vars(self).values()))


class Prompt:
    """The fixed parts of the prompt for one tokenizer, and what turns pairs into rows of ids."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, slots: Slots | None = None
    ) -> None:
        """`slots`: positions that each side's soft tokens take; None: one for each number of a row."""
        self.tokenizer, self.config, self._slots = tokenizer, config, slots
        self.plain = PlainText(tokenizer)
        if tokenizer.chat_template:
            # One user turn holds all: templates without a system role work, those that bring one are left alone.
            (head, tail), self._lead = framed(tokenizer, [("user", f"{config.instruction}\n")]), ""
            self.prefix_ids = tuple(own_ids(tokenizer, head))
        else:
            tail, self._lead = "\nExplanation:", " "
            head_ids = tokenizer(f"{config.instruction}\n")["input_ids"]  # with what the tokenizer puts first
            self.prefix_ids = tuple(head_ids[:-1] if head_ids[-1] == tokenizer.eos_token_id else head_ids)
        self.tail_ids = tuple(own_ids(tokenizer, tail))
        if (end := answer_end(tokenizer)) is None:
            remedy = "use a model whose tokenizer names one"
            raise UserError(f"model: its tokenizer has no end-of-text token; {remedy}")
        self.end_id = end
        words = own_ids(tokenizer, f" {config.task_words.strip()}")
        self.task_ids = tuple((words * config.task_tokens)[: config.task_tokens])
        sides: tuple[Side, Side] = ("user", "item") if config.order == "user-item" else ("item", "user")
        self._labels = {side: own_ids(tokenizer, _LABELS[side]) if config.labels else [] for side in sides}

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an explanation: the end of a turn, and the tokenizer's own end of text."""
        ends = (self.end_id, self.tokenizer.eos_token_id)
        return frozenset(end for end in ends if end is not None)

    def row(
        self,
        user: Numbers,
        item: Numbers,
        title: str = "",
        text: str | None = None,
        profiles: Mapping[Side, str] | None = None,
    ) -> Row:
        """A pair as ids; `text` becomes the targets. Title, profiles and text may be anyone's."""
        shown = self.labelled(_TITLE, title, self.config.title_tokens) if self.config.title else []
        if self.config.profiles:
            for side, label in _PROFILES.items():
                shown += self.labelled(label, (profiles or {}).get(side, ""), self.config.profile_tokens)
        target = () if text is None else self.target(text)
        # Python numbers: codes stay whole ones.
        return Row(tuple(np.asarray(user).tolist()), tuple(np.asarray(item).tolist()), tuple(shown), target)

    def labelled(self, label: str, text: str, limit: int) -> list[int]:
        """Our label and a stranger's text; nothing where there is no text."""
        if not text.strip():
            return []
        return [*own_ids(self.tokenizer, label), *self.plain.ids(text, limit, lead=" ")]

    def slots(self, row: Row) -> dict[Side, int]:
        """Positions that each side takes."""
        return dict(self._slots or {"user": len(row.user), "item": len(row.item)})

    def hidden(self, rows: Sequence[Row]) -> Tensor | None:
        """[B, K] True at soft tokens (prompt order) that the model may not look at; None where it may at all."""
        if not any(row.hidden for row in rows):
            return None
        slots = self.slots(rows[0])
        first = slots["item"] if self.config.order == "item-user" else 0
        hidden_BK = torch.zeros(len(rows), sum(slots.values()), dtype=torch.bool)
        for number, row in enumerate(rows):
            hidden_BK[number, [first + slot for slot in row.hidden]] = True
        return hidden_BK

    def target(self, text: str) -> tuple[int, ...]:
        """The ids of an explanation and the end token; a text that is cut at the cap does not end there."""
        limit = self.config.target_tokens
        ids = self.plain.ids(text, limit + 1, lead=self._lead)
        return tuple(ids[:limit]) if len(ids) > limit else (*ids, self.end_id)

    def layout(self, row: Row) -> list[int]:
        """A row's ids between task tokens and answer; -1 where a soft token stands."""
        slots = self.slots(row)
        ids: list[int] = []
        for side, label in self._labels.items():
            ids += [*label, *[_SOFT] * slots[side]]
        return [*ids, *row.shown, *self.tail_ids]

    def collate(self, rows: Sequence[Row], left: bool = False) -> RowBatch:
        """Rows as one batch, padded on the right, or on the left where all must end together (decoding)."""
        heads = [self.layout(row) for row in rows]
        full = [[*head, *row.target[:-1]] for head, row in zip(heads, rows, strict=True)]
        width = max(map(len, full))
        pads = [width - len(ids) if left else 0 for ids in full]
        ids_BS = torch.full((len(rows), width), _PAD)
        keep_BS = torch.zeros(len(rows), width, dtype=torch.bool)
        for number, (ids, pad) in enumerate(zip(full, pads, strict=True)):
            ids_BS[number, pad : pad + len(ids)] = torch.tensor(ids)
            first = pad + len(heads[number]) - 1
            keep_BS[number, first : first + len(rows[number].target)] = True
        soft_BK = (ids_BS == _SOFT).nonzero()[:, 1].view(len(rows), -1)
        target_N = torch.tensor([number for row in rows for number in row.target], dtype=torch.long)
        row_N = keep_BS.nonzero()[:, 0]
        return RowBatch(ids_BS.clamp_min(0), soft_BK, keep_BS, target_N, row_N, torch.tensor(pads))

    def decode(self, ids: Sequence[int]) -> str:
        """Ids as text, control tokens left out."""
        spaces = {"clean_up_tokenization_spaces": False}
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, **spaces)
        return text


def buckets(rows: Sequence[Row], batch_size: int, seed: int, epoch: int) -> list[list[Row]]:
    """An epoch's batches, in an order decided by the seed and the epoch. Cost: n log n."""
    lengths = np.array([row.length for row in rows])
    batches = batches_of(lengths, batch_size, np.random.default_rng([seed, epoch]), _POOLS)
    return [[rows[row] for row in batch] for batch in batches]


def longest_first(rows: Sequence[Row]) -> list[int]:
    """Row numbers, the longest row first."""
    return sorted(range(len(rows)), key=lambda number: -rows[number].length)


def sorted_batches(rows: Sequence[Row], batch_size: int) -> list[list[int]]:
    """Row numbers in batches of similar length, the longest first: memory runs out at once or never."""
    order = longest_first(rows)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def reading_parts(lengths: Sequence[int], positions: int, most: int) -> list[slice]:
    """Runs of at most `most` neighbours that, padded to the longest, take at most `positions`; one at least."""
    parts, first, widest = [], 0, 0
    for row, length in enumerate(lengths):
        widest, count = max(widest, length), row + 1 - first
        if count > 1 and (count > most or widest * count > positions):
            parts.append(slice(first, row))
            first, widest = row, length
    return [*parts, slice(first, len(lengths))]
