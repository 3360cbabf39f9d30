"""Stage 1 on very many interactions: seconds and memory of the graph, the start, and steps of an epoch.

The graph is a real one made larger by itself (fractal expansion, Belletti et al. 2019, as Bernoulli draws): there are
groups of people and groups of items, each group of people has the real interactions with each group of items, and keeps
a share of them. The shares are the densities of the real graph between people and items sorted by how often they act,
so that the large graph has its skew twice. Nobody takes an item twice.

    python -m benchmarks.vocabulary_large DATA [--people 45] [--items 26] [--steps 200]

DATA is a data set folder (Beauty with the defaults: a million people, 315,000 items, about 10^8 interactions). Peak
memory is of this process so far. Steps are those of an epoch; `epoch_hours` is what all of them would take.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator

import numpy as np
from benchmarks.vocabulary_growth import begun, learn
from numpy.typing import NDArray

from forwhy.bridge.engines import named
from forwhy.data.dataset import Dataset
from forwhy.graph.bipartite import Bipartite

Ints = NDArray[np.int32]


def shares(graph: Bipartite, people: int, items: int) -> NDArray[np.float64]:
    """[people, items] share of interactions that a pair of groups keeps: the real densities of such groups, up to 1."""
    groups = [
        np.argsort(np.argsort(-degrees, kind="stable")) * count // len(degrees)
        for degrees, count in ((graph.user_degrees, people), (graph.item_degrees, items))
    ]
    found = np.zeros((people, items))
    np.add.at(found, tuple(group[ends] for group, ends in zip(groups, graph.edges.T, strict=True)), 1)
    return np.minimum(1.0, found / found.mean())


def expanded(graph: Bipartite, people: int, items: int, seed: int = 0) -> Bipartite:
    """The larger graph; memory of its edges alone, as 32 bits, and of one group of people."""
    random, kept = np.random.default_rng(seed), shares(graph, people, items)

    def groups() -> Iterator[Ints]:
        real = graph.edges.astype(np.int32)
        for group in range(people):
            taken = random.random((len(real), items), np.float32) < kept[group]
            rows, columns = np.nonzero(taken)
            edges = np.stack([real[rows, 0], real[rows, 1] + columns.astype(np.int32) * graph.items], axis=1)
            edges[:, 0] += group * graph.users
            yield edges

    return Bipartite(np.concatenate([*groups()]), people * graph.users, items * graph.items)


def main() -> None:
    """Print what each part took as one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--people", type=int, default=45)
    parser.add_argument("--items", type=int, default=26)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    data = Dataset.load(options.data)
    real = Bipartite(data.edges("train"), len(data.users), len(data.items))
    parts: dict[str, dict[str, float]] = {}
    since = time.process_time()

    def done(name: str) -> None:
        nonlocal since
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        parts[name] = {"cpu_seconds": round(time.process_time() - since, 1), "peak_GiB": round(peak, 2)}
        since = time.process_time()

    graph = expanded(real, options.people, options.items)
    done("graph made")
    task = begun(graph)
    done("start")
    learn(task, options.steps)
    done("steps of an epoch")
    task.network.eval()
    task.evaluate()
    done("everybody's words")
    epoch = len(task.batches(0))
    steps = min(options.steps, epoch)
    told = {
        "processor": named(),
        "people": graph.users,
        "items": graph.items,
        "interactions": len(graph.edges),
        "most_of_one_person": int(graph.user_degrees.max()),
        **parts,
        "steps": steps,
        "epoch_hours": round(parts["steps of an epoch"]["cpu_seconds"] / steps * epoch / 3600, 2),
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
