"""Cross-entropy over the whole catalogue without the whole matrix of logits.

Shapes: N predictions (C of one chunk), I items, D width, A items whose scores gain something.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from forwhy.data.sequences import Histories, Sequences, batch_order
from forwhy.recommend.sequential.config import DinConfig, SequentialConfig
from forwhy.recommend.sequential.networks import Din, Gru4Rec, SasRec
from forwhy.training import Task

CHUNK_LOGITS = 1 << 20
"""Logits held at once (4 bytes each): 4 MiB, so that a chunk stays in a core's cache from product to gradient."""


def catalogue_cross_entropy(
    states_ND: Tensor,
    table_ID: Tensor,
    targets_N: Tensor,
    smoothing: float = 0.0,
    items_NA: Tensor | None = None,
    gains_NA: Tensor | None = None,
) -> Tensor:
    """Mean of -log softmax(states table^T + gains)[target], the target smoothed over all items.

    `gains_NA` are added to the logits of `items_NA`, the sum where a row names an item twice. Equals
    `torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)`; loss and gradients come from one
    walk over chunks of predictions, three matrix products each. Time O(N·I·D), memory O(CHUNK_LOGITS + I·D + N·A).
    """
    if items_NA is None or gains_NA is None:
        items_NA, gains_NA = targets_N.new_empty(len(targets_N), 0), states_ND.new_empty(len(targets_N), 0)
    loss: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        states_ND, table_ID, targets_N, smoothing, items_NA, gains_NA
    )
    return loss


class _CrossEntropy(Function):
    """Computes the gradients along with the loss; backward only scales them."""

    @staticmethod
    def forward(  # noqa: PLR0913 (what autograd's functions get is positional)
        context: Any,  # noqa: ANN401
        states: Tensor,
        table: Tensor,
        targets: Tensor,
        smoothing: float,
        items: Tensor,
        gains: Tensor,
    ) -> Tensor:
        to_states, to_table, to_gains = (
            torch.empty_like(states),
            torch.zeros_like(table),
            torch.empty_like(gains),
        )
        total = states.new_zeros((), dtype=torch.float64)
        size = max(1, CHUNK_LOGITS // len(table))
        # One buffer for all chunks: fresh memory of this size costs more than the product that fills it.
        buffer = states.new_empty(min(size, len(states)), len(table))
        for start in range(0, len(states), size):
            part = slice(start, start + size)
            logits = torch.mm(states[part], table.T, out=buffer[: len(states[part])])
            logits.scatter_add_(1, items[part], gains[part])
            loss, sums = _chunk(logits, targets[part], smoothing)
            total += loss
            torch.mm(logits, table, out=to_states[part]).div_(sums)
            to_table.addmm_(logits.T, states[part] / sums)
            to_gains[part] = logits.gather(1, items[part]) / sums
        count = max(len(states), 1)
        context.save_for_backward(to_states / count, to_table / count, to_gains / count)
        return (total / count).to(states.dtype)

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor, Tensor, None, None, None, Tensor]:
        to_states, to_table, to_gains = context.saved_tensors
        scale = gradients[0]
        return scale * to_states, scale * to_table, None, None, None, scale * to_gains


def _chunk(logits_CI: Tensor, targets_C: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The sum of the chunk's losses, and [C, 1] what the logits' gradients, which replace them, are to be divided by.

    Not divided here: what they are multiplied with is narrow, they are wide.
    """
    own_C1 = logits_CI.gather(1, targets_C[:, None])
    mean = logits_CI.mean(1).double().sum() if smoothing else 0.0
    top_C1 = logits_CI.amax(1, keepdim=True)
    weights_CI = logits_CI.sub_(top_C1).exp_()
    sums_C1 = weights_CI.sum(1, keepdim=True)
    loss = (
        (top_C1 + sums_C1.log()).double().sum() - (1 - smoothing) * own_C1.double().sum() - smoothing * mean
    )
    weights_CI.scatter_add_(1, targets_C[:, None], (smoothing - 1) * sums_C1)
    if smoothing:
        weights_CI.sub_(sums_C1 * (smoothing / logits_CI.shape[1]))
    return loss, sums_C1


# --- Next-item prediction as a task of the training loop: whole histories, the full or a sampled softmax, NDCG@10.
#
# Shapes: B histories, L places, N places that have a next item, V users with a validation item, M negatives, I items,
# D width.


Ints = NDArray[np.int64]
Network = SasRec | Gru4Rec

BLOCK = 512
"""Histories per block where no gradient is needed."""


@dataclass(frozen=True)
class Batch:
    """One step's pieces of histories."""

    items: Tensor
    """[B, L + 1] padded behind."""
    lengths: Tensor
    """[B] items of each, at least 2."""


def pieces(train: Histories, window: int) -> Histories:
    """Training histories cut so that every item but a history's first is a target once, after at most `window` items.

    Neighbouring pieces share one item: the last target of the earlier is the first context of the later. Cuts are
    counted from the end, so that the latest targets have the longest context.
    """
    counts = np.maximum(-(-(train.lengths - 1) // window), 0)
    rows = np.repeat(np.arange(len(train)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    stops = train.offsets[1:][rows] - number * window
    starts = np.maximum(train.offsets[:-1][rows], stops - window - 1)
    lengths = stops - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Histories(train.items[places], offsets)


@torch.no_grad()
def last_states(network: Network, histories: Histories, window: int) -> Tensor:
    """[B, D] what the network predicts after each history's last `window` items; zeros after an empty one.

    Blocks of like lengths, so that short histories don't pay for long ones.
    """
    recent = histories.last(window)
    states_BD = network.table.new_zeros(len(recent), network.table.shape[1])
    for block, items_BL, lengths_B in _blocks(recent, states_BD.device):
        states_BLD = network(items_BL)
        states_BD[block] = states_BLD[torch.arange(len(block)), lengths_B - 1]
    return states_BD


@torch.no_grad()
def catalogue_scores(network: Din, histories: Histories, window: int) -> Tensor:
    """[B, I] scores of every item after each history's last `window` items; zeros after an empty one.

    Per block of histories O(S·I·A·D) for its S distinct items, and O(L·I·H) per history.
    """
    recent = histories.last(window)
    scores_BI = network.table.new_zeros(len(recent), len(network.table))
    for block, items_BL, lengths_B in _blocks(recent, scores_BI.device):
        ages_BL = lengths_B[:, None] - 1 - torch.arange(items_BL.shape[1], device=items_BL.device)
        scores_BI[block] = torch.cat(list(network.catalogue(network.read(items_BL, ages_BL))), dim=1)
    return scores_BI


def _blocks(recent: Histories, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows, items [B, L] and lengths of histories that are not empty, those of like lengths together."""
    filled = np.flatnonzero(recent.lengths)
    order = filled[np.argsort(recent.lengths[filled], kind="stable")]
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        part = recent.take(block)
        tensors = (torch.from_numpy(array).to(device) for array in (block, part.padded(), part.lengths))
        yield tuple(tensors)  # type: ignore[misc]


class _Epoch(Sequence[Batch]):
    """Batches of one epoch, made when asked for; the order follows (seed, epoch) only."""

    def __init__(self, parts: Histories, size: int, seed: tuple[int, int]) -> None:
        rng = np.random.default_rng(seed)
        self._parts, self._size = parts, size
        self._order, self._batches = batch_order(parts.lengths, size, rng)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        start = self._batches[index] * self._size
        part = self._parts.take(self._order[start : start + self._size])
        return Batch(torch.from_numpy(part.padded()), torch.from_numpy(part.lengths))

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


class NextItemTask(Task[Batch]):
    """Learns a network on training items only; validation items decide when to stop and nothing else."""

    higher_is_better = True

    def __init__(
        self, network: Network | Din, sequences: Sequences, config: SequentialConfig, validation_users: int
    ) -> None:
        """`validation_users`: how many are drawn to validate on; 0: all."""
        self.module: nn.Module = network
        self.network, self.config = network, config
        self.parts = pieces(sequences.train, config.window)
        self._users = sequences.drawn("valid", validation_users, config.seed)
        self._before = sequences.histories("valid").take(self._users).last(config.window)
        self._targets = torch.from_numpy(sequences.valid[self._users])

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over everything: the softmax moves every item's vector at every step."""
        options = self.config.learning_rate, self.config.weight_decay
        return torch.optim.AdamW(
            self.network.parameters(), lr=options[0], weight_decay=options[1], fused=True
        )

    def batches(self, epoch: int) -> Sequence[Batch]:
        """Every training target once."""
        return _Epoch(self.parts, self.config.batch_size, (self.config.seed, epoch))

    def weight(self, batch: Batch) -> float:
        """Targets of the batch."""
        return float(batch.lengths.sum() - len(batch.lengths))

    def evaluate(self) -> Mapping[str, float]:
        """NDCG@10 and Recall@10 of full ranking, ties against us; without validation items the training loss."""
        if not len(self._users):
            losses = [(self.weight(batch), float(self.loss(batch)["loss"])) for batch in self.batches(0)]
            return {"train_loss": sum(w * loss for w, loss in losses) / sum(w for w, _ in losses)}
        hits, gains, start = 0.0, 0.0, 0
        for scores_BI in self._validation_scores():
            own_B1 = scores_BI.gather(1, self._targets[start : start + BLOCK, None].to(scores_BI.device))
            ranks_B = (scores_BI >= own_B1).sum(1)
            ranks_B = ranks_B[ranks_B <= 10]
            hits, gains = hits + len(ranks_B), gains + float((1 / torch.log2(ranks_B + 1.0)).sum())
            start += BLOCK
        return {"ndcg@10": gains / len(self._users), "recall@10": hits / len(self._users)}

    @abstractmethod
    def _validation_scores(self) -> Iterator[Tensor]:
        """[B, I] of each `BLOCK` of validated users."""


class SoftmaxTask(NextItemTask):
    """For a network whose state meets every item in one product."""

    def __init__(self, network: Network, sequences: Sequences, config: SequentialConfig) -> None:
        super().__init__(network, sequences, config, validation_users=0)
        self._states = network

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Mean cross-entropy of the next items over the whole catalogue."""
        device = self._states.table.device
        items, lengths = batch.items.to(device), batch.lengths.to(device)
        inputs_BL, targets_BL = items[:, :-1], items[:, 1:]
        real_BL = torch.arange(inputs_BL.shape[1], device=device) < lengths[:, None] - 1
        states_ND = self._states(inputs_BL)[real_BL]
        gains: list[Tensor] = []
        if self._states.repeats is not None:
            gains = [part[real_BL] for part in self._states.repeats.of_places(inputs_BL)]
        options = targets_BL[real_BL], self.config.label_smoothing
        return {"loss": catalogue_cross_entropy(states_ND, self._states.table, *options, *gains)}

    def _validation_scores(self) -> Iterator[Tensor]:
        states_VD = last_states(self._states, self._before, self.config.window)
        for start in range(0, len(states_VD), BLOCK):
            scores_BI = states_VD[start : start + BLOCK] @ self._states.table.T
            if self._states.repeats is not None:
                rows = np.arange(start, min(start + BLOCK, len(states_VD)))
                self._states.repeats.add(scores_BI, self._before.take(rows))
            yield scores_BI


class SampledTask(NextItemTask):
    """For a network that reads a history anew for every item: each target against a few of them."""

    def __init__(self, network: Din, sequences: Sequences, config: DinConfig) -> None:
        super().__init__(network, sequences, config, config.validation_users)
        self._din, self._options = network, config

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Mean cross-entropy of the next item among itself and the step's negatives.

        Uniform draws need no correction (log Q is the same for all). Memory O(N·M·H) for N targets.
        """
        device = self._din.table.device
        items, lengths = batch.items.to(device), batch.lengths.to(device)
        places_L = torch.arange(items.shape[1] - 1, device=device)
        rows_N, ends_N = torch.nonzero(places_L < lengths[:, None] - 1, as_tuple=True)
        reading = self._din.read(items[rows_N, :-1], ends_N[:, None] - places_L)
        targets_N = items[rows_N, ends_N + 1]
        negatives_M = torch.randperm(len(self._din.table), device=device)[: self._options.negatives]
        own_N1 = self._din.own(reading, targets_N)[:, None]
        hit_NM = negatives_M == targets_N[:, None]
        others_NM = self._din(reading, negatives_M).masked_fill(hit_NM, -torch.inf)
        return {"loss": _cross_entropy(torch.cat([own_N1, others_NM], 1), self._options.label_smoothing)}

    def _validation_scores(self) -> Iterator[Tensor]:
        for start in range(0, len(self._users), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(self._users)))
            yield catalogue_scores(self._din, self._before.take(rows), self.config.window)


def _cross_entropy(logits_NC: Tensor, smoothing: float) -> Tensor:
    """Of the first class; what is smoothed goes to the classes that are possible."""
    logs_NC = F.log_softmax(logits_NC, dim=1)
    possible_NC = logits_NC.isfinite()
    spread_N = logs_NC.where(possible_NC, 0.0).sum(1) / possible_NC.sum(1)
    return -((1 - smoothing) * logs_NC[:, 0] + smoothing * spread_N).mean()
