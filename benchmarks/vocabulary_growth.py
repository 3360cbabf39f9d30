"""How stage 1 grows with interactions: generated graphs of 1x, 4x and 16x, users and items growing along.

Prints one JSON document: seconds of the start (SVD, k-means) and per optimiser step's worth of interactions.
"""

import argparse
import json
import resource
import time
from itertools import islice

import numpy as np

from forwhy.data.dataset import Pairs
from forwhy.graph.bipartite import Bipartite
from forwhy.vocabulary.network import TokenizerNetwork
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.phrases import PhraseBook
from forwhy.vocabulary.tokenizer import TokenizerTask

PER_USER = 20


def generated(users: int, seed: int = 0) -> Bipartite:
    """`PER_USER` draws per user over as many items, with Zipf-like popularity."""
    rng = np.random.default_rng(seed)
    items = (rng.beta(0.6, 2.0, users * PER_USER) * users).astype(np.int64)
    edges = np.stack([np.repeat(np.arange(users), PER_USER), np.minimum(items, users - 1)], axis=1)
    return Bipartite(np.unique(edges, axis=0), users, users)


def begun(graph: Bipartite) -> TokenizerTask:
    """Stage 1 after its start, on interactions alone."""
    config, counts = TokenizerConfig(text_weight=0.0), {"user": graph.users, "item": graph.items}
    none = {side: np.full((count, config.max_phrases), -1, np.int64) for side, count in counts.items()}
    book, nobody = PhraseBook((), np.zeros((0, 384), np.float32), none), np.zeros(0, np.int64)
    network, pairs = TokenizerNetwork(graph, config, book), Pairs(nobody, nobody, ())
    return TokenizerTask(
        network, graph, np.zeros((0, 2), np.int64), book, pairs, np.zeros((0, 384), np.float32)
    )


def learn(task: TokenizerTask, most: int | None = None) -> None:
    """The first epoch, or so many steps of it."""
    optimizer = task.optimizer()
    for batch in islice(task.batches(0), most):
        optimizer.zero_grad()
        task.loss(batch)["loss"].backward()
        optimizer.step()


def measure(users: int) -> dict[str, float]:
    """Seconds of the start and of one epoch on a generated graph."""
    graph = generated(users)
    started = time.perf_counter()
    task = begun(graph)
    start = time.perf_counter() - started
    started = time.perf_counter()
    learn(task)
    epoch = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    per = 1e6 / len(graph.edges)
    return {
        "users": users,
        "interactions": len(graph.edges),
        "start_seconds": round(start, 2),
        "epoch_seconds": round(epoch, 2),
        "start_seconds_per_million": round(start * per, 1),
        "epoch_seconds_per_million": round(epoch * per, 1),
        "peak_MiB_so_far": round(peak),
    }


def main() -> None:
    """Measure the sizes in rising order, so that the peak belongs to the latest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2000, help="users (and items) at 1x")
    parser.add_argument("--growth", type=int, nargs="+", default=[1, 4, 16])
    options = parser.parse_args()
    print(json.dumps([measure(options.users * factor) for factor in options.growth], indent=1))


if __name__ == "__main__":
    main()
