"""TIGER's targets and options; tests/laws/test_generative.py holds what it has in common with others."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.recommend.options import TigerConfig
from forwhy.recommend.tiger import TigerNetwork, TigerTask, drawn
from forwhy.recommend.trie import CodeTrie

from .conftest import dataset, index_of, tiny_tiger


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
