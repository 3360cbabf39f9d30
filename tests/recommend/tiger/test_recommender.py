"""TIGER from histories to lists: it learns, it lists items that exist, it saves, it resumes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from forwhy.data.dataset import Dataset
from forwhy.data.sequences import Histories, Sequences
from forwhy.errors import UserError
from forwhy.evaluate.ranking import rank_lists
from forwhy.recommend.decoding import CodeTrie
from forwhy.recommend.tiger import TigerConfig, TigerRecommender
from forwhy.recommend.tiger.network import TigerNetwork, tiger_tokens
from forwhy.recommend.tiger.task import Batch, TigerTask, drawn
from forwhy.testing import artifact_laws, forge, recommender_laws
from forwhy.vocabulary.indices import ItemIndex

from .conftest import dataset, index_of, ring, tiny

ITEMS = 12
CHAIN = dataset(ring(60, ITEMS, 7))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> TigerRecommender:
    """Trained until item i + 1 follows item i."""
    config = tiny(epochs=30, window=2, learning_rate=5e-3, evaluate_every=10)
    return TigerRecommender.fit(CHAIN, index_of(CHAIN), tmp_path_factory.mktemp("chain"), config)


def state(recommender: TigerRecommender) -> dict[str, Tensor]:
    return dict(recommender.network.state_dict())


def task_of(data: Dataset, **changes: Any) -> TigerTask:  # noqa: ANN401
    index, config = index_of(data), tiny(**changes)
    trie = CodeTrie.from_codes(index.codes, index.sizes)
    return TigerTask(TigerNetwork(tiger_tokens(index), config), Sequences.from_dataset(data), trie, config)


def test_a_markov_chain_is_learnt(chain: TigerRecommender) -> None:
    assert chain.metrics["full"]["ndcg@10"] > 0.9
    sequences = Sequences.from_dataset(CHAIN)
    found = chain.items_after(sequences.histories("test"), k=5)
    assert rank_lists(found, sequences, ks=(1, 5)).per_user["recall@1"].mean() > 0.9
    table = chain.recommend(history=[f"i{number:02}" for number in range(7, 12)], k=1)
    assert table["item_id"].to_list() == ["i00"]
    assert table["user_id"].to_list() == [None]


def test_laws_of_recommenders_hold(chain: TigerRecommender) -> None:
    users = ["u0", "u1", "u2"]
    edges = CHAIN.tables["interactions"].filter(pl.col("split") == "train")
    seen = {user: set(edges.filter(pl.col("user_id") == user)["item_id"]) for user in users}
    # Beams as wide as the catalogue, so that every width gives the same list.
    config = chain.config.model_copy(update={"beam": ITEMS})
    parts = chain.users, chain.items, chain.titles, chain.train
    recommender_laws(TigerRecommender(*parts, chain.index, chain.network, config), users, seen, k=4)


def test_beams_and_exact_scores_agree(chain: TigerRecommender) -> None:
    histories = Histories.of([[1, 2, 3], [], [7]])
    exact = chain.scores_after(histories)
    for row, (items, scores) in enumerate(chain.lists_after(histories, k=100)):
        assert sorted(items.tolist()) == list(range(ITEMS)), "more than there are: all"
        np.testing.assert_allclose(scores, exact[row][items], atol=1e-4)
    assert chain.history_scores(np.array([7])).argmax() == 8
    np.testing.assert_allclose(
        chain.score("u0", ["i03", "i01", "i03"]), chain.scores(np.array([0]))[0][[3, 1, 3]], atol=1e-4
    )


def test_items_of_the_history_gain_wherever_scores_are_asked_for(
    chain: TigerRecommender, tmp_path: Path
) -> None:
    parts = chain.users, chain.items, chain.titles, chain.train, chain.index, chain.network, chain.config
    plain, gained = (TigerRecommender(*parts, repeat_gain=gain) for gain in (0.0, -2.5))
    histories = Histories.of([[1, 2, 3]])
    # The window is two items.
    difference = gained.scores_after(histories)[0] - plain.scores_after(histories)[0]
    np.testing.assert_allclose(difference, np.where(np.isin(np.arange(ITEMS), [2, 3]), -2.5, 0), atol=1e-5)
    taken, asked = chain.train[0].tolist(), [0, 5, 9]
    pairs = [f"i{item:02}" for item in asked]
    difference = gained.score("u0", pairs) - plain.score("u0", pairs)
    np.testing.assert_allclose(difference, [-2.5 * (item in taken[-2:]) for item in asked], atol=1e-5)
    items, scores = gained.lists_after(histories, k=ITEMS)[0]
    np.testing.assert_allclose(scores, gained.scores_after(histories)[0][items], atol=1e-4)
    gained.save_pretrained(tmp_path / "model")
    assert TigerRecommender.from_pretrained(tmp_path / "model").repeat_gain == -2.5


def test_only_the_window_is_read_and_an_empty_history_is_one(chain: TigerRecommender) -> None:
    long = chain.recommend(history=["i05"] * 30 + ["i03", "i04"], k=3, filter_seen=False)
    assert long.equals(chain.recommend(history=["i03", "i04"], k=3, filter_seen=False))
    assert sorted(chain.recommend(history=[], k=ITEMS)["item_id"]) == sorted(CHAIN.items.values)


@pytest.mark.parametrize("count", [1, 3])
def test_catalogues_of_one_and_of_three_items(count: int, tmp_path: Path) -> None:
    data = dataset([[item % count for item in range(start, start + 5)] for start in range(3)])
    recommender = TigerRecommender.fit(data, index_of(data, width=2), tmp_path, tiny())
    table = recommender.recommend(["u0", "u1"], k=10, filter_seen=False)
    assert table.group_by("user_id").len()["len"].to_list() == [count, count]
    assert recommender.recommend("u0", k=10).height == 0, "nothing is left that was not seen"


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
        for items, length, target in zip(batch.items_BI, batch.lengths_B, batch.targets_B, strict=True)
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


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    index, options = index_of(CHAIN), {"dropout": 0.2, "targets": 2, "epochs": 2}
    runs = [
        TigerRecommender.fit(CHAIN, index, tmp_path / name, tiny(**options, seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, same, other = (state(run) for run in runs)
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not any(torch.equal(value, other[name]) for name, value in first.items() if value.ndim > 1)


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("at", [2, 7])
def test_a_killed_training_continues_to_the_same_bytes(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, config = index_of(CHAIN), tiny(dropout=0.2, targets=2, epochs=3, checkpoint_seconds=0)
    whole = state(TigerRecommender.fit(CHAIN, index, tmp_path / "whole", config))
    steps, learn = 0, TigerTask.loss

    def dying(self: TigerTask, batch: Batch) -> Mapping[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == at:
            raise Killed
        return learn(self, batch)

    monkeypatch.setattr(TigerTask, "loss", dying)
    with pytest.raises(Killed):
        TigerRecommender.fit(CHAIN, index, tmp_path / "killed", config)
    again = state(TigerRecommender.fit(CHAIN, index, tmp_path / "killed", config))
    assert all(torch.equal(value, whole[name]) for name, value in again.items())


def test_saved_and_loaded_are_equal(chain: TigerRecommender, tmp_path: Path) -> None:
    chain.save_pretrained(tmp_path / "saved")
    loaded = TigerRecommender.from_pretrained(tmp_path / "saved", "cpu")
    assert loaded.recommend(["u0", "u5"], k=5).equals(chain.recommend(["u0", "u5"], k=5))
    assert state(loaded).keys() == state(chain).keys()
    assert all(torch.equal(value, state(loaded)[name]) for name, value in state(chain).items())
    assert loaded.metrics == chain.metrics
    assert loaded.config == chain.config
    artifact_laws(lambda: loaded, tmp_path / "laws")


def test_an_index_of_other_items_or_codes_is_refused(chain: TigerRecommender, tmp_path: Path) -> None:
    other = index_of(CHAIN, seed=5)
    parts = chain.users, chain.items, chain.titles, chain.train
    with pytest.raises(UserError, match="index and model disagree"):
        TigerRecommender(*parts, other, chain.network, chain.config)
    fewer = dataset(ring(9, 5, 4))
    with pytest.raises(UserError, match="build the index on this data set"):
        TigerRecommender.fit(CHAIN, index_of(fewer), tmp_path / "work", tiny())
    chain.save_pretrained(tmp_path / "saved")
    _swap_index(tmp_path / "saved", other)
    with pytest.raises(UserError, match="index and model disagree"):
        TigerRecommender.from_pretrained(tmp_path / "saved")


def _swap_index(folder: Path, other: ItemIndex) -> None:
    """Put another index into an artifact and sign it again, as somebody determined would."""
    shutil.rmtree(folder / "index")
    other.save_pretrained(folder / "index")
    forge(folder)


def test_without_validation_items_the_last_epoch_is_kept(tmp_path: Path) -> None:
    data = dataset([[0, 1], [1, 2], [2, 0]])
    recommender = TigerRecommender.fit(data, index_of(data), tmp_path, tiny(epochs=2))
    assert recommender.metrics["full"]["best_epoch"] == 2
    tests = CHAIN.tables["interactions"].filter(pl.col("split") == "test")
    with pytest.raises(UserError, match="no training interactions"):
        TigerRecommender.fit(CHAIN.derive({"interactions": tests}, {}), index_of(CHAIN), tmp_path / "none")


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
