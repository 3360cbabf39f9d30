"""Full ranking against a brute force that sorts, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.errors import UserError
from forwhy.evaluate import ranking
from forwhy.evaluate.ranking import rank_all, rank_scores

Rows = list[tuple[int, int]]
USERS, ITEMS = 9, 12
PAIRS = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=60)


def pairs(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def by_sorting(
    scores: np.ndarray, seen: Rows, test: Rows, ks: tuple[int, ...]
) -> dict[str, dict[int, float]]:
    """Sort every user's open items, test items last among equals, and read the metrics off the list."""
    found: dict[str, dict[int, float]] = {}
    for user in range(len(scores)):
        taken = {i for u, i in seen if u == user}
        right = {i for u, i in test if u == user} - taken
        if not right:
            continue
        listed = [i for i in range(scores.shape[1]) if i not in taken]
        listed.sort(key=lambda item: (-scores[user, item], item in right))
        for k in ks:
            hits = [1.0 if item in right else 0.0 for item in listed[:k]]
            ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(right))))
            gain = sum(hit / np.log2(place + 2) for place, hit in enumerate(hits))
            found.setdefault(f"recall@{k}", {})[user] = sum(hits) / len(right)
            found.setdefault(f"ndcg@{k}", {})[user] = gain / ideal
            found.setdefault(f"hr@{k}", {})[user] = float(any(hits))
            found.setdefault(f"mrr@{k}", {})[user] = 1 / (hits.index(1.0) + 1) if any(hits) else 0.0
            precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
            found.setdefault(f"map@{k}", {})[user] = sum(precisions) / min(k, len(right))
    return found


@given(PAIRS, PAIRS, st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_equals_sorting_with_many_ties(seen: Rows, test: Rows, seed: int, levels: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (USERS, ITEMS)).astype(np.float32)
    expected = by_sorting(scores, seen, test, ks=(1, 3, 20))
    arrays = pairs(*seen), pairs(*test)
    if not expected:
        with pytest.raises(UserError, match="no test interaction"):
            rank_scores(lambda users: scores[users], USERS, ITEMS, *arrays)
        return
    found = rank_scores(lambda users: scores[users], USERS, ITEMS, *arrays, ks=(1, 3, 20))
    accuracy = {metric for metric in found.per_user if not metric.startswith(("novelty", "popularity"))}
    assert accuracy == set(expected)
    for metric, values in expected.items():
        assert found.users.tolist() == list(values)
        assert found.per_user[metric] == pytest.approx(list(values.values()))


def test_vectors_in_small_blocks_equal_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK_SCORES", 50 * 7)
    generator = np.random.default_rng(0)
    users, items = generator.normal(size=(40, 6)), generator.normal(size=(50, 6))
    seen, test = generator.integers(0, 40, (200, 2)), generator.integers(0, 40, (150, 2))
    found = rank_all(users, items, seen, test, ks=(5, 20))
    expected = by_sorting(users @ items.T, seen.tolist(), test.tolist(), ks=(5, 20))
    for metric, values in expected.items():
        assert found.per_user[metric] == pytest.approx(list(values.values()))
        assert found.mean()[metric] == pytest.approx(np.mean(list(values.values())))


def test_values_by_hand() -> None:
    scores = np.array([[9, 8, 7, 6, 5]], dtype=np.float32)
    found = rank_scores(lambda _: scores.copy(), 1, 5, pairs((0, 0)), pairs((0, 2), (0, 4)), ks=(2, 3))
    assert found.ranks.tolist() == [2, 4]  # item 0 is masked
    assert found.mean() == pytest.approx(
        {
            "recall@2": 0.5,
            "ndcg@2": (1 / np.log2(3)) / (1 + 1 / np.log2(3)),
            "hr@2": 1.0,
            "mrr@2": 1 / 2,
            "map@2": 1 / 2 / 2,
            "novelty@2": 0.0,  # the one training user took one item: the others count as taken by one
            "popularity@2": 0.0,
            "recall@3": 0.5,
            "ndcg@3": (1 / np.log2(3)) / (1 + 1 / np.log2(3)),
            "hr@3": 1.0,
            "mrr@3": 1 / 2,
            "map@3": 1 / 2 / 2,
            "novelty@3": 0.0,
            "popularity@3": 0.0,
        }
    )
    assert found.coverage == {"coverage@2": 2 / 5, "coverage@3": 3 / 5}


@pytest.mark.slow
def test_equals_ranx() -> None:
    """All scores differ: ranx breaks ties by its sort, we count them against us."""
    ranx = pytest.importorskip("ranx")
    generator = np.random.default_rng(4)
    users, items = generator.normal(size=(60, 6)), generator.normal(size=(80, 6))
    seen = np.stack([generator.integers(0, 60, 300), generator.integers(0, 80, 300)], axis=1)
    test = np.stack([generator.integers(0, 60, 400), generator.integers(0, 80, 400)], axis=1)
    found = rank_all(users, items, seen, test, ks=(3, 10, 50))
    taken = {(u, i) for u, i in seen.tolist()}
    qrels: dict[int, dict[int, int]] = {user: {} for user in found.users.tolist()}
    for user, item in {*map(tuple, test.tolist())} - taken:
        qrels[user][item] = 1
    run = {
        user: {item: float(users[user] @ items[item]) for item in range(80) if (user, item) not in taken}
        for user in qrels
    }
    ours = {"recall": "recall", "ndcg": "ndcg", "hr": "hit_rate", "mrr": "mrr", "map": "map"}
    names = {f"{name}@{k}": f"{theirs}@{k}" for name, theirs in ours.items() for k in (3, 10, 50)}
    # Plain dicts: ranx's own tables take a minute to compile.
    theirs = ranx.evaluate(qrels, run, list(names.values()), return_mean=False)
    relevant = np.array([len(qrels[user]) for user in found.users])
    for metric, other in names.items():
        values = theirs[other]
        if metric.startswith("map"):  # ranx divides by all relevant items, whatever k
            values = values * relevant / np.minimum(relevant, int(metric.partition("@")[2]))
        np.testing.assert_allclose(found.per_user[metric], values, atol=1e-6, err_msg=metric)


def test_ties_and_collapse_count_against_us() -> None:
    found = rank_all(np.ones((1, 3)), np.ones((100, 3)), pairs(), pairs((0, 0)), ks=(20, 100))
    assert found.ranks.tolist() == [100]
    assert found.mean()["hr@20"] == 0


def test_equal_items_tie_whatever_their_column() -> None:
    generator = np.random.default_rng(5)
    items = np.tile(generator.normal(size=(1, 97)), (1001, 1))
    found = rank_all(generator.normal(size=(3, 97)), items, pairs(), pairs((0, 0), (1, 500), (2, 1000)))
    assert found.ranks.tolist() == [1001] * 3


def test_repeated_and_seen_test_pairs() -> None:
    found = rank_all(np.eye(3), np.eye(3), pairs((0, 0)), pairs((1, 1), (1, 1), (0, 0), (2, 0)))
    assert found.dropped == 1
    assert found.users.tolist() == [1, 2]
    assert len(found.ranks) == 2
    assert found.per_user["recall@5"].tolist() == [1.0, 1.0]


def test_numbering_of_users_and_items_does_not_matter() -> None:
    generator = np.random.default_rng(2)
    users, items = generator.normal(size=(20, 4)), generator.normal(size=(30, 4))
    seen, test = generator.integers(0, 20, (50, 2)), generator.integers(0, 20, (40, 2))
    move_u, move_i = generator.permutation(20), generator.permutation(30)
    moved_u, moved_i = np.empty_like(users), np.empty_like(items)
    moved_u[move_u], moved_i[move_i] = users, items
    moved = [np.stack([move_u[p[:, 0]], move_i[p[:, 1]]], axis=1) for p in (seen, test)]
    assert rank_all(moved_u, moved_i, *moved).mean() == pytest.approx(
        rank_all(users, items, seen, test).mean()
    )


def test_intervals_surround_the_means() -> None:
    generator = np.random.default_rng(3)
    found = rank_all(
        generator.normal(size=(60, 4)),
        generator.normal(size=(40, 4)),
        pairs(),
        pairs(*((u, u % 40) for u in range(60))),
    )
    for metric, interval in found.intervals().items():
        assert interval.low <= found.mean()[metric] <= interval.high
        assert interval.mean == pytest.approx(found.mean()[metric])


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range"):
        rank_all(np.eye(3), np.eye(3), pairs(), pairs((0, 3)))
    with pytest.raises(ValueError, match="out of range"):
        rank_all(np.eye(3), np.eye(3), pairs((-1, 0)), pairs((0, 1)))
    with pytest.raises(ValueError, match="not finite"):
        rank_all(np.full((3, 3), np.nan), np.eye(3), pairs(), pairs((0, 1)))
    with pytest.raises(UserError, match="no test interaction"):
        rank_all(np.eye(3), np.eye(3), pairs((0, 1)), pairs((0, 1)))
