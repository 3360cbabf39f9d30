"""LightGCN: propagation over the user-item graph, its training with BPR, and the vectors it gives (XRec eq. 7 to 11).

Source: He et al. 2020; BEAT eq. 2 and 3 propagate in the same way.
Legend: U users, I items, N entities of a side, E edges, D width, K layers, B interactions, J negatives of each,
W width of any vectors, V users with validation items.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from forwhy.columns import SIDES, Graph
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Catalogue
from forwhy.errors import UserError
from forwhy.graph.bipartite import Bipartite, Negatives, hits_and_recall, spectral_embeddings, train_on_graph
from forwhy.graph.representations import CollaborativeConfig, CollaborativeVectors
from forwhy.training.engine import Epoch, Task

Pair = tuple[Tensor, Tensor]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
log = logging.getLogger(__name__)


class _Propagate(Function):
    """Scale · (1 + S + … + S^K) of both tables, S = [0 A; A^T 0], as e + S(e + S(e + …)): products add in place.

    It is linear and symmetric, so its backward pass is itself and nothing is kept for it.
    """

    @staticmethod
    def forward(context: Any, matrices: Pair, layers: int, scale: float, *start: Tensor) -> Pair:  # noqa: ANN401
        context.map = matrices, layers, scale
        (to_users, to_items), (user_UD, item_ID) = matrices, start
        user, item = (user_UD, item_ID) if layers else (scale * user_UD, scale * item_ID)
        for layer in range(layers):
            share = scale if layer == layers - 1 else 1.0
            user, item = (
                torch.addmm(user_UD, to_users, item, beta=share, alpha=share),
                torch.addmm(item_ID, to_items, user, beta=share, alpha=share),
            )
        return user, item

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, None, None, Tensor, Tensor]:  # noqa: ANN401
        parts = (gradient.contiguous() for gradient in gradients)
        return None, None, None, *_Propagate.forward(context, *context.map, *parts)


class Propagation:
    """The sum over layers 0 to K of both tables propagated over a fixed graph; differentiable in both tables.

    One call costs O(K · E · D) time and 2 · (U + I) · D numbers of memory, its gradient as much again.
    """

    def __init__(self, graph: Bipartite) -> None:
        matrix = graph.normalised
        self._matrices = _sparse(matrix), _sparse(matrix.T.tocsr())

    def __call__(self, user_UD: Tensor, item_ID: Tensor, layers: int, scale: float | None = None) -> Pair:
        """`scale` times the sum of layers 0 to `layers`, on the tables' device; by default their mean."""
        if self._matrices[0].device != user_UD.device:
            self._matrices = self._matrices[0].to(user_UD.device), self._matrices[1].to(user_UD.device)
        propagate: Callable[..., Pair] = _Propagate.apply
        return propagate(self._matrices, layers, scale or 1 / (layers + 1), user_UD, item_ID)


def _sparse(matrix: Any) -> Tensor:  # noqa: ANN401
    """A scipy CSR matrix as a torch CSR tensor, float32; with 32-bit indices, which MKL reads without a copy."""
    parts = (matrix.indptr.astype("int32"), matrix.indices.astype("int32"), matrix.data.astype("float32"))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # "beta state" since torch 1.13
        rows, columns, values = map(torch.from_numpy, parts)
        return torch.sparse_csr_tensor(rows, columns, values, size=matrix.shape)


def bpr_loss(positive_B: Tensor, negative_BJ: Tensor) -> Tensor:
    """Equation 9 as a mean: -ln sigmoid(y_ui - y_uj), which never overflows."""
    return F.softplus(negative_BJ - positive_B[:, None]).mean()


class BprBatch(NamedTuple):
    """One step's interactions: users and items [B], negatives [B, J]."""

    users: Tensor
    items: Tensor
    negatives: Tensor


class CollaborativeNetwork(nn.Module):
    """The layer-0 tables, which are all that is trained, and what they propagate to."""

    def __init__(self, graph: Bipartite, config: CollaborativeConfig) -> None:
        super().__init__()
        self.layers = config.layers
        self._propagation = Propagation(graph)
        self._share = 1.0 if config.combine == "sum" else 1 / (config.layers + 1)
        tables = _spectral(graph, config) if config.start == "spectral" else _xavier(graph, config)
        degrees = zip(tables, (graph.user_degrees, graph.item_degrees), strict=True)
        starts = [nn.Parameter(table * torch.from_numpy(own > 0)[:, None]) for table, own in degrees]
        self.tables = nn.ParameterDict(dict(zip(SIDES, starts, strict=True)))

    def forward(self, layers: int | None = None) -> dict[str, Tensor]:
        """Side -> [N, D] final vectors (eq. 7, 8), or the share that layers 0 to `layers` have in them."""
        depth = self.layers if layers is None else layers
        user, item = self._propagation(self.tables["user"], self.tables["item"], depth, self._share)
        return {"user": user, "item": item}


def _xavier(graph: Bipartite, config: CollaborativeConfig) -> list[Tensor]:
    """Glorot's uniform start of each table, seeded; the caller's generators are left alone."""
    generator = torch.Generator().manual_seed(config.seed)
    empty = (torch.empty(count, config.dims) for count in (graph.users, graph.items))
    return [nn.init.xavier_uniform_(table, generator=generator) for table in empty]


def _spectral(graph: Bipartite, config: CollaborativeConfig) -> list[Tensor]:
    """Spectral vectors, padded with zeros beyond the graph's dimensions."""
    start = []
    for vectors in spectral_embeddings(graph, config.dims, config.seed):
        # Their root mean square norm, 6 on each side, decides how sharply BPR sees their scores.
        scale = 6.0 / max(float(np.sqrt((vectors**2).sum(1).mean())), 1e-12)
        padded = np.pad(vectors * scale, ((0, 0), (0, config.dims - vectors.shape[1])))
        start.append(torch.from_numpy(padded))
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


class BprTask(Task[BprBatch]):
    """Learns the tables of a :class:`CollaborativeNetwork`, selected by Recall@20 on validation interactions."""

    higher_is_better = True

    def __init__(
        self, network: CollaborativeNetwork, graph: Bipartite, valid: Ints, config: CollaborativeConfig
    ) -> None:
        self.module, self.network = network, network
        self.graph, self.config, self._valid = graph, config, valid
        self._negatives = Negatives(graph)
        # Nothing can be ranked below the items of a user who took them all.
        self.edges = graph.edges[self._negatives.absent[graph.edges[:, 0]] > 0]
        self.batch_size = config.batch_size or max(1024, -(-len(self.edges) // 10))

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over both tables: every step moves every vector that reaches a batch within K hops."""
        return torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate, fused=True)

    def batches(self, epoch: int) -> Epoch[BprBatch]:
        """Every training interaction once, in random order, with fresh negatives."""
        return Epoch.shuffled(len(self.edges), self.batch_size, (self.config.seed, epoch), self._batch)

    def _batch(self, rows: Ints, rng: np.random.Generator) -> BprBatch:
        """The interactions `rows` in the order of users, which reads memory in order, and their negatives."""
        users, items = self.edges[np.sort(rows)].T.copy()
        drawn = self._negatives.draw(np.repeat(users, self.config.negatives), rng)
        negatives = torch.from_numpy(drawn).view(len(users), -1)
        return BprBatch(torch.from_numpy(users), torch.from_numpy(items), negatives)

    def loss(self, batch: BprBatch) -> Mapping[str, Tensor]:
        """Equation 11 as a mean over the batch, from one propagation."""
        final = self.network()
        users_B, items_B, negatives_BJ = (part.to(final["user"].device) for part in batch)
        if self.config.negative_choice == "hardest":
            negatives_BJ = _hardest(final, users_B, negatives_BJ)
        users_BD = F.embedding(users_B, final["user"])
        positive_B = (users_BD * F.embedding(items_B, final["item"])).sum(1)
        negative_BJ = (users_BD[:, None] * F.embedding(negatives_BJ, final["item"])).sum(2)
        bpr = bpr_loss(positive_B, negative_BJ)
        own = self.config.regulariser == "layer-0"
        user_ND, item_ND = (self.network.tables[side] if own else final[side] for side in SIDES)
        drawn = _norms(item_ND, negatives_BJ.flatten()) / negatives_BJ.shape[1]
        norm = (_norms(user_ND, users_B) + _norms(item_ND, items_B) + drawn) / max(len(users_B), 1)
        loss = bpr + self.config.regulariser_weight * norm
        return {"loss": loss, "bpr": bpr.detach(), "norm": norm.detach()}

    def evaluate(self) -> Mapping[str, float]:
        """Recall@20 and HR@20 of the final vectors on validation interactions; without any, BPR on training ones."""
        if not len(self._valid):
            losses = [self.loss(batch)["bpr"] for batch in self.batches(0)]
            return {"train_bpr": float(torch.stack(losses).mean())}
        final = {side: table.cpu().numpy() for side, table in self.network().items()}
        told = self.graph, self._valid, 20, self.config.mask_train
        hit, recall = hits_and_recall(final["user"], final["item"], *told)
        return {"recall@20": recall, "hr@20": hit}


def learn_vectors(
    dataset: Dataset, folder: Path | str, config: CollaborativeConfig, graph: Graph = "leak-free"
) -> CollaborativeVectors:
    """Vectors from interactions, what XRec calls its collaborative tokenizer; a killed run continues from `folder`.

    `folder` is for checkpoints and metrics.jsonl, `graph`: see `Dataset.edges`; :func:`train_on_graph` says which epoch
    is kept. Time per epoch O(steps · K·E·D + E·J·D), memory of a step O((U+I)·K·D + batch·J·D).

    Raises:
        UserError: nothing to learn from; training diverged.
    """
    bipartite = Bipartite(dataset.edges("train", graph), len(dataset.users), len(dataset.items))
    task = BprTask(CollaborativeNetwork(bipartite, config), bipartite, dataset.edges("valid"), config)
    if not len(task.edges):
        raise UserError(
            f"data set '{dataset.name}': no training interaction of a user who left an item out, so nothing "
            "to rank; import one with a train split"
        )
    identity = dataset.fingerprint + graph + config.identity()
    result = train_on_graph(task, config, dataset, Path(folder), "collaborative", identity, config.start)
    vectors, fold_in = propagated(task.network.cpu(), bipartite)
    return CollaborativeVectors(
        catalogue=Catalogue.of(dataset, dataset.edges("train", "as-published")),
        seen=bipartite.edges,
        config=config.model_dump(mode="json"),
        metrics=result.summary(),
        vectors=vectors,
        fold_in=fold_in,
    )


@torch.no_grad()
def propagated(network: CollaborativeNetwork, graph: Bipartite) -> tuple[dict[str, Floats], Floats]:
    """Side -> final vectors, and `CollaborativeVectors.fold_in`, of a network on the CPU."""
    final: dict[str, Floats] = {side: table.numpy() for side, table in network().items()}
    roots = np.sqrt(np.maximum(graph.item_degrees, 1)).astype(np.float32)
    inner: Floats = network(network.layers - 1)["item"].numpy()  # what one more aggregation reads
    return final, inner / roots[:, None]
