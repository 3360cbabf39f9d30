"""Spectral embeddings: a truncated SVD of the normalised adjacency, with GF-CF's degree weighting.

Source: Halko, Martinsson, Tropp 2011 (randomised subspace iteration); Shen et al. 2021 (GF-CF).
Legend: U users, I items, E edges, D dimensions.
"""

import numpy as np
from numpy.typing import NDArray

from forwhy.graph.bipartite import Bipartite

__all__ = ["spectral_embeddings", "truncated_svd"]

Floats = NDArray[np.float32]


def truncated_svd(
    graph: Bipartite, dims: int, seed: int, iterations: int = 5
) -> tuple[Floats, Floats, Floats]:
    """The leading `dims` singular triplets of the normalised adjacency.

    Args:
        graph: the training graph.
        dims: how many, at most min(U, I).
        seed: of the random start; the same seed gives the same bytes.
        iterations: power iterations; more sharpen the tail of the spectrum.

    Returns:
        left [U, D], values [D] falling, right [I, D]. Time O(iterations · (E·D + (U+I)·D²)).
    """
    matrix = graph.normalised
    dims = max(1, min(dims, *matrix.shape))
    width = min(dims + 10, *matrix.shape)
    start = np.random.default_rng(seed).standard_normal((matrix.shape[1], width), np.float32)
    basis = np.linalg.qr(matrix @ start)[0]
    for _ in range(iterations):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    small_left, values, right = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    left = basis @ small_left
    signs = np.sign(right[:dims].sum(1)) + (right[:dims].sum(1) == 0)
    return (
        (left[:, :dims] * signs).astype(np.float32),
        values[:dims].astype(np.float32),
        (right[:dims].T * signs).astype(np.float32),
    )


def spectral_embeddings(graph: Bipartite, dims: int, seed: int = 0) -> tuple[Floats, Floats]:
    """User and item vectors whose dot product is GF-CF's low-pass score, users at unit norm.

    A user's vector is the sum of its items' right singular vectors over sqrt(item degree), an item's is its own times
    sqrt(item degree). A user's ranking does not depend on its norm, so the norm is taken out: a codebook
    then spends its words on directions. Entities without edges get zeros. Width min(dims, U, I).

    Returns:
        users [U, D] with rows of norm 1 or 0, items [I, D].
    """
    right = truncated_svd(graph, dims, seed)[2]
    root = np.sqrt(np.maximum(graph.item_degrees, 1)).astype(np.float32)[:, None]
    users = (graph.incidence @ (right / root)).astype(np.float32)
    users /= np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-12)
    return users, right * root
