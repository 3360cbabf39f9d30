"""What a list of the hybrid costs as its catalogue grows: ms of processor time a person, one at a time and 64.

The experts are as large as on Beauty (SASRec 128 wide, 100 neighbours, text vectors of 384 numbers) and untrained, as
what they cost does not depend on what they have learned. Histories of ten items, lists of ten, one thread.

    python -m benchmarks.hybrid [--items 1000 10000 100000 1000000]
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from scipy import sparse

from forwhy.data.dataset import Ids
from forwhy.data.histories import Catalogue, Histories
from forwhy.recommend.sequential import NextItemRecommender, made
from forwhy.systems.content_knn import ContentKnnRecommender, ContentVectors
from forwhy.systems.hybrid import HybridRecommender
from forwhy.systems.item_knn import ItemKnnRecommender
from forwhy.systems.sasrec import SasRecConfig

PEOPLE, LENGTH = 200, 10


def hybrid(items: int) -> HybridRecommender:
    """Experts over so many items."""
    random = np.random.default_rng(0)
    taken = np.stack([np.repeat(np.arange(PEOPLE), LENGTH), random.integers(0, items, PEOPLE * LENGTH)], 1)
    users, names = Ids(tuple(range(PEOPLE)), "user"), Ids(tuple(range(items)), "item")
    catalogue = Catalogue(users, names, [""] * items, taken)
    config = SasRecConfig(dims=128)
    near = random.integers(0, items, items * 100)
    similar = sparse.csr_matrix(
        (random.random(items * 100), near, np.arange(items + 1) * 100), (items, items)
    )
    text = random.standard_normal((items, 384), np.float32)
    terms = sparse.random(items, 1000, 0.004, "csr", np.float32, np.random.default_rng(1))
    vectors = ContentVectors(text / np.linalg.norm(text, axis=1, keepdims=True), terms)
    experts = {
        "sasrec": NextItemRecommender(catalogue, made(items, config), config),
        "item-knn": ItemKnnRecommender(catalogue, similar=similar),
        "content-knn": ContentKnnRecommender(catalogue, vectors),
    }
    return HybridRecommender(catalogue, experts)


def milliseconds(model: HybridRecommender, histories: Histories) -> float:
    """Of processor time for a person's list, in one call."""
    model.lists_after(histories)
    started, times = time.process_time(), 0
    while time.process_time() - started < 1.0 or not times:
        model.lists_after(histories)
        times += 1
    return (time.process_time() - started) / times / len(histories) * 1e3


def main() -> None:
    """A line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    torch.set_num_threads(1)
    print(f"{'items':>10} {'one, ms':>9} {'64, ms':>9} {'peak GiB':>9}")
    for items in parser.parse_args().items:
        model = hybrid(items)
        one, many = (
            milliseconds(model, model.catalogue.histories.take(np.arange(count))) for count in (1, 64)
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{items:>10,} {one:>9.2f} {many:>9.2f} {peak:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
