"""A chain: every item has one successor. Whoever reads order is right always, popularity one time in twelve."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.recommend.sequential.networks import SequentialOptions
from forwhy.recommend.sequential.recommender import NextItemRecommender
from forwhy.systems.din import DinConfig
from forwhy.systems.gru4rec import Gru4RecConfig
from forwhy.systems.sasrec import SasRecConfig

ITEMS = 12
SMALL = {
    "dims": 16, "window": 6, "dropout": 0.1, "learning_rate": 1e-2, "batch_size": 32, "epochs": 40, "patience": 5,
    "device": "cpu",
}  # fmt: skip


def histories_dataset(histories: dict[str, list[int]], names: int = ITEMS) -> Dataset:
    """Leave-one-out as `import_lcrec` does; items are called i00, i01, …"""
    rows = [
        (user, f"i{item:02d}", place, _split(len(items) - place, len(items)))
        for user, items in histories.items()
        for place, item in enumerate(items)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{item:02d}" for item in range(names)]})
    return make_dataset("chain", {"interactions": frame, "items": items}, {}, duplicates="keep")


def _split(left: int, length: int) -> str:
    return {1: "test", 2: "valid"}.get(left, "train") if length >= 3 else "train"


@pytest.fixture(scope="session")
def make() -> Callable[[dict[str, list[int]]], Dataset]:
    return histories_dataset


@pytest.fixture(scope="session")
def chain() -> Dataset:
    """80 people walk along the chain for 5 to 9 items; two took one and two items."""
    generator = np.random.default_rng(0)
    order = generator.permutation(ITEMS)
    successor = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
    people: dict[str, list[int]] = {"one": [3], "two": [4, successor[4]]}
    for person in range(80):
        walk = [int(generator.integers(ITEMS))]
        while len(walk) < 5 + person % 5:
            walk.append(successor[walk[-1]])
        people[f"p{person:02d}"] = walk
    return histories_dataset(people)


@pytest.fixture(scope="session", params=["sasrec", "sasrec-pre", "gru4rec", "din", "din-inner"])
def config(request: pytest.FixtureRequest) -> SequentialOptions:
    if request.param == "gru4rec":
        return Gru4RecConfig(**SMALL, hidden=24)
    if request.param.startswith("din"):
        head = "inner" if request.param.endswith("inner") else "mlp"
        return DinConfig(**SMALL, head=head, attention=8, hidden=16, negatives=8)
    return SasRecConfig(**SMALL, norm="pre" if request.param.endswith("pre") else "post")


@pytest.fixture(scope="session")
def learnt(
    chain: Dataset, config: SequentialOptions, tmp_path_factory: pytest.TempPathFactory
) -> NextItemRecommender:
    folder: Path = tmp_path_factory.mktemp("learnt")
    return NextItemRecommender.fit(chain, folder, config)
