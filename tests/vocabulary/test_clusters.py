"""Clusters of equal size, and codes from clusters of clusters: sizes by law, quality by oracles, every row once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.optimize import linear_sum_assignment

from forwhy.errors import UserError
from forwhy.vocabulary import clusters
from forwhy.vocabulary.clusters import (
    checked_vectors,
    even_width,
    hierarchical_codes,
    needed_depth,
    product_codes,
    random_codes,
    ranks,
    split,
    tree_shape,
)
from forwhy.vocabulary.indexing import neighbour_purity

# --- Balanced k-means, against unbalanced k-means and exact assignment.


def balanced_kmeans(x: NDArray[np.float32], k: int, seed: int = 0, iterations: int = 16) -> NDArray[np.int64]:
    """One problem's clusters."""
    return split(checked_vectors(x, "vectors")[None], k, np.random.default_rng(seed), iterations)[0]


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
    monkeypatch.setattr(clusters, "BLOCK", 1000)
    monkeypatch.setattr(clusters, "SAMPLE", 200)
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
    labels = clusters._assign(x[None], middle[None], np.zeros((1, k), np.float32), 500)[0][0]
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


# --- Hierarchical codes.


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 120),
    width=st.integers(2, 12),
    more=st.integers(0, 2),
    order=st.sampled_from(["pca", "distance", "random"]),
    distinct=st.integers(1, 120),
    dims=st.integers(1, 4),
)
def test_every_row_once_within_the_width(
    count: int, width: int, more: int, order: str, distinct: int, dims: int
) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((distinct, dims))[random.integers(0, distinct, count)]
    depth = needed_depth(count, width) + more
    codes = hierarchical_codes(vectors, width, depth, order, iterations=2)
    assert codes.shape == (count, depth)
    assert codes.dtype == np.int32
    assert codes.min() >= 0
    assert codes.max() < width
    assert len(np.unique(codes, axis=0)) == count
    for level in range(1, depth):  # clusters of one level differ by one item at most
        sizes = np.unique(codes[:, :level], axis=0, return_counts=True)[1]
        assert sizes.max() <= max(-(-count // width**level), 1)


@settings(max_examples=200, deadline=None)
@given(count=st.integers(1, 10**7), width=st.integers(2, 2000), depth=st.integers(1, 8))
def test_shape_is_the_least_that_holds_all(count: int, width: int, depth: int) -> None:
    least = needed_depth(count, width)
    assert width**least >= count
    assert least == 1 or width ** (least - 1) < count
    even = even_width(count, depth)
    assert even**depth >= count
    assert even == 1 or (even - 1) ** depth < count
    assert tree_shape(count, width, "auto") == (width, least)
    assert tree_shape(count, "auto", depth) == (even, depth)


def test_shape_of_the_published_catalogues() -> None:
    assert [tree_shape(items, 256, "auto") for items in (12_101, 18_357, 9_922)] == [(256, 2)] * 3
    assert tree_shape(12_101, "auto", "auto") == (111, 2)
    assert tree_shape(1_000_000, "auto", "auto") == (100, 3)


def test_more_items_than_codes_says_what_would_do() -> None:
    with pytest.raises(UserError, match="64 codes for 65 items; use depth 4 or width 5"):
        hierarchical_codes(np.eye(65), 4, 3)
    with pytest.raises(UserError, match="64 codes for 65 items; use depth 4 or width 5"):
        random_codes(65, 4, 3)


def test_same_seed_same_bytes_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((400, 6))
    codes = hierarchical_codes(x, 8, 3, seed=2)
    assert codes.tobytes() == hierarchical_codes(x.copy(), 8, 3, seed=2).tobytes()
    assert not np.array_equal(codes, hierarchical_codes(x, 8, 3, seed=3))
    monkeypatch.setattr(clusters, "TOGETHER", 125)
    small = hierarchical_codes(x, 8, 3, seed=2)
    assert len(np.unique(small, axis=0)) == 400
    assert np.array_equal(small[:, 0], codes[:, 0])


def test_few_items_are_numbered_at_once() -> None:
    line = np.array([[2.0], [0.0], [1.0]])
    assert hierarchical_codes(line, 256, 2).tolist() == [[2, 0], [0, 0], [1, 0]]
    assert hierarchical_codes(line, 256, 1, "distance").tolist() == [[1], [2], [0]]
    assert hierarchical_codes(np.zeros((1, 3)), 2, 1).tolist() == [[0]]
    assert hierarchical_codes(np.zeros((3, 3)), 4, 1).tolist() == [[0], [1], [2]]


def test_leaves_run_along_their_own_axis_and_all_the_same_way() -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 5)) * [9, 1, 1, 1, 1]
    codes = hierarchical_codes(vectors, 20, 2)
    whole = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2][0]
    ways = []
    for code in range(20):
        inside = vectors[codes[:, 0] == code]
        axis = np.linalg.svd(inside - inside.mean(0), full_matrices=False)[2][0]
        places = (inside @ axis * np.sign(axis @ whole)).argsort().argsort()
        leaves = codes[codes[:, 0] == code, 1]
        assert np.array_equal(places, leaves) or np.array_equal(places, 14 - leaves)
        ways.append(np.array_equal(places, leaves))
    assert len(set(ways)) == 1


def test_neighbours_share_codes_far_beyond_chance() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((40, 16))[random.integers(0, 40, 1500)] + 0.3 * random.standard_normal(
        (1500, 16)
    )
    ours = neighbour_purity(hierarchical_codes(vectors, 32, 3)[:, 0], vectors)
    none = neighbour_purity(random_codes(1500, 32, 3)[:, 0], vectors)
    assert ours["neighbours"] > 0.5
    assert none["neighbours"] == pytest.approx(none["chance"], abs=0.01)
    assert ours["chance"] == pytest.approx(1 / 32, abs=0.001)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 200), width=st.integers(2, 20), more=st.integers(0, 3), seed=st.integers(0, 9))
def test_random_codes_are_unique_in_every_half(count: int, width: int, more: int, seed: int) -> None:
    least = needed_depth(count, width)
    codes = random_codes(count, width, least + more, seed)
    assert len(np.unique(codes[:, :least], axis=0)) == count
    assert codes.max() < width
    assert np.array_equal(codes, random_codes(count, width, least + more, seed))
    if more >= least:
        assert len(np.unique(codes[:, least : 2 * least], axis=0)) == count


# --- Product codes.


def test_each_part_is_balanced_and_as_many_as_the_vectors_have_coordinates() -> None:
    codes = product_codes(points(103, 20), 8, 5)
    assert codes.shape == (103, 5)
    assert codes.dtype == np.int32
    for level in codes.T:
        assert set(np.bincount(level, minlength=8)) <= {12, 13}
    assert product_codes(points(50, 3), 8, 5).shape == (50, 3)
    assert product_codes(points(1, 4), 8, 2).tolist() == [[0, 0]]
    assert np.sort(product_codes(points(3, 4), 8, 2), axis=0).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_parts_vary_alike_and_the_rotation_leaves_less_error() -> None:
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.standard_normal((12, 12)))[0]
    x = checked_vectors((points(800, 12) * 0.7 ** np.arange(12)) @ turn, "vectors")
    dealt = clusters.dealt_axes(np.linalg.eigvalsh(x.T @ x)[::-1], 4, 3)
    assert sorted(dealt.ravel().tolist()) == list(range(12))
    logs = np.log(np.linalg.eigvalsh(x.T @ x)[::-1])[dealt].sum(1)
    assert np.ptp(logs) < 0.2 * np.ptp(np.log(0.49) * np.arange(12).reshape(4, 3).sum(1))

    def error(codes: NDArray[np.int32]) -> float:
        """Squared distance left when all codes together predict the vector, by least squares."""
        given = np.concatenate([np.eye(16)[level] for level in codes.T], axis=1)
        return float(np.linalg.norm(x - given @ np.linalg.lstsq(given, x, rcond=None)[0]) ** 2)

    plain = np.stack([balanced_kmeans(x[:, start : start + 3], 16) for start in range(0, 12, 3)], axis=1)
    assert error(product_codes(x, 16, 4)) < 0.9 * error(plain.astype(np.int32))


def test_the_same_seed_gives_the_same_product_codes() -> None:
    x = points(200, 12)
    first = product_codes(x, 8, 3, seed=1)
    assert first.tobytes() == product_codes(x.copy(), 8, 3, seed=1).tobytes()
    assert not np.array_equal(first, product_codes(x, 8, 3, seed=2))
