"""Balanced k-means: sizes by law, quality by oracles (unbalanced k-means, exact assignment)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.optimize import linear_sum_assignment

from forwhy.errors import UserError
from forwhy.vocabulary.indices import clusters as balanced
from forwhy.vocabulary.indices.clusters import balanced_kmeans, ranks, split


def points(count: int, dims: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dims), np.float32)


def centres(x: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return np.stack([x[labels == code].mean(0, dtype=np.float64) for code in range(k)])


def inertia(x: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> float:
    return float(((x - centres(x, labels, k)[labels]) ** 2).sum())


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 90), k=st.integers(1, 40), dims=st.integers(1, 5), data=st.data())
def test_sizes_are_floor_or_ceil(count: int, k: int, dims: int, data: st.DataObject) -> None:
    distinct = data.draw(st.integers(1, count))
    x = points(distinct, dims)[np.random.default_rng(1).integers(0, distinct, count)]
    sizes = np.bincount(balanced_kmeans(x, k, iterations=3), minlength=k)
    assert len(sizes) == k
    assert set(sizes) <= {count // k, -(-count // k)}


def test_sizes_hold_when_points_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced, "BLOCK", 1000)
    monkeypatch.setattr(balanced, "SAMPLE", 200)
    x = points(1003)
    labels = balanced_kmeans(x, 7)
    assert sorted(np.bincount(labels)) == [143] * 5 + [144] * 2
    monkeypatch.undo()
    assert inertia(x, labels, 7) < 1.1 * inertia(x, balanced_kmeans(x, 7), 7)


def test_problems_solved_together_have_sizes_each() -> None:
    labels = split(points(5 * 33).reshape(5, 33, 8), 4, np.random.default_rng(0), 8)
    for row in labels:
        assert sorted(np.bincount(row, minlength=4)) == [8, 8, 8, 9]


def test_same_seed_same_bytes_and_far_or_large_vectors_change_nothing() -> None:
    x = points(300)
    labels = balanced_kmeans(x, 10, seed=4)
    assert labels.tobytes() == balanced_kmeans(x.copy(), 10, seed=4).tobytes()
    assert np.array_equal(labels, balanced_kmeans(x * 2.0**100, 10, seed=4))
    assert not np.array_equal(labels, balanced_kmeans(x, 10, seed=5))


def test_equal_groups_far_apart_are_found() -> None:
    place = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 25))
    labels = balanced_kmeans(100.0 * np.eye(6, dtype=np.float32)[place] + 0.1 * points(150, 6), 6)
    assert len({(int(a), int(b)) for a, b in zip(place, labels, strict=True)}) == 6


@pytest.mark.parametrize(("count", "k"), [(600, 10), (1000, 30)])
def test_within_a_tenth_of_unbalanced_kmeans(count: int, k: int) -> None:
    x = points(count)
    theirs = min(
        inertia(x, kmeans2(x, k, minit="++", seed=seed, iter=30)[1].astype(np.int64), k) for seed in range(3)
    )
    assert inertia(x, balanced_kmeans(x, k), k) < 1.1 * theirs


@pytest.mark.parametrize(("count", "k"), [(60, 6), (61, 6), (240, 12)])
def test_assignment_at_settled_prices_is_the_exact_one_within_a_hundredth(count: int, k: int) -> None:
    x, middle = points(count), points(k, seed=3)
    far = ((x[:, None] - middle[None]) ** 2).sum(2)
    labels = balanced._assign(x[None], middle[None], np.zeros((1, k), np.float32), 500)[0][0]
    slots = np.repeat(np.arange(k), np.bincount(labels, minlength=k))
    rows, chosen = linear_sum_assignment(far[:, slots])
    exact = far[rows, slots[chosen]].sum()
    assert 0.999 * exact <= far[rows, labels].sum() <= 1.01 * exact
    assert far.min(1).sum() < 0.95 * exact  # without capacities it would be far cheaper


@pytest.mark.parametrize("count", [12, 60, 240])
def test_whole_is_near_lloyd_with_exact_assignment(count: int) -> None:
    x, k = points(count, 4), max(count // 20, 3)
    exact = []
    for seed in range(5):
        middle = x[np.random.default_rng(seed).choice(count, k, replace=False)].astype(np.float64)
        for _ in range(15):
            slots = np.repeat(np.arange(k), count // k)
            labels = slots[linear_sum_assignment(((x[:, None] - middle[slots]) ** 2).sum(2))[1]]
            middle = centres(x, labels, k)
        exact.append(inertia(x, labels, k))
    assert inertia(x, balanced_kmeans(x, k), k) < 1.15 * np.median(exact)


def test_masses_of_equal_points_are_dealt_out() -> None:
    x = np.concatenate([np.zeros((3000, 4), np.float32), points(1000, 4)])
    sizes = np.bincount(balanced_kmeans(x, 100, iterations=4), minlength=100)
    assert set(sizes) == {40}


def test_ranks_follow_the_axis_and_keep_ties_in_order() -> None:
    line = np.array([3.0, -1, 2, 0])[:, None] * np.array([1.0, 2, 0])
    x = np.stack([line, -line]).astype(np.float32)
    axis = np.array([1.0, 0, 0], np.float32)
    assert ranks(x, axis).tolist() == [[3, 0, 2, 1], [0, 3, 1, 2]]
    assert ranks(np.ones((1, 4, 2), np.float32)).tolist() == [[0, 1, 2, 3]]
    wide = np.random.default_rng(0).standard_normal((2, 5, 9)).astype(np.float32)
    tall = np.concatenate([wide, np.repeat(wide.mean(1, keepdims=True), 9, axis=1)], axis=1)
    assert np.array_equal(ranks(wide).argsort(1), ranks(tall)[:, :5].argsort(1).argsort(1).argsort(1))


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (np.array([[0.0], [np.nan], [np.inf]]), "row 1 .*2 such rows.*NaN or infinity"),
        (np.zeros((0, 3)), "not a table"),
        (np.zeros((3, 0)), "not a table"),
        (np.zeros(3), "not a table"),
        (np.array([["a"]]), "not a table"),
    ],
)
def test_bad_vectors_are_refused(x: NDArray[np.float64], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        balanced_kmeans(x, 2)


def test_no_cluster_is_refused() -> None:
    with pytest.raises(UserError, match="k = 0"):
        balanced_kmeans(points(3), 0)
