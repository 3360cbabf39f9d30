"""What an explanation rests on: its tokens, what each was worth, and the items behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from forwhy.bridge.prompt import Row, buckets
from forwhy.bridge.reader import Reader
from forwhy.explain.base import ItemEvidence, TokenEvidence
from forwhy.explain.config import ExplainerConfig
from forwhy.graph.representations import Representations
from forwhy.training import LoopConfig, Task

_READ_TOGETHER = 39
_ITEMS = 3
_PHRASES = 6


@dataclass(frozen=True)
class Subject:
    """What is to be explained: a row without a text, the item, and the items behind the user's tokens."""

    row: Row
    item: int
    seen: Sequence[int]


def history_of(known: Representations, user: int) -> list[int]:
    """Internal numbers of the items that a user took in training."""
    seen = known.seen
    return [int(item) for item in seen[seen[:, 0] == user, 1]]


def contributions_of(reader: Reader[Any], rows: Sequence[Row]) -> NDArray[np.float64]:
    """[n, slots] Nats by which each row's text becomes less likely with a token hidden; user slots first.

    The token's place stays, the model may not look at it. Cost: slots + 1 readings of each text.
    """
    sides = reader.prompt.slots(rows[0])
    slots = sum(sides.values())
    hidden = torch.cat([torch.zeros(1, slots, dtype=torch.bool), torch.eye(slots, dtype=torch.bool)])
    variants = [row for row in rows for _ in range(slots + 1)]
    sums, _ = reader.nll(variants, _READ_TOGETHER, hidden.repeat(len(rows), 1))
    sums_nK = sums.reshape(len(rows), slots + 1)
    worth_nK: NDArray[np.float64] = sums_nK[:, 1:] - sums_nK[:, :1]
    if reader.prompt.config.sides[0] == "item":  # hidden tokens are counted in prompt order
        worth_nK = np.roll(worth_nK, -sides["item"], axis=1)
    return worth_nK


def phrases_of(tokens: Sequence[TokenEvidence]) -> list[str]:
    """The best phrase of each token, those of the tokens that carried most first, without repeats."""
    ranked = sorted(tokens, key=lambda token: -(token.contribution or 0.0))
    return list(dict.fromkeys(token.gloss[0] for token in ranked if token.gloss))[:_PHRASES]


def nearest_of(
    subject: Subject, vectors: Callable[[Sequence[int]], NDArray[np.float32]], known: Representations
) -> list[ItemEvidence]:
    """Items of the history whose vectors are most like that of the explained item."""
    seen = [item for item in dict.fromkeys(subject.seen) if item != subject.item]
    if not seen:
        return []
    vectors_nW = vectors([subject.item, *seen])
    unit_nW = vectors_nW / np.maximum(np.linalg.norm(vectors_nW, axis=1, keepdims=True), 1e-12)
    likeness = unit_nW[1:] @ unit_nW[0]
    best = np.argsort(-likeness, kind="stable")[:_ITEMS]
    values, titles = known.items.values, known.titles
    return [ItemEvidence(values[seen[row]], titles[seen[row]], float(likeness[row])) for row in best]


# --- Learning to read as a task of the training loop.


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
