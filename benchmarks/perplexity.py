"""How surprised a causal language model is by plain text.

Shapes: B windows of a pass, T tokens, V words of the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from forwhy.errors import UserError
from forwhy.text.hostile import PlainText

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
    windows = [
        torch.tensor([begin, *ids[start : start + context]])
        for ids in map(PlainText(tokenizer).exact, texts)
        for start in range(0, len(ids), context)
    ]
    if not windows:
        raise UserError("there is no text to measure perplexity on: every text is empty")
    nats, rows = 0.0, list[torch.Tensor]()
    for window in sorted(windows, key=len):  # windows of like lengths in one pass
        if rows and (len(rows) + 1) * len(window) > PASS_TOKENS:
            nats, rows = nats + _nats(model, rows), []
        rows.append(window)
    return Surprise(nats + _nats(model, rows), sum(len(window) - 1 for window in windows))


def _nats(model: PreTrainedModel, rows: list[torch.Tensor]) -> float:
    """Windows padded behind, where no token that counts looks."""
    ids_BT = pad_sequence(rows, batch_first=True).to(model.device)
    next_BT = pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=-100).to(model.device)
    logits_BVT = model(input_ids=ids_BT, use_cache=False).logits[:, :-1].float().transpose(1, 2)
    return float(cross_entropy(logits_BVT, next_BT, reduction="sum"))
