"""NRT against a plain loop over torch's own cell."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from forwhy.explain.words import BOS, EOS, WordBatch, WordRow
from forwhy.systems.nrt import NrtConfig, NrtNetwork

CPU = torch.device("cpu")
ROWS = [
    WordRow(1, 2, (4, 5, 6, EOS), rating=5.0),
    WordRow(0, 1, (8, EOS)),
    WordRow(3, 3, (9, 9, 4), rating=2.0),
]


def rating_of(network: NrtNetwork, pair: Tensor) -> Tensor:
    """Layer by layer."""
    layers = [part for part in network.rating or () if isinstance(part, nn.Linear)]
    for layer in layers[:-1]:
        pair = torch.sigmoid(layer.weight @ pair + layer.bias)
    return layers[-1].weight[0] @ pair + layers[-1].bias[0]


@pytest.mark.parametrize("rated", [True, False])
def test_it_is_a_gru_that_a_pair_and_its_star_start(rated: bool) -> None:
    torch.manual_seed(0)
    network = NrtNetwork(4, 5, 12, rated, NrtConfig(dims=3, hidden=6, rating_layers=2)).eval()
    with torch.no_grad():  # pairs with different stars
        network.users.weight[0] += 30
        if network.rating is not None:
            network.rating[0].weight.mul_(10)
            network.rating[-1].weight.fill_(1.0)
            network.rating[-1].bias.fill_(-0.8)
    cell = nn.GRUCell(3, 6)
    cell.load_state_dict({name: getattr(network.cell, f"{name}_l0") for name in cell.state_dict()})
    logs, errors, stars = [], [], set()
    for row in ROWS:
        pair = torch.cat([network.users.weight[row.user], network.items.weight[row.item]]).detach()
        if rated:
            rating = rating_of(network, pair)
            errors += [(rating - row.rating) ** 2] if math.isfinite(row.rating) else []
            stars.add(star := int(min(max(float(rating.detach()), 1.0), 5.0)))
            pair = torch.cat([pair, torch.eye(5)[star - 1]])
        state = torch.tanh(network.start.weight @ pair + network.start.bias)[None]
        for before, word in zip((BOS, *row.target), row.target, strict=False):
            state = cell(network.words.weight[before][None], state)
            logs.append(network.out(state)[0].log_softmax(-1)[word])
    found, nll = network.losses(WordBatch.of(ROWS, CPU)), -torch.stack(logs).mean()
    error = torch.stack(errors).mean() if rated else torch.tensor(0.0)
    assert len(stars) == 2 * rated
    torch.testing.assert_close(found["loss"], nll + error)
    assert set(found) == ({"loss", "nll", "rating"} if rated else {"loss"})
    for name, expected in zip(found, (nll + error, nll, error), strict=False):
        torch.testing.assert_close(found[name], expected)


def test_unknown_ratings_add_nothing() -> None:
    network = NrtNetwork(4, 5, 12, True, NrtConfig(dims=3, hidden=6))
    found = network.losses(WordBatch.of([ROWS[1]], CPU))
    assert float(found["rating"].detach()) == 0
    found["loss"].backward()
    assert all(it.grad is None or it.grad.isfinite().all() for it in network.parameters())


def test_the_paper_has_its_sizes() -> None:
    paper = NrtConfig(preset="paper")
    network = NrtNetwork(4, 5, 12, True, paper)
    assert network.users.weight.shape == (4, 300)
    assert network.words.weight.shape == (12, 300)
    assert (network.cell.hidden_size, network.cell.num_layers, network.dropout.p) == (400, 1, 0.0)
    assert network.rating is not None
    linear = [(part.in_features, part.out_features) for part in network.rating if isinstance(part, nn.Linear)]
    assert linear == [(600, 400), *[(400, 400)] * 4, (400, 1)]
    assert network.start.in_features == 600 + 5
    assert (paper.batch_size, paper.lr, paper.weight_decay, paper.gradient_clip, paper.words) == (
        200,
        1e-4,
        0.0,
        0.0,
        15,
    )
