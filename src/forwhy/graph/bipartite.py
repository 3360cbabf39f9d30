"""A user-item graph: its normalised adjacency, absent items, spectral embeddings; training on it and its measure.

Legend: U users, I items, E edges, D width, B draws, W width of any vectors, V users with validation items.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.options import TrainingOptions
from forwhy.training.checkpoint import TrainingState
from forwhy.training.engine import Task
from forwhy.training.loop import train

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
log = logging.getLogger(__name__)

MOST_VALIDATED = 50_000
"""Users that are ranked to choose an epoch: a million of them among 10^5 items would take longer than the epoch."""
SCORES_AT_ONCE = 1 << 25
"""Scores of a block of them, 128 MB; and at most 1,024 users."""


@dataclass(frozen=True)
class Bipartite:
    """A user-item graph without weights; repeated edges count once. Only its incidence is kept, 8 E bytes.

    A matrix of floats is made when it is asked for, in O(E), and takes as much.
    """

    edges: Ints
    """[E, 2] internal (user, item)."""
    users: int
    items: int

    @cached_property
    def incidence(self) -> sp.csr_matrix:
        """[U, I] zeros and ones."""
        ones = np.ones(len(self.edges), np.float32)
        matrix = sp.csr_matrix((ones, (self.edges[:, 0], self.edges[:, 1])), (self.users, self.items))
        matrix.data[:] = 1.0
        return matrix

    @cached_property
    def user_degrees(self) -> Ints:
        """[U] items of each user."""
        return np.asarray(np.diff(self.incidence.indptr), np.int64)

    @cached_property
    def item_degrees(self) -> Ints:
        """[I] users of each item."""
        return np.asarray(np.bincount(self.incidence.indices, minlength=self.items), np.int64)

    @property
    def normalised(self) -> sp.csr_matrix:
        """[U, I] with 1 / (sqrt|N_u| sqrt|N_i|) on every edge (LightGCN; BEAT eq. 2)."""
        left = sp.diags(_inverse_root(self.user_degrees))
        right = sp.diags(_inverse_root(self.item_degrees))
        return (left @ self.incidence @ right).tocsr()

    @property
    def to_users(self) -> sp.csr_matrix:
        """[U, I] rows sum to one: the mean of a user's items. A user without edges has an empty row."""
        return _means(self.incidence)

    @property
    def to_items(self) -> sp.csr_matrix:
        """[I, U] rows sum to one: the mean of an item's users."""
        return _means(self.incidence.T.tocsr())


def _means(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Each row over its number of entries."""
    return (sp.diags(1.0 / np.maximum(np.diff(matrix.indptr), 1)) @ matrix).tocsr().astype(np.float32)


def _inverse_root(degrees: Ints) -> Floats:
    """1/sqrt(degree), 0 where there is no edge."""
    return np.where(degrees > 0, np.maximum(degrees, 1) ** -0.5, 0.0).astype(np.float32)


class Negatives:
    """Draws items that are no edge of a user, by one binary search for all draws together.

    With a user's items sorted, n_0 < n_1 < …, the r-th absent item is r plus the number of k with n_k - k <= r.
    """

    def __init__(self, graph: Bipartite) -> None:
        taken = graph.incidence.sorted_indices()
        self._items, self._starts = graph.items, taken.indptr.astype(np.int64)
        self.absent = graph.items - graph.user_degrees
        """[U] how many items a user did not take."""
        rows = np.repeat(np.arange(graph.users), graph.user_degrees)
        before = taken.indices - (np.arange(len(rows)) - self._starts[rows])
        self._keys = rows * (graph.items + 1) + before

    def draw(self, users_B: Ints, rng: np.random.Generator) -> Ints:
        """[B] one item for each user, uniform over those they did not take; each must have one. O(B log E)."""
        ranks = rng.integers(0, self.absent[users_B])
        found = np.searchsorted(self._keys, users_B * (self._items + 1) + ranks, side="right")
        return np.asarray(ranks + found - self._starts[users_B])


# --- Spectral embeddings: a truncated SVD of the normalised adjacency, with GF-CF's degree weighting.
#
# Source: Halko, Martinsson, Tropp 2011 (randomised subspace iteration); Shen et al. 2021 (GF-CF).


def right_vectors(graph: Bipartite, dims: int, seed: int, iterations: int = 5) -> Floats:
    """[I, D] right singular vectors of the normalised adjacency at its largest singular values, D = min(dims, U, I).

    Orthonormal columns, values falling, each turned so that its sum is not negative. The same seed gives the same
    bytes; more power iterations sharpen the tail of the spectrum. Time O(iterations · (E·D + (U+I)·D²)).
    """
    matrix = graph.normalised
    dims = max(1, min(dims, *matrix.shape))
    width = min(dims + 10, *matrix.shape)
    start = np.random.default_rng(seed).standard_normal((matrix.shape[1], width), np.float32)
    basis = np.linalg.qr(matrix @ start)[0]
    for _ in range(iterations):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    right_DI = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)[2][:dims]
    signs_D = np.where(right_DI.sum(1) < 0, -1.0, 1.0)
    return (right_DI.T * signs_D).astype(np.float32)


def spectral_embeddings(graph: Bipartite, dims: int, seed: int = 0) -> tuple[Floats, Floats]:
    """User vectors [U, D] and item vectors [I, D] whose dot product is GF-CF's low-pass score; D = min(dims, U, I).

    A user's ranking does not depend on its norm, so users have norm 1: a codebook then spends its words on directions.
    Entities without edges get zeros.
    """
    right = right_vectors(graph, dims, seed)
    root = np.sqrt(np.maximum(graph.item_degrees, 1)).astype(np.float32)[:, None]
    users = (graph.incidence @ (right / root)).astype(np.float32)
    users /= np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-12)
    return users, right * root


def hits_and_recall(
    users_UW: Floats, items_IW: Floats, graph: Bipartite, valid: Ints, k: int, mask_train: bool = True
) -> tuple[float, float]:
    """Share of users with a validation item among their first k, and the mean share of their items found there.

    Full ranking, a user's training items left out unless told otherwise, for early stopping: the evaluator proper is
    `forwhy.evaluate.ranking`. Of more than `MOST_VALIDATED` users so many are drawn, the same ones each time.
    O(V·I·W) time.
    """
    users = np.unique(valid[:, 0])
    if len(users) > MOST_VALIDATED:
        users = np.sort(np.random.default_rng(0).choice(users, MOST_VALIDATED, replace=False))
        valid = valid[np.isin(valid[:, 0], users)]
    rows = np.searchsorted(users, valid[:, 0])
    wanted = Bipartite(np.column_stack([rows, valid[:, 1]]), len(users), graph.items)
    items = torch.from_numpy(items_IW).T.contiguous()
    found_V = np.zeros(len(users), np.float32)
    together = max(1, min(1024, SCORES_AT_ONCE // graph.items))
    for start in range(0, len(users), together):
        block = slice(start, start + together)
        scores = torch.from_numpy(users_UW[users[block]]) @ items
        if mask_train:
            scores[graph.incidence[users[block]].nonzero()] = -torch.inf
        top = scores.topk(min(k, graph.items), dim=1).indices.numpy()
        found_V[block] = np.take_along_axis(wanted.incidence[block].toarray(), top, 1).sum(1)
    return float((found_V > 0).mean()), float((found_V / wanted.user_degrees).mean())


def train_on_graph(
    task: Task[Any],
    config: TrainingOptions,
    data: Dataset,
    folder: Path,
    name: str,
    identity: str,
    start: str,
) -> TrainingState:
    """Train a first stage; the best epoch on validation interactions, a spectral start included, or the last stays."""
    validates = bool(len(data.edges("valid")))
    loop = config.loop(validates, evaluate_first=validates and start == "spectral")
    result = train(task, loop, folder, name, identity)
    if validates:
        metric, value = next(iter(result.best_metrics.items()))
        log.info("%s: best epoch %d, validation %s %.4f", name, result.best_epoch, metric, value)
    else:
        message = "%s: data set '%s' has no validation interactions; the last of %d epochs is kept"
        log.warning(message, name, data.name, result.best_epoch)
    return result
