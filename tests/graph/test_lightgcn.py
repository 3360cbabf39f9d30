"""LightGCN: its mathematics against others', its training, and the vectors it leaves."""

import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn.models import LightGCN

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.evaluate.ranking import rank_all
from forwhy.graph.bipartite import Bipartite
from forwhy.graph.lightgcn import (
    BprBatch,
    BprTask,
    CollaborativeNetwork,
    Propagation,
    bpr_loss,
    propagated,
)
from forwhy.graph.representations import CollaborativeConfig, CollaborativeVectors
from forwhy.training.loop import Diverged

from .conftest import LONG, dense_normalised, graphs, learn

NOBODY = np.zeros((0, 2), np.int64)


def visits(pairs: list[tuple[str, str, str]]) -> Dataset:
    """A data set of (user, item, split)."""
    columns = ["user_id", "item_id", "split"]
    return make_dataset("few", {"interactions": pl.DataFrame(pairs, schema=columns, orient="row")})


def random_graph(seed: int = 0) -> Bipartite:
    rng = np.random.default_rng(seed)
    edges = np.unique(np.stack([rng.integers(0, 29, 200), rng.integers(0, 19, 200)], 1), axis=0)
    return Bipartite(edges.astype(np.int64), 30, 20)  # the last of both sides have no edge


def network_of(graph: Bipartite, **options: Any) -> CollaborativeNetwork:  # noqa: ANN401
    """A network whose tables are anything, those without edges too."""
    network = CollaborativeNetwork(graph, CollaborativeConfig(start="xavier", dims=5, **options))
    with torch.no_grad():
        for table in network.tables.values():
            table.copy_(torch.randn(table.shape, generator=torch.Generator().manual_seed(1)))
    return network


# --- equations


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
    graph = Bipartite(np.array([[0, 0], [0, 1], [1, 1], [1, 4], [2, 3], [3, 2], [4, 4]]), 6, 5)
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


def stacked(tables: Any) -> Tensor:  # noqa: ANN401
    """Users above items."""
    return torch.cat([tables["user"], tables["item"]])


def oracle_of(graph: Bipartite, network: CollaborativeNetwork, layers: int) -> tuple[LightGCN, Tensor]:
    """torch-geometric's LightGCN with the same weights, and its edges."""
    oracle = LightGCN(graph.users + graph.items, 5, layers)
    with torch.no_grad():
        oracle.embedding.weight.copy_(stacked(network.tables))
    there = torch.from_numpy(graph.edges.T.copy()) + torch.tensor([[0], [graph.users]])
    return oracle, torch.cat([there, there.flip(0)], 1)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_final_vectors_are_torch_geometrics(layers: int) -> None:
    graph = random_graph()
    network = network_of(graph, layers=layers)
    oracle, edges = oracle_of(graph, network, layers)
    torch.testing.assert_close(stacked(network()), oracle.get_embedding(edges))


def test_loss_gradients_and_a_step_are_torch_geometrics() -> None:
    graph, weight = random_graph(), 0.03
    network = network_of(graph, layers=3)
    config = CollaborativeConfig(layers=3, dims=5, batch_size=64, negatives=1, regulariser_weight=weight)
    task = BprTask(network, graph, NOBODY, config)
    oracle, edges = oracle_of(graph, network, 3)
    batch = task.batches(0)[0]
    users, items = batch.users, batch.items + graph.users
    negatives = batch.negatives[:, 0] + graph.users
    ranks = oracle(edges, torch.stack([torch.cat([users, users]), torch.cat([items, negatives])]))
    expected = oracle.recommendation_loss(
        *ranks.chunk(2), node_id=torch.cat([users, items, negatives]), lambda_reg=weight
    )
    found = task.loss(batch)["loss"]
    torch.testing.assert_close(found, expected)

    ours, theirs = task.optimizer(), torch.optim.Adam(oracle.parameters(), lr=config.learning_rate)
    found.backward()
    expected.backward()
    gradients = {side: table.grad for side, table in network.tables.items()}
    torch.testing.assert_close(stacked(gradients), oracle.embedding.weight.grad)
    ours.step()
    theirs.step()
    torch.testing.assert_close(stacked(network.tables), oracle.embedding.weight)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 4), st.sampled_from(["mean", "sum"]))
def test_final_vectors_are_powers_of_the_dense_matrix(graph: Bipartite, layers: int, combine: str) -> None:
    network = network_of(graph, layers=layers, combine=combine)
    dense = np.zeros((graph.users, graph.items))
    dense[tuple(graph.edges.T)] = 1
    degrees = np.maximum(np.outer(dense.sum(1), dense.sum(0)), 1)
    square = np.zeros((graph.users + graph.items,) * 2)
    square[: graph.users, graph.users :] = dense / np.sqrt(degrees)
    square += square.T
    start = stacked(network.tables).detach().numpy()
    powers = [np.linalg.matrix_power(square, power) @ start for power in range(layers + 1)]
    expected = np.mean(powers, 0) if combine == "mean" else np.sum(powers, 0)
    found = stacked(network()).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_equations_9_to_11_by_hand() -> None:
    """One user, two items, no edge of the second: e_u = (0, 2), e_i = (1, 1), e_j = (3, 0) at layer 0."""
    graph = Bipartite(np.array([[0, 0]]), 1, 2)
    config = CollaborativeConfig(start="xavier", dims=2, layers=1, negatives=1, regulariser_weight=0.1)
    network = CollaborativeNetwork(graph, config)
    with torch.no_grad():
        network.tables["user"].copy_(torch.tensor([[0.0, 2.0]]))
        network.tables["item"].copy_(torch.tensor([[1.0, 1.0], [3.0, 0.0]]))
    batch = BprTask(network, graph, NOBODY, config).batches(0)[0]
    assert batch.negatives.tolist() == [[1]]
    # Final: u and i are both the mean of (0, 2) and (1, 1), j is half of itself. y_ui = 2.5, y_uj = 0.75.
    with torch.no_grad():
        loss = BprTask(network, graph, NOBODY, config).loss(batch)
    assert float(loss["bpr"]) == pytest.approx(-np.log(1 / (1 + np.exp(-(2.5 - 0.75)))))
    assert float(loss["loss"]) == pytest.approx(float(loss["bpr"]) + 0.1 * (4 + 2 + 9))


def test_the_propagated_regulariser_reads_final_vectors() -> None:
    graph = random_graph()
    config = CollaborativeConfig(
        layers=2, dims=5, regulariser="propagated", negatives=3, negative_choice="all"
    )
    network = network_of(graph, layers=2)
    task = BprTask(network, graph, NOBODY, config)
    batch, final = task.batches(0)[0], network()
    rows = [final["user"][batch.users], final["item"][batch.items], final["item"][batch.negatives]]
    expected = (rows[0] ** 2).sum(1) + (rows[1] ** 2).sum(1) + (rows[2] ** 2).sum(2).mean(1)
    torch.testing.assert_close(task.loss(batch)["norm"], expected.mean().detach())


def test_the_hardest_negative_is_the_one_ranked_highest() -> None:
    graph = random_graph()
    options = {"layers": 2, "dims": 5, "negatives": 6}
    network = network_of(graph, layers=2)
    drawn = BprTask(network, graph, NOBODY, CollaborativeConfig(**options)).batches(0)[0]
    final = network()
    scores = final["user"] @ final["item"].T
    rows = zip(drawn.users, drawn.negatives, strict=True)
    hardest = torch.stack([row[scores[user, row].argmax()] for user, row in rows])
    alone = BprBatch(drawn.users, drawn.items, hardest[:, None])
    losses = [
        BprTask(network, graph, NOBODY, CollaborativeConfig(**options, negative_choice=choice)).loss(batch)
        for choice, batch in (("hardest", drawn), ("all", alone))
    ]
    assert losses[0].keys() == losses[1].keys()
    for name in ("bpr", "norm", "loss"):
        torch.testing.assert_close(losses[0][name], losses[1][name])


def test_the_loss_survives_scores_of_any_size() -> None:
    scores = torch.tensor([0.0, 1e4]), torch.tensor([[1e4], [0.0]])
    torch.testing.assert_close(bpr_loss(*scores), torch.tensor(5e3))


# --- negatives


def test_each_epoch_has_every_interaction_once_and_fresh_negatives() -> None:
    graph = random_graph()
    config = CollaborativeConfig(batch_size=32, negatives=2)
    task = BprTask(network_of(graph), graph, NOBODY, config)
    drawn = []
    for epoch in (0, 1):
        batches = list(task.batches(epoch))
        edges = np.concatenate([np.stack([batch.users, batch.items], 1) for batch in batches])
        np.testing.assert_array_equal(np.unique(edges, axis=0), graph.edges)
        assert len(edges) == len(graph.edges)
        users, negatives = (
            np.concatenate(part) for part in zip(*((b.users, b.negatives) for b in batches), strict=True)
        )
        assert not np.asarray(graph.incidence[np.repeat(users, 2), negatives.ravel()]).any()
        drawn.append(negatives[np.lexsort((edges[:, 1], users))])
    assert (drawn[0] != drawn[1]).mean() > 0.5


# --- training


def test_training_finds_the_towns_visits(town: Dataset, tmp_path: Path) -> None:
    """From noise it must beat popularity, and its own start, on visits that it never saw."""

    def recall(vectors: CollaborativeVectors) -> float:
        sides = (vectors.representation(side) for side in ("user", "item"))
        return rank_all(*sides, vectors.seen, town.edges("test")).mean()["recall@20"]

    noise = {"start": "xavier", "epochs": 60, "dims": 32}
    learnt = learn(town, tmp_path / "learnt", **noise)
    degrees = np.bincount(learnt.seen[:, 1], minlength=len(town.items)).astype(np.float32)
    popular = rank_all(np.ones((240, 1), np.float32), degrees[:, None], learnt.seen, town.edges("test"))
    assert recall(learnt) > 2 * popular.mean()["recall@20"]
    assert recall(learnt) > 2 * recall(learn(town, tmp_path / "start", **{**noise, "epochs": 0}))


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_published_presets_learn(town: Dataset, tmp_path: Path, preset: str) -> None:
    options = {"preset": preset, "learning_rate": 1e-2, "batch_size": 512}
    start = learn(town, tmp_path / "start", **options, epochs=0)
    learnt = learn(town, tmp_path / "learnt", **options, epochs=12)
    assert learnt.metrics["recall@20"] > 2 * start.metrics["recall@20"]


def test_the_same_seed_gives_the_same_bytes(
    town: Dataset, vectors: CollaborativeVectors, tmp_path: Path
) -> None:
    again, other = learn(town, tmp_path / "again"), learn(town, tmp_path / "other", seed=1)
    for side in ("user", "item"):
        assert (again.vectors[side] == vectors.vectors[side]).all()
        assert (other.vectors[side] != vectors.vectors[side]).any()
    assert again.metrics["recall@20"] == vectors.metrics["recall@20"]


def test_kill_9_then_rerun_gives_the_same_bytes(town: Dataset, tmp_path: Path) -> None:
    killed, metrics = tmp_path / "killed", tmp_path / "killed" / "metrics.jsonl"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("conftest.py")), str(killed)], env=environment
    )
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") > 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    learn(town, killed, **LONG).save_pretrained(tmp_path / "a")
    learn(town, tmp_path / "whole", **LONG).save_pretrained(tmp_path / "b")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_other_options_do_not_continue_a_training(town: Dataset, tmp_path: Path) -> None:
    first = learn(town, tmp_path)
    second = learn(town, tmp_path, learning_rate=1e-5)
    assert (first.vectors["user"] != second.vectors["user"]).any()


def test_a_divergence_is_named(town: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="lower the learning rate"):
        learn(town, tmp_path, learning_rate=1e30)


def test_held_out_explained_pairs_are_not_in_the_graph(town: Dataset, vectors: CollaborativeVectors) -> None:
    seen = set(map(tuple, vectors.seen.tolist()))
    assert not seen & set(map(tuple, town.heldout_pairs().tolist()))
    np.testing.assert_array_equal(vectors.catalogue.taken, town.edges("train", "as-published"))


def test_without_validation_the_last_epoch_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full = visits([(f"u{n}", f"i{(n + step) % 9}", "train") for n in range(9) for step in range(3)])
    with caplog.at_level(logging.WARNING):
        last = learn(full, tmp_path / "a", epochs=7)
    assert "no validation interactions; the last of 7 epochs is kept" in caplog.text
    assert last.metrics["best_epoch"] == 7
    assert "recall@20" not in last.metrics


# --- small and odd data


def test_nobody_without_edges_gets_noise(tmp_path: Path) -> None:
    few = visits([("a", "x", "train"), ("a", "y", "train"), ("b", "x", "train"), ("c", "z", "valid")])
    for start in ("spectral", "xavier"):
        vectors = learn(few, tmp_path / start, start=start)
        assert vectors.has_history["user"].tolist() == [True, True, False]
        assert vectors.has_history["item"].tolist() == [True, True, False]
        assert not vectors.representation("user")[2].any()
        assert all(np.isfinite(vectors.representation(side)).all() for side in ("user", "item"))
        # Item z was only ever drawn against others, so that nobody is led to it.
        assert (vectors.representation("user")[:2] @ vectors.representation("item")[2] <= 0).all()


def test_one_user_is_enough(tmp_path: Path) -> None:
    vectors = learn(visits([("a", "x", "train"), ("a", "y", "valid")]), tmp_path)
    assert vectors.representation("user").shape == (1, 8)


def test_one_item_leaves_nothing_to_rank(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to rank"):
        learn(visits([("a", "x", "train"), ("b", "x", "train")]), tmp_path)


def test_a_user_who_took_everything_is_no_obstacle(tmp_path: Path) -> None:
    everything = [("a", "x", "train"), ("a", "y", "train"), ("b", "x", "train"), ("b", "y", "valid")]
    assert learn(visits(everything), tmp_path).metrics["recall@20"] == 1.0


def test_no_training_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'few': no training interaction"):
        learn(visits([("a", "x", "valid"), ("b", "y", "test")]), tmp_path)


# --- newcomers


@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(1, 3), st.sampled_from(["mean", "sum"]))
def test_a_known_user_folds_in_to_their_vector_less_layer_0(
    graph: Bipartite, layers: int, combine: str
) -> None:
    network = network_of(graph, layers=layers, combine=combine)
    final, fold_in = propagated(network, graph)
    share = 1.0 if combine == "sum" else 1 / (layers + 1)
    for user in np.unique(graph.edges[:, 0]):
        items = graph.edges[graph.edges[:, 0] == user, 1]
        own = share * network.tables["user"][user].detach().numpy()
        folded = fold_in[items].sum(0) / np.sqrt(len(items))
        np.testing.assert_allclose(folded, final["user"][user] - own, atol=1e-4)


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'dims'"):
        CollaborativeConfig(dimz=3)
    with pytest.raises(UserError, match="'layers': input should be greater than 0"):
        CollaborativeConfig(layers=0)
    assert CollaborativeConfig(preset="official", layers=2).layers == 2
    assert CollaborativeConfig(preset="official").combine == "sum"
