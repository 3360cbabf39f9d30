"""BERT4Rec against torch's own attention: what is hidden is guessed from both sides and from nothing else."""

from __future__ import annotations

import pytest
import torch

from attending import plain_states, shaken
from forwhy.data.histories import Histories
from forwhy.recommend.attention import hidden_places
from forwhy.systems import bert4rec
from forwhy.systems.bert4rec import Bert4RecConfig, Bert4RecNetwork

ITEMS, DIMS = 9, 8
ROWS, LENGTHS = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 0, 0]]), torch.tensor([5, 3])
HIDDEN = torch.tensor([[False, True, False, True, False], [False, False, True, False, False]])


def network_of(**options: object) -> Bert4RecNetwork:
    given = {"dims": DIMS, "window": 5}
    network = Bert4RecNetwork(ITEMS, Bert4RecConfig.model_validate(given | options))
    shaken(network)
    return network


def guesses(network: Bert4RecNetwork, row: list[int], hidden: list[int]) -> torch.Tensor:
    """Eq. 7 for one history without padding."""
    given = torch.stack(
        [network.mask if place in hidden else network.items.weight[item] for place, item in enumerate(row)]
    )
    states = plain_states(network, given, both_ways=True)[hidden]
    return network.out_norm(torch.nn.functional.gelu(network.out(states)))  # type: ignore[no-any-return]


def test_guesses_are_those_of_an_independent_attention() -> None:
    network = network_of()
    expected = torch.cat([guesses(network, ROWS[0].tolist(), [1, 3]), guesses(network, [2, 7, 1], [2])])
    torch.testing.assert_close(network.guessed(ROWS, LENGTHS, HIDDEN), expected, rtol=1e-4, atol=1e-5)


def test_a_list_is_asked_by_a_hidden_place_behind_the_history() -> None:
    network = network_of()
    expected = torch.cat([guesses(network, [*row, 0], [len(row)]) for row in ([3, 1, 4, 1, 5], [2, 7, 1])])
    states = network.states_after(Histories.of([[3, 1, 4, 1, 5], [2, 7, 1], []]))
    torch.testing.assert_close(states[:2], expected, rtol=1e-4, atol=1e-5)
    assert not states[2].any()
    torch.testing.assert_close(network(ROWS)[1, 2], expected[1], rtol=1e-4, atol=1e-5)


def test_what_is_hidden_is_not_read_and_what_lies_behind_is() -> None:
    network = network_of()
    before = network.guessed(ROWS, LENGTHS, HIDDEN)
    other, later = ROWS.clone(), ROWS.clone()
    other[HIDDEN], later[0, 4] = 6, 6
    torch.testing.assert_close(network.guessed(other, LENGTHS, HIDDEN), before)
    assert (network.guessed(later, LENGTHS, HIDDEN)[0] - before[0]).abs().max() > 1e-3


def test_the_loss_is_the_cross_entropy_of_what_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(last_hidden=0.0)
    monkeypatch.setattr(bert4rec, "hidden_places", lambda *_: HIDDEN)
    logits = network.guessed(ROWS, LENGTHS, HIDDEN) @ network.items.weight.T
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 1, 1]))
    torch.testing.assert_close(network.loss(ROWS, LENGTHS), expected)


def test_a_share_of_real_places_is_hidden_and_one_at_least() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([20, 3, 2] * 1000)
    hidden = hidden_places(torch.zeros(3000, 20, dtype=torch.long), lengths, 0.3)
    real = torch.arange(20) < lengths[:, None]
    assert not (hidden & ~real).any()
    assert hidden.any(1).all()
    assert abs(float(hidden[::3].float().mean()) - 0.3) < 0.01
    nothing = hidden_places(torch.zeros(3000, 20, dtype=torch.long), lengths, 0.0)
    assert torch.equal(nothing, torch.arange(20) == lengths[:, None] - 1)
