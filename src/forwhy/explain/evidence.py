"""What an explainer is asked and what it answers: an explanation with the tokens and items it rests on. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Side

_PHRASES = 6


@dataclass(frozen=True)
class NllResult:
    """Negative log-likelihood of each pair's explanation."""

    sum: NDArray[np.float64]
    """[n] nats, summed over the target tokens."""
    tokens: NDArray[np.int64]
    """[n] target tokens, end token included."""

    @property
    def mean(self) -> float:
        """Nats per target token over all pairs."""
        return float(self.sum.sum() / max(int(self.tokens.sum()), 1))


@dataclass(frozen=True)
class Subject:
    """A pair to be explained, learned from or scored; all numbers are internal."""

    user: int | None
    """None: a newcomer, of whom only `seen` is known."""
    item: int
    title: str
    """The title that a prompt shows, where it shows one."""
    seen: Sequence[int] = ()
    """Items that the user has taken."""
    text: str | None = None
    """The explanation to learn from or to score."""


@dataclass(frozen=True)
class TokenEvidence:
    """A behaviour token that a text was conditioned on."""

    token: str
    """Its name, such as `<u.micro_3>`."""
    side: Side
    gloss: list[str]
    """Phrases that its owners share, the best first; empty when it has none."""
    contribution: float | None = None
    """Nats by which the whole text becomes less likely without this token; None when not asked for."""


@dataclass(frozen=True)
class ItemEvidence:
    """An item of the user's history behind a text."""

    item_id: str | int
    title: str
    likeness: float
    """Cosine of its behaviour tokens with those of the explained item, from -1 to 1."""


@dataclass(frozen=True)
class Evidence:
    """The user's items most like the explained one, and the best phrases of the tokens."""

    items: list[ItemEvidence] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Explanation:
    """A sentence with what it was conditioned on."""

    text: str
    tokens: list[TokenEvidence]
    evidence: Evidence

    def document(self) -> dict[str, Any]:
        """As plain lists and dictionaries, for JSON."""
        return asdict(self)


def best_phrases(tokens: Sequence[TokenEvidence]) -> list[str]:
    """The first phrase of each token, those of the tokens that carried most first, without repeats; at most six."""
    ranked = sorted(tokens, key=lambda token: -(token.contribution or 0.0))
    return list(dict.fromkeys(token.gloss[0] for token in ranked if token.gloss))[:_PHRASES]


def most_alike(vectors_nW: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
    """The rows after the first whose cosine with the first is largest: (row, cosine), the best first."""
    unit_nW = vectors_nW / np.maximum(np.linalg.norm(vectors_nW, axis=1, keepdims=True), 1e-12)
    likeness = unit_nW[1:] @ unit_nW[0]
    best = np.argsort(-likeness, kind="stable")[:count]
    return [(int(row) + 1, float(likeness[row])) for row in best]
