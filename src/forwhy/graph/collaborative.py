"""The collaborative vectors: one per user and item, as XRec's adapter reads them. No torch.

Legend: U users, I items, N entities of a side, E edges, D width, K layers.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import forwhy.artifact as artifact
from forwhy.columns import SIDES, Graph
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Ids
from forwhy.errors import UserError
from forwhy.graph.bipartite import Bipartite
from forwhy.graph.config import CollaborativeConfig
from forwhy.graph.known import Known, id_tables, read_ids
from forwhy.graph.lightgcn import BprTask, CollaborativeNetwork
from forwhy.training import LoopConfig, TrainingResult, train

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


# --- XRec's collaborative tokenizer whole: from interactions to one vector per user and item (eq. 7 to 11).
#
# Legend: I items, E edges, D width, K layers.


log = logging.getLogger(__name__)


class CollaborativeTokenizer:
    """Learns :class:`CollaborativeVectors` from a data set."""

    def __init__(self, config: CollaborativeConfig | None = None) -> None:
        self.config = config or CollaborativeConfig()

    def fit(self, dataset: Dataset, folder: Path | str, graph: Graph = "leak-free") -> CollaborativeVectors:
        """Learn the vectors; a killed run continues from `folder`.

        Without validation interactions nothing can be selected: the last epoch is kept, and the log says so.

        Args:
            dataset: interactions; no text is read.
            folder: for checkpoints and metrics.jsonl.
            graph: which training edges (see `Dataset.edges`).

        Time per epoch O(steps · K·E·D + E·J·D) for J negatives, and one truncated SVD for a spectral start; memory of
        a step O((U+I)·K·D + batch·J·D).

        Raises:
            UserError: nothing to learn from; training diverged.
        """
        bipartite = Bipartite(dataset.edges("train", graph), len(dataset.users), len(dataset.items))
        valid = dataset.edges("valid")
        task = BprTask(CollaborativeNetwork(bipartite, self.config), bipartite, valid, self.config)
        if not len(task.edges):
            raise UserError(
                f"data set '{dataset.name}': no training interaction of a user who left an item out, so nothing "
                "to rank; import one with a train split"
            )
        identity = dataset.fingerprint + graph + self._identity()
        result = train(task, self._loop(bool(len(valid))), Path(folder), "collaborative", identity)
        self._report(dataset, result, bool(len(valid)))
        return self._vectors(dataset, bipartite, task.network, result)

    def _identity(self) -> str:
        return self.config.model_dump_json(exclude={"preset", "device", "checkpoint_seconds"})

    def _loop(self, validates: bool) -> LoopConfig:
        config = self.config
        return LoopConfig(
            epochs=config.epochs,
            patience=config.patience,
            evaluate_every=config.evaluate_every,
            evaluate_first=validates and config.start == "spectral",
            seed=config.seed,
            device=config.device,
            checkpoint_seconds=config.checkpoint_seconds,
        ).validated(validates)

    def _report(self, dataset: Dataset, result: TrainingResult, validates: bool) -> None:
        if validates:
            recall = result.best_metrics["recall@20"]
            log.info("collaborative: best epoch %d, validation Recall@20 %.4f", result.best_epoch, recall)
            return
        log.warning(
            "collaborative: data set '%s' has no validation interactions; the last of %d epochs is kept",
            dataset.name,
            result.best_epoch,
        )

    def _vectors(
        self, dataset: Dataset, graph: Bipartite, network: CollaborativeNetwork, result: TrainingResult
    ) -> CollaborativeVectors:
        vectors, fold_in = propagated(network.cpu(), graph)
        return CollaborativeVectors(
            vectors=vectors,
            fold_in=fold_in,
            users=dataset.users,
            items=dataset.items,
            titles=dataset.titles(),
            seen=graph.edges,
            taken=dataset.edges("train", "as-published"),
            config=self.config.model_dump(mode="json"),
            metrics=result.summary(),
        )


@torch.no_grad()
def propagated(network: CollaborativeNetwork, graph: Bipartite) -> tuple[dict[str, Floats], Floats]:
    """Final vectors by side, and what each item adds to a new user (`CollaborativeVectors.fold_in`)."""
    final = {side: _array(table) for side, table in network().items()}
    roots = np.sqrt(np.maximum(graph.item_degrees, 1)).astype(np.float32)
    return final, _array(network.inner()["item"]) / roots[:, None]


def _array(tensor: torch.Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().numpy())
