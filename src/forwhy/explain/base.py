"""The explainer contract. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Side
from forwhy.data.ids import Pairs


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
    """What stands behind the tokens: the user's items most like the item, and the tokens' phrases."""

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
class Capabilities:
    """For whom an explainer has something to say. What it cannot do is a `UserError` that names a remedy."""

    hot: bool = True
    """Users and items of the training graph."""
    warm: bool = False
    """Users who come later with a history of known items."""
    cold: bool = False
    """Users or items of whom nothing is known but text."""
    scores: bool = True
    """Whether it can say how probable a given text is: NLL, information gain, contributions of tokens."""


class Explainer(Protocol):
    """A fitted explainer."""

    capabilities: Capabilities

    def explain(
        self, pairs: Pairs | Sequence[tuple[str | int, str | int]], *, contributions: bool = False
    ) -> list[Explanation]:
        """One explanation per pair; external ids in tuples, internal numbers in `Pairs`."""
        ...

    def stream(self, pair: tuple[str | int, str | int]) -> Iterator[str]:
        """The text of one pair in pieces, as they come."""
        ...

    def nll(
        self,
        pairs: Pairs,
        user_rows: NDArray[np.int64] | None = None,
        item_rows: NDArray[np.int64] | None = None,
    ) -> NllResult:
        """NLL of the pairs' own texts, with other entities' conditioning where rows are given."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that loads alone."""
        ...


def is_single(pairs: object) -> bool:
    """Whether this is one (user, item) rather than several."""
    return isinstance(pairs, tuple) and len(pairs) == 2 and all(isinstance(part, str | int) for part in pairs)
