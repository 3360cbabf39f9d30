"""The annealing adapter: what is trained last, and can be switched off (LLM-BS section 3.4.2).

LoRA on the linear layers, by peft, and rows of their own for the index tokens. The first stage's weights stay; switched
off, the model computes what it computed before, bit for bit. Shapes: V vocabulary, D model width, n index tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from forwhy.bridge.tuning import add_adapter, fold_adapter, learning
from forwhy.data.histories import Sequences
from forwhy.recommend.generative import GenerativeTask, decayed_adamw
from forwhy.recommend.halves import HalvesDecoder
from forwhy.recommend.llmbs.network import LlmBsNetwork, Packed, Tokens, cut
from forwhy.recommend.llmbs.texts import Example, TextTasks, text_rows
from forwhy.recommend.options import AnnealingConfig, LlmBsConfig
from forwhy.recommend.trie import CodeTrie
from forwhy.training.engine import Epoch, batches_of, shard_of


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

    def __init__(
        self, lm: PreTrainedModel, tokens: Tokens, config: AnnealingConfig, con: bool = False
    ) -> None:
        """Changes `lm` in place: its linear layers and tables are wrapped. A_LoRA from torch's generator.

        `con`: the row of CON is trained too; it stands before the index's.
        """
        super().__init__()
        self._lm = (lm,)  # in a tuple: the frozen model is no part of what is saved
        self._layers = add_adapter(lm, "annealing", config.rank, config.alpha, config.dropout)
        self._tables = _own_rows(lm, tokens.first - con, tokens.count + con)
        self.trained = learning(lm)
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

    def fold(self) -> None:
        """Put what was learned into the model's own weights, and take the adapter out; all weights learn again."""
        lm = self._lm[0]
        fold_adapter(lm)
        for module in (lm.get_input_embeddings(), lm.get_output_embeddings()):
            parametrize.remove_parametrizations(module, "weight")
        lm.requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        """The model around the adapter follows: its dropout, where it has any, is part of training."""
        super().train(mode)
        self._lm[0].train(mode)
        return self


def _own_rows(lm: PreTrainedModel, first: int, count: int) -> list[IndexRows]:
    """Trained rows in the embedding and, where it is another table, in the head."""
    embedding, head = lm.get_input_embeddings(), lm.get_output_embeddings()
    tables = [embedding.weight] if embedding.weight is head.weight else [embedding.weight, head.weight]
    rows = [IndexRows(table, first, count) for table in tables]
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


class LlmBsTask(GenerativeTask[Batch]):
    """Full training of a network, or of the adapter inside it."""

    network: LlmBsNetwork
    config: LlmBsConfig

    def __init__(
        self,
        network: LlmBsNetwork,
        sequences: Sequences,
        trie: CodeTrie,
        config: LlmBsConfig,
        texts: TextTasks | None = None,
        adapter: Annealing | None = None,
        rate: float | None = None,
    ) -> None:
        """`adapter`: what is trained instead of the network (but for CON's part), at this `rate`."""
        super().__init__(network, sequences, trie, config)
        if adapter is not None:
            self.module = nn.ModuleList([adapter, network.contrast]) if network.contrast else adapter
        self.texts, self.rate, self.items = texts, rate, sequences.n_items
        self.pieces = cut(sequences.train, config.window, config.stride)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; weight decay on matrices but the tables of tokens, none in the adapter."""
        rate, decay = self.config.learning_rate, self.config.weight_decay
        if self.rate is not None:
            rate, decay = self.rate, 0.0
        lm = self.network.lm
        tables = [lm.get_input_embeddings().weight, lm.get_output_embeddings().weight]
        return decayed_adamw(self.module, tables, rate, decay)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """Every training target once, and the text examples of the epoch spread over the batches."""
        seed = (self.config.seed, epoch)
        rng = np.random.default_rng(seed)
        rows = batches_of(self.pieces.histories.lengths, self.config.batch_size, rng)
        drawn = self.texts.epoch(epoch) if self.texts is not None else []

        def batch(number: int) -> Batch:
            share = drawn[number * len(drawn) // len(rows) : (number + 1) * len(drawn) // len(rows)]
            texts = [] if self.texts is None else list(self.texts.examples(share, epoch))
            return Batch(self.pieces.take(rows[number]), texts, self._negatives((*seed, number)))

        return Epoch(range(len(rows)), batch)

    def _negatives(self, seed: tuple[int, ...]) -> Tensor:
        """Distinct items that a batch's targets are told apart from; none without CON."""
        if self.network.contrast is None:
            return torch.empty(0, dtype=torch.long)
        wanted = min(self.config.contrast.negatives, self.items)
        drawn = np.random.default_rng((*seed, 3)).choice(self.items, wanted, replace=False)
        return torch.from_numpy(np.sort(drawn).astype(np.int64))

    def shard(self, batch: Batch, rank: int, world: int) -> Batch:
        """An even share of the histories and of the texts."""
        return Batch(shard_of(batch.packed, rank, world), shard_of(batch.texts, rank, world), batch.negatives)

    def weight(self, batch: Batch) -> float:
        """Predicted tokens."""
        targets = int((batch.packed.lengths_B - batch.packed.context_B).sum())
        answers = sum(len(example.response) for example in batch.texts)
        return float(targets * len(self.network.tokens.levels) + answers)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Equation 7 with CON's part on sequential rows alone; in the adapter stage equation 8."""
        found: Mapping[str, Tensor] = self.network(batch.packed, batch.negatives, text_rows(batch.texts))
        return found

    def of_halves(self) -> Tensor:
        """[2, B] what each half gives the validation items; B is 0 without any."""
        decoder = self.network.beams(self.trie, self.config, 1)
        assert isinstance(decoder, HalvesDecoder)
        return decoder.of_targets(self._prompts, self._targets_B1[:, 0])
