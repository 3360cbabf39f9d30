"""FDSA against torch's own attention and its features an item at a time."""

from __future__ import annotations

import pytest
import torch

from attending import plain_states, shaken
from forwhy.recommend.sequential import made
from forwhy.systems.fdsa import FdsaConfig, FdsaNetwork

ITEMS, DIMS = 9, 8
ROWS = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]])
TERMS = [[1, 2, 3], [2], [], [1, 4], [4], [], [3, 5], [5], [1, 2]]
TABLE = torch.tensor([[*row, *[0] * (3 - len(row))] for row in TERMS])


@pytest.fixture
def network() -> FdsaNetwork:
    found = made(ITEMS, FdsaConfig(dims=DIMS), TABLE)
    assert isinstance(found, FdsaNetwork)
    shaken(found)
    return found


def feature(network: FdsaNetwork, item: int) -> torch.Tensor:
    """Eq. 1 and 2 for one item; item 2 and 5 have no attribute."""
    vectors = network.features.items.weight[TERMS[item] or [0]]
    weights = torch.softmax(vectors @ network.weigh.weight.T + network.weigh.bias, dim=0)
    return (weights * vectors).sum(0)


def test_states_are_those_of_two_independent_attentions(network: FdsaNetwork) -> None:
    for row, states in zip(ROWS, network(ROWS), strict=True):
        features = torch.stack([feature(network, item) for item in row.tolist()])
        both = [plain_states(network, network.items(row)), plain_states(network.features, features)]
        expected = torch.cat(both, dim=1) @ network.out.weight.T + network.out.bias
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)


def test_an_item_without_attributes_is_read_as_one_without(network: FdsaNetwork) -> None:
    before = network(ROWS)
    with torch.no_grad():
        network.features.items.weight[0] += torch.arange(DIMS)
    after = network(ROWS)
    torch.testing.assert_close(after[0, :4], before[0, :4])
    assert (after[0, 4] - before[0, 4]).abs().max() > 1e-3, "item 5"
    assert (after[1, 0] - before[1, 0]).abs().max() > 1e-3, "item 2"


def test_without_any_attributes_the_second_stream_says_the_same_of_all_items() -> None:
    network = made(ITEMS, FdsaConfig(dims=DIMS), torch.zeros(ITEMS, 1, dtype=torch.long)).eval()
    assert isinstance(network, FdsaNetwork)
    assert len(network.features.items.weight) == 1
    with torch.no_grad():
        before = network(ROWS)
        network.features.items.weight += torch.arange(DIMS)
    assert before.shape == network(ROWS).shape
    assert before.isfinite().all()
