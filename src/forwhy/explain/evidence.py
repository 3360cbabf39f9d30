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
class Share:
    """A pair of words, one of the user and one of the item in the same slot, and what it adds to their score."""

    user: str
    """Name of the user's word."""
    item: str
    """Name of the item's word."""
    contribution: float
    """The product of both words' vectors; over all slots these add to the score exactly."""
    share: float
    """Part of the score: contribution / score. Shares of a pair add to one; a negative one speaks against."""


@dataclass(frozen=True)
class StatementEvidence:
    """One thing that is known of the item or the user, and that a text may rest on."""

    id: str
    """"i1", "i2", … about the item and "u1", "u2", … about the user; unique within an explanation."""
    side: Side
    text: str
    source: str
    """Where it was said: `title`, `item` (categories, description), `phrase`, `profile`, `explanation` or `review` (of
    other people, in training), `nearby` (said of the items that are nearest by text)."""
    about: str | int
    """External id of the item or user that it was said of."""
    support: float
    """How near it is to the pair, from -1 to 1."""


@dataclass(frozen=True)
class Claim:
    """A part of a text that can be checked, and what supports it."""

    text: str
    """As it stands in the sentence."""
    evidence: list[str]
    """Ids of the statements that support it, the best first; empty: unsupported."""
    support: float
    """Cosine with the nearest statement, from -1 to 1; 0 where there is none."""


@dataclass(frozen=True)
class Evidence:
    """What stands behind a text: items of the history, phrases of the tokens, statements about both sides."""

    items: list[ItemEvidence] = field(default_factory=list)
    """The user's items most like the explained one."""
    phrases: list[str] = field(default_factory=list)
    """The best phrases of the tokens."""
    statements: list[StatementEvidence] = field(default_factory=list)


@dataclass(frozen=True)
class Explanation:
    """A sentence with what it was conditioned on."""

    text: str
    tokens: list[TokenEvidence]
    evidence: Evidence
    because: list[Share] = field(default_factory=list)
    """Which pairs of words carried the score; empty where the score is no sum over words."""
    claims: list[Claim] = field(default_factory=list)
    """What the text says, part by part; empty where nobody checked."""

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
