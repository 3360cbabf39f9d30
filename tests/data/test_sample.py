"""The little town: its right answers are known, and the data show them."""

import numpy as np
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sample import MOMENTS, QUARTERS, TASTES, little_town, town_truth
from forwhy.errors import UserError


@pytest.fixture(scope="module")
def town() -> Dataset:
    return little_town()


def recall(dataset: Dataset, scores: np.ndarray, k: int = 20) -> float:
    train, test = dataset.edges("train"), dataset.edges("test")
    scores = scores.astype(np.float64)
    scores[train[:, 0], train[:, 1]] = -np.inf
    top = np.argsort(-scores, axis=1)[:, :k]
    hits = [item in top[user] for user, item in test.tolist()]
    return float(np.mean(hits))


def test_same_seed_same_bytes(town: Dataset) -> None:
    assert little_town().fingerprint == town.fingerprint
    assert little_town(seed=1).fingerprint != town.fingerprint


def test_sizes_and_no_leaks(town: Dataset) -> None:
    summary = town.summary()
    assert (summary["users"], summary["items"]) == (600, 400)
    assert summary["explanations"] == {"train": 900, "valid": 60, "test": 60}
    assert summary["leaks"]["heldout_pairs_in_train_graph"] == 0
    assert summary["leaks"]["train_explanations_in_heldout_interactions"] == 0
    assert summary["leaks"]["users_without_training_edges"] == 0


def test_truth_explains_every_pair(town: Dataset) -> None:
    truth = town_truth(town)
    for split in ("train", "valid", "test"):
        pairs = town.pairs(split)
        for user, item, text in zip(pairs.users, pairs.items, pairs.texts, strict=True):
            assert text == truth.explanation(user, item)
            assert 12 <= len(text.split()) <= 32
            assert TASTES[truth.shared_taste(user, item)]["want"] in text
            assert QUARTERS[truth.items["quarter"][item]]["where"] in text


def test_unexplained_pair_has_no_explanation(town: Dataset) -> None:
    truth = town_truth(town)
    item = next(item for item in range(400) if truth.shared_taste(0, item) is None)
    with pytest.raises(KeyError):
        truth.explanation(0, item)


def test_truth_ranks_best_and_a_factorisation_finds_it(town: Dataset) -> None:
    oracle = recall(town, town_truth(town).affinity())
    adjacency = np.zeros((600, 400))
    train = town.edges("train")
    adjacency[train[:, 0], train[:, 1]] = 1
    popular = recall(town, np.tile(adjacency.sum(0), (600, 1)))
    left, sizes, right = np.linalg.svd(adjacency, full_matrices=False)
    found = recall(town, left[:, :24] * sizes[:24] @ right[:24])
    assert oracle > 0.8
    assert 0.5 < found < oracle
    assert popular < 0.15


def test_phrases_belong_to_the_hidden_attributes(town: Dataset) -> None:
    truth = town_truth(town)
    for side, hidden in (("user", truth.users), ("item", truth.items)):
        for entity, phrases in town.phrases(side).items():
            first, second = (TASTES[taste][side] for taste in hidden["tastes"][entity])
            assert set(phrases[:2]) <= set(first)
            assert phrases[2] in QUARTERS[hidden["quarter"][entity]][side]
            assert set(phrases[3:5]) <= set(second)
            assert phrases[5] in MOMENTS[hidden["moment"][entity]][side]


def test_phrases_are_said_of_one_attribute_only() -> None:
    said = [
        phrase
        for group in (*QUARTERS, *MOMENTS, *TASTES)
        for side in (group["user"], group["item"])
        for phrase in side
    ]
    doubles = {phrase for phrase in said if said.count(phrase) > 1}
    assert all(sum(phrase in (*group["user"], *group["item"]) for group in TASTES) <= 1 for phrase in doubles)


def test_any_size_works_and_names_stay_unique() -> None:
    small = little_town(users=4, items=12, visits=4)
    assert len(small.edges("train")) > 0
    large = little_town(users=1300, items=600, visits=6, explanations=(5, 2, 2))
    assert len(large.users) == 1300
    assert len(large.items) == 600
    assert len(set(large.titles())) == 600
    with pytest.raises(UserError, match="needs at least"):
        little_town(users=2)


def test_truth_is_known_of_towns_only() -> None:
    other = make_dataset("other", {"interactions": little_town(users=5, items=12).tables["interactions"]})
    with pytest.raises(UserError, match="not a little town"):
        town_truth(other)


def test_no_held_out_explanation_was_told_in_training() -> None:
    town = little_town(seed=3, users=200, items=120)
    told = set(town.pairs("train").texts)
    for split in ("valid", "test"):
        texts = town.pairs(split).texts
        assert texts
        assert not told & set(texts)
