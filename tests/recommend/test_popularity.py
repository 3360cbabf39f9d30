"""Popularity counts training pairs, for everyone alike."""

import numpy as np
import polars as pl

from forwhy.data.dataset import make_dataset
from forwhy.data.sequences import Histories
from forwhy.recommend.popularity import PopularityRecommender


def recommender() -> PopularityRecommender:
    rows = [("a", "x"), ("b", "x"), ("c", "x"), ("a", "y"), ("b", "y"), ("c", "z"), ("d", "z"), ("d", "w")]
    table = pl.DataFrame(
        {"user_id": [u for u, _ in rows], "item_id": [i for _, i in rows], "split": ["train"] * 7 + ["test"]}
    )
    return PopularityRecommender.fit(make_dataset("toy", {"interactions": table}, {}))


def test_counts_of_training_pairs_in_order() -> None:
    table = recommender().recommend("d", k=10, filter_seen=False)
    assert table["item_id"].to_list() == ["x", "y", "z", "w"]
    assert table["score"].to_list() == [3, 2, 2, 0]
    assert recommender().recommend("d", k=10)["item_id"].to_list() == ["x", "y", "w"]


def test_a_history_only_hides() -> None:
    assert recommender().recommend(history=["x"], k=2)["item_id"].to_list() == ["y", "z"]
    assert recommender().score(["a", "d"], "x").tolist() == [3, 3]


def test_scores_are_new_memory() -> None:
    found = recommender()
    found.scores(np.array([0, 1]))[:] = -1
    found.scores_after(Histories.of([[0]]))[:] = -1
    assert found.score("a", "x").tolist() == [3]
