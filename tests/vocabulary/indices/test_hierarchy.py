"""Hierarchical codes: unique for any catalogue, equal bytes, meaning at every level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.errors import UserError
from forwhy.vocabulary.indices import clusters as hierarchy
from forwhy.vocabulary.indices.build import neighbour_purity
from forwhy.vocabulary.indices.clusters import (
    LeafOrder,
    even_width,
    hierarchical_codes,
    needed_depth,
    random_codes,
    tree_shape,
)


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
    count: int, width: int, more: int, order: LeafOrder, distinct: int, dims: int
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
    monkeypatch.setattr(hierarchy, "TOGETHER", 125)
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
