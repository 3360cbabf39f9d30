"""Ranks of left-out items against a plain loop and ranx; lists agree with full ranking as far as they go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.histories import Heldout, Histories, Sequences
from forwhy.errors import UserError
from forwhy.evaluate.ranking import RankingResult, rank_lists, rank_sequences, top_items

USERS, ITEMS = 40, 30


def made(seed: int, repeats: bool = True) -> Sequences:
    """Random histories; every fifth user has too few items to leave any out."""
    generator = np.random.default_rng(seed)
    rows = [generator.choice(ITEMS, generator.integers(2, 9), replace=repeats) for _ in range(USERS)]
    left_out = np.arange(USERS) % 5 > 0
    valid = np.where(left_out, [row[-2] for row in rows], -1)
    test = np.where(left_out, [row[-1] for row in rows], -1)
    return Sequences(Histories.of([row[:-2] for row in rows]), valid, test, ITEMS)


def by_loop(
    scores: np.ndarray, sequences: Sequences, split: Heldout, ks: tuple[int, ...], filter_seen: bool
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for user in range(USERS):
        target = int(sequences.targets(split)[user])
        hidden = set(sequences.histories(split)[user].tolist()) if filter_seen else set()
        if target < 0:
            continue
        others = [scores[user, item] for item in range(ITEMS) if item != target and item not in hidden]
        rank = 1 + sum(other >= scores[user, target] for other in others)
        if target in hidden:
            rank = max(ITEMS, *ks) + 1
        found.setdefault("mrr", []).append(1 / rank)
        for k in ks:
            found.setdefault(f"recall@{k}", []).append(float(rank <= k))
            found.setdefault(f"ndcg@{k}", []).append(1 / np.log2(rank + 1) if rank <= k else 0.0)
            found.setdefault(f"mrr@{k}", []).append(1 / rank if rank <= k else 0.0)
    return found


@given(st.integers(0, 10_000), st.integers(1, 12), st.booleans(), st.sampled_from(["valid", "test"]))
@settings(max_examples=40, deadline=None)
def test_ranks_equal_a_plain_loop(seed: int, levels: int, filter_seen: bool, split: Heldout) -> None:
    sequences = made(seed)
    scores = np.random.default_rng(seed).integers(0, levels, (USERS, ITEMS)).astype(np.float32)
    expected = by_loop(scores, sequences, split, (1, 5, 50), filter_seen)
    found = rank_sequences(lambda users: scores[users], sequences, split, (1, 5, 50), filter_seen)
    of_lists = {metric for metric in found.per_user if metric.startswith(("novelty", "popularity"))}
    assert set(found.per_user) - of_lists == set(expected)
    for metric, values in expected.items():
        assert found.per_user[metric].tolist() == pytest.approx(values)
    assert found.users.tolist() == sequences.evaluated(split).tolist()
    assert found.dropped == 0


def test_ranks_equal_ranx() -> None:
    import ranx

    sequences = made(3)
    scores = np.random.default_rng(3).normal(size=(USERS, ITEMS)).astype(np.float32)
    found = rank_sequences(lambda users: scores[users], sequences)
    users = sequences.evaluated("test")
    right = {str(user): {str(sequences.test[user]): 1} for user in users}
    run = {str(user): {str(item): float(scores[user, item]) for item in range(ITEMS)} for user in users}
    names = [f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (1, 5, 10, 20)] + ["mrr"]
    theirs = ranx.evaluate(right, run, names)
    assert {name: found.mean()[name] for name in names} == pytest.approx(theirs)


def listed(scores: np.ndarray, sequences: Sequences, places: int) -> RankingResult:
    lists = top_items(scores[sequences.evaluated("test")].copy(), places)
    return rank_lists(lists, sequences, ks=(1, 5))


@pytest.mark.parametrize("places", [5, 9, ITEMS])
def test_lists_agree_with_full_ranking(places: int) -> None:
    sequences = made(4)
    scores = np.random.default_rng(4).normal(size=(USERS, ITEMS)).astype(np.float32)
    whole = rank_sequences(lambda users: scores[users], sequences, ks=(1, 5))
    cut = listed(scores, sequences, places)
    assert cut.users.tolist() == whole.users.tolist()
    assert cut.coverage == whole.coverage
    assert set(whole.per_user) - set(cut.per_user) == {"mrr"}
    for metric, values in cut.per_user.items():
        assert values.tolist() == pytest.approx(whole.per_user[metric].tolist()), metric
    reached = whole.ranks <= places
    assert cut.ranks[reached].tolist() == whole.ranks[reached].tolist()
    assert (cut.ranks[~reached] > ITEMS).all()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_seen_out_means_the_same_of_scores_and_of_lists(split: Heldout) -> None:
    """A tiny world in which people take things again; the lists are what a model writes with these items hidden."""
    sequences = made(6)
    targets, histories = sequences.targets(split), sequences.histories(split)
    again = [user for user in sequences.evaluated(split) if targets[user] in histories[user]]
    assert again
    scores = np.random.default_rng(6).normal(size=(USERS, ITEMS)).astype(np.float32)
    whole = rank_sequences(lambda users: scores[users], sequences, split, (1, 5), filter_seen=True)
    users = sequences.evaluated(split)
    lists = np.full((len(users), 5), -1)
    for row, user in enumerate(users):
        order = [item for item in np.argsort(-scores[user]).tolist() if item not in histories[user]]
        lists[row] = order[:5]  # five unseen ones, however many of the best are seen
    listed = rank_lists(lists, sequences, split, (1, 5))
    assert listed.users.tolist() == whole.users.tolist()
    assert listed.coverage == whole.coverage
    for metric, values in listed.per_user.items():
        assert values.tolist() == pytest.approx(whole.per_user[metric].tolist()), metric
    repeats = np.isin(users, again)
    assert (whole.ranks[repeats] == ITEMS + 1).all(), "what is not offered cannot be hit"
    as_it_is = rank_sequences(lambda users: scores[users], sequences, split, (1, 5))
    assert (whole.ranks <= as_it_is.ranks)[~repeats].all()
    assert (whole.ranks < as_it_is.ranks).any()


def test_a_miss_is_a_miss_in_the_smallest_catalogue() -> None:
    sequences = Sequences(Histories.of([[0], [1]]), np.array([1, 2]), np.array([2, 0]), 3)
    found = rank_lists(np.array([[0, 1, -1], [0, 1, 2]]), sequences, ks=(1, 20))
    assert found.per_user["recall@20"].tolist() == [0.0, 1.0]
    assert found.per_user["recall@1"].tolist() == [0.0, 1.0]


def test_an_empty_list_is_a_miss() -> None:
    sequences = Sequences(Histories.of([[0], [1]]), np.array([1, 2]), np.array([2, 0]), 3)
    found = rank_lists(np.array([[2, 0, 1], [-1, -1, -1]]), sequences, ks=(1, 3))
    assert found.per_user["recall@3"].tolist() == [1.0, 0.0]
    assert np.isfinite(np.stack(list(found.per_user.values()))).all()


@pytest.mark.parametrize("row", [[0, 0, 1], [-1, 0, 1], [0, -1, 1], [0, 1, 3]])
def test_rows_that_are_no_lists_are_refused(row: list[int]) -> None:
    sequences = Sequences(Histories.of([[0], [1]]), np.array([1, 2]), np.array([2, 0]), 3)
    with pytest.raises(ValueError, match="list 1 is no list of distinct items"):
        rank_lists(np.array([[0, 1, 2], row]), sequences, ks=(1,))
    with pytest.raises(ValueError, match="one row for each of 2"):
        rank_lists(np.array([row]), sequences, ks=(1,))


def test_what_lists_cannot_tell_is_refused() -> None:
    sequences = made(1)
    scores = np.zeros((USERS, ITEMS), np.float32)
    with pytest.raises(UserError, match="k = 5: the lists end at 4 items"):
        listed(scores, sequences, 4)


def test_nobody_to_rank_is_the_callers_error() -> None:
    none = Sequences(Histories.of([[0, 1], [1]]), np.array([-1, -1]), np.array([-1, -1]), 3)
    for call in (
        lambda: rank_sequences(lambda users: np.zeros((len(users), 3), np.float32), none),
        lambda: rank_lists(np.empty((0, 3), np.int64), none),
    ):
        with pytest.raises(UserError, match="no user has a test item"):
            call()
