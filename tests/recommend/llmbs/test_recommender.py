"""LLM-BS from histories to lists: it learns, it lists items that exist, it saves, it resumes."""

from __future__ import annotations

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
from forwhy.recommend.llmbs import LlmBsConfig, LlmBsRecommender
from forwhy.recommend.llmbs.training import Batch, LlmBsTask
from forwhy.testing import artifact_laws, forge, recommender_laws
from forwhy.vocabulary.indices import ItemIndex

from .conftest import dataset, index_of, ring, tiny

ITEMS = 12
TITLES = [
    f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("balm", "comb", "soap", "oil")
]
CHAIN = dataset(ring(60, ITEMS, 7), TITLES)
VECTORS = {
    "semantic": np.random.default_rng(0).normal(size=(ITEMS, 5)),
    "behaviour": np.random.default_rng(1).normal(size=(ITEMS, 4)),
}
EVERYTHING = {
    "tasks": {"item_to_index": 1, "index_to_item": 1, "fused": 0.5, "preference": 0.5},
    "contrast": {"semantic": 0.1, "behaviour": 0.1, "negatives": 6},
    "annealing": {"epochs": 1, "rank": 2, "learning_rate": 1e-2},
    "backbone": {"dropout": 0.1},
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> LlmBsRecommender:
    """Trained on the sequential task until item i + 1 follows item i."""
    config = tiny(epochs=25, window=4, stride=2)
    return LlmBsRecommender.fit(CHAIN, index_of(CHAIN), tmp_path_factory.mktemp("chain"), config)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> LlmBsRecommender:
    """One epoch of all tasks, CON and the adapter."""
    folder = tmp_path_factory.mktemp("everything")
    return LlmBsRecommender.fit(CHAIN, index_of(CHAIN), folder, tiny(**EVERYTHING), VECTORS)


def fitted(data: Dataset, folder: Path, **changes: Any) -> LlmBsRecommender:  # noqa: ANN401
    return LlmBsRecommender.fit(data, index_of(data), folder, tiny(**changes))


def state(recommender: LlmBsRecommender) -> dict[str, Tensor]:
    return dict(recommender.network.lm.state_dict())


def test_a_markov_chain_is_learnt(chain: LlmBsRecommender) -> None:
    assert chain.metrics["full"]["ndcg@10"] > 0.95
    sequences = Sequences.from_dataset(CHAIN)
    found = chain.items_after(sequences.histories("test"), k=1)
    assert np.mean(found[:, 0] == sequences.test) > 0.95
    table = chain.recommend(history=[f"i{number:02}" for number in range(7, 12)], k=1)
    assert table["item_id"].to_list() == ["i00"]
    assert table["title"].to_list() == ["red balm"]
    assert table["user_id"].to_list() == [None]


def test_laws_of_recommenders_hold(chain: LlmBsRecommender) -> None:
    users = ["u0", "u1", "u2"]
    edges = CHAIN.tables["interactions"].filter(pl.col("split") == "train")
    seen = {user: set(edges.filter(pl.col("user_id") == user)["item_id"]) for user in users}
    # Beams as wide as the catalogue, so that every width gives the same list.
    config = chain.config.model_copy(update={"beam": ITEMS})
    wide = LlmBsRecommender(
        chain.users, chain.items, chain.titles, chain.train, chain.index, chain.network, config
    )
    recommender_laws(wide, users, seen, k=4)


def test_beams_and_exact_scores_agree(chain: LlmBsRecommender) -> None:
    histories = Histories.of([[1, 2, 3], [], [7]])
    exact = chain.scores_after(histories)
    for row, (items, scores) in enumerate(chain.lists_after(histories, k=100)):
        assert sorted(items.tolist()) == list(range(ITEMS)), "more than there are: all"
        np.testing.assert_allclose(scores, exact[row][items], atol=1e-4)
    assert chain.history_scores(np.array([7])).argmax() == 8
    assert (chain.items_after(histories, k=ITEMS + 1)[:, -1] == -1).all(), "where the catalogue ends"
    some = chain.score("u0", ["i03", "i01", "i03"])
    whole = chain.scores(np.array([0]))[0]
    np.testing.assert_allclose(some, whole[[3, 1, 3]], atol=1e-4)


def test_only_the_window_is_read(chain: LlmBsRecommender) -> None:
    long = chain.recommend(history=["i05"] * 30 + ["i01", "i02", "i03", "i04"], k=3, filter_seen=False)
    short = chain.recommend(history=["i01", "i02", "i03", "i04"], k=3, filter_seen=False)
    assert long.equals(short)


def test_an_empty_history_is_read_from_the_beginning(chain: LlmBsRecommender) -> None:
    table = chain.recommend(history=[], k=ITEMS)
    assert sorted(table["item_id"]) == sorted(CHAIN.items.values)
    logits = chain.network.lm(input_ids=torch.tensor([chain.network.tokens.history([])])).logits[0, -1]
    best = int(logits[chain.network.tokens.levels[0]].argmax())
    assert chain.index.codes[CHAIN.items.index(table["item_id"][0])][0] == best


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"history": ["i01", "nosuch"]}, "nosuch"),
        ({"users": "nobody"}, "nobody"),
        ({"users": "u0", "k": 0}, "k is 0"),
        ({}, "nobody to recommend to"),
        ({"users": ["u0", "u1"], "history": ["i01"]}, "one person"),
    ],
)
def test_wrong_questions_are_refused_in_one_line(
    chain: LlmBsRecommender, call: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        chain.recommend(**call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 3])
def test_catalogues_of_one_and_of_three_items(count: int, tmp_path: Path) -> None:
    data = dataset([[item % count for item in range(start, start + 5)] for start in range(3)])
    vectors = {"semantic": np.eye(count, 4)}
    config = tiny(contrast={"negatives": 2048})
    recommender = LlmBsRecommender.fit(data, index_of(data, width=2), tmp_path, config, vectors)
    table = recommender.recommend(["u0", "u1"], k=10, filter_seen=False)
    assert table.group_by("user_id").len()["len"].to_list() == [count, count]
    assert recommender.recommend("u0", k=10).height == 0, "nothing is left that was not seen"


def test_every_stage_trains_and_the_adapter_can_be_switched(everything: LlmBsRecommender) -> None:
    assert everything.network.contrast is None, "CON's part ends with training"
    assert set(everything.metrics) == {"full", "annealing"}
    adapter = everything.adapter
    assert adapter is not None
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.1
    on = everything.recommend("u0", k=3)
    with everything.switched(False):
        off = everything.recommend("u0", k=3)
    assert not np.allclose(on["score"], off["score"])
    with everything.talking() as (model, tokenizer):
        assert not adapter.on
        ids = torch.tensor([tokenizer("red balm")["input_ids"]])
        assert model(input_ids=ids).logits.shape[-1] == everything.network.tokens.size
    assert adapter.on
    adapter.load_state_dict(before)


def test_saved_and_loaded_are_equal(everything: LlmBsRecommender, tmp_path: Path) -> None:
    everything.save_pretrained(tmp_path / "saved")
    loaded = LlmBsRecommender.from_pretrained(tmp_path / "saved", "cpu")
    assert loaded.recommend(["u0", "u5"], k=5).equals(everything.recommend(["u0", "u5"], k=5))
    with everything.switched(False), loaded.switched(False):
        assert loaded.recommend("u3", k=5).equals(everything.recommend("u3", k=5))
    assert state(loaded).keys() == state(everything).keys()
    assert all(torch.equal(value, state(loaded)[name]) for name, value in state(everything).items())
    assert loaded.metrics == everything.metrics
    assert loaded.tokenizer is not None
    artifact_laws(lambda: loaded, tmp_path / "laws")


def test_an_index_of_other_items_or_codes_is_refused(chain: LlmBsRecommender, tmp_path: Path) -> None:
    other = index_of(CHAIN, seed=5)
    parts = chain.users, chain.items, chain.titles, chain.train
    with pytest.raises(UserError, match="index and model disagree"):
        LlmBsRecommender(*parts, other, chain.network, chain.config)
    fewer = dataset(ring(9, 5, 4))
    with pytest.raises(UserError, match="build the index on this data set"):
        LlmBsRecommender.fit(CHAIN, index_of(fewer), tmp_path / "work", tiny())
    chain.save_pretrained(tmp_path / "saved")
    _swap_index(tmp_path / "saved", other)
    with pytest.raises(UserError, match="index and model disagree"):
        LlmBsRecommender.from_pretrained(tmp_path / "saved")


def _swap_index(folder: Path, other: ItemIndex) -> None:
    """Put another index into an artifact and sign it again, as somebody determined would."""
    import shutil

    shutil.rmtree(folder / "index")
    other.save_pretrained(folder / "index")
    forge(folder)


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("at", [2, 7])
def test_a_killed_training_continues_to_the_same_bytes(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: LlmBsRecommender
) -> None:
    config = tiny(**EVERYTHING, checkpoint_seconds=0)
    steps, learn = 0, LlmBsTask.loss

    def dying(self: LlmBsTask, batch: Batch) -> Mapping[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == at:
            raise Killed
        return learn(self, batch)

    index = index_of(CHAIN)
    monkeypatch.setattr(LlmBsTask, "loss", dying)
    with pytest.raises(Killed):
        LlmBsRecommender.fit(CHAIN, index, tmp_path, config, VECTORS)
    again = LlmBsRecommender.fit(CHAIN, index, tmp_path, config, VECTORS)
    whole = state(everything)
    assert all(torch.equal(value, whole[name]) for name, value in state(again).items())


def test_without_item_text_the_sequential_task_is_left(tmp_path: Path) -> None:
    data = dataset(ring(20, 6, 5))
    recommender = fitted(data, tmp_path, tasks=EVERYTHING["tasks"])
    assert recommender.tokenizer is None
    with pytest.raises(UserError, match="knows no text"), recommender.talking():
        pass


def test_without_validation_items_the_last_epoch_is_kept(tmp_path: Path) -> None:
    recommender = fitted(dataset([[0, 1], [1, 2], [2, 0]]), tmp_path, epochs=2)
    assert recommender.metrics["full"]["best_epoch"] == 2
    with pytest.raises(UserError, match="no training interactions"):
        fitted(CHAIN.derive({"interactions": CHAIN.tables["interactions"].filter(pl.col("split") == "test")}, {}),
               tmp_path / "none")  # fmt: skip


def test_a_named_backbone_is_extended_trained_and_saved(tiny_model: Path, tmp_path: Path) -> None:
    config = tiny(backbone={"name": str(tiny_model)}, tasks={"index_to_item": 1}, annealing={"epochs": 1})
    recommender = LlmBsRecommender.fit(CHAIN, index_of(CHAIN), tmp_path / "work", config)
    assert len(recommender.network.tokens.prompt) > 2, "an instruction stands before the history"
    assert recommender.recommend("u0", k=3).height == 3
    recommender.save_pretrained(tmp_path / "saved")
    loaded = LlmBsRecommender.from_pretrained(tmp_path / "saved", "cpu")
    assert loaded.recommend("u0", k=5).equals(recommender.recommend("u0", k=5))
    assert "licence" in (tmp_path / "saved" / "README.md").read_text()


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="gaps"):
        LlmBsConfig(window=5, stride=6)
    with pytest.raises(ValueError, match="heads"):
        tiny(backbone={"dims": 30, "heads": 4})
    paper = LlmBsConfig.model_validate({"preset": "paper", "tasks": {"fused": 0.0}})
    assert paper.decoding == "vocab"
    assert paper.tasks.fused == 0.0
    assert paper.tasks.preference == 1.0, "one option of a part leaves the others"
