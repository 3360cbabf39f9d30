"""XRec's collaborative tokenizer whole: from interactions to one vector per user and item (eq. 7 to 11).

Legend: I items, E edges, D width, K layers.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.columns import Graph
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.graph.bipartite import Bipartite
from forwhy.graph.bpr import BprTask, CollaborativeNetwork
from forwhy.graph.collaborative import CollaborativeVectors
from forwhy.graph.config import CollaborativeConfig
from forwhy.training import LoopConfig, TrainingResult, train

__all__ = ["CollaborativeTokenizer"]

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]


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
