"""Learning to read as a task of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from forwhy.bridge.batching import buckets
from forwhy.bridge.prompt import Row
from forwhy.bridge.reader import Reader
from forwhy.explain.config import ExplainerConfig
from forwhy.training import LoopConfig, Task

READ_TOGETHER = 32
"""Rows per batch without gradients."""
_OF_CODES = {"slot_LM", "shift_CD", "codewords_CM"}


class ReadingTask(Task[list[Row]]):
    """What an explainer's loss asks for, minimised over its bridge only."""

    higher_is_better = False

    def __init__(
        self,
        reader: Reader[Any],
        config: ExplainerConfig,
        loss: Callable[[list[Row]], Mapping[str, Tensor]],
        train: Sequence[Row],
        valid: Sequence[Row],
        strangers: Sequence[Row],
    ) -> None:
        self.reader, self.config, self._loss, self.module = reader, config, loss, reader.bridge
        self.train, self.valid, self.strangers = list(train), list(valid), list(strangers)

    def optimizer(self) -> Optimizer:
        """AdamW: matrices decay; vectors that stand for tokens learn faster and do not."""
        config = self.config
        groups: dict[str, dict[str, Any]] = {}
        for name, parameter in self.module.named_parameters():
            kind = _kind(name, parameter)
            decay = config.weight_decay if kind == "matrix" else 0.0
            group = {"params": [], "lr": config.lr * config.rates.get(kind, 1.0), "weight_decay": decay}
            groups.setdefault(kind, group)["params"].append(parameter)
        return torch.optim.AdamW(groups.values())

    def batches(self, epoch: int) -> list[list[Row]]:
        """Batches of similar length."""
        return buckets(self.train, self.config.batch_size, self.config.seed, epoch)

    def weight(self, batch: list[Row]) -> float:
        """Target tokens: the loss is a mean over them."""
        return float(sum(len(row.target) for row in batch))

    def loss(self, batch: list[Row]) -> Mapping[str, Tensor]:
        """The explainer's own."""
        return self._loss(batch)

    def evaluate(self) -> Mapping[str, float]:
        """Validation NLL per target token, and what the right tokens are worth against another pair's."""
        sums_n, tokens_n = self.reader.nll(self.valid, READ_TOGETHER)
        metrics = {"nll": float(sums_n.sum() / tokens_n.sum())}
        if self.strangers:
            others_n, _ = self.reader.nll(self.strangers, READ_TOGETHER)
            metrics["gain"] = float((others_n - sums_n).sum() / tokens_n.sum())
        return metrics


def loop_config(config: ExplainerConfig) -> LoopConfig:
    """The training loop's options."""
    return LoopConfig(
        epochs=config.epochs,
        evaluate_every=config.evaluate_every or 1,
        evaluate_unit="steps" if config.evaluate_every else "epochs",
        patience=config.patience,
        schedule=config.schedule,
        warmup=config.warmup,
        accumulation=config.accumulation,
        gradient_clip=config.gradient_clip,
        precision="fp16" if config.precision == "fp16" else "fp32",
        device=config.device,
        seed=config.seed,
        checkpoint_seconds=config.checkpoint_seconds,
    )


def drawn(count: int, wanted: int, seed: int) -> list[int]:
    """At most `wanted` of `count` row numbers (0 = all), in ascending order."""
    if not wanted or wanted >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, wanted, replace=False).tolist())


def shifted(count: int, seed: int) -> list[int]:
    """For each row another one: a random cycle through all of them."""
    order = np.random.default_rng(seed).permutation(count)
    others = np.empty(count, dtype=np.int64)
    others[order] = np.roll(order, 1)
    return [int(other) for other in others]


def _kind(name: str, parameter: Tensor) -> str:
    """Which learning rate and decay a parameter of the bridge gets."""
    if name == "task_TD" or name.startswith("deep."):
        return name[:4]
    if name.rpartition(".")[2] in _OF_CODES:
        return "code"
    return "matrix" if parameter.dim() > 1 else "bias"
