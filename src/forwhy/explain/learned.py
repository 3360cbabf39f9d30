"""Explainers that are trained on explained pairs, whatever reads these. No torch before `fit`."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from forwhy.data.dataset import Dataset, Pairs
from forwhy.explain.base import Explainer, KnownT, RowT
from forwhy.explain.evidence import Subject
from forwhy.explain.options import ExplainerOptions
from forwhy.options import LoopConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from forwhy.explain.reading import ReadingTask
    from forwhy.training.checkpoint import TrainingState


class LearnedExplainer(Explainer[KnownT, RowT]):
    """Learns from explained training pairs; the NLL of validation pairs picks the state."""

    def __init__(self, config: ExplainerOptions | None = None) -> None:
        super().__init__(config)
        self.result: TrainingState | None = None
        """Of the training; None for one that was loaded."""

    # --- what each kind does in its own way

    @abstractmethod
    def _begin(self, dataset: Dataset) -> None:
        """Make the reader, at its start."""

    @property
    @abstractmethod
    def learning(self) -> Module:
        """What is trained."""

    @abstractmethod
    def _loss(self, rows: list[RowT]) -> Mapping[str, Tensor]:
        """`loss` of a batch, and parts worth logging."""

    def fit(self, dataset: Dataset, known: KnownT, folder: Path) -> Self:
        """Learn to say why from explained training pairs; validation NLL picks the state.

        Cost: about epochs x pairs x (prompt + text) positions, forward and back.
        """
        from forwhy.training.loop import train

        self._take_up(dataset, known)
        self._begin(dataset)
        task = self._task(dataset)
        self.result = train(task, self._loop(), folder, "explainer", self._identity(dataset, task))
        self.metrics = self.result.best_metrics
        return self

    def _loop(self) -> LoopConfig:
        every = self.config.evaluate_every
        return self.config.loop(evaluate_every=every or 1, evaluate_unit="steps" if every else "epochs")

    def _identity(self, dataset: Dataset, task: ReadingTask) -> str:
        """A hash of all that the result depends on: a checkpoint of anything else is not continued."""
        whole = f"{dataset.fingerprint}{self.config.identity()}{self.reader.identity()}"
        digest = hashlib.sha256(whole.encode())
        for row in (*task.train, *task.valid, *task.strangers, *task.descriptions):
            digest.update(repr(row).encode())
        learning = self.learning  # in its start the books stand; task tokens follow from the options
        for name, tensor in (*learning.named_parameters(), *learning.named_buffers()):
            if name != "task_TD":
                digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    def _task(self, dataset: Dataset) -> ReadingTask:
        """Rows of the training and validation pairs whose user and item are known by more than a number."""
        config, kind = self.config, self._task_type()
        train_pairs = self._usable(dataset, "train", config.train_pairs)
        valid = self._usable(dataset, "valid", config.validation_pairs)
        strangers: list[Subject] = []
        if config.validation_gain:
            strangers = self._as_others(valid)
        rows = [self._rows(part) for part in (self._scored(train_pairs), self._scored(valid), strangers)]
        return kind(config, self.reader, self.learning, self._loss, *rows)

    def _task_type(self) -> type[ReadingTask]:
        from forwhy.explain.reading import ReadingTask

        return ReadingTask

    def _as_others(self, pairs: Pairs) -> list[Subject]:
        """Each pair's text read as another pair's, dealt by the seed."""
        order = np.random.default_rng(self.config.seed).permutation(len(pairs))
        others = np.empty_like(order)
        others[order] = np.roll(order, 1)
        return self._scored(pairs, pairs.users[others], pairs.items[others])
