"""What a data set gives away: how much of the held-out text and edges a graph or a table would show.

Legend: U users, I items, E edges.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import SIDES
from forwhy.data.mined import vouched

if TYPE_CHECKING:
    from forwhy.data.dataset import Dataset

__all__ = ["leaks"]


def leaks(dataset: "Dataset") -> dict[str, int | float | bool]:
    """Counts of what could leak, as plain JSON values; O(E log E).

    ``heldout_pairs_in_train_graph``: held-out explained pairs that the as-published graph holds as train
    edges; the leak-free graph has none. ``train_explanations_in_heldout_interactions``: training texts about
    pairs that the ranking is tested on. ``profiles_possibly_leaking``: of some profile nobody knows what it was
    written from (`data.mined`). ``*_without_training_edges``: cold after the leak-free cut.
    """
    width = max(len(dataset.items), 1)
    held = _keys(dataset.heldout_pairs(), width)
    published = _keys(dataset.edges("train", "as-published"), width)
    tested = _keys(np.concatenate([dataset.edges("valid"), dataset.edges("test")]), width)
    pairs = dataset.pairs("train")
    explained = np.unique(pairs.users * width + pairs.items)
    inside = int(np.isin(held, published).sum())
    return {
        "heldout_pairs": len(held),
        "heldout_pairs_in_train_graph": inside,
        "heldout_pairs_in_train_graph_share": round(inside / len(held), 4) if len(held) else 0.0,
        "heldout_pairs_in_heldout_interactions": int(np.isin(held, tested).sum()),
        "train_explanations_in_heldout_interactions": int(np.isin(explained, tested).sum()),
        "explanations_in_train_and_heldout": int(np.isin(explained, held).sum()),
        "heldout_interactions_seen_in_train": int(np.isin(tested, published).sum()),
        "profiles_possibly_leaking": _unknown_profiles(dataset),
        **_cold(dataset),
    }


def _unknown_profiles(dataset: "Dataset") -> bool:
    if "profiles" not in dataset.tables:
        return False
    return any(set(dataset.profiles(side)) - vouched(dataset, "profiles", side) for side in SIDES)


def _cold(dataset: "Dataset") -> dict[str, int]:
    train = dataset.edges("train")
    users = np.setdiff1d(np.arange(len(dataset.users)), train[:, 0])
    items = np.setdiff1d(np.arange(len(dataset.items)), train[:, 1])
    return {
        "users_without_training_edges": len(users),
        "items_without_training_edges": len(items),
        "heldout_users_without_training_edges": int(np.isin(dataset.heldout_entities("user"), users).sum()),
        "heldout_items_without_training_edges": int(np.isin(dataset.heldout_entities("item"), items).sum()),
    }


def _keys(pairs: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return np.unique(pairs[:, 0] * width + pairs[:, 1])
