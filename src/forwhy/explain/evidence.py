"""What an explanation rests on: its tokens, what each was worth, and the items behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.bridge.prompt import Row
from forwhy.bridge.reader import Reader
from forwhy.explain.base import ItemEvidence, TokenEvidence
from forwhy.graph.known import Known

_READ_TOGETHER = 39
_ITEMS = 3
_PHRASES = 6


@dataclass(frozen=True)
class Subject:
    """What is to be explained: a row without a text, the item, and the items behind the user's tokens."""

    row: Row
    item: int
    seen: Sequence[int]


def history_of(known: Known, user: int) -> list[int]:
    """Internal numbers of the items that a user took in training."""
    seen = known.seen
    return [int(item) for item in seen[seen[:, 0] == user, 1]]


def contributions_of(reader: Reader[Any], rows: Sequence[Row]) -> NDArray[np.float64]:
    """[n, slots] Nats by which each row's text becomes less likely with a token hidden; user slots first.

    The token's place stays, the model may not look at it. Cost: slots + 1 readings of each text.
    """
    sides = reader.prompt.slots(rows[0])
    slots = sum(sides.values())
    hidden = torch.cat([torch.zeros(1, slots, dtype=torch.bool), torch.eye(slots, dtype=torch.bool)])
    variants = [row for row in rows for _ in range(slots + 1)]
    sums, _ = reader.nll(variants, _READ_TOGETHER, hidden.repeat(len(rows), 1))
    sums_nK = sums.reshape(len(rows), slots + 1)
    worth_nK: NDArray[np.float64] = sums_nK[:, 1:] - sums_nK[:, :1]
    if reader.prompt.config.sides[0] == "item":  # hidden tokens are counted in prompt order
        worth_nK = np.roll(worth_nK, -sides["item"], axis=1)
    return worth_nK


def phrases_of(tokens: Sequence[TokenEvidence]) -> list[str]:
    """The best phrase of each token, those of the tokens that carried most first, without repeats."""
    ranked = sorted(tokens, key=lambda token: -(token.contribution or 0.0))
    return list(dict.fromkeys(token.gloss[0] for token in ranked if token.gloss))[:_PHRASES]


def nearest_of(
    subject: Subject, vectors: Callable[[Sequence[int]], NDArray[np.float32]], known: Known
) -> list[ItemEvidence]:
    """Items of the history whose vectors are most like that of the explained item."""
    seen = [item for item in dict.fromkeys(subject.seen) if item != subject.item]
    if not seen:
        return []
    vectors_nW = vectors([subject.item, *seen])
    unit_nW = vectors_nW / np.maximum(np.linalg.norm(vectors_nW, axis=1, keepdims=True), 1e-12)
    likeness = unit_nW[1:] @ unit_nW[0]
    best = np.argsort(-likeness, kind="stable")[:_ITEMS]
    values, titles = known.items.values, known.titles
    return [ItemEvidence(values[seen[row]], titles[seen[row]], float(likeness[row])) for row in best]
