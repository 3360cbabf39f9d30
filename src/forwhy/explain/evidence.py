"""What an explanation rests on: its tokens, what each was worth, and the items behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.bridge.prompt import Row
from forwhy.bridge.reader import Reader
from forwhy.explain.base import Evidence, Explanation, ItemEvidence, Side, TokenEvidence
from forwhy.vocabulary.vocabulary import Vocabulary

_READ_TOGETHER = 39
_ITEMS = 3
_PHRASES = 6

Glosses = Mapping[str, Sequence[Sequence[str]]]
"""Per book and code: its phrases, the best first."""


@dataclass(frozen=True)
class Subject:
    """What is to be explained: a row without a text, the item, and the items behind the user's tokens."""

    row: Row
    item: int
    seen: Sequence[int]


def history_of(vocabulary: Vocabulary, user: int) -> list[int]:
    """Internal numbers of the items that a user took in training."""
    seen = vocabulary.seen
    return [int(item) for item in seen[seen[:, 0] == user, 1]]


def contributions_of(reader: Reader, rows: Sequence[Row]) -> NDArray[np.float64]:
    """[n, slots] Nats by which each row's text becomes less likely with a token hidden; user slots first.

    The token's place stays, the model may not look at it. Cost: slots + 1 readings of each text.
    """
    slots = len(rows[0].user_codes) + len(rows[0].item_codes)
    hidden = torch.cat([torch.zeros(1, slots, dtype=torch.bool), torch.eye(slots, dtype=torch.bool)])
    variants = [row for row in rows for _ in range(slots + 1)]
    sums, _ = reader.nll(variants, _READ_TOGETHER, hidden.repeat(len(rows), 1))
    sums_nK = sums.reshape(len(rows), slots + 1)
    worth_nK: NDArray[np.float64] = sums_nK[:, 1:] - sums_nK[:, :1]
    if reader.prompt.config.order == "item-user":  # hidden tokens are counted in prompt order
        worth_nK = np.roll(worth_nK, -len(rows[0].item_codes), axis=1)
    return worth_nK


def explained(
    vocabulary: Vocabulary, glosses: Glosses, subject: Subject, text: str, worth: NDArray[np.float64] | None
) -> Explanation:
    """A text with its tokens, their glosses and worth, the items most like the explained one, and phrases."""
    tokens = _tokens(vocabulary, glosses, subject.row, worth)
    return Explanation(text, tokens, Evidence(_nearest(vocabulary, subject), _phrases(tokens)))


def _tokens(
    vocabulary: Vocabulary, glosses: Glosses, row: Row, worth: NDArray[np.float64] | None
) -> list[TokenEvidence]:
    sides: tuple[tuple[Side, tuple[int, ...]], ...] = (("user", row.user_codes), ("item", row.item_codes))
    named = [
        (side, name, glosses[book][code])
        for side, codes in sides
        for name, book, code in zip(
            vocabulary.names_of(side, codes), vocabulary.slots(side), codes, strict=True
        )
    ]
    return [
        TokenEvidence(name, side, list(gloss), None if worth is None else float(worth[slot]))
        for slot, (side, name, gloss) in enumerate(named)
    ]


def _phrases(tokens: Sequence[TokenEvidence]) -> list[str]:
    """The best phrase of each token, those of the tokens that carried most first, without repeats."""
    ranked = sorted(tokens, key=lambda token: -(token.contribution or 0.0))
    return list(dict.fromkeys(token.gloss[0] for token in ranked if token.gloss))[:_PHRASES]


def _nearest(vocabulary: Vocabulary, subject: Subject) -> list[ItemEvidence]:
    """Items of the history whose tokens are most like those of the explained item."""
    seen = [item for item in dict.fromkeys(subject.seen) if item != subject.item]
    if not seen:
        return []
    vectors_nD = vocabulary.vectors("item", np.array([subject.item, *seen])).reshape(len(seen) + 1, -1)
    unit_nD = vectors_nD / np.maximum(np.linalg.norm(vectors_nD, axis=1, keepdims=True), 1e-12)
    likeness = unit_nD[1:] @ unit_nD[0]
    best = np.argsort(-likeness, kind="stable")[:_ITEMS]
    values, titles = vocabulary.items.values, vocabulary.titles
    return [ItemEvidence(values[seen[row]], titles[seen[row]], float(likeness[row])) for row in best]
