"""Adam that touches only the rows of a table that a step read.

Legend: N rows of a table, D width, R rows with a gradient.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from forwhy.graph.bipartite import Bipartite
from forwhy.graph.lightgcn import hits_and_recall
from forwhy.training import Task
from forwhy.vocabulary.config import TokenizerConfig
from forwhy.vocabulary.network import (
    SIDES,
    TokenizerNetwork,
    info_nce,
    reconstruction_rmse,
    reconstruction_softmax,
)
from forwhy.vocabulary.phrases import PhraseBook
from forwhy.vocabulary.vocabulary import perplexity


class LazyAdam(Optimizer):
    """Adam for dense gradients, and its lazy form (torch's SparseAdam) for sparse ones, in one optimiser.

    A step costs O(R·D) for a table [N, D] with a sparse gradient, so an epoch over E interactions costs O(E·D)
    whatever N is. Rows that a step doesn't touch keep their moments as they are.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. A closure is not supported."""
        if closure is not None:
            raise ValueError("LazyAdam takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        (first, second), step = group["betas"], state["step"]
        rows, gradient = _rows(parameter.grad)
        mean = state["exp_avg"][rows].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        size = group["lr"] / (1 - first**step)
        parameter[rows] -= size * mean / ((square / (1 - second**step)).sqrt() + group["eps"])


def _rows(gradient: Tensor | None) -> tuple[Any, Tensor]:
    """Which rows have a gradient, and what it is; everything for a dense one."""
    assert gradient is not None
    if not gradient.is_sparse:
        return ..., gradient
    together = gradient.coalesce()
    return together.indices()[0], together.values()


# --- Stage 1 as a task of the training loop: batches of interactions and texts, the loss of eq. 9, HR@20.
#
# Legend: B pairs, L phrases, V text width.


Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """What supervises the words: explained training pairs and phrases."""

    pair_users: Ints
    pair_items: Ints
    pair_vectors: NDArray[np.float32]
    """[pairs, V]"""
    book: PhraseBook


@dataclass(frozen=True)
class Batch:
    """One step's numbers; tensors of rows."""

    users: Tensor
    items: Tensor
    negatives: Tensor
    """One item per interaction; none under the in-batch softmax."""
    pairs: Tensor
    """Rows of the explained training pairs."""
    intents: dict[str, Tensor]
    """side -> entities with phrases."""


class _Epoch(Sequence[Batch]):
    """Batches of one epoch, made when asked for; order and draws follow (seed, epoch, index) only."""

    def __init__(self, task: "TokenizerTask", epoch: int) -> None:
        self._task, self._epoch = task, epoch
        self._order = np.random.default_rng((task.config.seed, epoch)).permutation(len(task.graph.edges))

    def __len__(self) -> int:
        return max(1, -(-len(self._order) // self._task.config.batch_size)) if len(self._order) else 0

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        size = self._task.config.batch_size
        rows = self._order[index * size : (index + 1) * size]
        return self._task.batch(rows, np.random.default_rng((self._task.config.seed, self._epoch, index)))

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


class TokenizerTask(Task[Batch]):
    """Learns the tables, codebooks and heads of a :class:`TokenizerNetwork`."""

    higher_is_better = True

    def __init__(
        self, network: TokenizerNetwork, graph: Bipartite, texts: Texts, valid: Ints, config: TokenizerConfig
    ) -> None:
        self.module, self.network = network, network
        self.graph, self.config, self._texts, self._valid = graph, config, texts, valid
        self._log_frequency = log_frequency(graph)
        self._pair_vectors = torch.from_numpy(texts.pair_vectors)
        self._phrase_vectors = torch.from_numpy(texts.book.vectors)
        self._phrase_rows = {side: torch.from_numpy(texts.book.rows[side]) for side in SIDES}
        self._speakers = {side: np.flatnonzero(texts.book.known(side)) for side in SIDES}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, lazy on tables that are not propagated; without weight decay, as the paper."""
        return LazyAdam(self.network.parameters(), lr=self.config.learning_rate)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """Every training interaction once, in random order."""
        return _Epoch(self, epoch)

    def batch(self, rows: Ints, rng: np.random.Generator) -> Batch:
        """The interactions of `rows` with one uniform negative each where asked for, and a draw of texts."""
        edges = self.graph.edges[rows]
        limit = self.config.text_batch
        pairs = rng.permutation(len(self._texts.pair_users))[:limit]
        intents = {side: rng.permutation(self._speakers[side])[:limit] for side in SIDES}
        in_batch = self.config.reconstruction == "softmax"
        negatives = edges[:0, 1] if in_batch else self._negatives(edges[:, 0], rng)
        users, items, drawn, chosen = (
            torch.from_numpy(np.ascontiguousarray(part))
            for part in (edges[:, 0], edges[:, 1], negatives, pairs)
        )
        return Batch(
            users, items, drawn, chosen, {side: torch.from_numpy(rows) for side, rows in intents.items()}
        )

    def _negatives(self, users: Ints, rng: np.random.Generator) -> Ints:
        """One uniform item per user that is not a training item of theirs (after 20 tries: any item)."""
        items = rng.integers(0, self.graph.items, len(users))
        for _ in range(20):
            taken = np.asarray(self.graph.incidence[users, items]).ravel() > 0
            if not taken.any():
                break
            items[taken] = rng.integers(0, self.graph.items, int(taken.sum()))
        return items

    def shard(self, batch: Batch, rank: int, world: int) -> Batch:
        """An even share of the interactions and of each kind of text."""

        def part(rows: Tensor) -> Tensor:
            return rows[rank * len(rows) // world : (rank + 1) * len(rows) // world]

        texts = {side: part(rows) for side, rows in batch.intents.items()}
        return Batch(part(batch.users), part(batch.items), part(batch.negatives), part(batch.pairs), texts)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Equation 9: reconstruction + VQ + alpha · macro + beta · micro."""
        device = self.network.log_scale.device
        states = self.network.states()
        users, items = batch.users.to(device), batch.items.to(device)
        # Only the interactions move the codebooks: the few entities with texts, drawn again at every step, would
        # pull the words together (docs/log.md).
        of_users = self.network.tokens(self.network.rows(states, "user", users), "user", learn=True)
        of_items = self.network.tokens(self.network.rows(states, "item", items), "item", learn=True)
        q_users, q_items = (
            self.network.represent(of_users.words_BSM),
            self.network.represent(of_items.words_BSM),
        )
        parts = {
            "reconstruction": self._reconstruction(q_users, q_items, items, batch, states),
            "vq": of_users.loss + of_items.loss,
        }
        total = parts["reconstruction"] + parts["vq"]
        if self.config.macro and self.config.alpha and len(batch.pairs) > 1:
            parts["macro"] = self._macro(batch.pairs, states)
            total = total + self.config.alpha * parts["macro"]
        if self.config.micro and self.config.beta:
            micro = [self._micro(rows, side, states) for side, rows in batch.intents.items() if len(rows)]
            if micro:
                parts["micro"] = torch.stack(micro).sum()
                total = total + self.config.beta * parts["micro"]
        return {"loss": total, **{name: part.detach() for name, part in parts.items()}}

    def _reconstruction(
        self, q_users: Tensor, q_items: Tensor, items: Tensor, batch: Batch, states: Mapping[str, Tensor]
    ) -> Tensor:
        if self.config.reconstruction == "softmax":
            return self._softmax(q_users, q_items, items)
        rows = self.network.rows(states, "item", batch.negatives.to(items.device))
        q_negatives = self.network.represent(self.network.tokens(rows, "item").words_BSM)
        positive, negative = (q_users * q_items).sum(1), (q_users * q_negatives).sum(1)
        return reconstruction_rmse(positive, negative, self.config.reconstruction == "minmax_rmse")

    def _softmax(self, q_users: Tensor, q_items: Tensor, items: Tensor) -> Tensor:
        """The in-batch softmax, block by block, as a mean over the batch."""
        frequency, scale = self._log_frequency.to(items.device)[items], self.network.log_scale.exp()
        total = scale.new_zeros(())
        for start in range(0, len(items), self.config.negatives):
            block = slice(start, start + self.config.negatives)
            loss = reconstruction_softmax(
                q_users[block], q_items[block], items[block], frequency[block], scale
            )
            total = total + len(items[block]) * loss
        return total / max(len(items), 1)

    def _macro(self, pairs: Tensor, states: Mapping[str, Tensor]) -> Tensor:
        rows = pairs.numpy()
        fused = self.fused(self._texts.pair_users[rows], self._texts.pair_items[rows], states)
        texts = self._pair_vectors.to(fused.device)[pairs.to(fused.device)]
        return info_nce(texts, fused, self.config.temperature, self.config.loss_average)

    def fused(self, users: Ints, items: Ints, states: Mapping[str, Tensor]) -> Tensor:
        """f_s: the sum of both macro words, each through its head into the text space, [B, V]."""
        fused = None
        for side, entities in (("user", users), ("item", items)):
            rows = self.network.rows(states, side, torch.from_numpy(entities).to(states[side].device))
            macro = self.network.tokens(rows, side).words_BSM[:, 0]
            part = self.network.head(f"{side}_macro", macro)
            fused = part if fused is None else fused + part
        assert fused is not None
        return fused

    def _micro(self, entities: Tensor, side: str, states: Mapping[str, Tensor]) -> Tensor:
        device = states[side].device
        rows = self.network.rows(states, side, entities.to(device))
        micro = self.network.tokens(rows, side).words_BSM[:, int(self.config.macro) :]
        assert self.network.masked is not None
        phrases_BL = self._phrase_rows[side][entities]
        present_BL = (phrases_BL >= 0).to(device)
        intents_BLV = self._phrase_vectors[phrases_BL.clamp_min(0)].to(device)
        words = self.network.head(f"{side}_micro", micro)
        loss: Tensor = self.network.masked(words, intents_BLV, present_BL)
        return loss

    def evaluate(self) -> Mapping[str, float]:
        """HR@20 and Recall@20 of the quantised representations on validation interactions, and book health."""
        tokens = self.network.assign()
        q = {side: self.network.represent(part.words_BSM).cpu().numpy() for side, part in tokens.items()}
        hit, recall = hits_and_recall(q["user"], q["item"], self.graph, self._valid, 20)
        metrics = {"hr@20": hit, "recall@20": recall}
        for side, part in tokens.items():
            slots = np.array(self.config.slot_books(side))
            codes = part.codes_BS.cpu().numpy()
            for book in dict.fromkeys(slots.tolist()):
                metrics[f"perplexity/{book}"] = perplexity(codes[:, slots == book], self.config.codes)
        return metrics


def log_frequency(graph: Bipartite) -> Tensor:
    """[I] log share of training interactions that an item has; items without any count as having one."""
    frequency = np.maximum(graph.item_degrees, 1) / max(len(graph.edges), 1)
    return torch.from_numpy(np.log(frequency).astype(np.float32))
