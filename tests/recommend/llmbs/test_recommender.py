"""LLM-BS's stages, adapter and backbones; tests/laws/test_generative.py holds what it has in common with others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.recommend.llmbs.recommender import LlmBsRecommender
from forwhy.recommend.options import LlmBsConfig

from ..conftest import dataset, index_of, ring, two_names
from ..conftest import tiny_llmbs as tiny

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
def everything(tmp_path_factory: pytest.TempPathFactory) -> LlmBsRecommender:
    """One epoch of all tasks, CON and the adapter."""
    folder = tmp_path_factory.mktemp("everything")
    return LlmBsRecommender.fit(CHAIN, index_of(CHAIN), folder, tiny(**EVERYTHING), vectors=VECTORS)


def fitted(data: Dataset, folder: Path, **changes: Any) -> LlmBsRecommender:  # noqa: ANN401
    return LlmBsRecommender.fit(data, index_of(data), folder, tiny(**changes))


def test_an_empty_history_is_read_from_the_beginning(tmp_path: Path) -> None:
    chain = fitted(CHAIN, tmp_path, epochs=25, window=4, stride=2)
    table = chain.recommend(history=[], k=ITEMS)
    assert sorted(table["item_id"]) == sorted(CHAIN.items.values)
    logits = chain.network.lm(input_ids=torch.tensor([chain.network.tokens.history([])])).logits[0, -1]
    best = int(logits[chain.network.tokens.levels[0]].argmax())
    assert chain.index.codes[CHAIN.items.index(table["item_id"][0])][0] == best


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


def test_the_adapter_is_saved_beside_the_first_stage(everything: LlmBsRecommender, tmp_path: Path) -> None:
    everything.save_pretrained(tmp_path / "saved")
    loaded = LlmBsRecommender.from_pretrained(tmp_path / "saved", device="cpu")
    with everything.switched(False), loaded.switched(False):
        assert loaded.recommend("u3", k=5).equals(everything.recommend("u3", k=5))
    assert loaded.tokenizer is not None


def test_without_item_text_the_sequential_task_is_left(tmp_path: Path) -> None:
    data = dataset(ring(20, 6, 5))
    recommender = fitted(data, tmp_path, tasks=EVERYTHING["tasks"])
    assert recommender.tokenizer is None
    with pytest.raises(UserError, match="knows no text"), recommender.talking():
        pass


def test_a_named_backbone_is_extended_trained_and_saved(tiny_model: Path, tmp_path: Path) -> None:
    config = tiny(backbone={"name": str(tiny_model)}, tasks={"index_to_item": 1}, annealing={"epochs": 1})
    recommender = LlmBsRecommender.fit(CHAIN, index_of(CHAIN), tmp_path / "work", config)
    assert len(recommender.network.tokens.prompt) > 2, "an instruction stands before the history"
    assert recommender.recommend("u0", k=3).height == 3
    recommender.save_pretrained(tmp_path / "saved")
    loaded = LlmBsRecommender.from_pretrained(tmp_path / "saved", device="cpu")
    assert loaded.recommend("u0", k=5).equals(recommender.recommend("u0", k=5))
    assert "licence" in (tmp_path / "saved" / "README.md").read_text()


def test_halves_in_parallel_learn_their_share_and_keep_it(tmp_path: Path) -> None:
    found = LlmBsRecommender.fit(
        CHAIN, two_names(CHAIN), tmp_path / "work", tiny(halves="parallel", epochs=8)
    )
    assert found.network.cut == 2
    assert found.network.share not in (0.5, 0.0)
    found.save_pretrained(tmp_path / "saved")
    loaded = LlmBsRecommender.from_pretrained(tmp_path / "saved", device="cpu")
    assert loaded.network.share == found.network.share
    assert loaded.recommend("u3", k=5).equals(found.recommend("u3", k=5))


def test_halves_of_one_source_are_one_and_of_shared_names_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        assert fitted(CHAIN, tmp_path / "one", halves="parallel").network.cut == 0
    assert "there is one" in caplog.text
    index = two_names(CHAIN)
    codes = index.codes.copy()
    codes[0, :2] = codes[1, :2]
    with pytest.raises(UserError, match="does not name each item twice"):
        LlmBsRecommender.fit(
            CHAIN, replace(index, codes=codes), tmp_path / "two", tiny(halves="parallel", contrast={})
        )


def test_a_first_stage_of_updates_is_saved_as_a_plain_model(tiny_model: Path, tmp_path: Path) -> None:
    backbone = {"name": str(tiny_model), "trained": "adapter"}
    options = tiny(**EVERYTHING | {"backbone": backbone, "halves": "parallel"})
    found = LlmBsRecommender.fit(CHAIN, two_names(CHAIN), tmp_path / "work", options, vectors=VECTORS)
    assert found.metrics["full"]["best_epoch"] == 1
    again = LlmBsRecommender.fit(CHAIN, two_names(CHAIN), tmp_path / "work", options, vectors=VECTORS)
    found.save_pretrained(tmp_path / "saved")
    loaded = LlmBsRecommender.from_pretrained(tmp_path / "saved", device="cpu")
    for on in (True, False):
        with found.switched(on), loaded.switched(on), again.switched(on):
            listed = found.recommend("u0", k=5)
            assert again.recommend("u0", k=5).equals(listed), "resumed after its end"
            read = loaded.recommend("u0", k=5)  # to rounding: what is folded lies elsewhere in memory
            assert read["item_id"].equals(listed["item_id"])
            np.testing.assert_allclose(read["score"], listed["score"], atol=1e-5)


def test_a_tokenizer_that_holds_index_tokens_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    words = AutoTokenizer.from_pretrained(tiny_model)
    words.add_tokens(["<a_1>"])
    shutil.copytree(tiny_model, tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="has <a_1> already"):
        fitted(CHAIN, tmp_path / "work", backbone={"name": str(tmp_path / "model")})


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="legal"):
        tiny(halves="parallel", normalise="legal")
    with pytest.raises(UserError, match="gaps"):
        LlmBsConfig(window=5, stride=6)
    with pytest.raises(ValueError, match="heads"):
        tiny(backbone={"dims": 30, "heads": 4})
    paper = LlmBsConfig.model_validate({"preset": "paper", "tasks": {"fused": 0.0}})
    assert paper.decoding == "vocab"
    assert paper.tasks.fused == 0.0
    assert paper.tasks.preference == 1.0, "one option of a part leaves the others"
