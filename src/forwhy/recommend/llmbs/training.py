"""The annealing adapter: what is trained last, and can be switched off (LLM-BS section 3.4.2).

LoRA on the linear layers, by peft, and rows of their own for the index tokens. The first stage's weights stay as they
are; switched off, the model computes what it computed before, bit for bit.

Shapes: V vocabulary, D model width, n index tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from forwhy.data.sequences import Sequences, batch_order
from forwhy.recommend.decoding import BeamDecoder, CodeTrie
from forwhy.recommend.generative.recommender import Validation
from forwhy.recommend.llmbs.config import AnnealingConfig, LlmBsConfig
from forwhy.recommend.llmbs.network import LlmBsNetwork
from forwhy.recommend.llmbs.packing import Packed, Pieces, cut
from forwhy.recommend.llmbs.texts import Example, TextTasks, text_rows
from forwhy.recommend.llmbs.tokens import Tokens
from forwhy.training import Task

PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Layers that get an update; all linear ones in models that have none of these names."""


class IndexRows(nn.Module):
    """A table whose index rows are trained ones while switched on."""

    def __init__(self, table_VD: Tensor, first: int, count: int) -> None:
        super().__init__()
        self.first, self.on = first, True
        self.rows_nD = nn.Parameter(table_VD[first : first + count].detach().clone())

    def forward(self, table_VD: Tensor) -> Tensor:
        """The table, with the trained rows in place where the adapter is on."""
        if not self.on:
            return table_VD
        behind = self.first + len(self.rows_nD)
        return torch.cat([table_VD[: self.first], self.rows_nD.to(table_VD.dtype), table_VD[behind:]])


class Annealing(nn.Module):
    """Everything the adapter trains, inside a model that is frozen by it; begins as no change at all."""

    def __init__(self, lm: PreTrainedModel, tokens: Tokens, config: AnnealingConfig) -> None:
        """Changes `lm` in place: its linear layers and tables are wrapped. A_LoRA from torch's generator."""
        super().__init__()
        self._lm = (lm,)  # in a tuple: the frozen model is no part of what is saved
        lm.requires_grad_(False)
        names = {name.rpartition(".")[2] for name, _ in lm.named_modules()}
        targets = [name for name in PARTS if name in names]
        lora = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # type: ignore[arg-type]
            lora_dropout=config.dropout,
            target_modules=targets or "all-linear",
        )
        inject_adapter_in_model(lora, lm, adapter_name="annealing")
        self._tables = _own_rows(lm, tokens)
        self._layers = [module for module in lm.modules() if isinstance(module, BaseTunerLayer)]
        self.trained = nn.ParameterDict(
            {
                name.replace(".", "/"): parameter
                for name, parameter in lm.named_parameters()
                if parameter.requires_grad
            }
        )
        self.on = True

    def switch(self, on: bool) -> None:
        """On: recommends with the adapter. Off: the first stage's model. Takes microseconds."""
        for layer in self._layers:
            layer.enable_adapters(on)
        for table in self._tables:
            table.on = on
        self.on = on

    @contextmanager
    def switched(self, on: bool) -> Iterator[None]:
        """On or off inside the block."""
        before = self.on
        self.switch(on)
        try:
            yield
        finally:
            self.switch(before)

    def train(self, mode: bool = True) -> Annealing:
        """The model around the adapter follows: its dropout, where it has any, is part of training."""
        super().train(mode)
        self._lm[0].train(mode)
        return self


def _own_rows(lm: PreTrainedModel, tokens: Tokens) -> list[IndexRows]:
    """Trained rows in the embedding and, where it is another table, in the head."""
    embedding, head = lm.get_input_embeddings(), lm.get_output_embeddings()
    tied = embedding.weight is head.weight
    rows = [IndexRows(embedding.weight, tokens.first, tokens.count)]
    if not tied:
        rows.append(IndexRows(head.weight, tokens.first, tokens.count))
    for module, own in zip((embedding, head), (rows[0], rows[-1]), strict=True):
        parametrize.register_parametrization(module, "weight", own, unsafe=True)
    return rows


# --- LLM-BS as a task of the training loop: packed histories, text examples, constrained NDCG@10.
#
# Shapes: B histories, M negatives.


@dataclass(frozen=True)
class Batch:
    """One step's histories and texts."""

    packed: Packed
    texts: list[Example]
    negatives: Tensor
    """[M] items that CON tells targets apart from."""

    def weight(self, levels: int) -> float:
        """Predicted tokens."""
        targets = int((self.packed.lengths_B - self.packed.context_B).sum())
        return float(targets * levels + sum(len(example.response) for example in self.texts))


class _Epoch(Sequence[Batch]):
    """Batches of one epoch, made when asked for; order and draws follow (seed, epoch, index) only."""

    def __init__(self, task: LlmBsTask, epoch: int) -> None:
        self._task, self._epoch = task, epoch
        size, parts = task.config.batch_size, task.pieces
        rng = np.random.default_rng((task.config.seed, epoch))
        self._order, self._batches = batch_order(parts.histories.lengths, size, rng)
        self._texts = task.texts.epoch(epoch) if task.texts is not None else []

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        task, size = self._task, self._task.config.batch_size
        start = int(self._batches[index]) * size
        packed = task.pieces.take(self._order[start : start + size])
        share = slice(index * len(self._texts) // len(self), (index + 1) * len(self._texts) // len(self))
        texts = [] if task.texts is None else list(task.texts.examples(self._texts[share], self._epoch))
        return Batch(packed, texts, task.negatives((task.config.seed, self._epoch, index)))

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


class LlmBsTask(Task[Batch]):
    """Full training of a network, or of the adapter inside it; validation decides when to stop, nothing else."""

    higher_is_better = True

    def __init__(
        self,
        network: LlmBsNetwork,
        sequences: Sequences,
        trie: CodeTrie,
        config: LlmBsConfig,
        texts: TextTasks | None = None,
        adapter: Annealing | None = None,
    ) -> None:
        """`adapter`: what is trained instead of the network."""
        self.module: nn.Module = network if adapter is None else adapter
        self.network, self.config, self.texts, self.adapter = network, config, texts, adapter
        self.trie, self.items = trie, sequences.n_items
        self.pieces: Pieces = cut(sequences.train, config.window, config.stride)
        self._levels = len(network.tokens.levels)
        self._validation = Validation(
            sequences, network.tokens, config.window, config.validation_users, config.seed
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; weight decay on matrices but the tables of tokens, none in the adapter."""
        rate, decay = self.config.learning_rate, self.config.weight_decay
        if self.adapter is not None:
            rate, decay = self.config.annealing.learning_rate, 0.0
        tables = {id(self.network.lm.get_input_embeddings().weight)}
        tables.add(id(self.network.lm.get_output_embeddings().weight))
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in self.module.parameters():
            groups[parameter.ndim > 1 and id(parameter) not in tables].append(parameter)
        options = [
            {"params": group, "weight_decay": decay if decayed else 0.0}
            for decayed, group in groups.items()
            if group
        ]
        return torch.optim.AdamW(options, lr=rate, fused=True)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """Every training target once, and the text examples of the epoch spread over the batches."""
        return _Epoch(self, epoch)

    def negatives(self, seed: tuple[int, ...]) -> Tensor:
        """Distinct items that a batch's targets are told apart from; none without CON."""
        if self.network.contrast is None:
            return torch.empty(0, dtype=torch.long)
        wanted = min(self.config.contrast.negatives, self.items)
        drawn = np.random.default_rng((*seed, 3)).choice(self.items, wanted, replace=False)
        return torch.from_numpy(np.sort(drawn).astype(np.int64))

    def shard(self, batch: Batch, rank: int, world: int) -> Batch:
        """An even share of the histories and of the texts."""

        def part(count: int) -> slice:
            return slice(rank * count // world, (rank + 1) * count // world)

        rows = part(len(batch.packed))
        packed = batch.packed.rows(rows.start, rows.stop)
        return Batch(packed, batch.texts[part(len(batch.texts))], batch.negatives)

    def weight(self, batch: Batch) -> float:
        """Predicted tokens."""
        return batch.weight(self._levels)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Equation 7 with CON's part on sequential rows alone; in the adapter stage equation 8."""
        found: Mapping[str, Tensor] = self.network(batch.packed, batch.negatives, text_rows(batch.texts))
        return found

    def evaluate(self) -> Mapping[str, float]:
        """NDCG@10 and Recall@10 by constrained beam search; without validation items the training likelihood."""
        if not len(self._validation):
            first = next(iter(self.batches(0)))
            return {"train_log_likelihood": -float(self.loss(first)["generation"])}
        levels, beam = self.network.tokens.levels, max(self.config.beam, 10)
        # Beams are compared to rounding; autocast's is too coarse for that.
        with torch.autocast(self.network.lm.device.type, enabled=False):
            decoder = BeamDecoder(self.network.lm, self.trie, levels, self.config.decoding, beam)
            return self._validation.measure(decoder)
