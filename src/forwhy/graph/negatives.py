"""Items that a user did not take, drawn uniformly without rejection.

Legend: U users, I items, E edges, B draws.
"""

import numpy as np
from numpy.typing import NDArray

from forwhy.graph.bipartite import Bipartite

__all__ = ["Negatives"]

Ints = NDArray[np.int64]


class Negatives:
    """Draws items that are no edge of a user. Memory: one array of E numbers.

    With a user's items sorted, n_0 < n_1 < …, item n_k has n_k - k absent items before it. So the r-th absent item is
    r plus the number of k with n_k - k <= r: one binary search for all draws together.
    """

    def __init__(self, graph: Bipartite) -> None:
        taken = graph.incidence.sorted_indices()
        self._items, self._starts = graph.items, taken.indptr.astype(np.int64)
        self._absent = graph.items - graph.user_degrees
        rows = np.repeat(np.arange(graph.users), graph.user_degrees)
        before = taken.indices - (np.arange(len(rows)) - self._starts[rows])
        self._keys = rows * (graph.items + 1) + before

    @property
    def exist(self) -> NDArray[np.bool_]:
        """[U] whether there is an item that the user did not take."""
        return self._absent > 0

    def draw(self, users_B: Ints, rng: np.random.Generator) -> Ints:
        """[B] one item for each user, uniform over those they did not take; each must have one.

        O(B log E), fastest when `users_B` is sorted.
        """
        ranks = rng.integers(0, self._absent[users_B])
        found = np.searchsorted(self._keys, users_B * (self._items + 1) + ranks, side="right")
        items: Ints = ranks + found - self._starts[users_B]
        return items
