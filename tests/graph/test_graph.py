"""Normalised adjacency, propagation and spectral embeddings against independent implementations."""

from functools import partial

import numpy as np
import pytest
import torch

from forwhy.graph.bipartite import Bipartite, right_vectors, spectral_embeddings
from forwhy.graph.lightgcn import Propagation


def random_graph(users: int = 23, items: int = 17, seed: int = 0) -> Bipartite:
    rng = np.random.default_rng(seed)
    edges = np.unique(np.stack([rng.integers(0, users - 1, 150), rng.integers(0, items, 150)], 1), axis=0)
    return Bipartite(edges.astype(np.int64), users, items)  # the last user has no edge


def dense_normalised(graph: Bipartite) -> np.ndarray:
    matrix = np.zeros((graph.users, graph.items))
    for user, item in graph.edges:
        matrix[user, item] = 1
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = matrix / np.sqrt(matrix.sum(1))[:, None] / np.sqrt(matrix.sum(0))
    return np.nan_to_num(normalised)


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


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_propagation_equals_powers_of_the_full_matrix(layers: int) -> None:
    graph = random_graph()
    n, m = graph.users, graph.items
    full = np.zeros((n + m, n + m))
    full[:n, n:] = dense_normalised(graph)
    full += full.T
    table = np.random.default_rng(1).standard_normal((n + m, 4))
    expected = sum(np.linalg.matrix_power(full, k) @ table for k in range(layers + 1)) / (layers + 1)
    start = torch.from_numpy(table.astype(np.float32))
    users, items = Propagation(graph)(start[:n], start[n:], layers)
    np.testing.assert_allclose(torch.cat([users, items]).numpy(), expected, atol=1e-5)


def test_propagation_has_the_right_gradient() -> None:
    graph = random_graph(6, 5)
    users = torch.randn(6, 2, requires_grad=True)
    items = torch.randn(5, 2, requires_grad=True)
    probe_users, probe_items = torch.randn(6, 2), torch.randn(5, 2)
    propagate = partial(Propagation(graph), layers=2)
    out_users, out_items = propagate(users, items)
    ((out_users * probe_users).sum() + (out_items * probe_items).sum()).backward()
    # The map is linear and symmetric, so its gradient is the map applied to the probe.
    back_users, back_items = propagate(probe_users, probe_items)
    torch.testing.assert_close(users.grad, back_users)
    torch.testing.assert_close(items.grad, back_items)


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
