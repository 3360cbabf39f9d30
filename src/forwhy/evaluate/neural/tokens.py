"""Texts to token ids within a model's limit, and rows of nearly equal length for one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_LIMIT = 512
"""Tokens read by a model that names no limit of its own."""
UNLIMITED = 1_000_000
"""A tokenizer without a limit says a number above this one."""


@dataclass(frozen=True)
class Tokens:
    """One text as a model reads it."""

    ids: list[int]
    content: int
    """How many of them stand for the text, not for its frame ([CLS], [SEP], ...)."""
    cut: bool
    """Whether the text had more tokens than the limit."""


def token_limit(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """Most tokens that both the tokenizer and the model's positions allow."""
    said = [tokenizer.model_max_length, _positions(model)]
    return min((int(limit) for limit in said if limit and 0 < limit < UNLIMITED), default=DEFAULT_LIMIT)


def _positions(model: PreTrainedModel) -> int | None:
    for name, module in model.named_modules():
        # RoBERTa counts positions from after its padding index, so that not all of its rows are for text.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.num_embeddings) - int(module.padding_idx) - 1
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int, frame: bool = True
) -> list[Tokens]:
    """Token ids of each text, at most `limit`; `frame` adds the model's own special tokens."""
    if not texts:
        return []
    clean = [readable(text) for text in texts]
    found = tokenizer(
        clean,
        add_special_tokens=frame,
        truncation=True,
        max_length=limit,
        split_special_tokens=True,
        return_special_tokens_mask=True,
    )
    rows = zip(clean, found["input_ids"], found["special_tokens_mask"], strict=True)
    return [
        Tokens(ids, len(ids) - sum(special), len(ids) == limit and is_longer(tokenizer, limit, text))
        for text, ids, special in rows
    ]


def is_longer(tokenizer: PreTrainedTokenizerBase, limit: int, *texts: str) -> bool:
    """Whether a text, or a pair of them, has more tokens than `limit`."""
    # Lists, as transformers takes an empty second text outside of a list for none.
    found = tokenizer(*([text] for text in texts), split_special_tokens=True, verbose=False)
    return len(found["input_ids"][0]) > limit


def readable(text: str) -> str:
    """The text with "?" for lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def batches(lengths_n: Sequence[int] | NDArray[np.int64], cells: int) -> Iterator[NDArray[np.int64]]:
    """Rows [b], short ones first, in batches whose rows times longest length stay within `cells`.

    A row that is longer than `cells` makes a batch alone.
    """
    lengths_n = np.asarray(lengths_n)
    order_n = np.argsort(lengths_n, kind="stable")
    first = 0
    while first < len(order_n):
        widths = lengths_n[order_n[first:]] * np.arange(1, len(order_n) - first + 1)
        last = first + max(1, int(np.searchsorted(widths, cells, side="right")))
        yield order_n[first:last]
        first = last


def padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """[b, longest] int64, filled up on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], True, fill)
