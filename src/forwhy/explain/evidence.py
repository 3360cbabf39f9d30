"""What an explainer answers: an explanation with the tokens and items it rests on. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Side
from forwhy.data.because import Because as Because
from forwhy.data.because import ItemShare as ItemShare
from forwhy.data.because import Share as Share
from forwhy.frames import Shown
from forwhy.graph.representations import Representations
from forwhy.vocabulary.newcomers import Newcomer, Origin

ExternalPair = tuple[str | int, str | int]
_PHRASES, _ITEMS = 6, 3


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
    origins: list[Origin] = field(default_factory=list)
    """Of somebody or something new: from whom the token came, the most important first."""


@dataclass(frozen=True)
class ItemEvidence:
    """An item of the user's history behind a text."""

    item_id: str | int
    title: str
    likeness: float
    """Cosine of its behaviour tokens with those of the explained item, from -1 to 1."""


@dataclass(frozen=True)
class StatementEvidence:
    """One thing that is known of the item or the user, and that a text may rest on."""

    id: str
    """"i1", "i2", … about the item and "u1", "u2", … about the user; unique within an explanation."""
    side: Side
    text: str
    source: str
    """Where it was said: `title`, `brand`, `kind` (a category or an attribute), `item` (the description), `phrase`,
    `profile`, `explanation` or `review` (of other people, in training), `nearby` (said of the items that are nearest
    by text), `interactions` (counted), or `dislike` (of which a caveat speaks)."""
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


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """A sentence with what it was conditioned on."""

    text: str
    tokens: list[TokenEvidence]
    evidence: Evidence
    because: Because | None = None
    """What carried the score, in shares, before any model speaks."""
    claims: list[Claim] = field(default_factory=list)
    """What the text says, part by part; empty where nobody checked."""

    def _shown(self) -> dict[str, int | str]:
        counts = {"tokens": len(self.tokens), "statements": len(self.evidence.statements)}
        return {"text": self.text, **counts, "claims": len(self.claims)}

    def document(self) -> dict[str, Any]:
        """As plain lists and dictionaries, for JSON."""
        return asdict(self)


def traced(tokens: Sequence[TokenEvidence], newcomers: Iterable[Newcomer]) -> list[TokenEvidence]:
    """Tokens, those that newcomers were given with from whom they came."""
    origins = {name: of for one in newcomers for name, of in zip(one.tokens, one.origins, strict=True)}
    return [replace(token, origins=origins.get(token.token, [])) for token in tokens]


@dataclass(frozen=True)
class Attention:
    """What a model looks at while it writes why: each word against what stands in the prompt (BEAT, Fig. 5b)."""

    user: str | int
    item: str | int
    words: list[str]
    """Of the text, in order."""
    tokens: list[TokenEvidence]
    """The user's first; each with its worth."""
    others: list[str]
    """What else is looked at: `title`, `profiles` and `statements`, where the prompt has such, and `rest`: the
    instruction, what was learned of the task, and the words before."""
    shares: list[list[float]]
    """Word by word the share of each of `tokens` and then `others`; they add to one. Mean over all layers and heads,
    and over the pieces of a word; where a piece is written, not where it is read."""

    def document(self) -> dict[str, Any]:
        """As plain lists and dictionaries, for JSON."""
        return asdict(self)


def best_phrases(tokens: Sequence[TokenEvidence]) -> list[str]:
    """The first phrase of each token, those of the tokens that carried most first, without repeats; at most six."""
    ranked = sorted(tokens, key=lambda token: -(token.contribution or 0.0))
    return list(dict.fromkeys(token.gloss[0] for token in ranked if token.gloss))[:_PHRASES]


def nearest(known: Representations, subject: Subject) -> list[ItemEvidence]:
    """Items of the history whose vectors are most like that of the explained item, the best first."""
    things = list(dict.fromkeys([subject.item, *subject.seen]))
    ids, titles, vectors_nW = known.catalogue.items.values, known.catalogue.titles, known.item_vectors(things)
    unit_nW = vectors_nW / np.maximum(np.linalg.norm(vectors_nW, axis=1, keepdims=True), 1e-12)
    cosines = (unit_nW[1:] @ unit_nW[0]).tolist()
    best = sorted(zip(things[1:], cosines, strict=True), key=lambda pair: -pair[1])[:_ITEMS]
    return [ItemEvidence(ids[item], titles[item], cosine) for item, cosine in best]
