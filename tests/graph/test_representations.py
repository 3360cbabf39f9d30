"""Collaborative vectors are saved and read back, know newcomers by a history, and say who has one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.graph.representations import CollaborativeVectors
from forwhy.testing import artifact_laws


def test_vectors_obey_the_artifact_laws(vectors: CollaborativeVectors, tmp_path: Path) -> None:
    artifact_laws(lambda: vectors, tmp_path / "laws")
    vectors.save_pretrained(tmp_path / "saved")
    read = CollaborativeVectors.from_pretrained(tmp_path / "saved")
    assert (read.catalogue.users, read.catalogue.items, read.catalogue.titles) == (
        vectors.catalogue.users,
        vectors.catalogue.items,
        vectors.catalogue.titles,
    )
    assert (read.config, read.metrics, read.dims) == (vectors.config, vectors.metrics, 8)
    for side in ("user", "item"):
        np.testing.assert_array_equal(read.representation(side), vectors.representation(side))
    np.testing.assert_array_equal(read.catalogue.taken, vectors.catalogue.taken)
    for name in ("fold_in", "seen"):
        np.testing.assert_array_equal(getattr(read, name), getattr(vectors, name))


def test_a_history_is_a_set_of_known_items(vectors: CollaborativeVectors) -> None:
    once = vectors.representation_for_history([3, 8])
    np.testing.assert_array_equal(vectors.representation_for_history([8, 3, 3]), once)
    assert once.shape == (8,)
    assert once.dtype == np.float32
    with pytest.raises(UserError, match="history: empty"):
        vectors.representation_for_history([])
    with pytest.raises(UserError, match="from 0 to 159, got 999"):
        vectors.representation_for_history([3, 999])


def test_folded_users_rank_their_own_items_high(vectors: CollaborativeVectors, town: Dataset) -> None:
    items = vectors.representation("item")
    lists = [vectors.seen[vectors.seen[:, 0] == user, 1] for user in range(len(town.users))]
    folded = np.stack([vectors.representation_for_history(history) for history in lists])
    own = vectors.representation("user")
    cosines = (folded * own).sum(1) / np.linalg.norm(folded, axis=1) / np.linalg.norm(own, axis=1)
    assert np.median(cosines) > 0.8
    ranks = (-folded @ items.T).argsort(1).argsort(1)
    assert np.mean([ranks[user, history].mean() for user, history in enumerate(lists)]) < len(items) / 4


def test_rows_of_items_are_theirs(vectors: CollaborativeVectors) -> None:
    np.testing.assert_array_equal(vectors.item_vectors([7, 2]), vectors.representation("item")[[7, 2]])


def test_history_is_an_edge_of_the_graph(vectors: CollaborativeVectors) -> None:
    for column, side in enumerate(("user", "item")):
        assert set(np.flatnonzero(vectors.has_history[side])) == set(vectors.seen[:, column])


def test_a_newcomers_score_is_the_sum_over_their_history(vectors: CollaborativeVectors) -> None:
    history = [3, 5, 3, 8]
    because = vectors.because(None, 7, history)
    score = vectors.representation_for_history(history) @ vectors.vectors["item"][7]
    assert because.score == pytest.approx(float(score), abs=1e-5)
    assert sum(one.contribution for one in because.shares) == pytest.approx(float(score), abs=1e-5)
    assert because.rest == pytest.approx(0.0, abs=1e-5)


def test_a_known_users_own_part_is_the_rest(vectors: CollaborativeVectors) -> None:
    because = vectors.because(2, 7)
    assert because.score == pytest.approx(
        float(vectors.vectors["user"][2] @ vectors.vectors["item"][7]), abs=1e-5
    )
    assert {one.item_id for one in because.shares} == {
        vectors.catalogue.items.values[i] for i in vectors.taken_by(2)
    }
    whole = sum(one.contribution for one in because.shares) + because.rest
    assert whole == pytest.approx(because.score, abs=1e-6)
    assert abs(because.rest) > 1e-6


def test_what_somebody_took_are_their_edges_each_once_in_the_order_of_the_graph(
    vectors: CollaborativeVectors,
) -> None:
    seen = np.concatenate([vectors.seen[::-1], vectors.seen[:5]])
    backward = replace(vectors, seen=seen)
    for user in range(len(vectors.catalogue.users)):
        items: list[int] = seen[seen[:, 0] == user, 1].tolist()
        assert backward.taken_by(user) == list(dict.fromkeys(items))
    nobody = replace(vectors, seen=np.empty((0, 2), np.int64))
    assert nobody.taken_by(0) == nobody.taken_by(None) == []
    assert nobody.taken_by(None, [3, 1, 3]) == [3, 1]
