"""Att2Seq against a plain loop over torch's own cells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forwhy.explain.words import BOS, WordBatch, WordRow
from forwhy.systems.att2seq import Att2SeqConfig, Att2SeqNetwork

ROWS = [WordRow(1, 2, (4, 5, 6, 7, 2)), WordRow(0, 1, (8, 2)), WordRow(3, 3, (9, 9, 4))]


def test_it_is_an_lstm_that_a_pair_starts() -> None:
    torch.manual_seed(0)
    network = Att2SeqNetwork(4, 5, 12, False, Att2SeqConfig(dims=3, hidden=6, layers=2)).eval()
    batch = WordBatch.of(ROWS, torch.device("cpu"))
    cells = [nn.LSTMCell(6, 6) for _ in range(2)]
    for layer, cell in enumerate(cells):
        cell.load_state_dict({name: getattr(network.cell, f"{name}_l{layer}") for name in cell.state_dict()})
    logs = []
    for row in ROWS:
        pair = torch.cat([network.users.weight[row.user], network.items.weight[row.item]])
        start = torch.tanh(network.start.weight @ pair + network.start.bias)
        states = [(start[None, :6], torch.zeros(1, 6)), (start[None, 6:], torch.zeros(1, 6))]
        for before, word in zip((BOS, *row.target), row.target, strict=False):
            above = network.words.weight[before][None]
            for layer, cell in enumerate(cells):
                states[layer] = cell(above, states[layer])
                above = states[layer][0]
            logs.append(network.out(above)[0].log_softmax(-1)[word])
    expected = -torch.stack(logs).mean()
    torch.testing.assert_close(network.losses(batch)["loss"], expected)


def test_the_paper_has_its_sizes() -> None:
    paper = Att2SeqConfig(preset="paper")
    network = Att2SeqNetwork(4, 5, 12, False, paper)
    assert network.users.weight.shape == (4, 64)
    assert (network.cell.hidden_size, network.cell.num_layers, network.cell.dropout) == (512, 2, 0.2)
    assert network.words.weight.shape == (12, 512)
    assert all(parameter.abs().max() <= 0.08 for parameter in network.parameters())
    assert (paper.words, paper.batch_size, paper.lr, paper.gradient_clip, paper.weight_decay) == (
        15,
        50,
        1e-4,
        5.0,
        0,
    )
    assert (paper.epochs, paper.patience, paper.least, paper.anyone) == (100, 5, 1, 0.0)


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS])
def test_it_trains_every_part(rows: list[WordRow]) -> None:
    network = Att2SeqNetwork(4, 5, 12, False, Att2SeqConfig(dims=3, hidden=6))
    network.losses(WordBatch.of(rows, torch.device("cpu")))["loss"].backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters()
    )
