"""Edges to the normalised user-item adjacency.

Legend: U users, I items, E edges, D width.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["Bipartite"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Bipartite:
    """A user-item graph without weights; repeated edges count once.

    Memory: 3 arrays of E numbers per cached matrix.
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
        counts: Ints = np.diff(self.incidence.indptr).astype(np.int64)
        return counts

    @cached_property
    def item_degrees(self) -> Ints:
        """[I] users of each item."""
        counts: Ints = np.bincount(self.incidence.indices, minlength=self.items).astype(np.int64)
        return counts

    @cached_property
    def normalised(self) -> sp.csr_matrix:
        """[U, I] with 1 / (sqrt|N_u| sqrt|N_i|) on every edge (LightGCN; BEAT eq. 2)."""
        left = sp.diags(_inverse_root(self.user_degrees))
        right = sp.diags(_inverse_root(self.item_degrees))
        return (left @ self.incidence @ right).tocsr()

    @cached_property
    def to_users(self) -> sp.csr_matrix:
        """[U, I] rows sum to one: the mean of a user's items. A user without edges has an empty row."""
        return (sp.diags(1.0 / np.maximum(self.user_degrees, 1)) @ self.incidence).tocsr().astype(np.float32)

    @cached_property
    def to_items(self) -> sp.csr_matrix:
        """[I, U] rows sum to one: the mean of an item's users."""
        turned = self.incidence.T.tocsr()
        return (sp.diags(1.0 / np.maximum(self.item_degrees, 1)) @ turned).tocsr().astype(np.float32)


def _inverse_root(degrees: Ints) -> Floats:
    """1/sqrt(degree), 0 where there is no edge."""
    return np.where(degrees > 0, np.maximum(degrees, 1) ** -0.5, 0.0).astype(np.float32)
