"""Training seconds until LightGCN reaches a validation Recall@20: ours, and the same model written plainly.

Plainly is as XRec's released code has it: the whole adjacency as one COO matrix, propagated under autograd for every
1,024 interactions. Both in one process, validations not counted. Seconds are of this process's CPU, so that other work
on the machine counts little. Prints one JSON document.

    OMP_NUM_THREADS=1 python benchmarks/collaborative.py DATASET --target 0.08
"""

import argparse
import functools
import json
import resource
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwhy.data.dataset import Dataset
from forwhy.graph.bipartite import Bipartite, Negatives, hits_and_recall
from forwhy.graph.lightgcn import BprTask, CollaborativeNetwork
from forwhy.graph.representations import CollaborativeConfig


class Plain(nn.Module):
    """LightGCN (mean over layers) as it is usually written."""

    def __init__(self, graph: Bipartite, dims: int, layers: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers, self.users = layers, graph.users
        self.user = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.users, dims)))
        self.item = nn.Parameter(nn.init.xavier_uniform_(torch.empty(graph.items, dims)))
        matrix = graph.normalised.tocoo()
        there = torch.from_numpy(np.stack([matrix.row, matrix.col + graph.users]).astype(np.int64))
        places, values = torch.cat([there, there.flip(0)], 1), torch.from_numpy(matrix.data).repeat(2)
        size = (graph.users + graph.items,) * 2
        self.adjacency = torch.sparse_coo_tensor(places, values, size).coalesce()

    def forward(self) -> tuple[Tensor, Tensor]:
        """Final vectors of users and items."""
        layers = [torch.cat([self.user, self.item])]
        for _ in range(self.layers):
            layers.append(torch.sparse.mm(self.adjacency, layers[-1]))
        final = torch.stack(layers).mean(0)
        return final[: self.users], final[self.users :]


def plain_steps(model: Plain, graph: Bipartite, config: CollaborativeConfig) -> Iterator[None]:
    """Train for ever, one step at a time: 1,024 interactions, Adam at 1e-3."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rng, negatives = np.random.default_rng(config.seed), Negatives(graph)
    while True:
        for rows in np.array_split(rng.permutation(len(graph.edges)), -(-len(graph.edges) // 1024)):
            u, i = graph.edges[rows].T
            j = negatives.draw(u, rng)
            optimizer.zero_grad()
            users, items = model()
            loss = -F.logsigmoid((users[u] * items[i]).sum(1) - (users[u] * items[j]).sum(1)).mean()
            norms = model.user[u].square().sum() + model.item[i].square().sum() + model.item[j].square().sum()
            (loss + config.regulariser_weight * norms / len(rows)).backward()
            optimizer.step()
            yield


def our_steps(task: BprTask) -> Iterator[None]:
    """Train for ever, one step at a time."""
    optimizer, epoch = task.optimizer(), 0
    while True:
        for batch in task.batches(epoch):
            optimizer.zero_grad()
            task.loss(batch)["loss"].backward()
            optimizer.step()
            yield
        epoch += 1


def race(
    steps: Iterator[None], recall: Callable[[], float], target: float, every: int, limit: float, spent: float
) -> dict[str, float]:
    """Steps until the target, or for `limit` seconds; validated each `every` steps."""
    count, reached = 0, recall()
    while reached < target and spent < limit:
        started = time.process_time()
        for _ in range(every):
            next(steps)
        spent, count = spent + time.process_time() - started, count + every
        reached = recall()
    return {
        "seconds": round(spent, 2),
        "steps": count,
        "ms_per_step": round(1e3 * spent / max(count, 1), 1),
        "recall@20": round(reached, 4),
        "reached": reached >= target,
    }


@torch.no_grad()
def recall_of(task: BprTask) -> float:
    """Validation Recall@20 of a task's network as it stands."""
    return task.evaluate()["recall@20"]


def main() -> None:
    """Race both from noise, then ours from its spectral start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--target", type=float, default=0.08)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600.0, help="CPU seconds for each")
    options = parser.parse_args()
    dataset = Dataset.load(options.dataset)
    graph = Bipartite(dataset.edges("train"), len(dataset.users), len(dataset.items))
    valid, found = dataset.edges("valid"), {}
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # torch imports much at the first one
    _ = graph.incidence, graph.normalised  # what both share
    for start in ("xavier", "spectral"):
        config = CollaborativeConfig(
            start=start, layers=options.layers, negatives=1, learning_rate=1e-2, device="cpu"
        )
        started = time.process_time()
        task = BprTask(CollaborativeNetwork(graph, config), graph, valid, config)
        spent = time.process_time() - started
        recall = functools.partial(recall_of, task)
        found[f"ours, {start}"] = race(our_steps(task), recall, options.target, 5, options.limit, spent)
    started = time.process_time()
    model = Plain(graph, config.dims, options.layers, config.seed)
    spent = time.process_time() - started

    @torch.no_grad()
    def of_plain() -> float:
        users, items = (part.numpy() for part in model())
        return hits_and_recall(users, items, graph, valid, 20)[1]

    steps = plain_steps(model, graph, config)
    found["plain"] = race(steps, of_plain, options.target, 50, options.limit, spent)
    found["plain / ours, both from noise"] = round(
        found["plain"]["seconds"] / found["ours, xavier"]["seconds"], 1
    )
    found["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"threads": torch.get_num_threads(), "target": options.target, **found}, indent=1))


if __name__ == "__main__":
    main()
