"""Phrases of users and items, encoded once, and the slots' text coordinates made from them.

Legend: N entities, P distinct phrases, L phrases per entity, S slots, A micro slots, T text coordinates, V encoder
width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from forwhy.text.encoder import TextEncoder

__all__ = ["PhraseBook", "TextSpace", "fit_text_space", "read_phrases", "text_slots"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PhraseBook:
    """Every phrase once, and who has which."""

    phrases: tuple[str, ...]
    vectors: Floats
    """[P, V] of unit norm."""
    rows: Mapping[str, Ints]
    """side -> [N, L] phrase numbers, most important first, -1 after the last."""

    def known(self, side: str) -> NDArray[np.bool_]:
        """[N] whether an entity has any phrase."""
        return self.rows[side][:, 0] >= 0


def read_phrases(
    phrases: Mapping[str, Mapping[int, Sequence[str]]],
    counts: Mapping[str, int],
    encoder: TextEncoder,
    limit: int,
) -> PhraseBook:
    """Encode the distinct phrases of both sides; an entity keeps its first `limit` distinct ones."""
    numbers: dict[str, int] = {}
    rows: dict[str, Ints] = {}
    for side, count in counts.items():
        table = np.full((count, limit), -1, np.int64)
        for entity, listed in phrases.get(side, {}).items():
            kept = list(dict.fromkeys(phrase.strip() for phrase in listed if phrase.strip()))[:limit]
            table[entity, : len(kept)] = [numbers.setdefault(phrase, len(numbers)) for phrase in kept]
        rows[side] = table
    distinct = tuple(numbers)
    vectors = encoder.encode(distinct) if distinct else np.zeros((0, encoder.dim), np.float32)
    return PhraseBook(distinct, vectors, rows)


@dataclass(frozen=True)
class TextSpace:
    """The directions in which phrases differ most, and the aspects they fall into."""

    mean: Floats
    """[V]"""
    basis: Floats
    """[V, T], orthonormal columns."""
    aspects: Floats
    """[A, T] unit centres: what micro slot a is about (food, place, service, …)."""

    def project(self, vectors: Floats) -> Floats:
        """[n, V] encoder vectors to [n, T] unit coordinates."""
        return unit((vectors - self.mean) @ self.basis)


def fit_text_space(book: PhraseBook, dims: int, aspects: int, seed: int) -> TextSpace:
    """Principal components of the phrases, and `aspects` spherical k-means centres in them. O(P·V·dims)."""
    rng = np.random.default_rng(seed)
    sample = book.vectors[rng.permutation(len(book.vectors))[:8192]]
    mean = sample.mean(0)
    basis = np.linalg.svd(sample - mean, full_matrices=False)[2][:dims].T
    points = unit((sample - mean) @ basis)
    centres = points[rng.permutation(len(points))[:aspects]]
    centres = np.concatenate([centres, rng.standard_normal((aspects - len(centres), basis.shape[1]))])
    for _ in range(20):
        members = (points @ centres.T).argmax(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, members, points)
        centres = np.where(np.abs(sums).sum(1, keepdims=True) > 0, unit(sums), centres)
    return TextSpace(mean.astype(np.float32), basis.astype(np.float32), unit(centres).astype(np.float32))


def text_slots(book: PhraseBook, side: str, space: TextSpace, macro: bool) -> Floats:
    """[N, S, T] unit text coordinates of every slot; zeros for entities without phrases.

    The macro slot holds the mean of all phrases. Micro slot a holds the phrase assigned to aspect a by an optimal
    one-to-one assignment; aspects that no phrase is left for hold the mean. O(entities with phrases · L·A·min(L,A)).
    """
    rows = book.rows[side]
    coordinates = space.project(book.vectors) if len(book.vectors) else np.zeros((0, space.basis.shape[1]))
    slots = np.zeros((len(rows), int(macro) + len(space.aspects), space.basis.shape[1]), np.float32)
    for entity in np.flatnonzero(rows[:, 0] >= 0):
        own = coordinates[rows[entity][rows[entity] >= 0]]
        slots[entity] = own.mean(0)
        picked, aspects = linear_sum_assignment(own @ space.aspects.T, maximize=True)
        slots[entity, int(macro) + aspects] = own[picked]
    return unit(slots)


def unit(vectors: NDArray[np.floating]) -> Floats:
    """Rows at norm 1; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = (vectors / np.maximum(norms, 1e-9)).astype(np.float32)
    return scaled
