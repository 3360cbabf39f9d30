"""Item-kNN against a loop over pairs of items."""

import numpy as np
import pytest

from forwhy.data.dataset import Ids
from forwhy.data.histories import Catalogue, Histories, Sequences
from forwhy.systems import item_knn
from forwhy.systems.item_knn import ItemKnnRecommender, KnnConfig
from forwhy.testing import recommender_laws

from .conftest import dataset, ring

ITEMS = 9


def made(config: KnnConfig, rows: list[list[int]]) -> ItemKnnRecommender:
    users, items = Ids(tuple(range(len(rows))), "user"), Ids(tuple(range(ITEMS)), "item")
    train = Histories.of(rows)
    catalogue = Catalogue(users, items, [""] * ITEMS, np.stack([train.rows, train.items], axis=1))
    return ItemKnnRecommender(catalogue, config)


def by_loop(rows: list[list[int]], history: list[int], config: KnnConfig) -> list[float]:
    takers = [{user for user, row in enumerate(rows) if item in row} for item in range(ITEMS)]
    totals = [0.0] * ITEMS
    for age, item in enumerate(history[::-1][: config.window]):
        similar = []
        for other in range(ITEMS):
            both = len(takers[item] & takers[other])
            if other != item and both:
                size = np.sqrt(len(takers[item]) * len(takers[other])) + config.shrink
                similar.append((-both / size, other))
        for value, other in sorted(similar)[: config.neighbours]:
            totals[other] -= value * config.decay**age
    return totals


@pytest.mark.parametrize("block", [2, 1024])
@pytest.mark.parametrize(
    "config", [KnnConfig(), KnnConfig(neighbours=2, decay=0.5, shrink=3.0, window=3), KnnConfig(decay=1.0)]
)
def test_equals_a_loop(config: KnnConfig, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_knn, "BLOCK_ITEMS", block)
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, ITEMS - 1, generator.integers(0, 7)).tolist() for _ in range(20)]
    recommender = made(config, rows)
    found = recommender.scores_after(Histories.of(rows))
    for row, scores in zip(rows, found, strict=True):
        assert scores.tolist() == pytest.approx(by_loop(rows, row, config), abs=1e-6)


def test_the_laws_of_recommenders_hold() -> None:
    chain = dataset(ring(60, 12, 7))
    recommender = ItemKnnRecommender.fit(chain)
    train = Sequences.from_dataset(chain).train
    users = list(chain.users.values)[:8]
    seen = {user: {chain.items.values[item] for item in train[row]} for row, user in enumerate(users)}
    recommender_laws(recommender, users, seen)


def test_later_items_weigh_more() -> None:
    rows = [[0, 1], [0, 1], [2, 3], [2, 3]]
    late = made(KnnConfig(decay=0.5), rows).scores_after(Histories.of([[0, 2]]))[0]
    assert late[3] == 2 * late[1] > 0
    alike = made(KnnConfig(decay=1.0), rows).scores_after(Histories.of([[0, 2]]))[0]
    assert alike[3] == alike[1]


def test_the_score_is_the_sum_of_what_each_item_of_the_history_adds() -> None:
    generator = np.random.default_rng(1)
    rows = [generator.integers(0, ITEMS, 7).tolist() for _ in range(20)]
    recommender = made(KnnConfig(window=5, decay=0.7), rows)
    for user, row in enumerate(rows):
        for item in range(ITEMS):
            because = recommender.because(user, item)
            assert because.kind == "history"
            added = {one.item_id: one.contribution for one in because.shares}
            assert set(added) == set(row[-5:])
            assert sum(added.values()) == pytest.approx(float(recommender.score(user, item)[0]), abs=1e-6)
            assert because.rest == pytest.approx(0.0, abs=1e-6)
            if because.score:
                assert sum(one.share for one in because.items) == pytest.approx(1.0)
