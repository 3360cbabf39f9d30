"""Phrases of users and items, encoded once, and the slots' text coordinates made from them.

Legend: N entities, P distinct phrases, L phrases per entity, S slots, A micro slots, T text coordinates, V encoder
width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from forwhy.graph.bipartite import Bipartite, spectral_embeddings
from forwhy.text.encoder import TextEncoder
from forwhy.vocabulary.config import TokenizerConfig

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


# --- Where entity tables start: spectral graph coordinates beside text coordinates, one block per slot.
#
# Legend: N entities, S slots, G graph coordinates per slot, T text coordinates per slot, D = G + T.


class Start:
    """Start tables per side, and how the slots' text coordinates map back into the encoder's space."""

    def __init__(self, tables: dict[str, Floats], text_basis: Floats | None) -> None:
        self.tables = tables
        """side -> [N, S, D]"""
        self.text_basis = text_basis
        """[V, T] or None without text."""


def spectral_start(graph: Bipartite, book: PhraseBook, config: TokenizerConfig) -> Start:
    """Both sides' tables, [N, S, D], at a mean graph norm of 1 per slot. Time of one truncated SVD plus O(N·S·T)."""
    blocks = _graph_slots(graph, config)
    if not config.uses_text_start or len(book.phrases) <= config.micro_slots:
        return Start(blocks, None)
    space = fit_text_space(book, config.text_dims, config.micro_slots, config.seed)
    own = {side: text_slots(book, side, space, config.macro) for side in ("user", "item")}
    if not config.micro:
        own = {side: slots[:, :1] for side, slots in own.items()}
    text = _with_guesses(own, graph, config.text_guess)
    tables = {
        side: np.concatenate([blocks[side], config.text_weight * text[side]], axis=2) for side in blocks
    }
    return Start(tables, space.basis)


def _graph_slots(graph: Bipartite, config: TokenizerConfig) -> dict[str, Floats]:
    """Spectral coordinates, turned at random so that every slot holds an equal share of the spectrum."""
    width = config.slots * config.slot_dim
    pair = spectral_embeddings(graph, width, config.seed)
    turn = np.linalg.qr(np.random.default_rng(config.seed).standard_normal((width, width)))[0].astype(
        np.float32
    )
    slots = {}
    for side, vectors in zip(("user", "item"), pair, strict=True):
        padded = np.pad(vectors, ((0, 0), (0, width - vectors.shape[1])))
        blocks = (padded @ turn).reshape(len(vectors), config.slots, config.slot_dim)
        slots[side] = blocks / max(float(np.sqrt((blocks**2).sum(2).mean())), 1e-9)
    return slots


def _with_guesses(own: dict[str, Floats], graph: Bipartite, weight: float) -> dict[str, Floats]:
    """Entities without phrases take the mean text of their neighbours, and of their neighbours' neighbours.

    Means are centred first, so that a guess says how the neighbourhood differs from everybody.
    """
    known = {side: (np.abs(slots).sum((1, 2)) > 0)[:, None, None] for side, slots in own.items()}
    from_items = _average(graph.to_users, own["item"])
    from_users = _average(graph.to_items, own["user"])
    guesses = {"user": from_items + _average(graph.to_users, from_users)}
    guesses["item"] = from_users + _average(graph.to_items, from_items)
    return {
        side: np.where(known[side], own[side], weight * unit(guess - guess.mean(0))).astype(np.float32)
        for side, guess in guesses.items()
    }


def _average(matrix: object, slots: Floats) -> Floats:
    flat = matrix @ slots.reshape(len(slots), -1)  # type: ignore[operator]
    return np.asarray(flat, np.float32).reshape(-1, *slots.shape[1:])
