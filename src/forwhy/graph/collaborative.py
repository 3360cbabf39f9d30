"""The collaborative vectors: one per user and item, as XRec's adapter reads them. No torch.

Legend: U users, I items, N entities of a side, E edges, D width, K layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forwhy.artifact as artifact
from forwhy.columns import SIDES
from forwhy.data.ids import Ids
from forwhy.errors import UserError
from forwhy.graph.known import Known, id_tables, read_ids

__all__ = ["CollaborativeVectors"]

KIND = "collaborative"
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CollaborativeVectors(Known):
    """What LightGCN learnt: final vectors, whose inner product is the score of a pair (XRec eq. 7, 8)."""

    vectors: Mapping[str, Floats]
    """side -> [N, D] final (propagated). A user without training interactions has zeros; such an item has what being
    drawn as a negative left of zeros."""
    fold_in: Floats
    """[I, D] what each item adds to a new user; see `vector_for_history`."""
    users: Ids
    items: Ids
    titles: Sequence[str]
    """By internal item; "" when unknown."""
    seen: Ints
    """[E, 2] edges of the graph it was learnt on, internal."""
    taken: Ints
    """[T, 2] all training interactions, also those cut out of the graph: never recommended as new."""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Of the best epoch on validation, with `best_epoch`, `steps` and `seconds`."""

    @property
    def dims(self) -> int:
        """D."""
        return int(self.vectors["user"].shape[1])

    def representation(self, side: str) -> Floats:
        """[N, D] for everybody; the score of a pair is the inner product."""
        return self.vectors[side]

    def vector_for_history(self, items: Sequence[int] | Ints) -> Floats:
        """[D] for a new user N known only by distinct internal items (a warm user); repeats count once.

        One aggregation of equation 7 over the items' known layers, none of which the newcomer changes:

            e = 1/(K+1) · sum over i in N of (e_i^(0) + … + e_i^(K-1)) / (sqrt|N| sqrt|N_i|)

        (without 1/(K+1) when layers are summed). For a training user it is their own vector less its share of layer
        0, e_u^(0)/(K+1), which a newcomer does not have. |N_i| of an item without interactions counts as 1.

        Raises:
            UserError: no item, or one that does not exist.
        """
        rows = np.unique(np.asarray(items, np.int64))
        if not len(rows):
            raise UserError("history: empty; give at least one item id")
        unknown = rows[(rows < 0) | (rows >= len(self.items))]
        if len(unknown):
            raise UserError(f"history: item numbers run from 0 to {len(self.items) - 1}, got {unknown[0]}")
        vector: Floats = (self.fold_in[rows].sum(0) / np.sqrt(len(rows))).astype(np.float32)
        return vector

    def representation_for_history(self, items: Sequence[int]) -> Floats:
        """[D] that of a warm user."""
        return self.vector_for_history(items)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that loads alone; atomic."""
        tensors: dict[str, NDArray[Any]] = {f"vectors.{side}": self.vectors[side] for side in SIDES}
        tensors |= {"fold_in": self.fold_in, "seen": self.seen, "taken": self.taken}
        tables = id_tables(self.users, self.items, self.titles)
        config = {"tokenizer": dict(self.config), "metrics": dict(self.metrics)}
        artifact.save(Path(folder), KIND, config, tensors, tables, _card(self))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "CollaborativeVectors":
        """Read a folder that `save_pretrained` wrote.

        Raises:
            UserError: a file is missing, truncated, altered or of another kind, named with the reason.
        """
        stored = artifact.load(Path(folder), KIND)
        users, items, titles = read_ids(stored.tables)
        return cls(
            vectors={side: stored.tensors[f"vectors.{side}"] for side in SIDES},
            fold_in=stored.tensors["fold_in"],
            users=users,
            items=items,
            titles=titles,
            seen=stored.tensors["seen"],
            taken=stored.tensors["taken"],
            config=stored.config["tokenizer"],
            metrics=stored.config["metrics"],
        )


def _card(vectors: CollaborativeVectors) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in vectors.metrics.items())
    return (
        "---\nlibrary_name: forwhy\ntags: [recommendation, explainable, lightgcn]\n---\n"
        "# Collaborative vectors\n\n"
        f"{len(vectors.users):,} users and {len(vectors.items):,} items as vectors of {vectors.dims} numbers "
        "(LightGCN, the first part of XRec). Load with "
        "`forwhy.graph.CollaborativeVectors.from_pretrained(folder)`.\n\n"
        f"| measured in training | |\n|---|---|\n{rows}\n"
    )
