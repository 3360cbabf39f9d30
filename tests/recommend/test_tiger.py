"""TIGER's targets and options; tests/laws/test_generative.py holds what it has in common with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.recommend.llmbs.network import cut
from forwhy.recommend.options import TigerConfig
from forwhy.recommend.tiger import TigerNetwork, TigerRecommender, TigerTask, drawn
from forwhy.recommend.trie import CodeTrie

from .conftest import dataset, index_of, ring, tiny_tiger


def task_of(data: Dataset, **changes: Any) -> TigerTask:  # noqa: ANN401
    index, config = index_of(data), tiny_tiger(**changes)
    trie = CodeTrie.from_codes(index.codes, index.sizes)
    return TigerTask(TigerNetwork(index, config), Sequences.from_dataset(data), trie, config)


def test_every_training_item_is_a_target_once_after_what_came_before() -> None:
    histories = [[3, 1, 4, 1, 5, 9, 2], [6, 5], [3], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]
    data = dataset(histories)
    train = Sequences.from_dataset(data).train
    wanted = [
        (tuple(train[user][max(0, place - 4) : place].tolist()), int(train[user][place]))
        for user in range(len(train))
        for place in range(len(train[user]))
    ]
    found = [
        (tuple(items[:length].tolist()), int(target))
        for batch in task_of(data, window=4, batch_size=5).batches(1)
        for items, length, target in zip(*batch, strict=True)
    ]
    assert sorted(found) == sorted(wanted)


def test_a_draw_takes_so_many_of_each_history_and_others_each_time() -> None:
    train = Histories.of([range(9), [], [9], range(10, 13)])
    first, again = (drawn(train, 2, np.random.default_rng(seed)) for seed in (0, 1))
    for places in (first, again):
        assert len(set(places.tolist())) == len(places)
        assert np.bincount(train.rows[places], minlength=4).tolist() == [2, 0, 1, 2]
    assert first.tolist() != again.tolist()
    often = np.concatenate([drawn(train, 2, np.random.default_rng(seed)) for seed in range(400)])
    counts = np.bincount(often, minlength=13)
    assert abs(counts[:9] / 400 - 2 / 9).max() < 0.08, "every item of a history as often as another"


def test_the_published_preset_has_the_published_sizes_and_what_is_given_wins() -> None:
    paper = TigerConfig.model_validate({"preset": "paper", "dropout": 0.0})
    assert (paper.layers, paper.dims, paper.heads, paper.head_dims, paper.feedforward) == (
        4,
        128,
        6,
        64,
        1024,
    )
    assert paper.decoding == "vocab"
    assert paper.dropout == 0.0
    assert TigerConfig(normalise="legal").decoding == "legal"


def test_one_pass_forward_has_the_loss_of_one_target_at_a_time() -> None:
    data = dataset([[3, 1, 4, 1, 5], [6, 5], [3], [0, 1, 2, 3, 4, 5, 6, 7, 8]])
    train = Sequences.from_dataset(data).train
    torch.manual_seed(0)
    network = TigerNetwork(index_of(data), tiny_tiger(dropout=0.0))
    packed = cut(train, 8, 4).take(np.arange(4))
    assert len(cut(train, 8, 4)) == 4, "no window is too short, so each target reads the same in both"
    items, sizes, targets = [], [], []
    for row in range(4):
        for place, item in enumerate(train[row]):
            items.append(np.pad(train[row][:place], (0, 8 - place)))
            sizes.append(place)
            targets.append(item)
    one_by_one = (torch.from_numpy(np.stack(items)), torch.tensor(sizes), torch.tensor(targets))
    both_ways = float(network(*one_by_one)["loss"])
    network.ahead = True
    found, expected = (float(part["loss"]) for part in (network.all_targets(packed), network(*one_by_one)))
    assert found == pytest.approx(expected, rel=1e-5)
    assert abs(both_ways - expected) > 1e-4, "it is another reading"


def test_training_forward_comes_first_and_leaves_a_network_that_reads_both_ways(tmp_path: Path) -> None:
    data = dataset(ring(60, 12, 7))
    ahead = {"epochs": 10, "learning_rate": 5e-3, "batch_size": 8}
    config = tiny_tiger(epochs=1, evaluate_every=5, learning_rate=1e-9, window=2, ahead=ahead)
    found = TigerRecommender.fit(data, index_of(data), tmp_path, config)
    assert not found.network.ahead
    assert found.metrics["ahead"]["ndcg@10"] > 0.9
    assert set(found.metrics) == {"ahead", "full"}
