"""SASRec against torch's own multi-head attention, its two losses, and what its kind of network is found by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attending import plain_states, shaken
from forwhy.data.histories import Histories
from forwhy.errors import UserError
from forwhy.recommend.networks import kind
from forwhy.recommend.sequential import made
from forwhy.systems import sasrec
from forwhy.systems.sasrec import SasRecConfig, SasRecNetwork, not_held

ITEMS, DIMS = 9, 8
ROWS = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]])


def network_of(**options: object) -> SasRecNetwork:
    network = SasRecNetwork(ITEMS, SasRecConfig.model_validate({"dims": DIMS, "dropout": 0.5} | options))
    shaken(network)
    return network


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_states_are_those_of_an_independent_attention(norm: str) -> None:
    network = network_of(norm=norm)
    expected = torch.stack([plain_states(network, network.items(row)) for row in ROWS])
    torch.testing.assert_close(network(ROWS), expected, rtol=1e-4, atol=1e-5)


def test_binary_cross_entropy_is_that_of_each_target_and_its_negative(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, lengths = network_of(loss="bce"), torch.tensor([3, 5])
    negatives = torch.tensor([[0, 6, 7, 0, 0], [0, 3, 4, 5, 6]])
    monkeypatch.setattr(sasrec, "not_held", lambda *_: negatives)
    terms = []
    for row, length in enumerate(lengths.tolist()):
        states = network(ROWS[row : row + 1, : length - 1])[0]
        for place in range(length - 1):
            right = states[place] @ network.items.weight[ROWS[row, place + 1]]
            wrong = states[place] @ network.items.weight[negatives[row, place + 1]]
            terms.append(-torch.log(torch.sigmoid(right)) - torch.log(1 - torch.sigmoid(wrong)))
    torch.testing.assert_close(network.loss(ROWS, lengths), torch.stack(terms).mean())


def test_negatives_are_drawn_evenly_from_what_a_row_does_not_hold() -> None:
    torch.manual_seed(0)
    items = torch.tensor([[3, 1, 4, 1, 5, 9, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0], [7, 7, 6, 5, 4, 3, 2, 1]])
    lengths = torch.tensor([6, 1, 8])
    drawn = torch.stack([not_held(items, lengths, 10) for _ in range(3000)])
    for row, held in enumerate([{3, 1, 4, 5, 9}, {2}, {1, 2, 3, 4, 5, 6, 7}]):
        counts = torch.bincount(drawn[:, row].flatten(), minlength=10).numpy()
        free = [item for item in range(10) if item not in held]
        assert counts.sum() == counts[free].sum()
        np.testing.assert_allclose(counts[free] / counts.sum(), 1 / len(free), rtol=0.06)
    everything = not_held(torch.tensor([[0, 1, 2]]), torch.tensor([3]), 3)
    assert everything.shape == (1, 3)
    assert everything.max() < 3


def test_binary_cross_entropy_learns_what_follows(tmp_path: Path) -> None:
    """Among items that the history does not hold: those it holds are never negatives."""
    options = SasRecConfig(dims=16, dropout=0.0, learning_rate=1e-2, loss="bce", window=5)
    network = made(12, options)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    starts = torch.arange(12)[:, None]
    walks, lengths = (starts + torch.arange(6)) % 12, torch.full((12,), 6)
    torch.manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        network.loss(walks, lengths).backward()
        optimizer.step()
    scores = network.eval().scores_after(Histories.of(walks[:, :5].tolist()))
    np.put_along_axis(scores, walks[:, :5].numpy(), -np.inf, axis=1)
    assert scores.argmax(1).tolist() == walks[:, 5].tolist()


def test_a_loss_that_smooths_nothing_refuses_smoothing() -> None:
    with pytest.raises(UserError, match="loss = 'bce' has no label_smoothing"):
        SasRecConfig(loss="bce", label_smoothing=0.1)
    with pytest.raises(UserError, match="loss = 'bce' has no negatives"):
        SasRecConfig(loss="bce", negatives=10)


def test_a_system_without_a_network_is_no_kind_of_one() -> None:
    assert kind("sasrec") is SasRecConfig
    with pytest.raises(
        UserError, match="system 'popularity' has no network of the next item; known: .*sasrec"
    ):
        kind("popularity")
