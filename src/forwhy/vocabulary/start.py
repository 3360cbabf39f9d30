"""Where entity tables start: spectral graph coordinates beside text coordinates, one block per slot.

Legend: N entities, S slots, G graph coordinates per slot, T text coordinates per slot, D = G + T.
"""

import numpy as np
from numpy.typing import NDArray

from forwhy.graph.bipartite import Bipartite
from forwhy.graph.spectral import spectral_embeddings
from forwhy.vocabulary.config import TokenizerConfig
from forwhy.vocabulary.phrases import PhraseBook, fit_text_space, text_slots, unit

__all__ = ["Start", "spectral_start"]

Floats = NDArray[np.float32]


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
