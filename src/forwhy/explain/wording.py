"""How a network with words of its own is read and trained.

Shapes: B pairs, T words of the longest text, N targets, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from forwhy.bridge.generation import Decoding, Written, pieces
from forwhy.bridge.options import GenerationConfig, finish
from forwhy.explain.options import WordedConfig
from forwhy.explain.reading import ReadingTask
from forwhy.explain.words import BOS, EOS, PAD, UNK, WordBatch, WordNetwork, WordRow, Words
from forwhy.training.engine import resolve_device

_TOGETHER = 32


class WordReader:
    """A network and its words; keeps :class:`PairReader`."""

    def __init__(self, network: WordNetwork[Any], words: Words, config: WordedConfig) -> None:
        self.network, self.words, self._most = network.eval(), words, config.words
        self.network.to(resolve_device(config.device))

    def batch(self, rows: Sequence[WordRow]) -> WordBatch:
        """Rows as tensors beside the network."""
        return WordBatch.of(rows, next(self.network.parameters()).device)

    @torch.inference_mode()
    def nll(self, rows: Sequence[WordRow]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """[n] nats of each row's text, and its words, <eos> included."""
        tokens_n = np.array([len(row.target) for row in rows], np.int64)
        sums_n, order = np.zeros(len(rows)), sorted(range(len(rows)), key=lambda it: -rows[it].length)
        for start in range(0, len(order), _TOGETHER):
            part = order[start : start + _TOGETHER]
            batch = self.batch([rows[number] for number in part])
            nll_N = cross_entropy(self.network.logits(batch), batch.target_N, reduction="none").double()
            nll_BT = torch.zeros_like(batch.target_BT, dtype=torch.float64)
            sums_n[part] = nll_BT.masked_scatter(batch.target_BT != PAD, nll_N).sum(1).cpu().numpy()
        return sums_n, tokens_n

    def write(self, rows: Sequence[WordRow], config: GenerationConfig) -> list[str]:
        """An explanation for each, greedily, `config.batch_size` at once."""
        texts = []
        for start in range(0, len(rows), config.batch_size):
            written: list[Written] = []
            for written in self._growing(rows[start : start + config.batch_size], config):  # noqa: B007
                pass
            texts += [finish(self.words.text(it.ids), it.ended, config.max_words) for it in written]
        return texts

    def stream(self, row: WordRow, config: GenerationConfig) -> Iterator[str]:
        """The explanation of one in pieces as they come."""
        grown = ((self.words.text(it.ids), it.ended) for (it,) in self._growing([row], config))
        return pieces(grown, config.max_words)

    @torch.inference_mode()
    def _growing(self, rows: Sequence[WordRow], config: GenerationConfig) -> Iterator[list[Written]]:
        """One word further for every open row at each step, one at least; the same list each time."""
        most = min(self._most, config.max_new_tokens)
        decoding = Decoding({EOS}, most, no_repeat=config.no_repeat, end_bias=config.end_bias)
        written, left = [Written([]) for _ in rows], list(range(len(rows)))
        batch = self.batch(rows)
        state, word_B = self.network.begin(batch), torch.full_like(batch.user_B, BOS)
        for count in range(most):
            logits_BV, state = self.network.step(word_B, state)
            logits_BV[:, [PAD, BOS, UNK, *[EOS] * (not count)]] = float("-inf")
            word_B = decoding.choose(logits_BV, left, [written[row].ids for row in left])
            for row, word in zip(left, word_B.tolist(), strict=True):
                written[row].ended = word == EOS
                written[row].ids += [] if word == EOS else [word]
            yield written
            stays = (word_B != EOS).nonzero()[:, 0]
            left = [row for row in left if not written[row].ended]
            if not left:
                return
            word_B, state = word_B[stays], tuple(part[stays] for part in state)

    @torch.inference_mode()
    def attention(self, row: WordRow) -> tuple[list[str], NDArray[np.float64]]:
        """Words and signs of a row's text, and of each, [T, C], what is looked at where it is written.

        Columns: the user, the item, where there are any the words that are shown, and those before.
        """
        ids = [number for number in row.target if number != EOS]
        network = cast("Any", self.network)
        shares_TS = network.shares(self.batch([replace(row, target=tuple(ids))]))[0].double().cpu().numpy()
        edges = [0, 1, 2, *[2 + len(row.shown)] * bool(row.shown)]
        shares_TC = np.add.reduceat(shares_TS, edges, axis=1)
        return [self.words.text([number]) for number in ids], shares_TC

    def prompt_length(self, rows: Sequence[WordRow]) -> float | None:
        """There is no prompt."""
        return None

    def identity(self) -> dict[str, Any]:
        """No model beside its own words."""
        return {"id": None, "revision": None, "words": self.words.fingerprint}


class WordTask(ReadingTask):
    """The network's losses, minimised over all of it."""

    def optimizer(self) -> Optimizer:
        """AdamW, where only matrices decay, or SGD."""
        config, matrices, others = cast("WordedConfig", self.config), list[Tensor](), list[Tensor]()
        for parameter in self.module.parameters():
            (matrices if parameter.dim() > 1 else others).append(parameter)
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
        return kind(groups, lr=config.lr)
