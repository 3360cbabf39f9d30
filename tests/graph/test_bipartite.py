"""Normalised adjacency, spectral embeddings and negatives against independent implementations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.graph import bipartite
from forwhy.graph.bipartite import (
    Bipartite,
    Negatives,
    hits_and_recall,
    right_vectors,
    spectral_embeddings,
)

from .conftest import dense_normalised, graphs


def random_graph(users: int = 23, items: int = 17, seed: int = 0) -> Bipartite:
    rng = np.random.default_rng(seed)
    edges = np.unique(np.stack([rng.integers(0, users - 1, 150), rng.integers(0, items, 150)], 1), axis=0)
    return Bipartite(edges.astype(np.int64), users, items)  # the last user has no edge


def test_the_adjacency_is_that_of_equation_2() -> None:
    graph = random_graph()
    np.testing.assert_allclose(graph.normalised.toarray(), dense_normalised(graph), atol=1e-6)


def test_repeated_edges_count_once() -> None:
    graph = random_graph()
    twice = Bipartite(np.concatenate([graph.edges, graph.edges]), graph.users, graph.items)
    assert (twice.normalised != graph.normalised).nnz == 0


def test_neighbour_means_are_means() -> None:
    graph = random_graph()
    rows = graph.to_users.toarray().sum(1)
    np.testing.assert_allclose(rows, graph.user_degrees > 0, atol=1e-6)


def test_the_singular_vectors_are_numpys() -> None:
    graph = random_graph()
    right = right_vectors(graph, 5, seed=0, iterations=20)
    expected = np.linalg.svd(dense_normalised(graph))
    np.testing.assert_allclose(right.T @ right, np.eye(5), atol=1e-5)
    np.testing.assert_allclose(np.abs(np.diag(expected[2][:5] @ right)), 1, atol=1e-3)
    left = dense_normalised(graph) @ right
    np.testing.assert_allclose(np.linalg.norm(left, axis=0), expected[1][:5], atol=1e-4)
    best = expected[0][:, :5] * expected[1][:5] @ expected[2][:5]
    np.testing.assert_allclose(left @ right.T, best, atol=1e-3)
    assert (right.sum(0) >= 0).all()


def test_spectral_scores_rank_like_the_closed_form_filter() -> None:
    graph = random_graph()
    users, items = spectral_embeddings(graph, 6)
    right = np.linalg.svd(dense_normalised(graph))[2][:6].T
    degrees = np.maximum(graph.item_degrees, 1)
    expected = graph.incidence.toarray() @ np.diag(degrees**-0.5) @ right @ right.T @ np.diag(degrees**0.5)
    norms = np.linalg.norm(
        graph.incidence.toarray() @ (right / np.sqrt(degrees)[:, None]), axis=1, keepdims=True
    )
    np.testing.assert_allclose(users @ items.T * norms, expected, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), graph.user_degrees > 0, atol=1e-5)


def test_the_same_seed_gives_the_same_bytes() -> None:
    graph = random_graph()
    first, second = spectral_embeddings(graph, 4, seed=3), spectral_embeddings(graph, 4, seed=3)
    assert all((one == other).all() for one, other in zip(first, second, strict=True))


def test_width_is_capped_by_the_graph() -> None:
    assert spectral_embeddings(random_graph(6, 5), 64)[0].shape == (6, 5)


# --- Negatives.


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_negatives_are_all_the_absent_items_and_no_other(graph: Bipartite, seed: int) -> None:
    taken = {tuple(edge) for edge in graph.edges.tolist()}
    absent = {(u, i) for u in range(graph.users) for i in range(graph.items)} - taken
    negatives = Negatives(graph)
    assert (negatives.absent > 0).tolist() == [
        any(u == user for u, _ in absent) for user in range(graph.users)
    ]
    users = np.repeat(np.flatnonzero(negatives.absent), 200)
    drawn = negatives.draw(users, np.random.default_rng(seed))
    assert set(zip(users.tolist(), drawn.tolist(), strict=True)) == absent


def test_negatives_are_uniform() -> None:
    graph = Bipartite(np.array([[0, 0], [0, 3], [0, 4]]), 1, 8)
    drawn = Negatives(graph).draw(np.zeros(50_000, np.int64), np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=8) / len(drawn)
    np.testing.assert_allclose(shares, [0, 0.2, 0.2, 0, 0, 0.2, 0.2, 0.2], atol=0.01)


def test_as_many_dimensions_as_asked_and_as_there_are() -> None:
    graph = random_graph()
    for asked, given_ in ((1, 1), (4, 4), (99, 17)):
        assert right_vectors(graph, asked, seed=0).shape == (17, given_)
        assert [len(vectors[0]) for vectors in spectral_embeddings(graph, asked)] == [given_, given_]


def test_many_users_are_validated_by_a_draw_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((count, 4)).astype(np.float32) for count in (400, 30))
    graph = Bipartite(np.stack([np.arange(400), rng.integers(0, 30, 400)], 1), 400, 30)
    valid = np.unique(rng.integers(0, [400, 30], (900, 2)), axis=0)
    monkeypatch.setattr(bipartite, "SCORES_AT_ONCE", 70)  # two users at a time
    whole = hits_and_recall(users, items, graph, valid, 5)
    monkeypatch.setattr(bipartite, "SCORES_AT_ONCE", 10)  # fewer than a user has
    assert hits_and_recall(users, items, graph, valid, 5) == whole
    monkeypatch.setattr(bipartite, "MOST_VALIDATED", 200)
    drawn = hits_and_recall(users, items, graph, valid, 5)
    assert drawn == hits_and_recall(users, items, graph, valid, 5)
    np.testing.assert_allclose(drawn, whole, atol=0.08)  # two hundred of four hundred
    assert drawn != whole
