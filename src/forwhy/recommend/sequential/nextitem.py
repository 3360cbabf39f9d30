"""SASRec, GRU4Rec and DIN as recommenders: learnt, saved, asked.

Shapes: B people, I items, D width.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import forwhy.artifact as artifact
from forwhy.columns import Graph
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Ids
from forwhy.data.sequences import Histories, Sequences
from forwhy.errors import UserError
from forwhy.graph.known import id_tables, read_ids
from forwhy.recommend.base import Scores
from forwhy.recommend.sequential.base import SequentialRecommender
from forwhy.recommend.sequential.config import (
    DinConfig,
    Gru4RecConfig,
    NextItemConfig,
    SasRecConfig,
    SequentialConfig,
)
from forwhy.recommend.sequential.networks import Din, Gru4Rec, SasRec
from forwhy.recommend.sequential.task import (
    Network,
    NextItemTask,
    SampledTask,
    SoftmaxTask,
    catalogue_scores,
    last_states,
)
from forwhy.training import LoopConfig, TrainingResult, seed_everything, train
from forwhy.training.checkpoint import kept_generators

__all__ = ["NextItemRecommender"]

KIND = "next-item"
CONFIGS: Mapping[str, type[NextItemConfig]] = {
    "sasrec": SasRecConfig,
    "gru4rec": Gru4RecConfig,
    "din": DinConfig,
}
log = logging.getLogger(__name__)


class NextItemRecommender(SequentialRecommender):
    """Scores every item as the next one, after histories of anybody: state · vector, or as `Din` does."""

    def __init__(
        self,
        users: Ids,
        items: Ids,
        titles: Sequence[str],
        train: Histories,
        network: Network | Din,
        config: NextItemConfig,
        metrics: Mapping[str, Any],
    ) -> None:
        """`metrics`: of the best epoch on validation, with `best_epoch`, `steps` and `seconds`."""
        super().__init__(users, items, titles, train)
        self.network, self.config, self.metrics = network.eval(), config, dict(metrics)

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        folder: Path | str,
        config: SequentialConfig | None = None,
        graph: Graph = "leak-free",
        sequences: Sequences | None = None,
    ) -> "NextItemRecommender":
        """Learn to predict each training item from those before it; a killed run continues from `folder`.

        Gradients come from training items alone; validation items choose the epoch. Without any the last epoch is
        kept, and the log says so.

        Args:
            dataset: interactions with timestamps, one validation and one test item per user.
            folder: for checkpoints and metrics.jsonl.
            config: which network and how it learns; SASRec by default.
            graph: which training interactions (see `Dataset.edges`).
            sequences: other histories of the same data set, such as shuffled ones.

        Time per epoch O(N·I·D) for N training items; memory of a step O(I·D) beside the network's. DIN's
        time grows with the catalogue by the optimiser's O(I·D) a step and its validations alone (see `scores_after`).

        Raises:
            UserError: no order, no history of two items; training diverged.
        """
        config = config or SasRecConfig()
        assert isinstance(config, NextItemConfig)
        sequences = sequences or Sequences.from_dataset(dataset, graph)
        task = make_task(sequences, config)
        if not len(task.parts):
            raise UserError(
                f"data set '{dataset.name}': no user has two training interactions, so there is no next item to "
                "learn from; import one with longer histories"
            )
        validates = bool(len(sequences.evaluated("valid")))
        identity = sequences.fingerprint() + config.model_dump_json(exclude={"device", "checkpoint_seconds"})
        result = train(task, _loop(config, validates), Path(folder), config.network, identity)
        metrics = _metrics(result, dataset, validates)
        network = task.network.cpu()
        return cls(dataset.users, dataset.items, dataset.titles(), sequences.train, network, config, metrics)

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] state · vector, and what items of the history gain. O(B·I·D), and the network once per history.

        DIN looks at every pair of an item of a history and an item of the catalogue: O(S·I·A·D) for S distinct items
        of a block of histories, and O(L·I·H) per history of L items.
        """
        if isinstance(self.network, Din):
            return catalogue_scores(self.network, histories, self.config.window).numpy()
        states_BD = last_states(self.network, histories, self.config.window).double().numpy()
        # In float64, so that a person's scores depend on who else is asked for only by the states' last bit.
        scores_BI = (states_BD @ self._vectors.T).astype(np.float32)
        if self.network.repeats is not None:
            self.network.repeats.add(torch.from_numpy(scores_BI), histories.last(self.config.window))
        return np.asarray(scores_BI)

    def item_vectors(self) -> NDArray[np.float32]:
        """[I, D] of each item, read and predicted alike: what LLM-BS's behaviour indices are made from.

        Validation and test items never had a gradient as anybody's next item: the validation item only chose the
        epoch. An item that nobody took in training was only ever pushed away.
        """
        return self.network.table.detach().numpy().copy()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that loads alone; atomic."""
        tensors: dict[str, NDArray[Any]] = {
            f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()
        }
        tensors |= {"train.items": self.train.items, "train.offsets": self.train.offsets}
        config = {"network": self.config.model_dump(mode="json"), "metrics": self.metrics}
        tables = id_tables(self.users, self.items, self.titles)
        artifact.save(Path(folder), KIND, config, tensors, tables, self._card())

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "NextItemRecommender":
        """Read a folder that `save_pretrained` wrote.

        Raises:
            UserError: a file is missing, truncated, altered or of another kind, named with the reason.
        """
        stored = artifact.load(Path(folder), KIND)
        options = stored.config["network"]
        config = CONFIGS[options["network"]].model_validate(options)
        users, items, titles = read_ids(stored.tables)
        network = make_network(len(items), config)
        state = {
            name.removeprefix("network."): torch.from_numpy(value)
            for name, value in stored.tensors.items()
            if name.startswith("network.")
        }
        network.load_state_dict(state)
        train_items = Histories(stored.tensors["train.items"], stored.tensors["train.offsets"])
        return cls(users, items, titles, train_items, network, config, stored.config["metrics"])

    @cached_property
    def _vectors(self) -> NDArray[np.float64]:
        return self.item_vectors().astype(np.float64)

    def _card(self) -> str:
        rows = "\n".join(f"| {name} | {value} |" for name, value in self.metrics.items())
        return (
            "---\nlibrary_name: forwhy\ntags: [recommendation, sequential]\n---\n"
            f"# {self.config.network}\n\n"
            f"The next of {len(self.items):,} items from the last {self.config.window} of a history. Load with "
            "`forwhy.recommend.sequential.NextItemRecommender.from_pretrained(folder)`.\n\n"
            f"| measured in training | |\n|---|---|\n{rows}\n"
        )


def make_network(n_items: int, config: NextItemConfig) -> Network | Din:
    """The untrained network, from the config's seed; the caller's generators are left alone."""
    with kept_generators():
        seed_everything(config.seed)
        if isinstance(config, DinConfig):
            return Din(n_items, config)
        return SasRec(n_items, config) if isinstance(config, SasRecConfig) else Gru4Rec(n_items, config)


def make_task(sequences: Sequences, config: NextItemConfig) -> NextItemTask:
    """What trains an untrained network on these histories."""
    network = make_network(sequences.n_items, config)
    if isinstance(network, Din):
        assert isinstance(config, DinConfig)
        return SampledTask(network, sequences, config)
    return SoftmaxTask(network, sequences, config)


def _loop(config: SequentialConfig, validates: bool) -> LoopConfig:
    return LoopConfig(
        epochs=config.epochs,
        patience=config.patience,
        evaluate_every=config.evaluate_every,
        seed=config.seed,
        device=config.device,
        checkpoint_seconds=config.checkpoint_seconds,
    ).validated(validates)


def _metrics(result: TrainingResult, dataset: Dataset, validates: bool) -> dict[str, Any]:
    if not validates:
        log.warning(
            "data set '%s' has no validation items; the last of %d epochs is kept",
            dataset.name,
            result.best_epoch,
        )
    return result.summary()
