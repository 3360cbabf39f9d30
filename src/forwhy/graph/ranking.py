"""HR@k and Recall@k for early stopping: torch's top-k, fast; the evaluator proper is `forwhy.evaluate.ranking`.

Legend: U users, I items, W width, V users with validation items, B a block of them.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.graph.bipartite import Bipartite

__all__ = ["hits_and_recall"]


def hits_and_recall(
    users_UW: NDArray[np.float32],
    items_IW: NDArray[np.float32],
    graph: Bipartite,
    valid: NDArray[np.int64],
    k: int,
    mask_train: bool = True,
) -> tuple[float, float]:
    """Share of users with a validation item among their first k, and the mean share of their items found there.

    Full ranking, a user's training items left out unless told otherwise. O(V·I·W) time. Zeros when there is no
    validation interaction.
    """
    if not len(valid):
        return 0.0, 0.0
    users, numbers = np.unique(valid[:, 0], return_inverse=True)
    keys = np.unique(numbers * graph.items + valid[:, 1])
    totals = np.bincount(keys // graph.items, minlength=len(users))
    found = np.zeros(len(users))
    items = torch.from_numpy(items_IW).T.contiguous()
    k = min(k, graph.items)
    for start in range(0, len(users), 1024):
        block = users[start : start + 1024]
        scores = torch.from_numpy(users_UW[block]) @ items
        if mask_train:
            seen = graph.incidence[block].tocoo()
            rows, columns = (torch.from_numpy(part.astype(np.int64)) for part in (seen.row, seen.col))
            scores[rows, columns] = -torch.inf
        top = scores.topk(k, dim=1).indices.numpy()
        mine = (np.arange(start, start + len(block))[:, None] * graph.items + top).ravel()
        found[start : start + len(block)] = np.isin(mine, keys).reshape(len(block), -1).sum(1)
    return float((found > 0).mean()), float((found / totals).mean())
