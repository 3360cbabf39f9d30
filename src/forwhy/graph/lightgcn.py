"""LightGCN propagation (BEAT eq. 2 and 3; XRec eq. 7 and 8; He et al. 2020).

Legend: U users, I items, E edges, D width, K layers.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from forwhy.columns import SIDES
from forwhy.graph.bipartite import Bipartite, spectral_embeddings
from forwhy.graph.config import CollaborativeConfig
from forwhy.training import Task

Pair = tuple[Tensor, Tensor]


def _layers(matrices: Pair, layers: int, scale: float, user_UD: Tensor, item_ID: Tensor) -> Pair:
    """Scale · (1 + S + … + S^K) of both tables, S = [0 A; A^T 0], as e + S(e + S(e + …)): products add in place."""
    if not layers:
        return scale * user_UD, scale * item_ID
    to_users, to_items = matrices
    user, item = user_UD, item_ID
    for layer in range(layers):
        share = scale if layer == layers - 1 else 1.0
        user, item = (
            torch.addmm(user_UD, to_users, item, beta=share, alpha=share),
            torch.addmm(item_ID, to_items, user, beta=share, alpha=share),
        )
    return user, item


class _Propagate(Function):
    """`_layers`; it is linear and symmetric, so its backward pass is itself and nothing is kept for it."""

    @staticmethod
    def forward(context: Any, matrices: Pair, layers: int, scale: float, user: Tensor, item: Tensor) -> Pair:  # noqa: ANN401
        context.map = (matrices, layers, scale)
        return _layers(matrices, layers, scale, user, item)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, None, None, Tensor, Tensor]:  # noqa: ANN401
        user, item = (gradient.contiguous() for gradient in gradients)
        matrices, layers, scale = context.map
        return None, None, None, *_layers(matrices, layers, scale, user, item)


class Propagation:
    """Propagates over a fixed graph: no weights, no self loops, no dropout.

    One call costs O(K · E · D) time and 2 · (U + I) · D numbers of memory, its gradient as much again.
    """

    def __init__(self, graph: Bipartite, layers: int) -> None:
        self.layers = layers
        matrix = graph.normalised
        self._matrices = _sparse(matrix), _sparse(matrix.T.tocsr())

    def __call__(self, user_UD: Tensor, item_ID: Tensor) -> Pair:
        """Mean over layers 0..K of the propagated tables, on their device; differentiable in both."""
        return self.combined(user_UD, item_ID, self.layers, 1 / (self.layers + 1))

    def combined(self, user_UD: Tensor, item_ID: Tensor, layers: int, scale: float) -> Pair:
        """`scale` times the sum over layers 0 to `layers`; the rest as above."""
        if self._matrices[0].device != user_UD.device:
            self._matrices = self._matrices[0].to(user_UD.device), self._matrices[1].to(user_UD.device)
        propagate: Callable[..., Pair] = _Propagate.apply
        return propagate(self._matrices, layers, scale, user_UD, item_ID)


def _sparse(matrix: Any) -> Tensor:  # noqa: ANN401
    """A scipy CSR matrix as a torch CSR tensor, float32; with 32-bit indices, which MKL reads without a copy."""
    parts = (matrix.indptr.astype("int32"), matrix.indices.astype("int32"), matrix.data.astype("float32"))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse", category=UserWarning
        )  # "beta state" since torch 1.13
        rows, columns, values = (torch.from_numpy(part) for part in parts)
        return torch.sparse_csr_tensor(rows, columns, values, size=matrix.shape)


# --- Items that a user did not take, drawn uniformly without rejection.
#
# Legend: U users, I items, E edges, B draws.


Ints = NDArray[np.int64]


class Negatives:
    """Draws items that are no edge of a user. Memory: one array of E numbers.

    With a user's items sorted, n_0 < n_1 < …, item n_k has n_k - k absent items before it. So the r-th absent item is
    r plus the number of k with n_k - k <= r: one binary search for all draws together.
    """

    def __init__(self, graph: Bipartite) -> None:
        taken = graph.incidence.sorted_indices()
        self._items, self._starts = graph.items, taken.indptr.astype(np.int64)
        self._absent = graph.items - graph.user_degrees
        rows = np.repeat(np.arange(graph.users), graph.user_degrees)
        before = taken.indices - (np.arange(len(rows)) - self._starts[rows])
        self._keys = rows * (graph.items + 1) + before

    @property
    def exist(self) -> NDArray[np.bool_]:
        """[U] whether there is an item that the user did not take."""
        return self._absent > 0

    def draw(self, users_B: Ints, rng: np.random.Generator) -> Ints:
        """[B] one item for each user, uniform over those they did not take; each must have one.

        O(B log E), fastest when `users_B` is sorted.
        """
        ranks = rng.integers(0, self._absent[users_B])
        found = np.searchsorted(self._keys, users_B * (self._items + 1) + ranks, side="right")
        items: Ints = ranks + found - self._starts[users_B]
        return items


# --- HR@k and Recall@k for early stopping: torch's top-k, fast; the evaluator proper is `forwhy.evaluate.ranking`.
#
# Legend: U users, I items, W width, V users with validation items, B a block of them.


def hits_and_recall(
    users_UW: NDArray[np.float32],
    items_IW: NDArray[np.float32],
    graph: Bipartite,
    valid: NDArray[np.int64],
    k: int,
    mask_train: bool = True,
) -> tuple[float, float]:
    """Share of users with a validation item among their first k, and the mean share of their items found there.

    Full ranking, a user's training items left out unless told otherwise. O(V·I·W) time. Zeros when there is no
    validation interaction.
    """
    if not len(valid):
        return 0.0, 0.0
    users, numbers = np.unique(valid[:, 0], return_inverse=True)
    keys = np.unique(numbers * graph.items + valid[:, 1])
    totals = np.bincount(keys // graph.items, minlength=len(users))
    found = np.zeros(len(users))
    items = torch.from_numpy(items_IW).T.contiguous()
    k = min(k, graph.items)
    for start in range(0, len(users), 1024):
        block = users[start : start + 1024]
        scores = torch.from_numpy(users_UW[block]) @ items
        if mask_train:
            seen = graph.incidence[block].tocoo()
            rows, columns = (torch.from_numpy(part.astype(np.int64)) for part in (seen.row, seen.col))
            scores[rows, columns] = -torch.inf
        top = scores.topk(k, dim=1).indices.numpy()
        mine = (np.arange(start, start + len(block))[:, None] * graph.items + top).ravel()
        found[start : start + len(block)] = np.isin(mine, keys).reshape(len(block), -1).sum(1)
    return float((found > 0).mean()), float((found / totals).mean())


# --- LightGCN trained with BPR, as a task of the training loop (XRec eq. 7 to 11).
#
# Legend: U users, I items, N entities of a side, D width, B interactions, J negatives of each.


def bpr_loss(positive_B: Tensor, negative_BJ: Tensor) -> Tensor:
    """Equation 9 as a mean: -ln sigmoid(y_ui - y_uj), which never overflows."""
    return F.softplus(negative_BJ - positive_B[:, None]).mean()


@dataclass(frozen=True)
class Batch:
    """One step's interactions."""

    users: Tensor
    """[B]"""
    items: Tensor
    """[B]"""
    negatives: Tensor
    """[B, J]"""


class CollaborativeNetwork(nn.Module):
    """The layer-0 tables, which are all that is trained, and what they propagate to."""

    def __init__(self, graph: Bipartite, config: CollaborativeConfig) -> None:
        super().__init__()
        self.layers = config.layers
        self._propagation = Propagation(graph, config.layers)
        self._share = 1.0 if config.combine == "sum" else 1 / (config.layers + 1)
        tables = _spectral(graph, config) if config.start == "spectral" else _xavier(graph, config)
        known = {"user": graph.user_degrees > 0, "item": graph.item_degrees > 0}
        self.tables = nn.ParameterDict(
            {
                side: nn.Parameter(table * torch.from_numpy(known[side])[:, None])
                for side, table in tables.items()
            }
        )

    def forward(self) -> dict[str, Tensor]:
        """Side -> [N, D] final vectors (eq. 7, 8). O(K·E·D), and as much again for the gradient."""
        return self._combined(self.layers)

    def inner(self) -> dict[str, Tensor]:
        """Side -> [N, D] the share of layers 0 to K-1 in the final vectors: what one more aggregation reads."""
        return self._combined(self.layers - 1)

    def _combined(self, layers: int) -> dict[str, Tensor]:
        pair = self._propagation.combined(self.tables["user"], self.tables["item"], layers, self._share)
        return dict(zip(SIDES, pair, strict=True))


def _xavier(graph: Bipartite, config: CollaborativeConfig) -> dict[str, Tensor]:
    """Glorot's uniform start of each table, seeded; the caller's generators are left alone."""
    generator = torch.Generator().manual_seed(config.seed)
    counts = {"user": graph.users, "item": graph.items}
    return {
        side: nn.init.xavier_uniform_(torch.empty(count, config.dims), generator=generator)
        for side, count in counts.items()
    }


def _spectral(graph: Bipartite, config: CollaborativeConfig) -> dict[str, Tensor]:
    """Spectral vectors at a root mean square norm of `start_norm`, padded with zeros beyond the graph's dimensions."""
    start: dict[str, Tensor] = {}
    for side, vectors in zip(SIDES, spectral_embeddings(graph, config.dims, config.seed), strict=True):
        scale = config.start_norm / max(float(np.sqrt((vectors**2).sum(1).mean())), 1e-12)
        start[side] = torch.from_numpy(np.pad(vectors * scale, ((0, 0), (0, config.dims - vectors.shape[1]))))
    return start


def _norms(table_ND: Tensor, rows: Tensor) -> Tensor:
    """The sum of the squared norms of rows, repeats counted; without gathering them, O(N·D)."""
    counts = torch.bincount(rows, minlength=len(table_ND))
    total: Tensor = (counts * (table_ND**2).sum(1)).sum()
    return total


@torch.no_grad()
def _hardest(final: Mapping[str, Tensor], users_B: Tensor, negatives_BJ: Tensor) -> Tensor:
    """[B, 1] of each row's items the one with the highest score. One item at a time, so O(B·D) memory."""
    if negatives_BJ.shape[1] == 1:
        return negatives_BJ
    users_BD = final["user"][users_B]
    scores = [(users_BD * final["item"][column]).sum(1) for column in negatives_BJ.T]
    return negatives_BJ.gather(1, torch.stack(scores, 1).argmax(1, keepdim=True))


class _Epoch(Sequence[Batch]):
    """Batches of one epoch, made when asked for; order and draws follow (seed, epoch, index) only."""

    def __init__(self, task: "BprTask", epoch: int) -> None:
        self._task, self._seed = task, (task.config.seed, epoch)
        self._order = np.random.default_rng(self._seed).permutation(len(task.edges))
        self._size = task.batch_size

    def __len__(self) -> int:
        return -(-len(self._order) // self._size)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self._order[index * self._size : (index + 1) * self._size]
        return self._task.batch(rows, np.random.default_rng((*self._seed, index)))

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


class BprTask(Task[Batch]):
    """Learns the tables of a :class:`CollaborativeNetwork`, selected by Recall@20 on validation interactions."""

    higher_is_better = True

    def __init__(
        self, network: CollaborativeNetwork, graph: Bipartite, valid: Ints, config: CollaborativeConfig
    ) -> None:
        self.module, self.network = network, network
        self.graph, self.config, self._valid = graph, config, valid
        self._negatives = Negatives(graph)
        # Nothing can be ranked below the items of a user who took them all.
        self.edges = graph.edges[self._negatives.exist[graph.edges[:, 0]]]
        self.batch_size = config.batch_size or max(1024, -(-len(self.edges) // 10))

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over both tables: every step moves every vector that reaches a batch within K hops."""
        return torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate, fused=True)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """Every training interaction once, in random order, with fresh negatives."""
        return _Epoch(self, epoch)

    def batch(self, rows: Ints, rng: np.random.Generator) -> Batch:
        """The interactions `rows` in the order of users, which reads memory in order, and their negatives."""
        edges = self.edges[np.sort(rows)]
        users, items = np.ascontiguousarray(edges[:, 0]), np.ascontiguousarray(edges[:, 1])
        drawn = self._negatives.draw(np.repeat(users, self.config.negatives), rng)
        negatives = torch.from_numpy(drawn).view(len(users), -1)
        return Batch(torch.from_numpy(users), torch.from_numpy(items), negatives)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Equation 11 as a mean over the batch, from one propagation."""
        final = self.network()
        place = final["user"].device
        users_B, items_B, negatives_BJ = (
            part.to(place) for part in (batch.users, batch.items, batch.negatives)
        )
        if self.config.negative_choice == "hardest":
            negatives_BJ = _hardest(final, users_B, negatives_BJ)
        users_BD = F.embedding(users_B, final["user"])
        positive_B = (users_BD * F.embedding(items_B, final["item"])).sum(1)
        negative_BJ = (users_BD[:, None] * F.embedding(negatives_BJ, final["item"])).sum(2)
        bpr = bpr_loss(positive_B, negative_BJ)
        own = self.config.regulariser == "layer-0"
        user_ND, item_ND = (self.network.tables[side] if own else final[side] for side in SIDES)
        norms = (
            _norms(user_ND, users_B)
            + _norms(item_ND, items_B)
            + _norms(item_ND, negatives_BJ.flatten()) / negatives_BJ.shape[1]
        )
        norm = norms / max(len(users_B), 1)
        return {
            "loss": bpr + self.config.regulariser_weight * norm,
            "bpr": bpr.detach(),
            "norm": norm.detach(),
        }

    def evaluate(self) -> Mapping[str, float]:
        """Recall@20 and HR@20 of the final vectors on validation interactions; without any, BPR on training ones."""
        if not len(self._valid):
            losses = [self.loss(batch)["bpr"] for batch in self.batches(0)]
            return {"train_bpr": float(torch.stack(losses).mean())}
        final = {side: table.cpu().numpy() for side, table in self.network().items()}
        hit, recall = hits_and_recall(
            final["user"], final["item"], self.graph, self._valid, 20, self.config.mask_train
        )
        return {"recall@20": recall, "hr@20": hit}
