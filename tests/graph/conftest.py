"""A little town, its vectors learnt once, and any small graph.

Run as a script with a folder, this file is the training that a test kills.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import forwhy.graph.lightgcn as training
from forwhy.data.dataset import Dataset
from forwhy.data.sample import little_town
from forwhy.graph.bipartite import Bipartite
from forwhy.graph.lightgcn import BprBatch, BprTask, learn_vectors
from forwhy.graph.representations import CollaborativeConfig, CollaborativeVectors

SMALL = {"dims": 8, "learning_rate": 1e-2, "batch_size": 512, "epochs": 6, "device": "cpu"}
LONG = {"start": "xavier", "epochs": 8, "patience": 0, "checkpoint_seconds": 0.0}


def make_town() -> Dataset:
    return little_town(seed=1, users=240, items=160, visits=15, explanations=(40, 10, 10))


def learn(dataset: Dataset, folder: Path, **options: Any) -> CollaborativeVectors:  # noqa: ANN401
    return learn_vectors(dataset, folder, CollaborativeConfig(**{**SMALL, **options}))


@pytest.fixture(scope="session")
def town() -> Dataset:
    return make_town()


@pytest.fixture(scope="session")
def vectors(town: Dataset, tmp_path_factory: pytest.TempPathFactory) -> CollaborativeVectors:
    return learn(town, tmp_path_factory.mktemp("learn"))


@st.composite
def graphs(draw: st.DrawFn) -> Bipartite:
    """Up to 7 users and 6 items; anybody may be without edges, or know everything."""
    users, items = draw(st.integers(1, 7)), draw(st.integers(1, 6))
    cells = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    edges = sorted(draw(st.sets(cells, min_size=1)))
    return Bipartite(np.array(edges, np.int64), users, items)


def dense_normalised(graph: Bipartite) -> np.ndarray:
    matrix = np.zeros((graph.users, graph.items))
    for user, item in graph.edges:
        matrix[user, item] = 1
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = matrix / np.sqrt(matrix.sum(1))[:, None] / np.sqrt(matrix.sum(0))
    return np.nan_to_num(normalised)


if __name__ == "__main__":

    class Slow(BprTask):
        def loss(self, batch: BprBatch) -> Any:  # noqa: ANN401
            time.sleep(0.1)
            return super().loss(batch)

    training.BprTask = Slow  # type: ignore[misc]
    learn(make_town(), Path(sys.argv[1]), **LONG)
