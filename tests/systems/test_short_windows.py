"""Caser and HGN against their equations, a place at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attending import shaken
from forwhy.systems.caser import CaserConfig, CaserNetwork
from forwhy.systems.hgn import HgnConfig, HgnNetwork

ITEMS, DIMS, ORDER = 9, 4, 3
ROWS = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]])
Floats = NDArray[np.float64]


def caser(**options: object) -> CaserNetwork:
    given = {"dims": DIMS, "order": ORDER, "horizontal": 2, "vertical": 3}
    network = CaserNetwork(ITEMS, CaserConfig.model_validate(given | options))
    shaken(network)
    return network


def numbers(tensor: torch.Tensor) -> Floats:
    return tensor.detach().double().numpy()


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def caser_state(network: CaserNetwork, history: list[int]) -> Floats:
    """Eq. 3 to 8 of the paper for one image of the last `ORDER` items."""
    table = numbers(network.items.weight)
    image = np.stack([np.zeros(DIMS)] * (ORDER - len(history)) + [table[item] for item in history[-ORDER:]])
    found = []
    for height, filters in enumerate(network.horizontal, start=1):
        for weight_DH, bias in zip(numbers(filters.weight), numbers(filters.bias), strict=True):
            slid = [
                max(0.0, float((image[top : top + height] * weight_DH.T).sum() + bias))
                for top in range(ORDER - height + 1)
            ]
            found.append(max(slid))
    for weight_L in numbers(network.vertical.weight):
        found += [float((weight_L * image[:, number]).sum()) for number in range(DIMS)]
    return np.maximum(numbers(network.out.weight) @ found + numbers(network.out.bias), 0)


def hgn_state(network: HgnNetwork, history: list[int]) -> Floats:
    """Eq. 2 to 6, and what the item-item product adds, for one history."""
    recent = history[-ORDER:]
    vectors = [numbers(network.items.weight)[item] for item in recent]
    weight, bias = numbers(network.feature.weight), numbers(network.feature.bias)
    gated = [vector * sigmoid(weight @ vector + bias) for vector in vectors]
    ages = numbers(network.ages)[ORDER - len(recent) :]
    scores = [
        sigmoid(numbers(network.instance.weight)[0] @ vector + age)
        for vector, age in zip(gated, ages, strict=True)
    ]
    pooled = sum(score * vector for score, vector in zip(scores, gated, strict=True)) / len(recent)
    return np.asarray(pooled + sum(vectors))


def test_caser_states_are_those_of_its_equations() -> None:
    network = caser()
    for row, states in zip(ROWS.tolist(), numbers(network(ROWS)), strict=True):
        for place in range(len(row)):
            expected = caser_state(network, row[: place + 1])
            np.testing.assert_allclose(states[place], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("targets", [1, 2, 9])
def test_caser_predicts_the_next_few_items(targets: int) -> None:
    network, lengths = caser(targets=targets), torch.tensor([3, 5])
    terms = []
    for row, length in zip(ROWS.tolist(), lengths.tolist(), strict=True):
        for place in range(length):
            logits = torch.from_numpy(
                numbers(network.predicted.weight) @ caser_state(network, row[: place + 1])
            )
            terms += [
                -logits.log_softmax(0)[row[place + ahead]]
                for ahead in range(1, targets + 1)
                if place + ahead < length
            ]
    found = network.loss(ROWS, lengths)
    torch.testing.assert_close(found.double(), torch.stack(terms).mean(), rtol=1e-5, atol=1e-5)


def test_hgn_states_are_those_of_its_equations() -> None:
    network = HgnNetwork(ITEMS, HgnConfig(dims=DIMS, order=ORDER))
    shaken(network)
    for row, states in zip(ROWS.tolist(), numbers(network(ROWS)), strict=True):
        for place in range(len(row)):
            expected = hgn_state(network, row[: place + 1])
            np.testing.assert_allclose(states[place], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", [caser(), HgnNetwork(ITEMS, HgnConfig(dims=DIMS, order=ORDER))])
def test_items_before_the_last_few_are_not_read(network: CaserNetwork | HgnNetwork) -> None:
    shaken(network)
    states = network(torch.tensor([[3, 1, 4, 1, 5], [2, 7, 4, 1, 5], [2, 7, 4, 5, 1]]))[:, -1]
    torch.testing.assert_close(states[0], states[1])
    assert (states[1] - states[2]).abs().max() > 1e-3


def test_what_is_read_and_what_is_predicted_are_tables_of_their_own() -> None:
    for network in (caser(), HgnNetwork(ITEMS, HgnConfig(dims=DIMS))):
        assert network.table.data_ptr() == network.predicted.weight.data_ptr()
        assert network.table.shape == network.items.weight.shape
