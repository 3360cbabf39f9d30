"""A network of the next item as a recommender: learnt, saved, asked; which network it is decides its options alone.

Shapes: B histories, L places, V users with a validation item, I items, D width.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwhy.artifact import Artifact, Content, Saved, card
from forwhy.columns import Graph
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Catalogue, Histories, Sequences
from forwhy.errors import UserError
from forwhy.recommend.base import Hidden, Ints, Recommender, Scores
from forwhy.recommend.codes import CodedCatalogue
from forwhy.recommend.networks import NextItemNetwork, SequentialOptions, SoftmaxNetwork, kind
from forwhy.recommend.rules import Listed
from forwhy.training.engine import Epoch, Task, batches_of, kept_generators, seed_everything
from forwhy.training.loop import train

log = logging.getLogger(__name__)

Metrics = Mapping[str, Any] | None
Batch = tuple[Tensor, Tensor]
"""One step's pieces of histories: items [B, L + 1], padded behind, and how many there are of each [B], at least 2."""


class NextItemTask(Task[Batch]):
    """Learns a network on training items only; validation items decide when to stop and nothing else."""

    higher_is_better = True

    def __init__(self, network: NextItemNetwork, sequences: Sequences) -> None:
        self.module = self.network = network
        self.options = options = network.options
        self.pretraining = network.pretraining
        self.parts = pieces(sequences.train, options.window)
        self._before, targets = sequences.validation(options.validation_users, options.seed, options.window)
        self._targets_V1 = torch.from_numpy(targets)[:, None]

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over everything: each step moves every item's vector."""
        rate, decay = self.options.learning_rate, self.options.weight_decay
        return torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=decay, fused=True)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """Every training target once."""
        self.network.epoch = epoch
        rng = np.random.default_rng((self.options.seed, epoch))

        def batch(rows: Ints) -> Batch:
            part = self.parts.take(rows)
            return torch.from_numpy(part.padded()), torch.from_numpy(part.lengths)

        return Epoch(batches_of(self.parts.lengths, self.options.batch_size, rng), batch)

    def weight(self, batch: Batch) -> float:
        """Targets of the batch."""
        return float(batch[1].sum() - len(batch[1]))

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """The network's own."""
        items, lengths = (part.to(self.network.table.device) for part in batch)
        return {"loss": self.network.loss(items, lengths)}

    def evaluate(self) -> Mapping[str, float]:
        """NDCG@10 and Recall@10 of full ranking, ties against us; without validation items the training loss."""
        if not len(self._before):
            losses = [(self.weight(batch), float(self.loss(batch)["loss"])) for batch in self.batches(0)]
            return {"train_loss": sum(w * loss for w, loss in losses) / sum(w for w, _ in losses)}
        hits, gains, start = 0.0, 0.0, 0
        # Scores are compared to rounding; autocast's is too coarse for that.
        with torch.autocast(self.network.table.device.type, enabled=False):
            for scores_BI in self.network.validated(self._before):
                targets_B1 = self._targets_V1[start : start + len(scores_BI)]
                ranks_B = (scores_BI >= scores_BI.gather(1, targets_B1.to(scores_BI.device))).sum(1)
                ranks_B = ranks_B[ranks_B <= 10]
                hits, gains = hits + len(ranks_B), gains + float((1 / torch.log2(ranks_B + 1.0)).sum())
                start += len(scores_BI)
        return {"ndcg@10": gains / len(self._before), "recall@10": hits / len(self._before)}


class NextItemRecommender(Recommender, Saved):
    """Scores every item as the next one, after histories of anybody; all scores are equal after an empty one."""

    kind: ClassVar[str] = "next-item"
    coded: CodedCatalogue | None = None
    """What finds the items of lists, see `with_codes`; None: each is scored."""
    probes: int = 0

    def __init__(
        self,
        catalogue: Catalogue,
        network: NextItemNetwork,
        config: SequentialOptions,
        metrics: Metrics = None,
        repeat_gain: float = 0.0,
    ) -> None:
        """`metrics`: of the best epoch on validation, with `best_epoch`, `steps` and `seconds`."""
        super().__init__(catalogue)
        self.network, self.config, self.window = network.eval(), config, config.window
        self.metrics, self.repeat_gain = dict(metrics or {}), repeat_gain

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        folder: Path | str,
        config: SequentialOptions,
        graph: Graph = "leak-free",
        sequences: Sequences | None = None,
        attributes_IM: Tensor | None = None,
    ) -> Self:
        """Learn to predict each training item from those before it; a killed run continues from `folder`.

        Gradients come from training items alone; validation items choose the epoch, without any the last one is kept.
        Time per epoch O(N·I·D) for N training items under the softmax over the catalogue; with negatives and of a
        candidate network only the optimiser's O(I·D) a step and the validations grow with the catalogue.

        Args:
            dataset: interactions with timestamps, one validation and one test item per user.
            folder: for checkpoints and metrics.jsonl.
            config: which network and how it learns.
            graph: which training interactions (see `Dataset.edges`).
            sequences: other histories of the same data set, such as shuffled ones.
            attributes_IM: what a network that is told something of items (`describe`) is told of them, if something
                else than their attributes.

        Raises:
            UserError: no order, no history of two items; training diverged.
        """
        sequences = sequences or Sequences.from_dataset(dataset, graph)
        if attributes_IM is None and config.reads_attributes:
            attributes_IM = attribute_table(dataset)
        task = NextItemTask(made(sequences.n_items, config, attributes_IM), sequences)
        if not len(task.parts):
            raise UserError(
                f"data set '{dataset.name}': no user has two training interactions, so there is no next item to "
                "learn from; import one with longer histories"
            )
        validates = bool(len(sequences.evaluated("valid")))
        identity = sequences.fingerprint() + config.model_dump_json(exclude={"device", "checkpoint_seconds"})
        if attributes_IM is not None:
            identity += hashlib.sha256(attributes_IM.numpy().tobytes()).hexdigest()
        result = train(task, config.loop(validates), Path(folder), config.network, identity)
        if not validates:
            words = "data set '%s' has no validation items; the last of %d epochs is kept"
            log.warning(words, dataset.name, result.best_epoch)
        found = cls(Catalogue.of(dataset, sequences.train), task.network.cpu(), config, result.summary())
        return found.learn_repeats(sequences, config.seed)

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] as the network scores, and `repeat_gain` more where the history holds the item."""
        return self._gained(self.network.scores_after(histories), histories)

    def with_codes(self, probes: int = 256, cells: int | None = None, size: int = 16, seed: int = 0) -> Self:
        """This recommender, whose lists are found by a `CodedCatalogue` of its items; their scores stay exact.

        A list may miss items, the fewer the more cells (`probes`) it visits. Worth it from 10^5 items on. `scores`, and
        lists under `rules` or after an empty history, look at every item as before. Saved along. Else: as `fit` there.

        Raises:
            UserError: the network reads a history anew for each item, so there are no vectors to code; as `fit`.
        """
        if not isinstance(self.network, SoftmaxNetwork):
            raise UserError(
                f"{self.config.network}: scores are no products of vectors; lists can't be by codes"
            )
        found = copy(self)
        found.coded, found.probes = CodedCatalogue.fit(self.item_vectors(), cells, size, seed), probes
        return found

    def lists(self, users: Ints, k: int = 10, hidden: Hidden = None) -> list[Listed]:
        """`lists_after` their histories."""
        return self.lists_after(self.catalogue.histories.take(users), k, hidden)

    def lists_after(self, histories: Histories, k: int = 10, hidden: Hidden = None) -> list[Listed]:
        """The `k` best items after each history, best first, equal ones as in the catalogue; see `with_codes`."""
        network, every = self.network, self.rules is not None or not histories.lengths.all()
        if self.coded is None or every or not isinstance(network, SoftmaxNetwork):
            return super().lists_after(histories, k, hidden)
        recent, states_BD = histories.last(self.config.window), network.states_after(histories).numpy()
        out = [np.empty(0, np.int64)] * len(histories) if hidden is None else hidden
        most = k + self.config.window + max(map(len, out), default=0)  # a gain may move any of the window
        _, items_BK = self.coded.search(states_BD, most, self.probes)
        return [self._listed(states_BD[b], items_BK[b], recent[b], out[b], k) for b in range(len(out))]

    def _listed(self, state_D: Scores, found_K: Ints, recent: Ints, hidden: Ints, k: int) -> Listed:
        items = np.setdiff1d(np.union1d(found_K[found_K >= 0], recent), hidden)
        scores = (self.network.table.detach()[items].double().numpy() @ state_D.astype(np.float64)).astype(
            np.float32
        )
        scores[np.isin(items, recent)] += np.float32(self.repeat_gain)
        best = np.argsort(-scores, kind="stable")[:k]
        return items[best], scores[best]

    def item_vectors(self) -> NDArray[np.float32]:
        """[I, D] of each item, read and predicted alike; validation and test items never had a gradient as targets."""
        return self.network.table.detach().numpy().copy()

    def content(self) -> Content:
        """Weights, options, and what was taken in training."""
        weights = {f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()}
        text = f"The next of {len(self.catalogue.items):,} items from {self._read_and_loaded()}"
        about = card(self.config.network, text, self.metrics, "sequential")
        learnt = {"metrics": self.metrics, "repeat_gain": self.repeat_gain, "probes": self.probes}
        config = {"options": self.config.model_dump(mode="json"), **learnt}
        parts = {} if self.coded is None else {"coded": self.coded}
        return Content(config, self.catalogue.tensors() | weights, self.catalogue.tables(), about, parts)

    @classmethod
    def restore(cls, stored: Artifact, **where: Any) -> Self:  # noqa: ANN401
        """Make it again; the module that defines the network has to be imported."""
        options = stored.config["options"]
        config = kind(options["network"]).model_validate(options)
        catalogue = Catalogue.read(stored)
        weights = {name: torch.from_numpy(value) for name, value in stored.group("network.").items()}
        network = made(len(catalogue.items), config, weights.get("attributes_IM"))
        network.load_state_dict(weights)
        found = cls(catalogue, network, config, stored.config["metrics"], float(stored.config["repeat_gain"]))
        if (part := stored.part("coded")).exists():
            coded = CodedCatalogue.from_pretrained(part)
            if len(coded.order_I) != len(catalogue.items):
                raise ValueError(f"codes of {len(coded.order_I)} items")
            # Not compared with what was coded: another processor may sum vectors to other last bits.
            found.coded = replace(coded, vectors_ID=found.item_vectors())
            found.probes = int(stored.config["probes"])
        return found


def made(n_items: int, config: SequentialOptions, attributes_IM: Tensor | None = None) -> NextItemNetwork:
    """The untrained network, from the config's seed; the caller's generators are left alone."""
    with kept_generators():
        seed_everything(config.seed)
        network = config.build(n_items)
        if attributes_IM is not None:
            if attributes_IM.shape[:1] != (n_items,) or attributes_IM.ndim != 2:
                raise ValueError(f"attributes of shape {tuple(attributes_IM.shape)} for {n_items} items")
            network.describe(attributes_IM)
        return network


def attribute_table(dataset: Dataset) -> Tensor:
    """[I, M] numbers of the terms of each item, in order, from 1; 0 behind the last."""
    terms = dataset.item_attributes()
    numbers = {term: number for number, term in enumerate(sorted(set().union(*terms)), start=1)}
    if not numbers:
        log.warning("data set '%s': no item has attributes, categories or a brand", dataset.name)
    rows = [sorted({numbers[term] for term in of_item}) for of_item in terms]
    return torch.from_numpy(Histories.of(rows).padded())


def pieces(train: Histories, window: int) -> Histories:
    """Training histories cut so that every item but a history's first is a target once, after at most `window` items.

    Neighbouring pieces share an item. Cuts are counted from the end: the latest targets have the longest context.
    """
    counts = np.maximum(-(-(train.lengths - 1) // window), 0)
    rows = np.repeat(np.arange(len(train)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    stops = train.offsets[1:][rows] - number * window
    starts = np.maximum(train.offsets[:-1][rows], stops - window - 1)
    return train.spans(starts, stops - starts)
