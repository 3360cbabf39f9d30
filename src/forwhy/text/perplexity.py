"""How surprised a causal language model is by plain text.

Shapes: B windows of a pass, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from forwhy.errors import UserError
from forwhy.text.hostile import PlainText

__all__ = ["Surprise", "surprise"]

PASS_TOKENS = 512
"""Tokens of one pass: their logits are the memory, 100 MB for 50,000 words."""


@dataclass(frozen=True)
class Surprise:
    """What predicting a text token by token cost."""

    nats: float
    """Sum of -ln p over the tokens."""
    tokens: int

    @property
    def perplexity(self) -> float:
        """Of a token: as if each were drawn evenly from so many."""
        return math.exp(self.nats / self.tokens)


@torch.no_grad()
def surprise(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], context: int = 256
) -> Surprise:
    """Of all texts together, each on its own, in windows of `context` tokens behind a begin token.

    Control tokens' names in a text are read as the characters they are. One pass over the texts.

    Raises:
        UserError: no text has a token.
    """
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    plain = PlainText(tokenizer)
    windows = [
        [begin, *ids[start : start + context]]
        for ids in map(plain.exact, texts)
        for start in range(0, len(ids), context)
    ]
    if not windows:
        raise UserError("there is no text to measure perplexity on: every text is empty")
    nats = sum(_nats(model, rows) for rows in _passes(windows))
    return Surprise(nats, sum(len(window) - 1 for window in windows))


def _passes(windows: list[list[int]]) -> Iterator[list[list[int]]]:
    """Windows of like lengths together."""
    rows: list[list[int]] = []
    for window in sorted(windows, key=len):
        if rows and (len(rows) + 1) * len(window) > PASS_TOKENS:
            yield rows
            rows = []
        rows.append(window)
    yield rows


def _nats(model: PreTrainedModel, rows: list[list[int]]) -> float:
    """Windows padded behind, where no token that counts looks."""
    ids_BT = torch.zeros(len(rows), len(rows[-1]), dtype=torch.long)
    targets_BT = torch.full_like(ids_BT, -100)
    for number, row in enumerate(rows):
        ids_BT[number, : len(row)] = torch.tensor(row)
        targets_BT[number, : len(row) - 1] = torch.tensor(row[1:])
    logits = model(input_ids=ids_BT.to(model.device), use_cache=False).logits.float()
    return float(
        F.cross_entropy(logits.flatten(0, 1), targets_BT.flatten().to(model.device), reduction="sum")
    )
