"""What recommended lists are like, right or wrong: how much of the catalogue they show, how novel, how popular.

Shapes: V users (B of one block), I items, K places of a list.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Lists = NDArray[np.int32]
"""[V, K] internal items, best first; -1 where a list has ended."""

POPULAR = 5
"""One item in so many is popular (the top 20%, as in Abdollahpouri et al. 2019)."""


def top_items(scores_bi: NDArray[np.float32], k: int) -> Lists:
    """The `k` best items of each row, k at most I; equal scores in catalogue order, as recommenders list them.

    Items of score -inf are closed: a row with fewer than k open items ends in -1.
    Cost: one copy of the scores; linear in them.
    """
    reached_bi = _reaching(scores_bi, k)
    items = np.flatnonzero(reached_bi)
    rows, items = np.divmod(items, scores_bi.shape[1])
    lengths_b = np.bincount(rows, minlength=len(scores_bi))
    slots = np.arange(len(rows)) - (np.cumsum(lengths_b) - lengths_b)[rows]
    lists = np.full((len(scores_bi), k), -1, dtype=np.int32)
    values = np.full(lists.shape, -np.inf, dtype=np.float32)
    lists[rows, slots], values[rows, slots] = items, scores_bi[rows, items]
    return np.take_along_axis(lists, np.argsort(-values, axis=1, kind="stable"), axis=1)


def list_metrics(
    lists_vk: Lists, seen: Ints, n_items: int, ks: Sequence[int]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Metrics of each user's list [V], and of all lists together. `seen` [E, 2]: unique training pairs.

    Of each list: `novelty@k`, the mean self-information log2(U / u) of its items in bits, where u of the U
    users with training pairs took the item (Zhou et al. 2010; u is at least 1, so that an item nobody took
    is as novel as the rarest can be); `popularity@k`, the share of its places that go to the 20% of items
    with most training users, items tied across that edge counted in part. Both need training pairs and are
    left out without any. Of all lists: `coverage@k`, the share of the catalogue that is in somebody's list
    (Ge et al. 2010), which grows with the number of users.
    Cost: linear in V x K.
    """
    coverage = {f"coverage@{k}": _coverage(lists_vk[:, :k], n_items) for k in ks}
    if not len(seen):
        return {}, coverage
    takers_i = np.bincount(seen[:, 1], minlength=n_items)
    information_i = np.log2(len(np.unique(seen[:, 0])) / np.maximum(takers_i, 1))
    novelty_vk = _running_mean(information_i, lists_vk)
    popularity_vk = _running_mean(_popular(takers_i), lists_vk)
    per_user = {}
    for k in ks:
        last = min(k, lists_vk.shape[1]) - 1
        per_user[f"novelty@{k}"] = novelty_vk[:, last]
        per_user[f"popularity@{k}"] = popularity_vk[:, last]
    return per_user, coverage


def _reaching(scores_bi: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """Which items are among the k best of their row: at most k in each."""
    edge = scores_bi.shape[1] - k
    edges_b1 = np.partition(scores_bi, edge, axis=1)[:, edge, None]
    edges_b1 = np.maximum(edges_b1, np.finfo(np.float32).min)
    reached_bi = scores_bi >= edges_b1
    tied = np.flatnonzero(reached_bi.sum(axis=1, dtype=np.int32) > k)
    if len(tied):
        equal = scores_bi[tied] == edges_b1[tied]
        places = k - (reached_bi[tied] & ~equal).sum(axis=1, keepdims=True)
        reached_bi[tied] &= ~equal | (np.cumsum(equal, axis=1, dtype=np.int32) <= places)
    return reached_bi


def _popular(takers_i: Ints) -> NDArray[np.float64]:
    """1 for popular items, 0 for others; items tied across the edge share the places left."""
    places = -(-len(takers_i) // POPULAR)
    edge = np.partition(takers_i, -places)[-places]
    above, equal = takers_i > edge, takers_i == edge
    return np.asarray(above + equal * ((places - above.sum()) / equal.sum()))


def _running_mean(values_i: NDArray[np.float64], lists_vk: Lists) -> NDArray[np.float64]:
    """[V, K] mean of the items' values over the first 1..K places."""
    real = lists_vk >= 0
    sums_vk = np.where(real, values_i[lists_vk], 0.0).cumsum(axis=1)
    return np.asarray(sums_vk / real.cumsum(axis=1))


def _coverage(lists_vk: Lists, n_items: int) -> float:
    shown_i = np.zeros(n_items, dtype=bool)
    shown_i[lists_vk[lists_vk >= 0]] = True
    return float(shown_i.mean())
