"""The training of explainers: batches of explained pairs, rates by kind of parameter, validation NLL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from forwhy.bridge.prompt import Row, buckets
from forwhy.bridge.reader import PairReader
from forwhy.explain.options import ExplainerOptions
from forwhy.training.engine import Task

_OF_CODES = {"slot_LM", "shift_CD", "codewords_CM", "prompts_ND"}
_DESCRIBING = 1 << 16
"""A number that no epoch has: the order of descriptions is drawn with it."""


class ReadingTask(Task[list[Row]]):
    """What an explainer's loss asks for, minimised over its bridge only."""

    descriptions: Sequence[Row] = ()
    """Rows that are read once, before the explained pairs."""

    def __init__(
        self,
        config: ExplainerOptions,
        reader: PairReader[Any],
        module: nn.Module,
        loss: Callable[[list[Any]], Mapping[str, Tensor]],
        *rows: Sequence[Any],
    ) -> None:
        """`module`: what is trained; `rows`: of training, of validation, and of validation read as other pairs'."""
        self.config, self.reader, self.module, self.asked = config, reader, module, loss
        self.train, self.valid, self.strangers = rows

    def optimizer(self) -> Optimizer:
        """AdamW: matrices decay; vectors that stand for tokens learn faster and do not."""
        config, groups = self.config, defaultdict[str, list[Tensor]](list)
        for name, parameter in self.module.named_parameters():
            groups[_kind(name, parameter)].append(parameter)
        rates = {kind: config.lr * getattr(config, f"{kind}_rate", 1.0) for kind in groups}
        decays = {"matrix": config.weight_decay}
        return torch.optim.AdamW(
            {"params": those, "lr": rates[kind], "weight_decay": decays.get(kind, 0.0)}
            for kind, those in groups.items()
        )

    def batches(self, epoch: int) -> list[list[Row]]:
        """Batches of similar length; those of descriptions come first."""
        size, seed = self.config.batch_size, self.config.seed
        described = buckets(self.descriptions if epoch == 0 else (), size, seed, _DESCRIBING)
        return described + buckets(self.train, size, seed, epoch)

    def weight(self, batch: list[Row]) -> float:
        """Target tokens: the loss is a mean over them."""
        return float(sum(len(row.target) for row in batch))

    def loss(self, batch: list[Row]) -> Mapping[str, Tensor]:
        """What the explainer minimises, and parts worth logging."""
        return self.asked(batch)

    def evaluate(self) -> Mapping[str, float]:
        """Validation NLL per target token, and what the right tokens are worth against another pair's."""
        sums_n, tokens_n = self.reader.nll(self.valid)
        metrics = {"nll": float(sums_n.sum() / tokens_n.sum())}
        if self.strangers:
            others_n, _ = self.reader.nll(self.strangers)
            metrics["gain"] = float((others_n - sums_n).sum() / tokens_n.sum())
        return metrics


def _kind(name: str, parameter: Tensor) -> str:
    """Which learning rate and decay a parameter of the bridge gets."""
    if name == "task_TD":
        return "token"
    for kind in ("deep", "tuned"):
        if name.startswith(f"{kind}."):
            return kind
    if name.rpartition(".")[2] in _OF_CODES:
        return "code"
    return "matrix" if parameter.dim() > 1 else "bias"
