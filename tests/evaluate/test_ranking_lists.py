"""Recommended lists against the recommender's own, and their metrics against plain loops and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.dataset import Ids
from forwhy.data.histories import Catalogue, Histories
from forwhy.evaluate import ranking
from forwhy.evaluate.ranking import list_metrics, rank_scores, top_items
from forwhy.recommend.base import Ints, Recommender, Scores

USERS, ITEMS = 7, 11
PAIRS = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=50)


def pairs(rows: list[tuple[int, int]]) -> np.ndarray:
    return np.unique(np.array(rows, dtype=np.int64).reshape(-1, 2), axis=0)


class Fixed(Recommender):
    """Recommends by a given table."""

    def __init__(self, table: Scores, seen: Ints) -> None:
        users, items = Ids(range(len(table))), Ids(range(table.shape[1]))
        super().__init__(Catalogue(users, items, [""] * len(items), seen))
        self.table = table

    def scores(self, users: Ints) -> Scores:
        return self.table[users]

    def scores_after(self, histories: Histories) -> Scores:
        raise NotImplementedError

    def _has_history(self) -> np.ndarray:
        return np.ones(len(self.table), bool)


@given(PAIRS, st.integers(0, 10_000), st.integers(1, 4), st.integers(1, ITEMS))
@settings(max_examples=60, deadline=None)
def test_lists_are_the_recommenders(seen: list[tuple[int, int]], seed: int, levels: int, k: int) -> None:
    table = np.random.default_rng(seed).integers(0, levels, (USERS, ITEMS)).astype(np.float32)
    recommended = Fixed(table, pairs(seen)).recommend(list(range(USERS)), k=k)
    masked = table.copy()
    masked[tuple(pairs(seen).T)] = -np.inf
    lists = top_items(masked, k)
    for user, row in enumerate(lists):
        expected = recommended.filter(recommended["user_id"] == user)["item_id"].to_list()
        assert row.tolist() == expected + [-1] * (k - len(expected))


@given(PAIRS, PAIRS.filter(bool), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_metrics_equal_plain_loops(
    seen: list[tuple[int, int]], test: list[tuple[int, int]], seed: int
) -> None:
    """The whole way, in blocks of two users: test items are in the lists, seen ones are not."""
    scores = np.random.default_rng(seed).integers(0, 3, (USERS, ITEMS)).astype(np.float32)
    if not set(test) - set(seen):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "BLOCK_SCORES", 2 * ITEMS)
        found = rank_scores(lambda u: scores[u], USERS, ITEMS, pairs(seen), pairs(test), ks=(1, 4, 30))
    takers = [len({u for u, i in seen if i == item}) for item in range(ITEMS)]
    training_users = len({u for u, _ in seen})
    edge = sorted(takers)[-3]  # a fifth of 11, rounded up
    part = (3 - sum(t > edge for t in takers)) / takers.count(edge)
    head = [1 if t > edge else part if t == edge else 0 for t in takers]
    shown: dict[int, set[int]] = {}
    for position, user in enumerate(found.users.tolist()):
        listed = [item for item in range(ITEMS) if (user, item) not in seen]
        listed.sort(key=lambda item: (-scores[user, item], item))
        for k in (1, 4, 30):
            items = listed[:k]
            shown.setdefault(k, set()).update(items)
            if seen:
                novelty = np.mean([np.log2(training_users / max(1, takers[item])) for item in items])
                popular = np.mean([head[item] for item in items])
                assert found.per_user[f"novelty@{k}"][position] == pytest.approx(novelty)
                assert found.per_user[f"popularity@{k}"][position] == pytest.approx(popular)
    assert found.coverage == {f"coverage@{k}": pytest.approx(len(shown[k]) / ITEMS) for k in (1, 4, 30)}
    assert ("novelty@1" in found.per_user) == bool(seen)


def test_values_by_hand() -> None:
    """Item 0 was taken by all four training users, 1 by two, 2 by one, 3 and 4 by nobody."""
    seen = pairs([(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 2)])
    lists = np.array([[0, 1], [2, 4], [0, -1]], dtype=np.int32)
    per_user, coverage = list_metrics(lists, seen, n_items=5, ks=(1, 2))
    assert per_user["novelty@1"].tolist() == [0, 2, 0]
    assert per_user["novelty@2"].tolist() == [0.5, 2, 0]
    assert per_user["popularity@2"].tolist() == [0.5, 0, 1]
    assert coverage == {"coverage@1": 2 / 5, "coverage@2": 4 / 5}


def test_popularity_recommends_what_is_popular() -> None:
    generator = np.random.default_rng(1)
    draws = generator.integers(0, 200, 4000), (generator.random(4000) ** 3 * 100).astype(np.int64)
    seen = pairs(list(zip(*draws, strict=True)))
    test = np.stack([np.arange(200), np.full(200, 99)], axis=1)
    popular = np.bincount(seen[:, 1], minlength=100).astype(np.float32)
    ranked = rank_scores(lambda u: np.repeat(popular[None], len(u), axis=0), 200, 100, seen, test, ks=(10,))
    drawn = generator.random((200, 100), dtype=np.float32)
    anyhow = rank_scores(lambda u: drawn[u], 200, 100, seen, test, ks=(10,))
    assert ranked.mean()["popularity@10"] > 0.9 > 0.4 > anyhow.mean()["popularity@10"]
    assert ranked.mean()["novelty@10"] < anyhow.mean()["novelty@10"]
    assert ranked.coverage["coverage@10"] < anyhow.coverage["coverage@10"]
